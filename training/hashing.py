# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Where a checkpoint lies, and SHA-256 of files and folders: what tells one checkpoint or corpus from another."""

import hashlib
import re
from pathlib import Path

from huggingface_hub import snapshot_download


def hash_file(path: str | Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def hash_folder(folder: Path) -> str:
    """Of the names and contents of all files in it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = (f"{path.relative_to(folder).as_posix()} {hash_file(path)}" for path in files)
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def hash_weights(folder: Path) -> str:
    """Of a checkpoint's weights: that of `model.safetensors`, or of the names and hashes of all shards."""
    files = sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    if not files:
        raise ValueError(f"{folder} holds no weights: expected model*.safetensors or pytorch_model*.bin")
    if len(files) == 1:
        return hash_file(files[0])
    return hashlib.sha256("\n".join(f"{path.name} {hash_file(path)}" for path in files).encode()).hexdigest()


def resolve(model_name_or_path: str) -> Path:
    """The folder of a checkpoint: itself, or the snapshot of a Hub repository."""
    if Path(model_name_or_path).is_dir():
        return Path(model_name_or_path)
    if Path(model_name_or_path).exists() or not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", model_name_or_path):
        raise ValueError(f"{model_name_or_path}: expected the folder of a checkpoint, or the id of one on the Hub")
    return Path(snapshot_download(model_name_or_path))


def with_code(folder: str | Path) -> dict[str, str]:
    """
    What `from_pretrained` of the auto classes needs to find a checkpoint and its code: a folder with weights but no
    code, like `fast` in this repository, is a subfolder of the one that has the code.
    """
    folder = Path(folder)
    code = "modeling_muscall.py"
    if (
        (folder / "config.json").exists()
        and not (folder / code).exists()
        and (folder.resolve().parent / code).exists()
    ):
        return {"pretrained_model_name_or_path": str(folder.resolve().parent), "subfolder": folder.name}
    return {"pretrained_model_name_or_path": str(folder)}
