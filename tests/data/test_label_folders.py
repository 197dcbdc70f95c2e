# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Folders of audio, one for each label."""

from pathlib import Path

import pytest
from corpora import write_ramp

from muscall.data.sources import label_folders
from muscall.folders import APPLE_DOUBLE


@pytest.mark.parametrize("validation", ["validation", "valid", "val", "dev"])
def test_folder_per_label_in_a_folder_per_split(tmp_path, validation):
    for number, place in enumerate(("train/calm", "train/loud", f"{validation}/calm", "test/loud")):
        write_ramp(tmp_path / place / f"{number}.wav", number)
    splits = label_folders(str(tmp_path))
    labels = {split: {Path(row["audio"]).stem: row["label"] for row in rows} for split, rows in splits.items()}
    assert labels == {"train": {"0": "calm", "1": "loud"}, "validation": {"2": "calm"}, "test": {"3": "loud"}}


def test_folder_per_label_without_splits_is_the_test_split(tmp_path):
    for number, label in enumerate(("calm", "loud")):
        write_ramp(tmp_path / label / f"{number}.wav", number)
    splits = label_folders(str(tmp_path))
    assert {split: rows["label"][:] for split, rows in splits.items()} == {"test": ["calm", "loud"]}


def test_labels_that_begin_with_dots(tmp_path):
    for number, label in enumerate(("...Trail of Dead", ".38 Special")):
        write_ramp(tmp_path / label / f"...{number}.WAV", number)
    assert label_folders(str(tmp_path))["test"]["label"][:] == ["...Trail of Dead", ".38 Special"]


def test_label_folders_name_what_they_leave_out(tmp_path, caplog):
    write_ramp(tmp_path / "calm" / "0.wav", 0)
    write_ramp(tmp_path / "loud" / "1.wav", 1)
    for name in ("calm/2.m4a", "calm/._0.wav", "loud/cover.jpg"):
        (tmp_path / name).write_bytes(APPLE_DOUBLE)
    (tmp_path / "also_calm").symlink_to(tmp_path / "calm", target_is_directory=True)
    assert label_folders(str(tmp_path))["test"]["label"][:] == ["calm", "loud"]
    for words in (
        "2 files with other suffixes (.m4a, .jpg)",
        "1 files that macOS keeps",
        "1 folders that are listed under",
    ):
        assert words in caplog.text


def test_label_folders_beside_those_of_splits_are_a_split(tmp_path):
    for number, place in enumerate(("TRAIN/calm", "Eval/loud", "extra/calm")):
        write_ramp(tmp_path / place / f"{number}.wav", number)
    assert set(label_folders(str(tmp_path))) == {"train", "test", "extra"}


@pytest.mark.parametrize("other", ["more.jsonl", "top.wav", "a/b/c/deep.wav"])
def test_folders_that_are_not_labels(tmp_path, other):
    write_ramp(tmp_path / "calm" / "0.wav", 0)
    assert label_folders(str(tmp_path)) is not None
    write_ramp(tmp_path / "scratch.wav", 1)
    (tmp_path / other).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "scratch.wav").rename(tmp_path / other)
    assert label_folders(str(tmp_path)) is None
