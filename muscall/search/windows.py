# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Which windows of a track the index has, and their samples."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from audio_muscall import AudioReader, AudioSource
from muscall.encoder import CHUNK, Encoder
from muscall.search.store import Store
from processing_muscall import MusCALLFeatureExtractor, window_layout


# What an index is made with by default. It was chosen on the validation part of the open mix, whose tracks have at
# most five minutes (experiments/LOG.md). What is longer may be a mix or a live set, of which passages are asked for.
AUTO = "auto"
AUTO_WINDOWS, LONG_SECONDS = 3, 900


def parse_windows(windows: int | str) -> int | str:
    """
    Return which windows of a track are embedded, in the form of [`place_windows`]: a number may be text.

    Raises:
        `ValueError`: if it is neither `"auto"`, `"all"` nor a positive whole number.
    """
    if windows in (AUTO, "all"):
        return windows
    text = str(windows)
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise ValueError(f"--windows is {AUTO}, all or a positive whole number, got {windows!r}")
    return int(text)


def open_index(store_uri: str | Path, encoder: Encoder, windows: int | str | None = None) -> Store:
    """
    Open the index that is to be brought up to date, or make one where there is none.

    Args:
        store_uri (`str` or `Path`): See [`Store`].
        encoder ([`Encoder`]): The model.
        windows (`int` or `str`, *optional*):
            Which windows of a track it has, see [`place_windows`]. By default those of the
            index that is there, `"auto"` of a new one.

    Raises:
        `ValueError`: if there is an index of another model or of other windows.
    """
    wanted = AUTO if windows is None else parse_windows(windows)
    store = Store.open_or_create(store_uri, encoder.describe() | {"windows": wanted})
    if windows is not None and store.windows != wanted:
        raise ValueError(
            f"the index {store_uri} was made with --windows {store.windows}, which cannot be changed to {wanted}: "
            "leave --windows out to go on with it, or make an index of its own with another --store"
        )
    return store


def place_windows(num_samples: int, size: int, rate: int, windows: int | str) -> tuple[np.ndarray, np.ndarray]:
    """
    Return where the windows of a track begin and how much of the track each stands for, both in samples and of shape
    `(windows,)`; the latter adds up to the track.

    Args:
        num_samples (`int`): Length of the track.
        size (`int`): Length of a window.
        rate (`int`): Samples a second.
        windows (`int` or `str`):
            - `"all"`: those of [`processing_muscall.window_layout`].
            - an integer: the middles of so many equal parts of the track, or all where there are no more. Beginnings
              and ends, which are often quieter and sparser, are left out.
            - `"auto"`: `AUTO_WINDOWS`, or all of a track that is longer than `LONG_SECONDS`.
    """
    if windows == AUTO:
        windows = "all" if num_samples > LONG_SECONDS * rate else AUTO_WINDOWS
    if windows == "all" or windows * size >= num_samples:
        return window_layout(num_samples, size, "all")
    edges = np.arange(windows + 1) * num_samples // windows
    return (edges[:-1] + edges[1:] - size) // 2, np.diff(edges)


def iter_windows(
    track: AudioSource, feature_extractor: MusCALLFeatureExtractor, windows: int | str
) -> Iterator[dict[str, np.ndarray]]:
    """
    Yield the windows of a track, `CHUNK` at a time; only their parts of a file are decoded.

    Args:
        track: In any form that [`AudioReader`] takes, but without bare samples.
        feature_extractor (`MusCALLFeatureExtractor`): Says how long windows are, and at which rate.
        windows (`int` or `str`): See [`place_windows`].

    Yields:
        `dict`: **input_values** of shape `(windows, samples)` and, in seconds, **start**, **end**, **weight** and
        **duration** (of the track) of shape `(windows,)`, all float32.
    """
    size, rate = feature_extractor.window_samples, feature_extractor.sampling_rate
    with AudioReader(track, rate) as reader:
        total = reader.num_samples
        starts, weights = place_windows(total, size, rate, windows)
        for first in range(0, len(starts), CHUNK):
            chosen = slice(first, first + CHUNK)
            ends = np.minimum(starts[chosen] + size, total)
            input_values = np.full((len(ends), size), feature_extractor.padding_value, dtype=np.float32)
            for window, start, end in zip(input_values, starts[chosen].tolist(), ends.tolist(), strict=True):
                window[: end - start] = reader.read(start, end)
            samples = {"start": starts[chosen], "end": ends, "weight": weights[chosen]}
            samples["duration"] = np.full(len(ends), total)
            seconds = {name: (values / rate).astype(np.float32) for name, values in samples.items()}
            yield {"input_values": input_values, **seconds}


def embed_track(encoder: Encoder, track: AudioSource, windows: int | str) -> np.ndarray:
    """Embed a track as the index has it, from the same windows, as L2-normalised `(dim,)`."""
    chunks = iter_windows(track, encoder.feature_extractor, windows)
    total = sum(chunk["weight"] @ encoder.embed_windows(chunk["input_values"]) for chunk in chunks)
    return total / np.linalg.norm(total)
