# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Playlists."""

from itertools import permutations

import numpy as np
import pytest
import soundfile
from helpers import PRODUCED


pytest.importorskip("muscall.search")

import mutagen

from muscall.search.playlist import Choice, make_playlist, order_evenly
from muscall.search.query import Library
from muscall.search.recordings import Recording


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def length(order, embeds):
    return sum(float(2 - 2 * embeds[one] @ embeds[other]) for one, other in zip(order, order[1:], strict=False))


def test_the_order_is_nearly_the_shortest():
    embeds = unit(np.random.default_rng(0).standard_normal((8, 3)))
    order = order_evenly(embeds, [None] * 8)
    ways = [length((0, *rest), embeds) for rest in permutations(range(1, 8))]
    assert sorted(order) == list(range(8)) and order[0] == 0
    assert length(order, embeds) <= np.quantile(ways, 0.01)


def test_the_order_of_tracks_along_a_line_is_that_line():
    angles = np.random.default_rng(0).permutation(np.linspace(0, 1.5, 40))
    angles[np.flatnonzero(angles == 0)], angles[0] = angles[0], 0.0
    order = order_evenly(np.stack([np.cos(angles), np.sin(angles)], axis=1), [None] * 40)
    assert order == np.argsort(angles).tolist()


@pytest.mark.parametrize("artists", ["aaaabb", "aaaaaabbb", "aabbcc", "aaaaaabc", "abababab", "baaaa"])
def test_no_more_than_two_of_an_artist_follow_each_other(artists):
    embeds = unit(np.random.default_rng(0).standard_normal((len(artists), 4)))
    embeds[[place for place, artist in enumerate(artists) if artist == "a"]] = embeds[0]  # the nearest are the same
    in_order = "".join(artists[place] for place in order_evenly(embeds, list(artists)))
    assert sorted(in_order) == sorted(artists)
    possible = artists.count("a") <= 2 * (len(artists) - artists.count("a") + 1)
    assert ("aaa" not in in_order) == possible


def offer(choice, tracks):
    answers, recordings = [], {}
    for number, (artist, minutes) in enumerate(tracks):
        name, embed = str(number), np.eye(len(tracks))[number]
        facts = {"track": name, "hash": name, "artist": artist, "duration": 60 * minutes, "file": "there"}
        answers.append(facts)
        # Of lengths of their own: what has the same is listened to, and there are no files here.
        recordings[name] = Recording(name, 60 * minutes + number, {}, {}, np.zeros(1), embed[None], embed)
    choice.offer(answers, recordings)
    return "".join(answer["track"] for answer in choice.tracks)


def test_tracks_are_chosen_until_no_more_than_half_of_one_is_missing():
    assert offer(Choice(60 * 11), [(None, 4)] * 5) == "012"
    assert offer(Choice(60 * 10), [(None, 4)] * 5) == "01"
    assert offer(Choice(60 * 3), [(None, 4)] * 5) == "0"


def test_a_track_too_long_for_what_is_missing_is_passed_over():
    assert offer(Choice(60 * 12), [(None, 4), (None, 180), (None, 4), (None, 4)]) == "023"


def test_tracks_of_one_artist_wait_for_others():
    choice = Choice(60 * 30)
    assert offer(choice, [("a", 4), ("A", 4), ("a", 4), ("a", 4), ("a", 4), ("b", 4)]) == "01523"
    assert (
        "has 20.0 of 30.0 minutes" in choice.remark() and "but 1 tracks that would be more than 2" in choice.remark()
    )


def test_a_playlist_of_real_files(tagged, tmp_path):
    folder, music = tagged
    answers = music.search("calm piano")
    seconds = sum(answer["duration"] for answer in answers)
    playlist = make_playlist(music, seconds / 60, text="calm piano")
    assert playlist.remark == ""
    assert playlist.tracks[0]["track"] == answers[0]["track"]
    assert {track["track"] for track in playlist.tracks} == {answer["track"] for answer in answers}
    assert all(track["start"] == 0 and track["end"] == track["duration"] for track in playlist.tracks)
    longer = make_playlist(music, 60, text="calm piano", where="genre = 'jazz'")
    assert len(longer.tracks) == 4
    assert longer.remark == "the playlist has 1.3 of 60.0 minutes: nothing else answers"


def test_no_recording_comes_twice(index, tmp_path):
    music = tmp_path / "music"
    music.mkdir()
    for number, source in enumerate(PRODUCED[:3]):
        samples, rate = soundfile.read(source)
        soundfile.write(music / f"{number}.flac", samples, rate)
        soundfile.write(music / f"{number} copy.flac", samples, rate)
        soundfile.write(music / f"{number}.mp3", 0.8 * samples, rate)
        for path in (music / f"{number}.flac", music / f"{number}.mp3"):
            file = mutagen.File(path, easy=True)
            file["artist"] = "Somebody"
            file.save()
    store, _ = index(music)
    playlist = make_playlist(Library(store.uri), 60, text="music")
    assert len({track["track"].split("/")[-1][0] for track in playlist.tracks}) == len(playlist.tracks) == 3


@pytest.mark.parametrize("minutes", [0, -1, float("nan"), 1e9])
def test_a_length_that_is_none(tagged, minutes):
    with pytest.raises(ValueError, match="longer than 0 and at most 10080 minutes, a week, got"):
        make_playlist(tagged[1], minutes, text="music")
