# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Checkpoints of a run, each of them whole or absent."""

import dataclasses
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers.utils import logging

from muscall.data.fingerprint import describe_changes
from muscall.hashing import hash_file


logger = logging.get_logger("train")

STATE_FILE = "trainer_state.json"
FULL_DISK = 2**20  # bytes that are left at most


@dataclass(kw_only=True)
class TrainState:
    """
    The state that a run carries from step to step beside weights, optimizer and random state.

    Attributes:
        step (`int`): Optimizer steps taken.
        best (`dict`, *optional*): The validation metrics of the best model so far, and its `step`.
        seconds (`float`): How long the run took up to its newest checkpoint, interruptions left out.
        arguments (`dict`): The arguments that decide the result, by name.
        corpus (`dict`, *optional*): The fingerprint of the corpus; checkpoints of earlier versions have none.
    """

    step: int = 0
    best: dict | None = None
    seconds: float = 0.0
    arguments: dict
    corpus: dict | None = None


def save_checkpoint(accelerator: Accelerator, folder: Path, state: TrainState, total_limit: int) -> None:
    """
    Write a checkpoint, and remove the oldest ones.

    Args:
        accelerator (`Accelerator`):
            Saves what was registered with it.
        folder (`Path`):
            Where `step-NNNNNNN` goes. It appears under this name only when it is complete.
        state ([`TrainState`]):
            Written as JSON, with the digests of all files.
        total_limit (`int`):
            How many of the newest checkpoints stay.
    """
    final, partial = folder / f"step-{state.step:07d}", folder / ".partial"
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
    accelerator.wait_for_everyone()
    with writing_to(folder):
        accelerator.save_state(str(partial))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        files = {str(path.relative_to(partial)): hash_file(path) for path in partial.rglob("*") if path.is_file()}
        (partial / STATE_FILE).write_text(json.dumps({**dataclasses.asdict(state), "files": files}, indent=2))
        shutil.rmtree(final, ignore_errors=True)
        os.replace(partial, final)
        for old in list_checkpoints(folder)[:-total_limit]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the complete checkpoints in a folder, the oldest first."""
    return sorted(path for path in folder.glob("step-*") if (path / STATE_FILE).exists())


def load_last_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of the model in the newest checkpoint of a folder, be it the best one or not."""
    tensors = load_file(list_checkpoints(folder)[-1] / "model.safetensors")
    return {key.removeprefix("model."): tensor for key, tensor in tensors.items() if key.startswith("model.")}


def load_checkpoint(accelerator: Accelerator, folder: Path, arguments: dict, corpus: dict) -> TrainState:
    """
    Restore the newest checkpoint and return its state.

    Args:
        accelerator (`Accelerator`):
            Loads what was registered with it.
        folder (`Path`):
            That of [`save_checkpoint`].
        arguments (`dict`):
            The arguments that decide the result.
        corpus (`dict`):
            The fingerprint of the corpus.

    Raises:
        `ValueError`: if there is none, it is not whole, or it was made with other arguments, another number of
        processes or another corpus.
    """
    checkpoints = list_checkpoints(folder)
    if not checkpoints:
        raise ValueError(
            f"--resume: there is no checkpoint in {folder} yet: start again in another folder, without it"
        )
    state = read_state(checkpoints[-1])
    arguments = json.loads(json.dumps(arguments))  # tuples become lists, as in the file
    saved = state.arguments
    if state.corpus == corpus and not arguments["streaming"]:  # of a stream the name alone is known
        saved["dataset"] = arguments["dataset"]  # the same tracks and captions, wherever they are now
    changed = [name for name in sorted(arguments.keys() | saved.keys()) if arguments.get(name) != saved.get(name)]
    if changed:
        changes = ", ".join(f"{name} was {saved.get(name)!r}, now {arguments.get(name)!r}" for name in changed)
        raise ValueError(f"--resume: {checkpoints[-1]} was made with other arguments: {changes}")
    if state.corpus is None:
        logger.warning(
            f"{checkpoints[-1]} does not say what corpus it was made with: whether it is this one is not checked"
        )
        state.corpus = corpus
    elif changes := describe_changes(state.corpus, corpus):
        raise ValueError(
            f"--resume: {checkpoints[-1]} was made with another corpus: {changes}. Resume with that one, or start "
            "again with another --output_dir"
        )
    accelerator.load_state(str(checkpoints[-1]))
    return state


def read_state(checkpoint: Path) -> TrainState:
    """
    Return the state of a checkpoint.

    Raises:
        `ValueError`: if it is damaged, or a file differs from the digest that was taken when it was written.
    """
    advice = "Delete it to go on from the one before."
    try:
        values = json.loads((checkpoint / STATE_FILE).read_text())
        files = values.pop("files")
        state = TrainState(**values)
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"--resume: {checkpoint / STATE_FILE} is not one of train.py, or torn. {advice}") from error
    for name, digest in files.items():
        if not (checkpoint / name).exists():
            raise ValueError(f"--resume: {checkpoint} is not whole: {name} is missing. {advice}")
        if hash_file(checkpoint / name) != digest:
            raise ValueError(f"--resume: {checkpoint} is not whole: {name} is not as it was written. {advice}")
    return state


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Raise an `OSError`, as Python does, where torch and safetensors cannot write to a folder: its disk is full."""
    try:
        yield
    except SafetensorError as error:
        raise OSError(f"{folder} cannot be written to: {error}") from error
    except RuntimeError as error:  # torch does not say why
        if shutil.disk_usage(folder).free > FULL_DISK:
            raise
        raise OSError(f"the disk of {folder} is full: {error}") from error


@contextmanager
def replace_files(folder: Path) -> Iterator[Path]:
    """Yield an empty folder to write to; its files then replace those of `folder` one by one, each in one step."""
    partial = folder / ".partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    with writing_to(folder):
        yield partial
    for path in sorted(partial.iterdir()):
        os.replace(path, folder / path.name)
    partial.rmdir()
