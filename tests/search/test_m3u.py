# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Playlist files."""

import os

import pytest


pytest.importorskip("muscall.search")

from muscall.search.m3u import format_m3u, write_m3u


def answer(track, title=None, artist=None, file="there"):
    return {"track": str(track), "title": title, "artist": artist, "duration": 61.6, "file": file}


def test_tracks_are_named_relative_to_the_playlist(tmp_path):
    answers = [answer(tmp_path / "music" / "a" / "1.mp3", "Song, 2", "Ännu"), answer(tmp_path / "lists" / "2.mp3")]
    assert write_m3u(tmp_path / "lists" / "x.m3u8", answers) == {}
    assert (tmp_path / "lists" / "x.m3u8").read_bytes().decode() == (
        "#EXTM3U\n#EXTINF:62,Ännu - Song, 2\n../music/a/1.mp3\n#EXTINF:62,2\n2.mp3\n"
    )
    assert os.listdir(tmp_path / "lists") == ["x.m3u8"]


def test_what_a_player_would_misread(tmp_path):
    answers = [
        answer(tmp_path / "#1 hit.mp3", "two\nlines\r\x85of\u2028title", "A"),
        answer(tmp_path / " blank.mp3"),
        answer(tmp_path / "#1 hit.mp3"),  # a second passage of it
        answer(tmp_path / "new\nline.mp3"),
        answer(tmp_path / "caf\udce9.mp3"),
        answer(tmp_path / "gone.mp3", file="missing"),
    ]
    text, left_out = format_m3u(answers, tmp_path)
    expected = "#EXTM3U\n#EXTINF:62,A - two lines of title\n./#1 hit.mp3\n#EXTINF:62,blank\n./ blank.mp3\n"
    assert text == expected
    assert [reason.split()[-1] for reason in left_out.values()] == ["spelling", "UTF-8", "there"]


def test_a_playlist_without_a_place_names_whole_paths(tmp_path):
    assert format_m3u([answer(tmp_path / "#1 hit.mp3")], folder=None)[0].splitlines()[-1] == str(
        tmp_path / "#1 hit.mp3"
    )


def test_a_playlist_in_a_linked_folder_leads_to_its_tracks(tmp_path):
    (tmp_path / "disk" / "lists").mkdir(parents=True)
    (tmp_path / "track.mp3").touch()
    (tmp_path / "lists").symlink_to(tmp_path / "disk" / "lists")  # ../track.mp3 would be disk/track.mp3
    text, _ = format_m3u([answer(tmp_path / "track.mp3")], tmp_path / "lists")
    assert os.path.samefile(tmp_path / "lists" / text.splitlines()[-1], tmp_path / "track.mp3")


def test_names_in_a_linked_library_stay(tmp_path):
    (tmp_path / "disk" / "lists").mkdir(parents=True)
    (tmp_path / "disk" / "track.mp3").touch()
    (tmp_path / "music").symlink_to(tmp_path / "disk")
    text, _ = format_m3u([answer(tmp_path / "music" / "track.mp3")], tmp_path / "music" / "lists")
    assert text.splitlines()[-1] == "../track.mp3"


def test_a_track_is_not_replaced_by_a_playlist(tmp_path):
    (tmp_path / "song.mp3").write_text("music")
    with pytest.raises(ValueError, match="song.mp3 is no name of a playlist: expected one that ends in .m3u8 or .m3u"):
        write_m3u(tmp_path / "song.mp3", [answer(tmp_path / "a.mp3")])
    (tmp_path / "folder.m3u8").mkdir()
    with pytest.raises(ValueError, match="is a folder"):
        write_m3u(tmp_path / "folder.m3u8", [answer(tmp_path / "a.mp3")])
    assert (tmp_path / "song.mp3").read_text() == "music"


def test_without_tracks_the_old_playlist_stays(tmp_path):
    (tmp_path / "x.m3u").write_text("old")
    for answers in ([], [answer(tmp_path / "gone.mp3", file="missing")]):
        with pytest.raises(ValueError, match="x.m3u is not written: no track to write"):
            write_m3u(tmp_path / "x.m3u", answers)
    assert (tmp_path / "x.m3u").read_text() == "old"
