# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The cache on disk, whose files are named after the content they were computed from, and how a file is replaced."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from huggingface_hub.constants import HF_HOME


CACHE = Path(HF_HOME) / "muscall"


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """
    Yield a path to write to, which becomes `path` in one step when the block ends: a reader finds the old file or the
    whole new one. The folder is made if it does not exist. If the block raises, `path` stays as it was.

    Args:
        path (`Path`):
            The file to write or replace. The yielded path lies beside it, is hidden and has the same suffix.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def cached_array(name: str, compute: Callable[[Path], None]) -> np.ndarray:
    """
    Return an array of the cache, memory-mapped, which is computed where it is not there yet.

    Args:
        name (`str`):
            Name of the file without its suffix; it must hold a hash of everything that the array depends on.
        compute (`Callable[[Path], None]`):
            Writes the array to an `.npy` file.
    """
    path = CACHE / f"{name}.npy"
    if not path.exists():
        with replace_file(path) as partial:
            compute(partial)
    return np.load(path, mmap_mode="r")
