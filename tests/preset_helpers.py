# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Tiny copies of public datasets, with the files, columns and folders of the official distribution."""

import csv
import io
from pathlib import Path

import numpy as np
import soundfile
from datasets import Dataset, Features

from muscall.evaluation.presets import PRESETS


FORMATS = {".wav": "WAV", ".mp3": "MP3", ".ogg": "OGG", ".flac": "FLAC"}
CONTENT = {}


def content(suffix):
    if suffix not in CONTENT:
        buffer = io.BytesIO()
        noise = np.random.default_rng(0).normal(size=800) / 10
        soundfile.write(buffer, noise, 8000, format=FORMATS[suffix])
        CONTENT[suffix] = buffer.getvalue()
    return CONTENT[suffix]


def write_audio(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(path.suffix))


def write_csv(path, rows, delimiter=",", quoting=csv.QUOTE_MINIMAL):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter, quoting=quoting).writerows(rows)


def read(preset, folder):
    splits = PRESETS[preset].read(str(folder))
    assert PRESETS[preset].split in splits
    for rows in splits.values():
        assert all(Path(path).is_absolute() and soundfile.info(path).frames for path in rows["audio"][:5])
    return splits


def by_name(rows, column, folder):
    return {str(Path(row["audio"]).relative_to(folder)): row[column] for row in rows}


def write_parquet(folder, rows, features):
    (folder / "data").mkdir(parents=True)
    rows = Dataset.from_list(rows).cast(Features(features))  # `from_list` itself would encode, which needs torchcodec
    rows.to_parquet(folder / "data" / "train-00000-of-00001.parquet")
