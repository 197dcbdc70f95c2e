# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Files that the makers of the corpora share: tables, audio in Debian packages, and the rows of the default corpus."""

import csv
import fnmatch
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import soundfile
import soxr

from corpus.build import CORPUS
from muscall.cache import replace_file


def read_csv(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table whose first line names the columns."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def replace_text(path: Path, text: str) -> None:
    """Write a text file in one step."""
    with replace_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def replace_rows(source: str, rows: list[dict]) -> list[dict]:
    """
    Put the rows of one source into `corpus/captions.jsonl`, in place of those that it had.

    Returns:
        `list[dict]`: all rows of the file, sorted by id.
    """
    path = CORPUS / "captions.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    others = [row for row in map(json.loads, lines) if row["source"] != source]
    merged = sorted(rows + others, key=lambda row: row["id"])
    replace_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in merged))
    return merged


def open_member(root: Path, path: str) -> Path | io.BytesIO:
    """Return what a file under `root` is read from; `archive.zip!member` names a file in an archive."""
    file, _, member = path.partition("!")
    if not member:
        return root / file
    with zipfile.ZipFile(root / file) as archive:
        return io.BytesIO(archive.read(member))


def read_mono(root: Path, path: str, rate: int, quality: str = "HQ") -> np.ndarray:
    """
    Return an audio file as mono float32 `(samples,)`.

    Args:
        root (`Path`), path (`str`): See [`open_member`].
        rate (`int`): The rate of the samples in hertz (Hz).
        quality (`str`, *optional*, defaults to `"HQ"`): Of soxr's resampling.
    """
    samples, file_rate = soundfile.read(open_member(root, path), dtype="float32", always_2d=True)
    return soxr.resample(samples.mean(1), file_rate, rate, quality=quality)


def is_meant(name: str, patterns: list[str]) -> bool:
    """Return whether a query with these patterns means the track `package:path`."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
