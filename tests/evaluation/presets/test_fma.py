# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""FMA on a tiny copy of its folder."""

import pytest
from preset_helpers import by_name, read, write_audio, write_csv

from muscall.evaluation.presets import PRESETS


@pytest.fixture
def fma(tmp_path):
    """Two header rows and one with the name of the index, as fma_metadata/tracks.csv has."""
    rows = [
        ["", "album", "set", "set", "track", "track"],
        ["", "comments", "split", "subset", "genre_top", "title"],
        ["track_id", "", "", "", "", ""],
        [2, 0, "training", "small", "Hip-Hop", "Food"],
        [10, 0, "training", "large", "Pop", "not in the small subset"],
        [140, 0, "validation", "small", "Folk", "Queen Of The Wires"],
        [153956, 0, "test", "small", "International", "a comma, in a title"],
        [99134, 0, "test", "small", "Rock", "no audio"],
    ]
    write_csv(tmp_path / "fma_metadata/tracks.csv", rows)
    write_audio(tmp_path, *(f"fma_small/{name}.mp3" for name in ("000/000002", "000/000140", "153/153956")))
    (tmp_path / "fma_small/099").mkdir()
    (tmp_path / "fma_small/099/099134.mp3").write_bytes(b"no frames")
    return tmp_path


def test_fma_small_without_its_broken_files(fma):
    splits = read("fma_small", fma)
    assert {split: by_name(rows, "labels", fma) for split, rows in splits.items()} == {
        "train": {"fma_small/000/000002.mp3": ["Hip-Hop"]},
        "validation": {"fma_small/000/000140.mp3": ["Folk"]},
        "test": {"fma_small/153/153956.mp3": ["International"]},
    }


def test_fma_small_names_what_is_missing(fma):
    (fma / "fma_small/000/000140.mp3").unlink()
    with pytest.raises(ValueError, match=r"^1 of the 3 audio files .*000140\.mp3$"):
        PRESETS["fma_small"].read(str(fma))
    table = (fma / "fma_metadata/tracks.csv").read_text()
    (fma / "fma_metadata/tracks.csv").write_text(table.replace("genre_top", "genres"))
    with pytest.raises(ValueError, match=r"has no column \('track', 'genre_top'\)"):
        PRESETS["fma_small"].read(str(fma))
    (fma / "fma_small").rename(fma / "small")
    with pytest.raises(ValueError, match="has no fma_small. It has: fma_metadata, small"):
        PRESETS["fma_small"].read(str(fma))
