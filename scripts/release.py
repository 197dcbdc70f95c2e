# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
Write what was trained as a checkpoint to publish: into the repository, where `AutoModel.from_pretrained(".")` finds
it, or into another folder.

    python -m scripts.release runs/release runs/release-1 --start runs/tag_phrases --output_dir runs/taggers
    python -m scripts.release runs/root
    python -m scripts.release runs/bridge --output_dir fast --eight_bits

The weights are those of the last step of a run, or of a checkpoint that no run made; of several, and with `--start` of
what they all started from, the mean, which keeps what the tags know of music that training did not hear
(https://arxiv.org/abs/2109.01903, https://arxiv.org/abs/2203.05482). They are stored in half precision, but for the
batch norms, some of whose variances half precision would round away; with `--eight_bits` the text tower's large tables
have 8 bits (e4m3). All is loaded and computed in float32. Golden outputs are those of what was written. The logs of
the runs, one after the other, go there as `log.jsonl`.
"""

import argparse
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from muscall.checkpoint import write_golden
from muscall.training.checkpointing import load_last_weights


ROOT = Path(__file__).parents[1]

FILES = ("config.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json")
IN_EIGHT_BITS = ("word_embeddings.weight", "intermediate.dense.weight", "output.dense.weight")
# Of the small text tower of scripts/distil/text.py, which learns to be rounded.
IN_EIGHT_BITS += ("attention.query.weight", "attention.key.weight", "attention.value.weight", "attention.dense.weight")
IN_EIGHT_BITS += ("ffn.weight", "ffn_output.weight", "embedding_hidden_mapping_in.weight")
IN_EIGHT_BITS += ("_projection.0.weight", "_projection.2.weight")


def shorten(name: str, tensor: torch.Tensor, eight_bits: bool) -> torch.Tensor:
    """Return a tensor in the precision that it is stored in; `eight_bits` for the text tower's large tables."""
    if name == "logit_scale" or not tensor.is_floating_point():
        return tensor
    if name.startswith("audio_model.") and "norm" in name:
        return tensor
    large = name.endswith(IN_EIGHT_BITS) and ".attention.output." not in name
    return tensor.to(torch.float8_e4m3fn if eight_bits and large else torch.float16)


def average(models: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Return the mean of the weights of several models; other tensors are those of the first."""
    return {  # the first and its differences, so that a tower that was frozen keeps its bits
        key: tensor + sum(model[key] - tensor for model in models) / len(models)
        if tensor.is_floating_point()
        else tensor
        for key, tensor in models[0].items()
    }


def load_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Return the weights of the last step of a run, or those of a checkpoint."""
    checkpoints = folder / "checkpoints"
    return load_last_weights(checkpoints) if checkpoints.is_dir() else load_file(folder / "model.safetensors")


def write_release(runs: list[Path], start: Path | None, folder: Path, eight_bits: bool) -> Path:
    """
    Write weights, configuration, tokenizer, golden outputs, and the logs of runs into a folder; also the code, which
    the repository's root has.

    Args:
        runs (`list[Path]`): Folders of `train.py`, or checkpoints.
        start (`Path`, *optional*): A checkpoint that counts as one of the runs.
        folder (`Path`): Where to; it is made if it is missing.
        eight_bits (`bool`): Whether the text tower's large tables have 8 bits.

    Returns:
        `Path`: the weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    models = [load_weights(run) for run in runs]
    if start:
        models.append(load_file(start / "model.safetensors"))
    tensors = {key: shorten(key, tensor, eight_bits) for key, tensor in average(models).items()}
    weights = folder / "model.safetensors"
    save_file(tensors, weights, metadata={"format": "pt"})
    for file in FILES:
        shutil.copy(runs[0] / file, folder / file)
    if folder.resolve() != ROOT:
        for path in ROOT.glob("*_muscall*.py"):
            shutil.copy(path, folder / path.name)
    if logs := [log.read_text() for run in runs if (log := run / "log.jsonl").exists()]:
        (folder / "log.jsonl").write_text("".join(logs))
    write_golden(folder)
    return weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--start", type=Path, help="what training started from, if it shall count as one of the runs")
    parser.add_argument("--output_dir", type=Path, default=ROOT, help="by default the root of the repository")
    parser.add_argument("--eight_bits", action="store_true", help="store the text tower's large tables in 8 bits")
    args = parser.parse_args()
    weights = write_release(args.runs, args.start, args.output_dir, args.eight_bits)
    print(f"{weights.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
