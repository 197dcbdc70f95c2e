# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The files below a folder, and what is left out."""

import os

from muscall.data.folders import describe_left_out, list_files
from muscall.folders import APPLE_DOUBLE


def write(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())


def names_in(folder):
    return [str(file.relative_to(folder)) for file in list_files(folder)[0]]


def left_out_of(folder):
    return describe_left_out(list_files(folder)[1])


def test_names_that_begin_with_dots_are_listed(tmp_path):
    names = ["...Trail of Dead/01.flac", ".38 Special/...Baby.wav", ".hidden.wav", "a.wav"]
    write(tmp_path, *names)
    assert names_in(tmp_path) == names and left_out_of(tmp_path) == ""


def test_linked_folders_are_read_once(tmp_path):
    music, shelf = tmp_path / "music", tmp_path / "shelf"
    write(music, "z/1.wav")
    write(shelf, "2.wav")
    for link, target in (("a", music / "z"), ("b", shelf), ("c", shelf), ("z/loop", music), ("z/up", tmp_path)):
        (music / link).symlink_to(target, target_is_directory=True)
    assert names_in(music) == ["b/2.wav", "z/1.wav"]
    left_out = list_files(music)[1].left_out
    assert sorted(os.path.basename(path) for names in left_out.values() for path in names) == ["a", "c", "loop", "up"]
    assert "2 folders that are listed under another name" in left_out_of(music)
    assert "2 links to folders that they, or folders that were named, are in" in left_out_of(music)


def test_linked_files_are_listed_once(tmp_path):
    write(tmp_path, "b.wav")
    (tmp_path / "a.wav").symlink_to(tmp_path / "b.wav")
    (tmp_path / "dead.wav").symlink_to(tmp_path / "gone.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    assert names_in(tmp_path) == ["b.wav"]
    assert left_out_of(tmp_path) == (
        f"1 links to files that are listed under another name ({tmp_path}/a.wav); "
        f"2 links to nothing, or no files ({tmp_path}/pipe.wav, {tmp_path}/dead.wav)"
    )


def test_a_cache_of_links_is_listed_whole(tmp_path):
    write(tmp_path / "blobs", "1")
    (tmp_path / "snapshot").mkdir()
    for name in ("a.wav", "b.wav"):  # two files of one content, as the Hub's cache has them
        (tmp_path / "snapshot" / name).symlink_to(tmp_path / "blobs" / "1")
    assert names_in(tmp_path / "snapshot") == ["a.wav", "b.wav"]


def test_what_programs_keep_is_left_out(tmp_path):
    write(tmp_path, "a.wav", ".git/1.wav", ".Trash-1000/files/2.wav", "__MACOSX/3.wav")
    (tmp_path / "._a.wav").write_bytes(APPLE_DOUBLE)
    assert names_in(tmp_path) == ["a.wav"]
    assert "3 folders of deleted files, old versions, thumbnails and the like" in left_out_of(tmp_path)
    assert "1 files that macOS keeps beside others (._a.wav)" in left_out_of(tmp_path)
