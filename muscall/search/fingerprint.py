# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
The sound of a recording as signs of differences of energy, which other encoders and levels hardly change, and another
take of the same music does. After Haitsma and Kalker, A Highly Robust Audio Fingerprinting System, ISMIR 2002.
"""

import numpy as np


RATE = 5500  # hertz
FRAME, HOP = 2048, 256  # samples: 0.37 s, 47 ms
BANDS, LOWEST, HIGHEST = 33, 300, 2000  # hertz
SECONDS = 30  # heard, from the middle of a recording
# Of a longer one, two more passages are heard, around these shares of it: a version without voices may be the same in
# the middle.
MORE_FROM, MORE_SECONDS, MORE_PLACES = 60, 15, (1 / 8, 7 / 8)
LARGEST_SHIFT = 3.2  # seconds between the same sound in two recordings: as much as may be cut off, and some more


def fingerprint(path: str, duration: float) -> list[np.ndarray]:
    """
    Return the signs of passages of a recording, the middle one first: int8 of shape `(frames, BANDS - 1)`, no frames
    where it is too short.

    Args:
        path (`str`): The file.
        duration (`float`): Of the recording, in seconds.

    Raises:
        `OSError`, `ValueError`: if it cannot be read.
    """
    passages = [_signs(path, max(0.0, (duration - SECONDS) / 2), min(SECONDS, duration))]
    if duration >= MORE_FROM:
        passages += [_signs(path, place * duration - MORE_SECONDS / 2, MORE_SECONDS) for place in MORE_PLACES]
    return passages


def _signs(path: str, start: float, seconds: float) -> np.ndarray:
    from audio_muscall import read_audio  # which imports torch: only here is it needed

    samples = read_audio(path, RATE, start, seconds)
    if len(samples) < FRAME + HOP:
        return np.empty((0, BANDS - 1), np.int8)
    frames = np.lib.stride_tricks.sliding_window_view(samples, FRAME)[::HOP]
    energy = np.abs(np.fft.rfft(frames * np.hanning(FRAME).astype(np.float32))) ** 2  # (frames, bins)
    edges = (np.geomspace(LOWEST, HIGHEST, BANDS + 1) * FRAME / RATE).astype(int)
    bands = np.add.reduceat(energy, edges, axis=1)[:, :-1]  # (frames, BANDS)
    return np.sign(np.diff(np.diff(bands, axis=1), axis=0)).astype(np.int8)


def agreement(first: list[np.ndarray], second: list[np.ndarray]) -> float:
    """
    Return how much the fingerprints of two recordings agree in the passage where they agree least, each at its best
    shift in time: 1 for the same, about 0 for different music. Silence agrees with nothing, and passages that are
    silent in both do not count.
    """
    # Two recordings of which one is just long enough for more passages have the middle one in common.
    count = min(len(first), len(second))
    heard = [pair for pair in zip(first[:count], second[:count], strict=True) if pair[0].any() or pair[1].any()]
    return min((_passage_agreement(*pair) for pair in heard), default=0.0)


def _passage_agreement(first: np.ndarray, second: np.ndarray) -> float:
    first, second = first.astype(np.float32).ravel(), second.astype(np.float32).ravel()
    norm = np.sqrt((first @ first) * (second @ second))
    if norm == 0:
        return 0.0
    best = 0.0
    for shift in range(-int(LARGEST_SHIFT * RATE / HOP), int(LARGEST_SHIFT * RATE / HOP) + 1):
        place = abs(shift) * (BANDS - 1)
        early, late = (first, second) if shift >= 0 else (second, first)
        size = max(0, min(len(early) - place, len(late)))
        best = max(best, float(early[place : place + size] @ late[:size]))
    return best / float(norm)
