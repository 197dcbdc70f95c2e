# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Tracks as points of a plane."""

import shutil
from pathlib import Path

import numpy as np
import pytest


pytest.importorskip("muscall.search")

pytest.importorskip("threadpoolctl", reason='the map needs: pip install -e ".[demo]"')

from muscall.search.map import Map, draw_map, name_regions


def test_a_map_is_the_same_every_time(index, music, encoder):
    shutil.copy(music / "a b.opus", music / "copy.opus")
    store, _ = index(music, windows="all")
    (music / "new\nline.opus").unlink()
    first, second = draw_map(store, 100), draw_map(store, 100)
    assert (first.points == second.points).all() and (first.points >= 0).all() and (first.points <= 1).all()
    assert len({track["hash"] for track in first.tracks}) == len(first.tracks) == 5  # the copy is the same track
    for track, embedding in zip(first.tracks, first.embeds, strict=True):
        if Path(track["track"]).exists():
            np.testing.assert_allclose(embedding, encoder.embed_track(track["track"]), atol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_map_of_few_tracks(tagged, count):
    assert draw_map(tagged[1].store, count).points.shape == (count, 2)


def test_a_region_is_named_by_what_sets_it_apart():
    """Each group has more of one word; of the first word, all tracks have much."""
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(3), 12)
    points = np.array([[0.1, 0.2], [0.9, 0.2], [0.5, 0.9]])[groups] + random.uniform(-0.05, 0.05, (36, 2))
    scores = random.normal(0, 0.01, (36, 4)) + [0.9, 0.1, 0.2, 0.3]
    for group in range(3):
        scores[groups == group, 1 + group] += 0.1
    regions = {
        word: (x, y) for word, x, y in name_regions(Map([], scores, points), scores, ["all", "one", "two", "three"])
    }
    assert set(regions) == {"one", "two", "three"}
    for group, word in enumerate(("one", "two", "three")):
        members = points[groups == group]
        assert regions[word][0] == pytest.approx(members[:, 0].mean())
        assert regions[word][1] < members[:, 1].min()


@pytest.mark.parametrize("count", [1, 40])
def test_tracks_at_one_place_are_one_region(count):
    scores = np.tile([0.1, 0.2], (count, 1))
    assert len(name_regions(Map([], scores, np.full((count, 2), 0.5)), scores, ["calm", "dark"])) == 1
