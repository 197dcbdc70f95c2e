"""Puts a trained folder into the repository root, where `AutoModel.from_pretrained(".")` finds it.

    python tools/release.py runs/release runs/tag_baseline

The weights are the mean of those that were trained and those that training started from, which keeps what the tags
know of music that training did not hear (https://arxiv.org/abs/2109.01903). The text tower and the projections are
stored in half precision; the audio tower, whose batch norms have variances that half precision would round away, as it
is. All is loaded and computed in float32. Golden outputs are those of what was written. The log and the results of the
run go to `results/`.
"""

import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from evaluation.golden import write_golden  # noqa: E402, found through the path above


FILES = ("config.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json")

if __name__ == "__main__":
    run, start = map(Path, sys.argv[1:])
    trained, first = (load_file(folder / "model.safetensors") for folder in (run, start))
    tensors = {name: (tensor + first[name]) / 2 for name, tensor in trained.items() if tensor.is_floating_point()}
    tensors = trained | tensors
    for name, tensor in tensors.items():
        if not name.startswith("audio_model.") and name != "logit_scale":
            tensors[name] = tensor.to(torch.float16)
    save_file(tensors, ROOT / "model.safetensors", metadata={"format": "pt"})
    for name in FILES:
        shutil.copy(run / name, ROOT / name)
    shutil.copy(run / "log.jsonl", ROOT / "results" / "release_log.jsonl")
    shutil.copy(run / "results.json", ROOT / "results" / "release_run.json")
    write_golden(ROOT)
    print(f"{(ROOT / 'model.safetensors').stat().st_size / 1e6:.1f} MB")
