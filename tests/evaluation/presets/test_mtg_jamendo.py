# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""MTG-Jamendo on a tiny copy of its folder."""

import pytest
from preset_helpers import by_name, read, write_audio, write_csv

from muscall.evaluation.presets import PRESETS


def write_jamendo(folder, subset, split, *tracks):
    header = ["TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS"]
    rows = [
        [f"track_{path[3:-4]:>07}", "artist_000001", "album_000001", path, "200.1", *tags] for path, *tags in tracks
    ]
    write_csv(folder / f"autotagging_{subset}-{split}.tsv", [header, *rows], "\t")


@pytest.mark.parametrize("suffix", [".mp3", ".low.mp3"])
def test_mtg_jamendo_reads_both_qualities(tmp_path, suffix):
    write_jamendo(tmp_path, "top50tags", "train", ("14/214.mp3", "genre---rock"))
    write_jamendo(tmp_path, "top50tags", "validation", ("02/1002.mp3", "genre---newage"))
    tags = ["genre---pop", "instrument---voice", "mood/theme---happy"]
    write_jamendo(tmp_path, "top50tags", "test", ("00/1377200.mp3", *tags), ("01/1.mp3", "genre---hiphop"))
    write_audio(tmp_path, *(f"{name}{suffix}" for name in ("14/214", "02/1002", "00/1377200", "01/1")))
    splits = read("mtg_jamendo", tmp_path)
    assert by_name(splits["train"], "labels", tmp_path) == {f"14/214{suffix}": ["genre---rock"]}
    assert by_name(splits["validation"], "labels", tmp_path) == {f"02/1002{suffix}": ["genre---newage"]}
    labels = {f"00/1377200{suffix}": tags, f"01/1{suffix}": ["genre---hiphop"]}
    assert by_name(splits["test"], "labels", tmp_path) == labels


@pytest.mark.parametrize(
    ("subset", "tag"),
    [("genre", "genre---60s"), ("instrument", "instrument---pad"), ("moodtheme", "mood/theme---epic")],
)
def test_mtg_jamendo_subsets_need_the_test_split_alone(tmp_path, subset, tag):
    write_jamendo(tmp_path, subset, "test", ("00/100.mp3", tag))
    write_audio(tmp_path, "00/100.mp3")
    splits = read(f"mtg_jamendo_{subset}", tmp_path)
    assert list(splits) == ["test"] and splits["test"]["labels"][:] == [[tag]]
    assert tag in PRESETS[f"mtg_jamendo_{subset}"].labels


def test_mtg_jamendo_refuses_other_tags_columns_and_folders(tmp_path):
    with pytest.raises(ValueError, match=r"has no autotagging_genre-test\.tsv\. It has: nothing"):
        PRESETS["mtg_jamendo_genre"].read(str(tmp_path))
    write_jamendo(tmp_path, "genre", "test", ("00/100.mp3", "genre---rock", "genre---african"))
    with pytest.raises(ValueError, match="00/100.mp3 has tags that are not among the preset's: genre---african"):
        PRESETS["mtg_jamendo_genre"].read(str(tmp_path))
    write_jamendo(tmp_path, "genre", "test", ("00/100.mp3", "genre---rock"))
    with pytest.raises(ValueError, match=r"^1 of the 1 audio files .*00/100\.mp3$"):
        PRESETS["mtg_jamendo_genre"].read(str(tmp_path))
    write_csv(tmp_path / "autotagging_genre-test.tsv", [["TRACK_ID", "TAGS"]], "\t")
    with pytest.raises(ValueError, match="has no column ARTIST_ID, .*DURATION. Its columns: TRACK_ID, TAGS"):
        PRESETS["mtg_jamendo_genre"].read(str(tmp_path))
