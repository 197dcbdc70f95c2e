# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The files of a library: which are music, under which names, and whether they changed."""

import os
import random
import unicodedata
from pathlib import Path

import pytest


pytest.importorskip("muscall.search")

from muscall.folders import APPLE_DOUBLE
from muscall.search.files import file_state, file_status, find_audio, find_tracks, known_names


DOTS = ("...And You Will Know Us/01.flac", ".38 Special/.hack - SIGN.mp3", "Britney/...Baby One More Time.ogg")
FILES = "files with other suffixes"
FOLDERS = "folders of deleted files, old versions, thumbnails and the like"
TWICE = "folders that are listed under another name"
UPWARDS = "links to folders that they, or folders that were named, are in"


@pytest.fixture
def make(tmp_path):
    """Write files with paths below a folder `music`, and return it."""

    def write(*names, content=b"x"):
        for name in names:
            path = tmp_path / "music" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return tmp_path / "music"

    return write


def names_in(folder, found):
    return [os.path.relpath(path, folder) for path in found.paths]


def test_names_that_begin_with_dots_are_music(make):
    music = make(*DOTS, "a.MP3", "b.Flac")
    assert sorted(names_in(music, find_audio(music))) == sorted([*DOTS, "a.MP3", "b.Flac"])


def test_what_is_left_out_is_told_by_kind(make):
    music = make("a.flac", "cover.JPG", "b/cover.jpg", "c.mid", "README", "@eaDir/a.flac", "b/@eaDir/b.flac")
    make(".Trash-1000/files/c.flac", "#recycle/d.flac", ".stversions/e.flac", ".git/annex/f.flac")
    make("._a.flac", "b/._b.flac", content=APPLE_DOUBLE + b"Mac OS X")
    make("._a real track.flac")
    found = find_audio(music)
    assert names_in(music, found) == ["._a real track.flac", "a.flac"]
    assert found.left_out[FILES] == {".jpg": 2, ".mid": 1, "no suffix": 1}
    assert found.left_out[FOLDERS] == {"@eaDir": 2, ".Trash-1000": 1, "#recycle": 1, ".stversions": 1, ".git": 1}
    assert found.left_out["files that macOS keeps beside others"] == {"._a.flac": 1, "._b.flac": 1}


def test_each_folder_is_looked_into_once_whichever_links_lead_there(make, tmp_path):
    music = make("b/1.flac", "b/2.flac")
    make("../elsewhere/c/3.flac")
    (music / "a").symlink_to(music / "b")  # comes first in order, but b is there by itself
    (music / "other").symlink_to(tmp_path / "elsewhere")
    (music / "same").symlink_to(tmp_path / "elsewhere" / "c")
    (music / "b" / "up").symlink_to(music)
    (tmp_path / "elsewhere" / "loop").symlink_to(tmp_path / "elsewhere")
    found = find_audio(music)
    assert names_in(music, found) == ["b/1.flac", "b/2.flac", "other/c/3.flac"]
    assert set(found.left_out[TWICE]) == {str(music / name) for name in ("a", "same", "other/loop")}
    assert set(found.left_out["links to folders that they, or folders that were named, are in"]) == {
        str(music / "b" / "up")
    }
    assert sorted(find_audio(music / "b", music).paths) == sorted(found.paths)
    assert find_audio(music, tmp_path / "elsewhere").paths[-1] == str(tmp_path / "elsewhere" / "c" / "3.flac")


def test_each_linked_file_is_found_once(make, tmp_path):
    music = make("b.flac")
    make("../elsewhere/c.flac")
    (music / "a.flac").symlink_to("b.flac")
    for name in ("d.flac", "e.flac"):
        (music / name).symlink_to(tmp_path / "elsewhere" / "c.flac")
    found = find_audio(music)
    assert names_in(music, found) == ["b.flac", "d.flac"]
    kind = "links to files that are listed under another name"
    assert set(found.left_out[kind]) == {str(music / name) for name in ("a.flac", "e.flac")}
    (music / "folder").symlink_to(tmp_path / "elsewhere")
    found = find_audio(music)
    assert names_in(music, found) == ["b.flac", "folder/c.flac"]
    assert set(found.left_out[kind]) == {str(music / name) for name in ("a.flac", "d.flac", "e.flac")}


def test_what_cannot_be_looked_into_stops_nothing(make):
    """For any user: a folder whose path is longer than the system takes, and links that lead nowhere."""
    music = make("a.flac", "z.flac")
    folder = os.open(music, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=folder)
        below = os.open("d" * 250, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(folder)
    (music / "gone").symlink_to(music / "nowhere")
    (music / "itself").symlink_to(music / "itself")
    found = find_audio(music)
    assert names_in(music, found) == ["a.flac", "z.flac"]
    reasons = {os.path.basename(path): reason for path, reason in found.unlisted.items()}
    assert reasons == {
        "d" * 250: "File name too long",
        "gone": "No such file or directory",
        "itself": "Too many levels of symbolic links",
    }
    with pytest.raises(FileNotFoundError):
        find_audio(music, music / "nowhere")


def test_a_path_means_a_track_in_all_its_spellings(make, tmp_path, monkeypatch):
    music = make("a/song.flac", "a/other.flac", "a b/song.flac")
    (tmp_path / "link").symlink_to(music)
    (music / "a" / "linked.flac").symlink_to("song.flac")
    tracks = find_audio(music).paths
    song = str(music / "a" / "song.flac")
    monkeypatch.chdir(music / "a b")
    for path in ("../a/song.flac", f"{song}/", str(music / "a" / "song.FLAC"), tmp_path / "link" / "a" / "song.flac"):
        assert find_tracks(tracks, path) == [song]
    assert find_tracks(tracks, music / "a" / "linked.flac") == [song]
    assert find_tracks(tracks, tmp_path / "link" / ".." / "music" / "a" / "song.flac") == [song]
    assert find_tracks(tracks, "song.flac") == [str(music / "a b" / "song.flac")]
    assert not find_tracks(tracks, "../a") and not find_tracks(tracks, "..")
    assert len(find_tracks(tracks, "../a", below=True)) == 2
    assert len(find_tracks(tracks, tmp_path / "link", below=True)) == 3
    # The other way round: the index knows the track by the link.
    linked = find_audio(tmp_path / "link").paths
    assert find_tracks(linked, song) == [str(tmp_path / "link" / "a" / "song.flac")]


@pytest.mark.parametrize("seed", range(5))
def test_a_path_means_a_track_in_each_unicode_form(seed):
    generator = random.Random(seed)
    letters = "aeiouAEIOUcnsyzд가각αιи" + "".join(map(chr, range(0x300, 0x330)))
    for number in range(40):
        folder, name = ("x" + "".join(generator.choices(letters, k=8)) for _ in range(2))
        forms = [unicodedata.normalize(form, f"/{folder}/{name} {number}.flac") for form in ("NFC", "NFD")]
        others = [f"/{folder}/x.flac", f"/{folder} 2/{name} {number}.flac"]
        for track, typed in (forms, forms[::-1]):
            assert find_tracks([track, *others], typed) == [track]
            assert find_tracks([track, "/other/x.flac"], os.path.dirname(typed), below=True) == [track]


def test_two_files_whose_names_differ_by_the_form_alone_are_two(make):
    forms = [unicodedata.normalize(form, "é.flac") for form in ("NFC", "NFD")]
    tracks = find_audio(make(*forms)).paths
    assert len(tracks) == 2
    assert [find_tracks(tracks, track, below=True) for track in tracks] == [[track] for track in tracks]


def test_a_file_keeps_the_name_that_the_index_knows_it_by(make, tmp_path):
    music = make("a/song.flac")
    (tmp_path / "link").symlink_to(music)
    by_link, by_itself = find_audio(tmp_path / "link").paths, find_audio(music).paths
    assert known_names(by_itself, {by_link[0]: {}}) == {by_itself[0]: by_link[0]}
    assert known_names(by_itself, {by_itself[0]: {}}) == {}
    assert known_names(by_itself, {"/elsewhere/a/song.flac": {}}) == {}


def test_new_permissions_are_no_new_content(make):
    track = make("a.flac") / "a.flac"
    state = file_state(track)
    track.chmod(0o600)
    assert file_state(track) != state  # an index run reads the content: the times might have been set back
    assert file_status(track, state) == "there"
    track.write_bytes(b"y")
    os.utime(track, ns=(0, 0))
    assert file_status(track, state) == "changed"
    track.unlink()
    assert file_status(track, state) == "missing"


def test_a_pipe_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "a.flac")
    with pytest.raises(ValueError, match="is no file, but a pipe"):
        file_state(Path(tmp_path, "a.flac"))
