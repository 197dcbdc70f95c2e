# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""A library as points of a plane: tracks that sound alike lie near each other."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from muscall.search.recordings import read_recordings
from muscall.search.store import Store


ABOVE = 0.025  # of the height of a map: from a region to its name
REGIONS, REGION_TRACKS = 8, 12  # regions of a map at most, and tracks that a region has on average at least


@dataclass
class Map:
    """
    Tracks and their places.

    Args:
        tracks (`list[dict]`): What [`Recording.describe`] says of each track, in the order of paths.
        embeds (`np.ndarray` of shape `(tracks, dim)`): Embeddings of whole tracks, L2-normalised.
        points (`np.ndarray` of shape `(tracks, 2)`): Places, between 0 and 1.
    """

    tracks: list[dict]
    embeds: np.ndarray
    points: np.ndarray


def draw_map(store: Store, count: int) -> Map:
    """
    Draw up to `count` tracks from all over the library, the same at every call. Several files of the same content are
    one track.
    """
    paths: dict[str, str] = {}  # hash -> the first of the paths with this content
    for track, states in store.tracks().items():
        for digest in states.values():
            paths[digest] = min(track, paths.get(digest, track))
    digests = sorted(paths, key=paths.__getitem__)
    chosen = np.unique(np.linspace(0, len(digests) - 1, min(count, len(digests))).round().astype(int))
    recordings = read_recordings(store, [digests[place] for place in chosen])
    recordings = [recordings[digests[place]] for place in chosen]
    embeds = np.stack([recording.embed for recording in recordings])
    return Map([recording.describe() for recording in recordings], embeds, _project(embeds))


def _project(embeds: np.ndarray) -> np.ndarray:
    """Return places between 0 and 1 of shape `(tracks, 2)` for embeddings of shape `(tracks, dim)`."""
    if len(embeds) == 1:
        return np.full((1, 2), 0.5)
    perplexity = min(30, (len(embeds) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init="pca", metric="cosine", random_state=0)
    with threadpool_limits(1):  # several threads that wait for each other take 0.3 s to 20 s where the cores are busy
        points = tsne.fit_transform(embeds)
    low, high = points.min(axis=0), points.max(axis=0)
    return (points - low) / np.maximum(high - low, 1e-6)


def name_regions(library_map: Map, scores: np.ndarray, words: list[str]) -> list[tuple[str, float, float]]:
    """
    Divide a map into regions, and name each by the word that fits its tracks better than it fits the library. No word
    names two regions.

    Args:
        scores (`np.ndarray` of shape `(tracks, words)`): Cosines of tracks and words.

    Returns:
        `list[tuple[str, float, float]]`: the word of each region, and the place just above it, in its middle.
    """
    distinct = len(np.unique(library_map.points, axis=0))
    count = min(REGIONS, len(words), distinct, max(1, len(scores) // REGION_TRACKS))
    with threadpool_limits(1):
        regions = KMeans(count, n_init=4, random_state=0).fit(library_map.points)
    spread = np.maximum(scores.std(axis=0), 1e-6)  # each word has a mean and a spread of its own
    members = [regions.labels_ == region for region in range(count)]
    fit = np.stack([scores[member].mean(axis=0) for member in members])
    places, chosen = linear_sum_assignment((fit - scores.mean(axis=0)) / spread, maximize=True)
    points = [library_map.points[members[place]] for place in places]
    return [
        (words[word], float(point[:, 0].mean()), float(point[:, 1].min()) - ABOVE)
        for word, point in zip(chosen, points, strict=True)
    ]
