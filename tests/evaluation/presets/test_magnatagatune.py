# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""MagnaTagATune on a tiny copy of its folder."""

import csv

import pytest
from preset_helpers import by_name, read, write_audio, write_csv

from muscall.evaluation.presets import PRESETS


MTT_BROKEN = "6/norine_braun-now_and_zen-08-gently-117-146.mp3"


def write_magnatagatune(folder, clips):
    """Tab-separated and quoted, with further tags, as annotations_final.csv is."""
    tags = ["no voice", "singer", *PRESETS["magnatagatune"].labels]
    tags = list(dict.fromkeys(tags))
    rows = [["clip_id", *tags, "mp3_path"]]
    for number, (path, given) in enumerate(clips.items()):
        rows.append([number, *(int(tag in given) for tag in tags), path])
    write_csv(folder / "annotations_final.csv", rows, "\t", csv.QUOTE_ALL)
    write_audio(folder, *clips)
    (folder / MTT_BROKEN).write_bytes(b"") if MTT_BROKEN in clips else None


MTT_CLIPS = {
    "0/a-1-30.mp3": ["guitar", "singer"],
    "b/b-1-30.mp3": ["no voice"],
    "c/c-1-30.mp3": ["woman", "female vocal", "rock"],
    "d/d-1-30.mp3": ["beats", "classic", "choral"],
    "f/e-1-30.mp3": ["man", "voice", "vocals"],
    "f/f-1-30.mp3": ["singer"],  # none of the 50
    MTT_BROKEN: ["guitar"],
}


def test_magnatagatune_splits_by_folder_and_leaves_out_clips_without_a_tag(tmp_path):
    write_magnatagatune(tmp_path, MTT_CLIPS)
    splits = read("magnatagatune", tmp_path)
    assert list(splits) == ["train", "validation", "test"]
    assert by_name(splits["train"], "labels", tmp_path) == {"0/a-1-30.mp3": ["guitar"], "b/b-1-30.mp3": ["no voice"]}
    labels = by_name(splits["validation"], "labels", tmp_path)
    assert {name: set(row) for name, row in labels.items()} == {"c/c-1-30.mp3": {"woman", "female vocal", "rock"}}
    labels = {name: set(row) for name, row in by_name(splits["test"], "labels", tmp_path).items()}
    assert labels == {"d/d-1-30.mp3": {"beats", "classic", "choral"}, "f/e-1-30.mp3": {"man", "voice", "vocals"}}


def test_magnatagatune_merged_joins_synonyms(tmp_path):
    write_magnatagatune(tmp_path, MTT_CLIPS)
    splits = read("magnatagatune_merged", tmp_path)
    labels = {name: set(row) for rows in splits.values() for name, row in by_name(rows, "labels", tmp_path).items()}
    assert labels == {
        "0/a-1-30.mp3": {"guitar"},
        "b/b-1-30.mp3": {"no vocals"},
        "c/c-1-30.mp3": {"female", "rock"},
        "d/d-1-30.mp3": {"beat", "classical", "choir"},
        "f/e-1-30.mp3": {"male", "vocals"},
    }
    assert all(row <= PRESETS["magnatagatune_merged"].labels.keys() for row in labels.values())


def test_magnatagatune_names_what_is_missing(tmp_path):
    with pytest.raises(ValueError, match=r"has no annotations_final\.csv\. It has: nothing"):
        PRESETS["magnatagatune"].read(str(tmp_path))
    with pytest.raises(ValueError, match="is not a folder; expected one with annotations_final.csv in it"):
        PRESETS["magnatagatune"].read(str(tmp_path / "typo"))
    write_csv(tmp_path / "annotations_final.csv", [["clip_id", "guitar", "mp3_path"], [2, 1, "f/a.mp3"]], "\t")
    with pytest.raises(ValueError, match=r"has no column classical, .* \(49 in all\)\. Its columns: clip_id, guitar"):
        PRESETS["magnatagatune"].read(str(tmp_path))
    write_magnatagatune(tmp_path, MTT_CLIPS)
    for name in ("c/c-1-30.mp3", "d/d-1-30.mp3"):
        (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=r"^2 of the 5 audio files .*c/c-1-30\.mp3, .*d/d-1-30\.mp3$"):
        PRESETS["magnatagatune"].read(str(tmp_path))
