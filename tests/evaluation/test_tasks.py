# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The splits that tasks read."""

import numpy as np
import soundfile

from muscall.evaluation.arguments import Arguments
from muscall.evaluation.tasks.probe import ProbeTask
from muscall.evaluation.tracks import Tracks


def write_label_folders(folder, splits):
    """Noise that the number of a recording seeds."""
    for split, recordings in splits.items():
        for place, recording in enumerate(recordings):
            path = folder / split / ("low" if recording % 2 else "high") / f"{place}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, np.random.default_rng(recording).uniform(-1, 1, 800), 8000)
    return str(folder)


def read(folder):
    task, tracks = ProbeTask(Arguments(model="none", task="probe", dataset=folder)), Tracks("labels", folder)
    task.read_splits(tracks)
    return {name: [open(path, "rb").read() for path in split["path"]] for name, split in task.splits.items()}


def test_nothing_that_is_reported_is_fitted_to(tmp_path, caplog):
    splits = read(write_label_folders(tmp_path, {"train": range(8), "validation": [3, 8, 9], "test": [1, 9, 10]}))
    assert [len(splits[name]) for name in ("train", "validation", "reported")] == [6, 2, 3]
    assert len(set(sum(splits.values(), []))) == 11
    assert "1 of the 8 train tracks are left out, because the test split has the same recordings" in caplog.text


def test_the_penalty_is_chosen_on_tracks_that_are_not_fitted_to(tmp_path):
    splits = read(write_label_folders(tmp_path, {"train": [*range(12)] * 3, "test": [20, 21]}))
    assert not set(splits["train"]) & set(splits["validation"]) and len(splits["validation"]) == 4
