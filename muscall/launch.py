# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The accelerator of train.py and eval.py."""

import os
from typing import Any

import torch
from accelerate import Accelerator


def start_accelerator(**kwargs: Any) -> Accelerator:
    """
    Return an `Accelerator` whose processes find each other without a GPU too, and that uses all cores.

    Args:
        kwargs:
            Those of `Accelerator`.

    Raises:
        `ValueError`: if the launcher started processes that do not find each other.
    """
    # Without cpu=True several processes without a GPU would not know of each other.
    accelerator = Accelerator(cpu=not torch.accelerator.is_available(), **kwargs)
    if accelerator.num_processes != int(os.environ.get("WORLD_SIZE", 1)):
        raise ValueError(f"The launcher started {os.environ['WORLD_SIZE']} processes that do not find each other.")
    if accelerator.device.type == "cpu" and torch.get_num_threads() == 1:  # as `accelerate launch` sets it
        torch.set_num_threads(max(1, os.cpu_count() // accelerator.num_processes))
    return accelerator
