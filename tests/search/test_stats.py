# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Figures of a library."""

import shutil

import pytest


pytest.importorskip("muscall.search")

from muscall.search.formatting import clock, format_stats
from muscall.search.stats import library_stats
from muscall.search.store import RUNS, Store, _connect


def test_figures(index, music, model):
    shutil.copy(music / "a b.opus", music / "copy.opus")
    (music / "broken.mp3").write_text("no audio")
    store, _ = index(music)
    (music / "copy.opus").unlink()
    stats = library_stats(store)
    assert (stats["tracks"], stats["recordings"]) == (6, 5)
    assert stats["windows"] == store.table.count_rows() and stats["hours"] == pytest.approx(5 * 20.2 / 3600, rel=1e-3)
    assert stats["files"] == {"there": 5, "missing": 1}
    assert stats["tags"]["bpm"] == 0 and stats["model"]["path"] == str(model)
    (run,) = stats["runs"]
    assert run["folders"] == [str(music)]
    assert "cannot be decoded" in run["unreadable"][str(music / "broken.mp3")]
    assert any("other suffixes" in kind or ".jpg" in names for kind, names in run["left_out"].items())
    text = format_stats(stats)
    assert "6 tracks (5 there, 1 missing), 5 different ones" in text and "broken.mp3: " in text


def test_tags_are_counted(tagged):
    stats = library_stats(tagged[1].store)
    assert stats["tags"]["genre"] == stats["tags"]["bpm"] == 6 and stats["tags"]["album"] == 0


def test_each_folder_keeps_what_its_last_run_skipped(index, music, tmp_path):
    (music / "deep" / "broken.mp3").write_text("no audio")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "broken too.mp3").write_text("no audio")
    for folder in (music / "deep", tmp_path / "other", music, tmp_path / "other"):
        store, _ = index(folder)
    runs = library_stats(store)["runs"]
    assert [run["folders"] for run in runs] == [[str(music)], [str(tmp_path / "other")]]
    (music / "deep" / "broken.mp3").unlink()
    runs = library_stats(index(music)[0])["runs"]
    assert [len(run["unreadable"]) for run in runs] == [1, 0]


def test_an_index_older_than_the_record(index, music):
    store, _ = index(music)
    _connect(store.uri).drop_table(RUNS)
    stats = library_stats(Store.open(store.uri))
    assert stats["runs"] == [] and "what was skipped is not known" in format_stats(stats)
    assert len(library_stats(index(music)[0])["runs"]) == 1


def test_times_from_an_hour_on_have_hours():
    assert [clock(seconds) for seconds in (5.9, 125, 3599, 3725)] == ["0:05", "2:05", "59:59", "1:02:05"]
