# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""A library as points of a plane: tracks that sound alike lie near each other."""

from dataclasses import dataclass

import numpy as np
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from muscall.search.store import IN_LIST, Store, literal, vectors


@dataclass
class Map:
    """
    Args:
        tracks (`list[dict]`): The columns of each track's first window, without the vector, in the order of paths.
        embeds (`np.ndarray` of shape `(tracks, dim)`): Embeddings of whole tracks, L2-normalised.
        points (`np.ndarray` of shape `(tracks, 2)`): Places, between 0 and 1.
    """

    tracks: list[dict]
    embeds: np.ndarray
    points: np.ndarray


def draw_map(store: Store, count: int) -> Map:
    """
    A map of up to `count` tracks from all over the library, the same at every call. Several files of the same content
    are one track.
    """
    paths: dict[str, str] = {}
    for track, states in store.tracks().items():
        for digest in states.values():
            paths[digest] = min(track, paths.get(digest, track))
    digests = sorted(paths, key=paths.__getitem__)
    picked = np.unique(np.linspace(0, len(digests) - 1, min(count, len(digests))).round().astype(int))
    digests = [digests[place] for place in picked]
    tracks, embeds = [], []
    for first in range(0, len(digests), IN_LIST):
        batch = digests[first : first + IN_LIST]
        rows = store.rows(f"hash IN ({', '.join(literal(digest) for digest in batch)})")
        facts, windows = rows.drop_columns(["vector"]).to_pylist(), vectors(rows)
        places: dict[str, list[int]] = {}
        for place, row in enumerate(facts):
            if row["track"] == paths[row["hash"]]:
                places.setdefault(row["hash"], []).append(place)
        for digest in batch:
            mine = places[digest]
            tracks.append(min((facts[place] for place in mine), key=lambda row: row["start"]))
            total = np.array([facts[place]["weight"] for place in mine]) @ windows[mine]
            embeds.append(total / np.linalg.norm(total))
    embeds = np.stack(embeds).astype(np.float32)
    return Map(tracks, embeds, _project(embeds))


def _project(embeds: np.ndarray) -> np.ndarray:
    """`(tracks, dim)` -> `(tracks, 2)` between 0 and 1."""
    if len(embeds) == 1:
        return np.full((1, 2), 0.5)
    perplexity = min(30, (len(embeds) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init="pca", metric="cosine", random_state=0)
    with threadpool_limits(1):  # several threads that wait for each other take 0.3 s to 20 s where the cores are busy
        points = tsne.fit_transform(embeds)
    low, high = points.min(axis=0), points.max(axis=0)
    return (points - low) / np.maximum(high - low, 1e-6)
