# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Files of a library that hold the same recording: the same content, or the same sound in another format or master."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from muscall.search.recordings import CLOSE, SAME, SIMILAR, TOLERANCE, Listener, Recording, read_recordings
from muscall.search.snapshot import vectors
from muscall.search.store import Store


CANDIDATES = 10  # the nearest recordings of about the same length, with which each is compared
CLOSEST = 3  # recordings of almost the same length, with which each is compared whatever the embeddings
NEXT = 20_000  # recordings among which they are looked for, so that the time does not grow with the square either
BLOCK = 1024, 8192  # recordings that are compared at a time: memory does not grow with the square of their number
BATCH = 8192  # windows read at a time, for the embeddings of whole recordings
RECORDINGS = 4000  # whose windows are read at a time, to be compared


@dataclass
class Duplicates:
    """
    Files that hold the same recording.

    Args:
        groups (`list[list[dict]]`):
            For each recording that is there more than once, its contents, the largest file first: `track`, `hash`,
            `duration`, the tags, `copies` (paths of the same content), `file` (`"there"`, `"changed"` or
            `"missing"`), and how like it is to one before it in the list, 1 for the first: `similarity` of the
            windows, `agreement` of the sound.
        unreadable (`dict[str, str]`): Files that could not be listened to, and why.
    """

    groups: list[list[dict]] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)


def find_duplicates(store: Store) -> Duplicates:
    """
    Find the recordings that the index has more than once. Lengths and the embeddings of whole recordings tell which
    are worth a closer look, then the sound of the files decides.

    Args:
        store ([`Store`]): The index. Its model is not needed.
    """
    digests, durations, embeds = read_embeds(store)
    pairs = list(find_candidates(durations, embeds))
    listener, groups = Listener(), Groups()
    with tqdm(total=len(pairs), unit=" pairs", disable=not pairs) as bar:
        for batch in batches(pairs):
            places = {place for pair in batch for place in pair}
            recordings = read_recordings(store, [digests[place] for place in places])
            for first, second in batch:
                groups.compare(recordings[digests[first]], recordings[digests[second]], listener)
                bar.update()
    return Duplicates(_describe(store, digests, groups), listener.unreadable)


def read_embeds(store: Store) -> tuple[list[str], np.ndarray, np.ndarray]:
    """
    Read the index once, a few windows at a time.

    Returns:
        Hashes of all contents in the order of their durations, the durations, and embeddings of whole recordings,
        float32 of shape `(contents, dim)`, L2-normalised.
    """
    digests = sorted({digest for states in store.tracks().values() for digest in states.values()})
    places = {digest: place for place, digest in enumerate(digests)}
    durations, totals = np.zeros(len(digests)), np.zeros((len(digests), store.model["dim"]), np.float32)
    columns = ["hash", "weight", "duration", "vector"]
    for batch in store.table.search().select(columns).to_batches(BATCH):
        # Windows of a content that is there under several paths count several times, all of them alike.
        own = np.array([places[digest] for digest in batch.column("hash").to_pylist()], dtype=int)
        embeds = vectors(pa.Table.from_batches([batch])) * batch.column("weight").to_numpy()[:, None]
        np.add.at(totals, own, embeds)
        durations[own] = batch.column("duration").to_numpy()
    order = np.argsort(durations, kind="stable")
    totals = totals[order]
    totals /= np.linalg.norm(totals, axis=1, keepdims=True)
    return [digests[place] for place in order], durations[order], totals


def find_candidates(durations: np.ndarray, embeds: np.ndarray) -> Iterator[tuple[int, int]]:
    """
    Yield pairs of recordings that may be the same, the shorter first, in the order of durations.

    Args:
        durations (`np.ndarray` of shape `(recordings,)`): In seconds, ascending.
        embeds (`np.ndarray` of shape `(recordings, dim)`): L2-normalised.
    """
    rows, columns = BLOCK
    for first in range(0, len(embeds), rows):
        block = embeds[first : first + rows]
        ends = np.searchsorted(durations, durations[first : first + rows] + TOLERANCE, side="right")
        ends = np.minimum(ends, np.arange(first, first + len(block)) + 1 + NEXT)
        nearest = np.full((len(block), CANDIDATES), -1)
        scores = np.full((len(block), CANDIDATES), -np.inf, np.float32)
        for start in range(first, ends[-1], columns):
            stop = min(start + columns, ends[-1])
            others = np.arange(start, stop)
            similarity = block @ embeds[start:stop].T
            similarity[(others <= np.arange(first, first + len(block))[:, None]) | (others >= ends[:, None])] = -np.inf
            scores = np.concatenate([scores, similarity], axis=1)
            nearest = np.concatenate([nearest, np.broadcast_to(others, similarity.shape)], axis=1)
            best = np.argpartition(-scores, CANDIDATES - 1, axis=1)[:, :CANDIDATES]
            scores, nearest = np.take_along_axis(scores, best, axis=1), np.take_along_axis(nearest, best, axis=1)
        pairs = {(first + int(row), int(nearest[row, place])) for row, place in np.argwhere(scores >= SIMILAR)}
        for step in range(1, CLOSEST + 1):
            places = np.arange(first, min(first + len(block), len(embeds) - step))
            close = places[durations[places + step] - durations[places] <= CLOSE].tolist()
            pairs.update((place, place + step) for place in close)
        yield from sorted(pairs)


def batches(pairs: list[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Yield pairs in their order, so many at a time that they are pairs of at most `RECORDINGS` recordings."""
    batch, places = [], set()
    for pair in pairs:
        if len(places) + len({*pair} - places) > RECORDINGS:
            yield batch
            batch, places = [], set()
        batch.append(pair)
        places.update(pair)
    if batch:
        yield batch


class Groups:
    """Recordings that are the same, joined pair by pair."""

    def __init__(self):
        self.parents: dict[str, str] = {}
        self.likeness: dict[str, dict[str, float]] = {}

    def find(self, digest: str) -> str:
        """Return the content that stands for the group of one."""
        while digest in self.parents:
            digest = self.parents[digest]
        return digest

    def compare(self, first: Recording, second: Recording, listener: Listener):
        """Join the groups of two recordings if these are the same, and keep how like they are."""
        roots = self.find(first.hash), self.find(second.hash)
        if roots[0] == roots[1]:
            return
        agreement = listener.agreement(first, second)
        if agreement >= SAME:
            self.parents[roots[1]] = roots[0]
            for recording in (first, second):
                best = self.likeness.get(recording.hash, {"agreement": -1.0})
                if agreement > best["agreement"]:
                    similarity = first.similarity(second)
                    self.likeness[recording.hash] = {"similarity": similarity, "agreement": agreement}


def _describe(store: Store, digests: Iterable[str], groups: Groups) -> list[list[dict]]:
    """Return the groups of more than one file, those with the largest files first in each."""
    paths: dict[str, list[str]] = {}
    for track, states in store.tracks().items():
        for digest in states.values():
            paths.setdefault(digest, []).append(track)
    members: dict[str, list[str]] = {}
    for digest in digests:
        members.setdefault(groups.find(digest), []).append(digest)
    wanted = [group for group in members.values() if len({path for digest in group for path in paths[digest]}) > 1]
    recordings = read_recordings(store, [digest for group in wanted for digest in group])
    described = []
    for group in wanted:
        own = sorted((recordings[digest] for digest in group), key=lambda recording: -recording.size())
        described.append([one.describe() | groups.likeness.get(one.hash, {}) for one in own])
    return sorted(described, key=lambda group: group[0]["track"])
