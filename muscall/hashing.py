# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Hashes of files, folders and the weights of checkpoints."""

import hashlib
from pathlib import Path


def hash_file(path: str | Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def hash_folder(folder: Path) -> str:
    """Hash the names and contents of all files in a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = (f"{path.relative_to(folder).as_posix()} {hash_file(path)}" for path in files)
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def hash_weights(folder: Path) -> str:
    """
    Hash the weights of a checkpoint: the content of `model.safetensors`, or the names and hashes of all shards.

    Raises:
        `ValueError`: if there are none.
    """
    files = sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    if not files:
        raise ValueError(f"{folder} holds no weights: expected model*.safetensors or pytorch_model*.bin")
    if len(files) == 1:
        return hash_file(files[0])
    return hashlib.sha256("\n".join(f"{path.name} {hash_file(path)}" for path in files).encode()).hexdigest()
