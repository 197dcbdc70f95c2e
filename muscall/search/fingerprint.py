# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
The sound of a recording as signs of differences of energy, which other encoders and levels hardly change, and another
take of the same music does. After Haitsma and Kalker, A Highly Robust Audio Fingerprinting System, ISMIR 2002.
"""

from functools import cached_property
from typing import NamedTuple

import numpy as np


RATE = 5500  # hertz
FRAME, HOP = 1024, 128  # samples: 0.19 s, 23 ms
BANDS, LOWEST, HIGHEST = 33, 300, 2000  # hertz
# Smaller differences of energy have no sign, because encoders make of them what they like: shares of the energy of a
# frame, and of the loudest frame of all passages, below which is silence.
SMALL, SILENCE = 3e-3, 1e-6
SECONDS = 30  # heard, from the middle of a recording
# Of a longer one, two more passages are heard, around these shares of it: a version without voices may be the same in
# the middle.
MORE_FROM, MORE_SECONDS, MORE_PLACES = 60, 20, (1 / 8, 7 / 8)
LARGEST_SHIFT = 10.0  # seconds between the same sound in two recordings: as much as may be cut off or added
DRIFT = 0.15  # seconds that the shift of a passage may differ from that of the others: tape and clocks are not exact
BLOCK = 3.0  # seconds that must agree by themselves: what has a voice only here and there agrees elsewhere
UNLIKE = 0.3  # below it the middle tells other music, and no more is compared
AUDIBLE = 0.2  # of the signs that blocks have in the mean: a block with fewer in both is silence and does not count


class Passage(NamedTuple):
    """
    What is heard of a passage of a recording.

    Args:
        start (`int`): The first frame, counted from the start of the recording.
        rises, falls (`np.ndarray` of shape `(frames, (BANDS - 1) / 8)`):
            Where a difference between bands becomes larger or smaller, eight a byte. In silence, neither.
    """

    start: int
    rises: np.ndarray
    falls: np.ndarray

    def is_heard(self) -> bool:
        """Return whether it is more than silence."""
        return bool(self.rises.any() or self.falls.any())

    def signs(self) -> np.ndarray:
        """Return 1, -1 or 0, float32 of shape `(BANDS - 1, frames)`, in which spectra over time are computed fast."""
        rises, falls = (np.unpackbits(bits, axis=1).T for bits in (self.rises, self.falls))
        return np.subtract(rises, falls, dtype=np.float32, order="C")


def fingerprint(path: str) -> list[Passage]:
    """
    Return what is heard of a recording, the middle first. A passage that is too short has no frames.

    Args:
        path (`str`): The file.

    Raises:
        `OSError`, `ValueError`: if it cannot be read.
    """
    from audio_muscall import AudioReader  # which imports torch: only here is it needed

    starts, bands = [], []
    with AudioReader(path, RATE) as reader:
        places = [(1 / 2, SECONDS)]
        if reader.num_samples >= MORE_FROM * RATE:
            places += [(place, MORE_SECONDS) for place in MORE_PLACES]
        for place, seconds in places:
            # Whole frames, so that those of all passages of all recordings lie on one grid.
            starts.append(max(0, int(place * reader.num_samples - seconds * RATE / 2) // HOP))
            bands.append(_bands(reader.read(starts[-1] * HOP, starts[-1] * HOP + seconds * RATE)))
    silence = SILENCE * max(energy.sum(axis=1).max(initial=0) for energy in bands)
    return [_passage(start, energy, silence) for start, energy in zip(starts, bands, strict=True)]


def _bands(samples: np.ndarray) -> np.ndarray:
    """Return energies of shape `(frames, BANDS)`."""
    if len(samples) < FRAME + HOP:
        return np.empty((0, BANDS), np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(samples, FRAME)[::HOP]
    energy = np.abs(np.fft.rfft(frames * np.hanning(FRAME).astype(np.float32))) ** 2  # (frames, bins)
    edges = (np.geomspace(LOWEST, HIGHEST, BANDS + 1) * FRAME / RATE).astype(int)
    return np.add.reduceat(energy, edges, axis=1)[:, :-1]


def _passage(start: int, energy: np.ndarray, silence: float) -> Passage:
    differences = np.diff(np.diff(energy, axis=1), axis=0)
    totals = energy.sum(axis=1, keepdims=True)
    least = np.maximum(silence, SMALL * (totals[1:] + totals[:-1]) / 2)
    return Passage(start, np.packbits(differences > least, axis=1), np.packbits(differences < -least, axis=1))


def agreement(first: list[Passage], second: list[Passage]) -> float:
    """
    Return how much two recordings agree where they agree least, among blocks of `BLOCK` seconds of all passages: 1 for
    the same, about 0 for different music. All passages are shifted in time alike, as far as they agree best. Silence
    agrees with nothing, and what is silent in both does not count. Of different music only the middle is compared.
    """
    # Two recordings of which one is just long enough for more passages have the middle one in common.
    count = min(len(first), len(second))
    passages = zip(first[:count], second[:count], strict=True)
    heard = [pair for pair in passages if pair[0].is_heard() or pair[1].is_heard()]
    if not heard:
        return 0.0
    middle = _Pair(*heard[0])
    common = middle.agreements()
    if common.max() < UNLIKE:
        return float(common.max())
    pairs = [middle, *(_Pair(*pair) for pair in heard[1:])]
    for pair in pairs[1:]:
        common = np.minimum(common, pair.agreements())
    return min(pair.least_agreement(int(common.argmax())) for pair in pairs)


class _Pair:
    """The same passage of two recordings."""

    SHIFTS = np.arange(-int(LARGEST_SHIFT * RATE / HOP), int(LARGEST_SHIFT * RATE / HOP) + 1)  # of recordings, frames
    SLACK = int(DRIFT * RATE / HOP)

    def __init__(self, first: Passage, second: Passage):
        self.first, self.second = first.signs(), second.signs()
        self.shifts = self.SHIFTS - (first.start - second.start)  # of the passages: first[t + shift] is second[t]

    @cached_property
    def exact(self) -> np.ndarray:
        """How much the passages agree at each of `SHIFTS`, of shape `(shifts,)`."""
        lengths = self.first.shape[1], self.second.shape[1]
        starts = np.maximum(0, -self.shifts)  # of what both have, in the second
        stops = np.minimum(lengths[1], lengths[0] - self.shifts)
        is_enough = 2 * (stops - starts) >= min(lengths)
        # So long that no shift that is looked at has anything of the other end.
        size = 1 << int(max(lengths) + np.abs(self.shifts[is_enough]).max(initial=0)).bit_length()
        spectra = [np.fft.rfft(signs, size) for signs in (self.first, self.second)]
        products = np.fft.irfft((spectra[0] * spectra[1].conj()).sum(axis=0), size)[self.shifts % size]
        norms = np.ones(len(self.shifts))
        for signs, moved in ((self.first, self.shifts), (self.second, 0)):
            sums = np.concatenate([[0], np.cumsum(np.abs(signs).sum(axis=0))])
            norms *= sums[(stops + moved) * is_enough] - sums[(starts + moved) * is_enough]
        return np.where(norms > 0, products / np.sqrt(np.maximum(norms, 1)), 0.0)

    def agreements(self) -> np.ndarray:
        """Return how much the passages agree at each of `SHIFTS`, or at the best that differs from it by `DRIFT`."""
        padded = np.pad(self.exact, self.SLACK)
        return np.lib.stride_tricks.sliding_window_view(padded, 2 * self.SLACK + 1).max(axis=1)

    def least_agreement(self, place: int) -> float:
        """Return how much the passages agree in the block where they agree least, at about one of `SHIFTS`."""
        near = slice(max(0, place - self.SLACK), place + self.SLACK + 1)
        best = near.start + int(self.exact[near].argmax())
        shift, start = self.shifts[best], max(0, -self.shifts[best])
        stop = min(self.second.shape[1], self.first.shape[1] - shift)
        if self.exact[best] <= 0:
            return 0.0
        pair = self.first[:, start + shift : stop + shift], self.second[:, start:stop]
        count = max(1, int((stop - start) * HOP / RATE / BLOCK))
        edges = np.arange(count) * (stop - start) // count
        sums = [np.add.reduceat(values.sum(axis=0), edges) for values in (pair[0] * pair[1], *np.abs(pair))]
        counts = sums[1] / max(sums[1].mean(), 1), sums[2] / max(sums[2].mean(), 1)
        is_heard = np.maximum(*counts) >= AUDIBLE
        return float((sums[0] / np.sqrt(np.maximum(sums[1] * sums[2], 1)))[is_heard].min())
