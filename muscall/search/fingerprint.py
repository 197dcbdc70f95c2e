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
LARGEST_SHIFT = 3.2  # seconds between the same sound in two recordings: as much as may be cut off, and some more


def fingerprint(path: str, duration: float) -> np.ndarray:
    """
    Return the signs of the middle of a recording, int8 of shape `(frames, BANDS - 1)`; none where it is too short.

    Args:
        path (`str`): The file.
        duration (`float`): Of the recording, in seconds.

    Raises:
        `OSError`, `ValueError`: if it cannot be read.
    """
    from audio_muscall import read_audio  # which imports torch: only here is it needed

    samples = read_audio(path, RATE, max(0.0, (duration - SECONDS) / 2), min(SECONDS, duration))
    if len(samples) < FRAME + HOP:
        return np.empty((0, BANDS - 1), np.int8)
    frames = np.lib.stride_tricks.sliding_window_view(samples, FRAME)[::HOP]
    energy = np.abs(np.fft.rfft(frames * np.hanning(FRAME).astype(np.float32))) ** 2  # (frames, bins)
    edges = (np.geomspace(LOWEST, HIGHEST, BANDS + 1) * FRAME / RATE).astype(int)
    bands = np.add.reduceat(energy, edges, axis=1)[:, :-1]  # (frames, BANDS)
    return np.sign(np.diff(np.diff(bands, axis=1), axis=0)).astype(np.int8)


def agreement(first: np.ndarray, second: np.ndarray) -> float:
    """
    Return how much two fingerprints agree at the best shift in time: 1 for the same, about 0 for different music, and
    0 where one holds nothing, as of silence.
    """
    norm = np.sqrt(np.square(first, dtype=np.float32).sum() * np.square(second, dtype=np.float32).sum())
    if norm == 0:
        return 0.0
    size = 1 << int(len(first) + len(second) - 1).bit_length()
    spectrum = np.fft.rfft(first, size, axis=0) * np.fft.rfft(second, size, axis=0).conj()
    correlation = np.fft.irfft(spectrum.sum(axis=1), size)  # by shift; negative ones from the end on
    shifts = int(LARGEST_SHIFT * RATE / HOP)
    return float(np.concatenate([correlation[: shifts + 1], correlation[-shifts:]]).max() / norm)
