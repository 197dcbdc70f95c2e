# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The fingerprint of a corpus: what tells whether a run goes on with the tracks that it began with."""

import hashlib
import math
import os

import numpy as np
from datasets import Dataset, IterableDataset

from muscall.data.tracks import EMBEDS_COLUMN, track_id


READ_TRACKS = 1000  # of each split at most: reading pieces of every file of a large corpus would take minutes


def fingerprint_corpus(splits: dict[str, Dataset | IterableDataset]) -> dict[str, dict[str, int | str]]:
    """
    Return, for each split of [`load_corpus`] but a stream, the number of its `tracks`, and hashes of their `captions`
    and of their `audio` in their order: the sizes of all files, and pieces of up to 1,000 tracks, evenly spread. Where
    the files lie and what they are called does not count, so that a corpus may be moved.
    """
    return {split: _fingerprint(tracks) for split, tracks in splits.items() if isinstance(tracks, Dataset)}


def _fingerprint(tracks: Dataset) -> dict[str, int | str]:
    captions, audio = hashlib.sha256(), hashlib.sha256()
    for batch in tracks.select_columns(["captions", "path"]).iter(READ_TRACKS):
        captions.update("".join(map(repr, batch["captions"])).encode())
        audio.update(" ".join(str(_size(path)) for path in batch["path"]).encode())
    for number in range(0, len(tracks), math.ceil(len(tracks) / READ_TRACKS)):
        audio.update(f"{_content(tracks[number])} ".encode())
    return {"tracks": len(tracks), "captions": captions.hexdigest(), "audio": audio.hexdigest()}


def _size(path: str | None) -> int | None:
    """Return the size of a file in bytes; `None` for audio in the rows of a table and a file that is not there."""
    try:
        return os.path.getsize(path) if path else None
    except OSError:  # training names it when it meets it
        return None


def _content(track: dict) -> int | None:
    if embeds := track.get(EMBEDS_COLUMN):
        return track_id(np.asarray(embeds, np.float32).tobytes())
    try:
        return track_id(track["path"] if track["bytes"] is None else track["bytes"])
    except OSError:
        return None


def describe_changes(saved: dict, current: dict) -> str:
    """Return what differs between two fingerprints of a corpus in words; nothing if they are equal."""
    changes = []
    for split in sorted(saved.keys() | current.keys()):
        before, now = saved.get(split, {"tracks": 0}), current.get(split, {"tracks": 0})
        if before["tracks"] != now["tracks"]:
            changes.append(f"{split} had {before['tracks']} tracks, now {now['tracks']}")
            continue
        parts = [part for part in ("captions", "audio") if before[part] != now[part]]
        if parts:
            changes.append(f"{' and '.join(parts)} of {split} are others, or in another order")
    return "; ".join(changes)
