# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The files below a folder, and what is left out."""

import os

from muscall.data.folders import list_files


def write(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())


def names_in(folder, listing):
    return [str(file.relative_to(folder)) for file in listing.files]


def test_names_that_begin_with_dots_are_listed(tmp_path):
    names = ["...Trail of Dead/01.flac", ".38 Special/...Baby.wav", ".hidden.wav", "a.wav"]
    write(tmp_path, *names)
    listing = list_files(tmp_path)
    assert names_in(tmp_path, listing) == names and listing.describe_left_out() == ""


def test_linked_folders_are_read_once(tmp_path):
    music, shelf = tmp_path / "music", tmp_path / "shelf"
    write(music, "z/1.wav")
    write(shelf, "2.wav")
    for link, target in (("a", music / "z"), ("b", shelf), ("c", shelf), ("z/loop", music), ("z/up", tmp_path)):
        (music / link).symlink_to(target, target_is_directory=True)
    listing = list_files(music)
    assert names_in(music, listing) == ["b/2.wav", "z/1.wav"]
    assert sorted(os.path.basename(path) for _, path in listing.left_out) == ["a", "c", "loop", "up"]
    assert "2 links to folders that are read already" in listing.describe_left_out()
    assert "2 links to folders that they are in" in listing.describe_left_out()


def test_linked_files_are_listed_once(tmp_path):
    write(tmp_path, "b.wav")
    (tmp_path / "a.wav").symlink_to(tmp_path / "b.wav")
    (tmp_path / "dead.wav").symlink_to(tmp_path / "gone.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    listing = list_files(tmp_path)
    assert names_in(tmp_path, listing) == ["b.wav"]
    assert listing.describe_left_out() == (
        f"2 links to nothing, or no files ({tmp_path}/dead.wav); "
        f"1 links to files that are listed already ({tmp_path}/a.wav)"
    )


def test_a_cache_of_links_is_listed_whole(tmp_path):
    write(tmp_path / "blobs", "1")
    (tmp_path / "snapshot").mkdir()
    for name in ("a.wav", "b.wav"):  # two files of one content, as the Hub's cache has them
        (tmp_path / "snapshot" / name).symlink_to(tmp_path / "blobs" / "1")
    assert names_in(tmp_path / "snapshot", list_files(tmp_path / "snapshot")) == ["a.wav", "b.wav"]


def test_what_programs_keep_is_left_out(tmp_path):
    write(tmp_path, "a.wav", "._a.wav", ".git/1.wav", ".Trash-1000/files/2.wav", "__MACOSX/3.wav")
    listing = list_files(tmp_path)
    assert names_in(tmp_path, listing) == ["a.wav"]
    assert "3 folders of programs" in listing.describe_left_out()
    assert "1 files of attributes that macOS writes" in listing.describe_left_out()
