# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""How the programs start and end: accelerate, what its launcher was told, and errors in words."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator


# What a launcher may be told that no program here does: the variable that it sets, values that change nothing, and
# what to do instead.
REFUSED_SETTINGS = {
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": (
        ("1",),
        "accumulated gradients of small batches are not those of a large one, whose pairs are each other's negatives: "
        "train.py has --chunk_size for it",
    ),
    "ACCELERATE_DYNAMO_BACKEND": (("no",), "train.py has --compile"),
    "ACCELERATE_USE_FSDP": (("false",), "a model fits on each device: train.py has --chunk_size for larger batches"),
    "ACCELERATE_USE_DEEPSPEED": (("false",), "a model fits on each device: start plain processes"),
    "ACCELERATE_USE_MEGATRON_LM": (("false",), "a model fits on each device: start plain processes"),
    "ACCELERATE_USE_PARALLELISM_CONFIG": (("false",), "a model fits on each device: start plain processes"),
}


def launcher_precision() -> str | None:
    """Return the mixed precision that the launcher was told; `None` if it was not, or no: it sets no by default."""
    named = os.environ.get("ACCELERATE_MIXED_PRECISION", "no").lower()
    return None if named == "no" else named


def start_accelerator(mixed_precision: str = "no", **kwargs: Any) -> Accelerator:
    """
    Return an `Accelerator` whose processes find each other without a GPU too, and that uses all cores.

    Args:
        mixed_precision (`str`, *optional*, defaults to `"no"`):
            What the program computes in: `"no"`, `"bf16"` or `"fp16"`.
        kwargs:
            Those of `Accelerator`.

    Raises:
        `ValueError`: if the launcher started processes that do not find each other, or was told what the program does
            not do.
    """
    for name, (neutral, advice) in REFUSED_SETTINGS.items():
        value = os.environ.get(name, neutral[0])
        if value.lower() not in neutral:
            raise ValueError(f"The launcher sets {name}={value}, which is not followed: {advice}.")
    if launcher_precision() not in (None, mixed_precision):
        raise ValueError(
            f"The launcher was given --mixed_precision {launcher_precision()}, but this program computes with "
            f"--mixed_precision {mixed_precision}: give the launcher the same."
        )
    # Without cpu=True several processes without a GPU would not know of each other.
    accelerator = Accelerator(cpu=not torch.accelerator.is_available(), mixed_precision=mixed_precision, **kwargs)
    if accelerator.num_processes != int(os.environ.get("WORLD_SIZE", 1)):
        raise ValueError(f"The launcher started {os.environ['WORLD_SIZE']} processes that do not find each other.")
    if accelerator.device.type == "cpu" and torch.get_num_threads() == 1:  # as `accelerate launch` sets it
        torch.set_num_threads(max(1, os.cpu_count() // accelerator.num_processes))
    return accelerator


@contextmanager
def errors_in_words() -> Iterator[None]:
    """
    End the program with a message instead of a traceback where the arguments, the files or the packages of whoever
    started it are at fault, as the errors say that the package raises for these. Each process of several says so, as
    they need not meet the same files.
    """
    try:
        yield
    except (ValueError, OSError, ModuleNotFoundError) as error:
        rank = int(os.environ.get("RANK", 0))
        sys.exit(f"error: {error}" if rank == 0 else f"error on process {rank}: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped")
