# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""What the trainings of both students share: their optimizer, their log, and where the result is written."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn
from transformers import ProcessorMixin

from modeling_muscall import MusCALLModel
from muscall.checkpoint import write_golden


BETAS = (0.9, 0.98)


def make_adamw(student: nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """Return AdamW, which lets matrices and filters decay, and nothing else."""
    parameters = list(student.parameters())
    groups = [
        {"params": [parameter for parameter in parameters if parameter.dim() > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in parameters if parameter.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, learning_rate, BETAS, fused=parameters[0].is_cuda)


@contextmanager
def reporting(folder: Path) -> Iterator[Callable[[dict], None]]:
    """Yield a function that prints a row of figures and adds it to `log.jsonl` in a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log.jsonl").open("w") as log:

        def report(row: dict) -> None:
            print(" ".join(f"{name} {value:.4g}" for name, value in row.items()), flush=True)
            log.write(json.dumps(row) + "\n")
            log.flush()

        yield report


def write_checkpoint(model: MusCALLModel, processor: ProcessorMixin, folder: Path) -> None:
    """Write a checkpoint in float32 with golden outputs; `scripts/release.py` shortens it."""
    model.cpu().eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    write_golden(folder)
