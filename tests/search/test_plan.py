# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""What is new, changed, moved and gone, and what stays although it cannot be read."""

import ctypes
import os
import shutil
import struct
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import soundfile
from forks import Fork, finish
from helpers import PRODUCED, nest_chapters, read_content, run_index


pytest.importorskip("muscall.search")

from muscall.search.indexing import forget
from muscall.search.plan import make_plan
from muscall.search.query import Library
from muscall.search.store import literal
from processing_muscall import MusCALLFeatureExtractor


UMLAUTS = {form: unicodedata.normalize(form, "Björk – Jóga") for form in ("NFC", "NFD")}


@pytest.fixture
def three(tmp_path):
    """A folder with three tracks: `a`, its copy `b`, and `c`."""
    folder = tmp_path / "three"
    folder.mkdir()
    for source, name in ((0, "a"), (0, "b"), (9, "c")):
        shutil.copy(PRODUCED[source], folder / f"{name}.opus")
    return folder


def test_a_renamed_copy_that_got_a_copy_is_moved_once(index, three):
    (three / "b.opus").unlink()
    assert "(2 new)" in index(three)[1]
    (three / "a.opus").rename(three / "d.opus")
    shutil.copy(three / "d.opus", three / "e.opus")
    (three / "c.opus").unlink()
    assert "2 tracks (1 new, 1 moved, 1 deleted)" in index(three)[1]


def test_two_renamed_copies_are_moved_twice(index, three):
    assert "(3 new)" in index(three)[1]
    (three / "a.opus").rename(three / "d.opus")
    (three / "b.opus").rename(three / "e.opus")
    (three / "c.opus").unlink()
    assert "2 tracks (2 moved, 1 deleted)" in index(three)[1]


def test_a_list_of_files_says_which_are_wanted(index, three, tmp_path):
    store, _ = index(three)
    outside, gone = str(tmp_path / "outside.opus"), str(three / "gone.opus")
    shutil.copy(PRODUCED[18], outside)
    plan = make_plan(store, [three], [str(three / "a.opus"), outside, gone])
    assert plan.todo == [outside]
    assert {track for track, _ in plan.stale} == {str(three / "b.opus"), str(three / "c.opus")}
    assert plan.unreadable == [(gone, "No such file or directory")]


def test_a_folder_is_the_same_by_all_its_names(index, three, tmp_path, monkeypatch):
    before = read_content(index(three)[0])
    (tmp_path / "link").symlink_to(three)
    (three / "itself").symlink_to(three)
    (three / "linked.opus").symlink_to("c.opus")
    monkeypatch.chdir(three)
    for folder in (Path("."), Path("../three/"), tmp_path / "link", three / "itself" / ".." / "three"):
        store, output = index(folder)
        assert "3 tracks (nothing new)" in output and read_content(store) == before
    (three / "c.opus").unlink()
    (three / "linked.opus").unlink()
    assert "2 tracks (1 deleted)" in index(tmp_path / "link")[1]


def test_a_track_known_by_a_link_is_gone_from_the_folder_itself_too(index, three, tmp_path):
    (tmp_path / "link").symlink_to(three)
    (three / "private").mkdir()
    shutil.copy(PRODUCED[18], three / "private" / "d.opus")
    index(tmp_path / "link")
    shutil.move(three / "private", tmp_path / "elsewhere")
    (three / "private").symlink_to(three / "nowhere")  # a disk that is away: its tracks stay
    (three / "c.opus").rename(three / "e.opus")
    (three / "b.opus").unlink()
    store, output = index(three)
    assert "3 tracks (1 moved, 1 deleted)" in output
    known = {str(tmp_path / "link" / name) for name in ("a.opus", "private/d.opus")}
    assert set(store.tracks()) == known | {str(three / "e.opus")}


def test_an_empty_folder_is_taken_for_a_missing_disk_by_a_link_too(index, three, tmp_path):
    (tmp_path / "link").symlink_to(three)
    index(three)
    shutil.rmtree(three)
    three.mkdir()
    with pytest.raises(ValueError, match="is empty, but the index has 3 tracks of it"):
        index(tmp_path / "link")


def test_new_permissions_change_nothing(index, three):
    before = index(three)[0].tracks()
    (three / "c.opus").chmod(0o600)
    store, output = index(three)
    assert "3 tracks (nothing new)" in output
    for track, states in store.tracks().items():
        assert list(states.values()) == list(before[track].values())
    (three / "c.opus").chmod(0o644)
    assert {answer["file"] for answer in Library(store.uri).search("music")} == {"there"}


def test_whatever_a_file_raises_it_is_listed(index, three, monkeypatch):
    """A pipe, which would never end; a file whose disk fails; tags and a decoder that raise what they should not."""
    index(three)
    os.mkfifo(three / "pipe.mp3")
    (three / "c.opus").unlink()
    (three / "c.opus").symlink_to("/proc/self/mem")  # its first bytes cannot be read
    soundfile.write(three / "tags.mp3", 0.3 * np.sin(np.arange(16000) / 20), 8000)
    (three / "tags.mp3").write_bytes(nest_chapters(1000) + (three / "tags.mp3").read_bytes())
    shutil.copy(PRODUCED[18], three / "decoder.opus")
    iter_windows = MusCALLFeatureExtractor.iter_windows

    def fail(self, track, **options):
        if track.endswith("decoder.opus"):
            raise RuntimeError("out of range")
        return iter_windows(self, track, **options)

    monkeypatch.setattr(MusCALLFeatureExtractor, "iter_windows", fail)
    store, output = index(three)
    assert "4 tracks (1 new)" in output and "3 files could not be read" in output
    assert "pipe.mp3: is no file, but a pipe" in output
    assert "c.opus: Input/output error" in output and str(three / "c.opus") in store.tracks()
    assert "decoder.opus: RuntimeError: out of range" in output
    assert store.rows(f"track = {literal(str(three / 'tags.mp3'))}").column("title")[0].as_py() is None


def test_what_was_left_out_is_shown_by_kind(index, three):
    (three / "itself").symlink_to(three)
    (three / "gone").symlink_to(three / "nowhere")
    for name in ("cover.jpg", "back.jpg", "a.mid"):
        (three / name).write_bytes(b"x")
    output = index(three)[1]
    assert "left out: 3 files with other suffixes (.jpg 2, .mid)" in output
    assert f"left out: 1 links to folders that they, or folders that were named, are in ({three / 'itself'})" in output
    assert f"1 folders or links could not be looked into, their tracks stay:\n  {three / 'gone'}: No" in output


@pytest.mark.parametrize("on_disk, typed", [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_track_is_found_in_the_other_unicode_form(index, three, on_disk, typed):
    folder = three / UMLAUTS[on_disk]
    folder.mkdir()
    (three / "c.opus").rename(folder / f"{UMLAUTS[on_disk]}.opus")
    store, _ = index(three)
    library = Library(store.uri)
    name = str(three / UMLAUTS[typed] / UMLAUTS[typed])
    conditions = [f"track = '{name}.opus'", f"track LIKE '%{UMLAUTS[typed].upper()}%'", f"track IN ('{name}.opus')"]
    for condition in conditions:
        assert [Path(answer["track"]).parent for answer in library.search("x", where=condition)] == [folder]
    answers = library.search("x", where=f"track != '{name}.opus' and track not like '%{UMLAUTS[typed]}%'")
    assert [Path(answer["track"]).name for answer in answers] == ["a.opus"]
    answers = library.search(like=f"{name}.OPUS")
    assert [Path(answer["track"]).name for answer in answers] == ["a.opus"]
    assert forget(store.uri, three / UMLAUTS[typed]) == 1
    with pytest.raises(ValueError, match="is no track of the index"):
        forget(store.uri, three / UMLAUTS[typed])


def index_without_privileges(*arguments):
    """The superuser lists all folders, until it gives up its capabilities."""
    header, none = struct.pack("Ii", 0x20080522, 0), bytes(24)  # as linux/capability.h has it
    assert ctypes.CDLL(None).capset(header, none) == 0
    run_index(*arguments)


@pytest.mark.slow
def test_tracks_in_a_folder_that_may_not_be_listed_stay(index, three, model, tmp_path):
    (three / "private").mkdir()
    (three / "c.opus").rename(three / "private" / "c.opus")
    index(three)
    (three / "a.opus").unlink()
    (three / "private").chmod(0)
    try:
        output = finish(Fork(index_without_privileges, three, "--model", model, "--store", tmp_path / "store"))
    finally:
        (three / "private").chmod(0o755)
    assert "2 tracks (1 deleted)" in output
    assert f"{three / 'private'}: Permission denied" in output
    store, output = index(three)
    assert "2 tracks (nothing new)" in output
    assert set(store.tracks()) == {str(three / "b.opus"), str(three / "private" / "c.opus")}
