# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Paths from one track to another."""

import numpy as np
import pyarrow as pa
import pytest
import soundfile


pytest.importorskip("muscall.search")

from muscall.search.journey import find_path, interpolate
from muscall.search.query import Library
from muscall.search.store import COLUMNS, Store


def test_points_lie_at_equal_angles_on_the_sphere():
    first, last = np.array([1.0, 0, 0]), np.array([0.6, 0.8, 0])
    points = interpolate(first, last, 5)
    angles = np.arccos(np.clip((points[:-1] * points[1:]).sum(axis=1), -1, 1))
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(angles, np.arccos(0.6) / 4, atol=1e-5)
    np.testing.assert_allclose(points[[0, -1]], [first, last], atol=1e-6)


@pytest.fixture
def made_library(tmp_path):
    """An index of given vectors: files that are there, one window each."""

    def make(embeds):
        model = {"path": "none", "weights": "", "window_seconds": 1.0, "sampling_rate": 1, "dim": embeds.shape[1]}
        store = Store.open_or_create(tmp_path / "made", model)
        for number in range(len(embeds)):
            (tmp_path / f"{number:03}.wav").touch()
        columns = {name: pa.nulls(len(embeds), kind) for name, kind in COLUMNS.items()}
        names = pa.array([str(tmp_path / f"{number:03}.wav") for number in range(len(embeds))])
        columns |= {"track": names, "hash": names, "state": pa.array(["0 0 0"] * len(embeds))}
        numbers = {"start": 0, "end": 1, "weight": 1}
        columns |= {name: pa.array([value] * len(embeds), pa.float32()) for name, value in numbers.items()}
        columns["duration"] = pa.array(10.0 * np.arange(len(embeds)), pa.float32())  # none is of the length of another
        columns["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(embeds.astype(np.float32).ravel()), 3)
        store.add(pa.table(columns))
        return Library(store.uri)

    return make


def test_steps_are_even_and_each_the_nearest_track_that_is_left(made_library, tmp_path):
    random = np.random.default_rng(0)
    embeds = np.abs(random.standard_normal((400, 3)))
    embeds /= np.linalg.norm(embeds, axis=1, keepdims=True)
    embeds[:2] = [1, 0, 0], [0, 1, 0]
    answers = find_path(made_library(embeds), str(tmp_path / "000.wav"), str(tmp_path / "001.wav"), 9)
    places = [int(answer["track"][-7:-4]) for answer in answers]
    assert len(places) == 9 and places[0] == 0 and places[-1] == 1 and len(set(places)) == 9
    used = {0, 1}
    for point, place in zip(interpolate(embeds[0], embeds[1], 9)[1:-1], places[1:-1], strict=True):
        assert place == max(set(range(400)) - used, key=lambda other: embeds[other] @ point)
        used.add(place)
    steps = np.arccos([answer["score"] for answer in answers[1:]])
    assert steps.std() / steps.mean() < 0.25
    along = np.arctan2(embeds[places, 1], embeds[places, 0])
    assert (np.diff(along) > 0).all()


def test_a_path_longer_than_the_library_has_all_of_it(tagged):
    folder, music = tagged
    answers = find_path(music, folder / "1.opus", folder / "4.opus", 12)
    assert answers[0]["track"] == str(folder / "1.opus") and answers[-1]["track"] == str(folder / "4.opus")
    assert len({answer["track"] for answer in answers}) == len(answers) == 6
    assert find_path(music, folder / "1.opus", folder / "4.opus", 2) == [
        answers[0],
        answers[-1]
        | {
            "score": pytest.approx(
                float(music.recording_of(folder / "1.opus").embed @ music.recording_of(folder / "4.opus").embed)
            )
        },
    ]


def test_ends_that_lead_nowhere(tagged, index, tmp_path):
    folder, music = tagged
    with pytest.raises(ValueError, match="are the same recording"):
        find_path(music, folder / "1.opus", folder / "1.opus", 5)
    with pytest.raises(ValueError, match="at least 2 tracks, its ends, got 1"):
        find_path(music, folder / "1.opus", folder / "2.opus", 1)
    with pytest.raises(ValueError, match="is not in the index"):
        find_path(music, folder / "1.opus", folder / "none.opus", 5)


def test_ends_in_two_formats_are_the_same_recording(tagged, index, tmp_path):
    music = tmp_path / "music"
    music.mkdir()
    samples, rate = soundfile.read(tagged[0] / "1.opus")
    soundfile.write(music / "1.flac", samples, rate)
    soundfile.write(music / "1.ogg", samples, rate)
    store, _ = index(music)
    with pytest.raises(ValueError, match="1.flac and .*1.ogg are the same recording"):
        find_path(Library(store.uri), music / "1.flac", music / "1.ogg", 5)
