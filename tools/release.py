"""Puts a trained folder into the repository root, where `AutoModel.from_pretrained(".")` finds it.

    python tools/release.py runs/release

The text tower and the projections are stored in half precision; the audio tower, whose batch norms have variances that
half precision would round away, as it is. All is loaded and computed in float32. Golden outputs are those of what was
written. The log and the results of the run go to `results/`.
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
    run = Path(sys.argv[1])
    tensors = load_file(run / "model.safetensors")
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
