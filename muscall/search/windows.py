# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Which windows of a track the index has."""

from collections.abc import Callable
from functools import partial

import numpy as np

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


def placement(
    feature_extractor: MusCALLFeatureExtractor, windows: int | str
) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
    """Return [`place_windows`] for what [`MusCALLFeatureExtractor.iter_windows`] is to place them in."""
    size, rate = feature_extractor.window_samples, feature_extractor.sampling_rate
    return partial(place_windows, size=size, rate=rate, windows=windows)
