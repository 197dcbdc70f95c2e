# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Tracks as points of a plane."""

import shutil
from pathlib import Path

import numpy as np
import pytest


pytest.importorskip("muscall.search")

pytest.importorskip("threadpoolctl", reason='the map needs: pip install -e ".[demo]"')

from muscall.search.map import draw_map


def test_a_map_is_the_same_every_time(index, music, encoder):
    shutil.copy(music / "a b.opus", music / "copy.opus")
    store, _ = index(music)
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
