# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Recordings of the index: all files of the same content are one, and files of the same sound are told."""

from dataclasses import dataclass, field

import numpy as np

from muscall.search.files import describe_files
from muscall.search.fingerprint import LARGEST_SHIFT, Passage, agreement, fingerprint
from muscall.search.snapshot import vectors
from muscall.search.store import TAG_COLUMNS, Store


# What embeddings must have in common for two recordings to be listened to, and what fingerprints must have in common
# to be the same, chosen by benchmarks/duplicates.py on one half of its recordings. Embeddings alone cannot tell
# another take, which may be at 0.99.
SIMILAR, SAME = 0.5, 0.5
KEPT = 10_000  # fingerprints, of at most 25 kB each
TOLERANCE = LARGEST_SHIFT  # seconds that two files of one recording may differ in length
# Files whose lengths differ by less, in seconds, are listened to whatever their embeddings, which a copy that is much
# quieter has others of.
CLOSE = 0.1


@dataclass
class Recording:
    """
    A content of the index.

    Args:
        hash (`str`): Of the content.
        duration (`float`): In seconds.
        tags (`dict`): The columns of `TAG_COLUMNS`.
        states (`dict[str, str]`): The state of each path.
        starts (`np.ndarray` of shape `(windows,)`): Where each window begins, in seconds, in order.
        windows (`np.ndarray` of shape `(windows, dim)`): Embeddings, L2-normalised.
        embed (`np.ndarray` of shape `(dim,)`): Of the whole recording, L2-normalised.
    """

    hash: str
    duration: float
    tags: dict
    states: dict[str, str]
    starts: np.ndarray
    windows: np.ndarray
    embed: np.ndarray

    def describe(self) -> dict:
        """Return what answers say of a track: `track`, `hash`, `duration`, the tags, `copies` and `file`."""
        files = describe_files(self.states)
        return {"track": files.pop("track"), "hash": self.hash, "duration": self.duration, **self.tags, **files}

    def size(self) -> int:
        """Return the size of its file, in bytes."""
        return int(next(iter(self.states.values())).split()[0])

    def similarity(self, other: "Recording") -> float:
        """Return the mean cosine similarity of the windows that begin at the same time, or nearest to it."""
        first, second = sorted((self, other), key=lambda recording: len(recording.starts))
        nearest = np.abs(first.starts[:, None] - second.starts).argmin(axis=1)
        return float((first.windows * second.windows[nearest]).sum(axis=1).mean())


def read_recordings(store: Store, digests: list[str]) -> dict[str, Recording]:
    """Return recordings by the hash of their content."""
    recordings = {}
    for rows in store.rows_of(digests):
        embeds, weights = vectors(rows), rows.column("weight").to_numpy()
        places: dict[str, list[int]] = {}
        facts = rows.select(["track", "hash", "state", "start", "duration", *TAG_COLUMNS]).to_pylist()
        for place, fact in enumerate(facts):
            places.setdefault(fact["hash"], []).append(place)
        for digest, own in places.items():
            states = {facts[place]["track"]: facts[place]["state"] for place in own}
            # A content that was found under several paths has the same windows under each.
            by_start = {facts[place]["start"]: place for place in own}
            order = [by_start[start] for start in sorted(by_start)]
            total = weights[order] @ embeds[order]
            recordings[digest] = Recording(
                digest,
                facts[order[0]]["duration"],
                {name: facts[order[0]][name] for name in TAG_COLUMNS},
                states,
                np.array(sorted(by_start)),
                embeds[order],
                total / np.linalg.norm(total),
            )
    return recordings


@dataclass
class Listener:
    """
    Tells whether two recordings are one, by their files where their embeddings leave it open.

    Args:
        unreadable (`dict[str, str]`): Files that could not be read, and why. They are not the same as any other.
    """

    unreadable: dict[str, str] = field(default_factory=dict)
    _fingerprints: dict[str, list[Passage]] = field(default_factory=dict)

    def agreement(self, first: Recording, second: Recording) -> float:
        """Return how much the sound of two recordings agrees, see [`muscall.search.fingerprint.agreement`]."""
        return agreement(self._fingerprint(first), self._fingerprint(second))

    def is_same(self, first: Recording, second: Recording) -> bool:
        """Return whether two recordings are one: the same content, or the same sound in another file."""
        if first.hash == second.hash:
            return True
        difference = abs(first.duration - second.duration)
        may_be = difference <= CLOSE or (difference <= TOLERANCE and first.similarity(second) >= SIMILAR)
        return may_be and self.agreement(first, second) >= SAME

    def _fingerprint(self, recording: Recording) -> list[Passage]:
        if recording.hash not in self._fingerprints:
            path = recording.describe()["track"]
            try:
                passages = fingerprint(path)
            except (OSError, ValueError, RuntimeError) as error:  # the last is what libsndfile raises
                self.unreadable[path] = str(error)
                passages = []
            if len(self._fingerprints) >= KEPT:
                del self._fingerprints[next(iter(self._fingerprints))]
            self._fingerprints[recording.hash] = passages
        return self._fingerprints[recording.hash]
