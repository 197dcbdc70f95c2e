# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Checkpoints that are whole or absent, and the JSONL log."""

import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

from accelerate import Accelerator
from accelerate.tracking import GeneralTracker, on_main_process


STATE_FILE = "trainer_state.json"


def save_checkpoint(accelerator: Accelerator, folder: Path, state: dict, total_limit: int):
    """
    Writes `folder/step-NNNNNNN`: what `accelerator.save_state` knows and `state` as JSON. It appears under its name
    only when it is complete; then all but the newest `total_limit` are removed.
    """
    final, partial = folder / f"step-{state['step']:07d}", folder / ".partial"
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(partial))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        (partial / STATE_FILE).write_text(json.dumps(state, indent=2))
        shutil.rmtree(final, ignore_errors=True)
        os.replace(partial, final)
        for old in list_checkpoints(folder)[:-total_limit]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


def list_checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints, the oldest first."""
    return sorted(path for path in folder.glob("step-*") if (path / STATE_FILE).exists())


def load_checkpoint(accelerator: Accelerator, folder: Path, arguments: dict) -> dict:
    """
    Restores the newest checkpoint and returns its `state`.

    Raises:
        `ValueError`: if there is none, or it was made with other arguments or another number of processes.
    """
    checkpoints = list_checkpoints(folder)
    if not checkpoints:
        raise ValueError(
            f"--resume: there is no checkpoint in {folder} yet: start again in another folder, without it"
        )
    state = json.loads((checkpoints[-1] / STATE_FILE).read_text())
    arguments = json.loads(json.dumps(arguments))  # tuples become lists, as in the file
    saved = state["arguments"]
    changed = [name for name in sorted(arguments.keys() | saved.keys()) if arguments.get(name) != saved.get(name)]
    if changed:
        changes = ", ".join(f"{name} was {saved.get(name)!r}, now {arguments.get(name)!r}" for name in changed)
        raise ValueError(f"--resume: {checkpoints[-1]} was made with other arguments: {changes}")
    accelerator.load_state(str(checkpoints[-1]))
    return state


@contextmanager
def replace_files(folder: Path):
    """Gives an empty folder to write to; its files then replace those of `folder` one by one, each at once."""
    partial = folder / ".partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    for path in sorted(partial.iterdir()):
        os.replace(path, folder / path.name)
    partial.rmdir()


class JSONLTracker(GeneralTracker):
    """
    Appends one JSON object a log call to `log.jsonl`; needs no package and is always on. A run that was killed and
    resumed logs the steps since its checkpoint again: the last entry of a step counts.
    """

    name = "jsonl"
    requires_logging_directory = False

    def __init__(self, path: Path):
        super().__init__()
        self.path = path

    @property
    def tracker(self):
        return self.path

    @on_main_process
    def store_init_configuration(self, values: dict):
        self.path.parent.mkdir(parents=True, exist_ok=True)

    @on_main_process
    def log(self, values: dict, step: int | None = None, **kwargs):
        with self.path.open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
