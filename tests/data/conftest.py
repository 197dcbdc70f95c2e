# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Tracks of various length, some of which cannot be read."""

import datasets
import numpy as np
import pytest
import soundfile
from corpora import RATE, write_ramp
from datasets import Dataset


@pytest.fixture(autouse=True)
def no_sleep(monkeypatch):
    """`datasets` sleeps for seconds at the end of each pass over parquet, for the sake of a bug at exit."""
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0)


@pytest.fixture(scope="module")
def tracks(tmp_path_factory):
    """Six good tracks of 0.2 to 10 s, then a corrupt, an empty, a zero-length and a missing one."""
    folder = tmp_path_factory.mktemp("tracks")
    for number, seconds in enumerate((0.2, 0.5, 1, 2, 5, 10)):
        write_ramp(folder / f"{number}.wav", number + 1, seconds)
    (folder / "6.wav").write_bytes(b"RIFF, but no more than that")
    (folder / "7.wav").write_bytes(b"")
    soundfile.write(folder / "8.wav", np.zeros(0), RATE)
    rows = {"path": [str(folder / f"{number}.wav") for number in range(10)], "bytes": [None] * 10}
    return Dataset.from_dict({**rows, "captions": [[f"first {n}", f"second {n}", f"third {n}"] for n in range(10)]})
