# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Reports of a run beside its trackers: the log that is always on, its intervals, and files that cannot be read."""

import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker, on_main_process
from accelerate.utils import gather_object
from transformers.utils import logging

from muscall.training.objectives import Objective


logger = logging.get_logger("train")


@dataclass
class LogInterval:
    """The steps since the newest entry in the logs: their losses, and when they began."""

    losses: list[torch.Tensor] = field(default_factory=list)
    since: float = field(default_factory=time.time)

    def figures(
        self,
        step: int,
        batch_size: int,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        parts: dict[str, torch.Tensor],
        grad_norm: torch.Tensor,
    ) -> dict[str, float]:
        """
        Return the figures of the interval by their names in the logs.

        Args:
            step (`int`): The newest step.
            batch_size (`int`): Pairs that a step learns from, in all processes together.
            objective ([`Objective`]): States the temperature and the norms of the embeddings.
            optimizer (`torch.optim.Optimizer`): States the learning rate of each part.
            parts (`dict[str, torch.Tensor]`): The parts of the newest loss, by name.
            grad_norm (`torch.Tensor`): The norm of the newest gradient before it was clipped.

        Raises:
            `ValueError`: if the mean loss is not finite.
        """
        mean_loss = torch.stack(self.losses).mean().item()
        if not math.isfinite(mean_loss):
            raise ValueError(f"The loss is {mean_loss} at step {step}: lower --learning_rate.")
        rates = {group["name"].split("/")[0]: group["lr"] for group in optimizer.param_groups}
        return {
            "loss": mean_loss,
            **{name: value.item() for name, value in parts.items()},
            **{f"learning_rate/{part}": rate for part, rate in rates.items()},
            "logit_scale": objective.model.logit_scale.exp().item(),
            "grad_norm": float(grad_norm),
            **{f"{name}_norm": value.item() for name, value in objective.embedding_norms.items()},
            "pairs_per_second": len(self.losses) * batch_size / (time.time() - self.since),
        }


class JSONLTracker(GeneralTracker):
    """
    A tracker that appends one JSON object a log call to `log.jsonl`; it needs no package and is always on. A run that
    was killed and resumed logs the steps since its checkpoint again: the last entry of a step counts.

    Args:
        path (`Path`):
            The file.
    """

    name = "jsonl"
    requires_logging_directory = False

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    @property
    def tracker(self) -> Path:
        return self.path

    @on_main_process
    def store_init_configuration(self, values: dict) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)

    @on_main_process
    def log(self, values: dict, step: int | None = None, **kwargs) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")


def report_unreadable(
    accelerator: Accelerator, unreadable: dict[int | str, str | None], num_tracks: int, max_fraction: float
) -> None:
    """
    Name each unreadable file once.

    Args:
        accelerator (`Accelerator`):
            Counts the files of all processes.
        unreadable (`dict[int | str, str | None]`):
            For each file that this process met, the reason; it becomes `None` when it has been named.
        num_tracks (`int`):
            The tracks that the run may meet.
        max_fraction (`float`):
            The share of them that may be unreadable, rounded up to a whole track.

    Raises:
        `ValueError`: on every process, if there are too many.
    """
    for index, reason in unreadable.items():
        if reason is not None:
            logger.warning(f"unreadable, replaced by another track: {reason}")
            unreadable[index] = None
    count = len(set(gather_object(list(unreadable))))  # in another epoch another process may have met the same file
    if count > math.ceil(max_fraction * num_tracks):
        raise ValueError(
            f"{count} of {num_tracks} training tracks are unreadable (named above), more than "
            f"max_unreadable_fraction={max_fraction}."
        )
