# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""A way from one track to another, in steps that sound even."""

import numpy as np

from muscall.search.query import Library
from muscall.search.recordings import Listener, read_recordings


NEARBY = 50  # tracks that each step is chosen from, besides those that the way has already


def find_path(library: Library, first: str, last: str, k: int) -> list[dict]:
    """
    Return tracks that lead from one to another. Points at equal angles on the great circle between the embeddings of
    the two; for each, the nearest recording that the way does not have yet. Files that are gone are no steps.

    Args:
        library ([`Library`]): Where to search.
        first, last (`str`): Tracks of the index.
        k (`int`): How many tracks, with these two.

    Returns:
        `list[dict]`: as of [`Library.search`], in the order of the way, fewer than `k` where the library has no more.
        `score` is the cosine similarity with the track before, 1 for the first; `start` and `end` are those of the
        whole track.

    Raises:
        `ValueError`: if `k` is less than 2, a track is not in the index, or both are the same recording.
    """
    if k < 2:
        raise ValueError(f"a path has at least 2 tracks, its ends, got {k}")
    ends = [library.recording_of(track) for track in (first, last)]
    listener = Listener()
    if listener.is_same(*ends):
        raise ValueError(f"{first} and {last} are the same recording: a path leads from one to another")
    steps = [ends[0]]
    for point in interpolate(ends[0].embed, ends[1].embed, k)[1:-1]:
        near = library.best_tracks(point, NEARBY + len(steps) + 1)
        used = {recording.hash for recording in (*steps, ends[1])}
        digests = [answer["hash"] for answer in near if answer["file"] != "missing" and answer["hash"] not in used]
        candidates = read_recordings(library.store, digests).values()
        for candidate in sorted(candidates, key=lambda recording: -float(recording.embed @ point)):
            if not any(listener.is_same(candidate, other) for other in (*steps, ends[1])):
                steps.append(candidate)
                break
    steps.append(ends[1])
    scores = [1.0, *(float(one.embed @ other.embed) for one, other in zip(steps, steps[1:], strict=False))]
    return [
        step.describe() | {"score": score, "start": 0.0, "end": step.duration, "parts": {"sound": 1.0}}
        for step, score in zip(steps, scores, strict=True)
    ]


def interpolate(first: np.ndarray, last: np.ndarray, count: int) -> np.ndarray:
    """
    Return points at equal angles on the shorter great circle between two.

    Args:
        first, last (`np.ndarray` of shape `(dim,)`): L2-normalised.
        count (`int`): How many points, with these two.

    Returns:
        `np.ndarray` of shape `(count, dim)`: L2-normalised.
    """
    across = last - (first @ last) * first  # at a right angle to the first
    norm = np.linalg.norm(across)
    if norm < 1e-6:  # the same point, or opposite ones, between which no way is shorter than another
        return np.repeat(first[None], count, axis=0).astype(np.float32)
    angles = np.linspace(0, np.arctan2(norm, first @ last), count)[:, None]
    return (np.cos(angles) * first + np.sin(angles) * across / norm).astype(np.float32)
