"""Puts a trained folder into the repository, where `AutoModel.from_pretrained(".")` finds it.

    python tools/release.py runs/release --start runs/tag_baseline
    python tools/release.py runs/distil --subfolder fast

With `--start` the weights are the mean of those that were trained and those that training started from, which keeps
what the tags know of music that training did not hear (https://arxiv.org/abs/2109.01903). Stored in half precision are
the text tower, the projections and the ResNet; musicnn, whose batch norms have variances that half precision would
round away, as it is; in a subfolder the text tower's large tables have 8 bits (e4m3). All is loaded and computed in
float32. Golden outputs are those of what was written. The log of the run and, of what lies in the root, its results go
to `results/`.
"""

import argparse
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from evaluation.golden import write_golden  # noqa: E402, found through the path above


FILES = ("config.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json")
IN_EIGHT_BITS = ("word_embeddings.weight", "intermediate.dense.weight", "output.dense.weight")


def shorten(name: str, tensor: torch.Tensor, eight_bits: bool) -> torch.Tensor:
    if name == "logit_scale" or name.startswith("audio_model.networks.") or not tensor.is_floating_point():
        return tensor
    if "norm.running" in name:  # of the ResNet, over decibels
        return tensor
    large = name.endswith(IN_EIGHT_BITS) and ".attention." not in name
    return tensor.to(torch.float8_e4m3fn if eight_bits and large else torch.float16)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--start", type=Path, help="what training started from, if it shall have half of the weights")
    parser.add_argument("--subfolder", default="", help="of the repository; its root by default")
    args = parser.parse_args()
    folder, name = ROOT / args.subfolder, args.subfolder or "release"
    folder.mkdir(exist_ok=True)
    tensors = load_file(args.run / "model.safetensors")
    if args.start:
        for key, first in load_file(args.start / "model.safetensors").items():
            if first.is_floating_point():
                tensors[key] = (tensors[key] + first) / 2
    tensors = {key: shorten(key, tensor, bool(args.subfolder)) for key, tensor in tensors.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    for file in FILES:
        shutil.copy(args.run / file, folder / file)
    shutil.copy(args.run / "log.jsonl", ROOT / "results" / f"{name}_log.jsonl")
    if not args.subfolder:
        shutil.copy(args.run / "results.json", ROOT / "results" / f"{name}_run.json")
    write_golden(folder)
    print(f"{(folder / 'model.safetensors').stat().st_size / 1e6:.1f} MB")
