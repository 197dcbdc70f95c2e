# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Checkpoints that are whole or absent, and the JSONL log."""

import json
import os
import shutil
import signal
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker, on_main_process
from safetensors.torch import load_file

from muscall.checkpoint import hash_file


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
        files = {str(path.relative_to(partial)): hash_file(path) for path in partial.rglob("*") if path.is_file()}
        (partial / STATE_FILE).write_text(json.dumps({**state, "files": files}, indent=2))
        shutil.rmtree(final, ignore_errors=True)
        os.replace(partial, final)
        for old in list_checkpoints(folder)[:-total_limit]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


def list_checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints, the oldest first."""
    return sorted(path for path in folder.glob("step-*") if (path / STATE_FILE).exists())


def load_last_weights(folder: Path) -> dict[str, torch.Tensor]:
    """The model's tensors in the newest checkpoint of a folder, whatever validation thought of that step."""
    tensors = load_file(list_checkpoints(folder)[-1] / "model.safetensors")
    return {key.removeprefix("model."): tensor for key, tensor in tensors.items() if key.startswith("model.")}


def load_checkpoint(accelerator: Accelerator, folder: Path, arguments: dict) -> dict:
    """
    Restores the newest checkpoint and returns its `state`.

    Raises:
        `ValueError`: if there is none, it is not whole, or it was made with other arguments or another number of
        processes.
    """
    checkpoints = list_checkpoints(folder)
    if not checkpoints:
        raise ValueError(
            f"--resume: there is no checkpoint in {folder} yet: start again in another folder, without it"
        )
    state = read_state(checkpoints[-1])
    arguments = json.loads(json.dumps(arguments))  # tuples become lists, as in the file
    saved = state["arguments"]
    changed = [name for name in sorted(arguments.keys() | saved.keys()) if arguments.get(name) != saved.get(name)]
    if changed:
        changes = ", ".join(f"{name} was {saved.get(name)!r}, now {arguments.get(name)!r}" for name in changed)
        raise ValueError(f"--resume: {checkpoints[-1]} was made with other arguments: {changes}")
    accelerator.load_state(str(checkpoints[-1]))
    return state


def read_state(checkpoint: Path) -> dict:
    """The `state` of a checkpoint, whose files are checked against the digests that were taken when it was written."""
    advice = "Delete it to go on from the one before."
    try:
        state = json.loads((checkpoint / STATE_FILE).read_text())
        files = state.pop("files")
        state["arguments"], state["step"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"--resume: {checkpoint / STATE_FILE} is not one of train.py, or torn. {advice}") from error
    for name, digest in files.items():
        if not (checkpoint / name).exists():
            raise ValueError(f"--resume: {checkpoint} is not whole: {name} is missing. {advice}")
        if hash_file(checkpoint / name) != digest:
            raise ValueError(f"--resume: {checkpoint} is not whole: {name} is not as it was written. {advice}")
    return state


def leave_signals_to_the_main_process(worker: int):
    """For a loader's workers: Ctrl-C and SIGTERM reach all of a group, but the run must save before it loses them."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


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
