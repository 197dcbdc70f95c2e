# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Excerpts of tracks: where they begin, and how they are levelled and encoded."""

from pathlib import Path

import librosa
import numpy as np
import scipy.signal
import soundfile

from muscall.cache import replace_file
from scripts.files import read_mono


RATE = 16000  # hertz
CLIP = 323200  # samples: 20.2 s, so that a 20 s window always fits whatever the codec trims
LEVEL = -20.0  # dBFS, RMS of a clip
STEP = RATE // 2  # samples of half a second, the grid on which clips begin
PEAK = 0.9  # full scale is 1; leaves room for the codec's overshoot
HIGH_PASS = scipy.signal.butter(2, 25, "highpass", fs=RATE, output="sos")  # two tracks drift below hearing


def log_mel_patches(clip: np.ndarray) -> np.ndarray:
    """Return normalised log-mel patches of 5 s of a clip, one every 0.1 s: `(patches, features)`."""
    mel = librosa.feature.melspectrogram(y=clip, sr=RATE, n_fft=1024, hop_length=RATE // 20, n_mels=64)
    mel = librosa.power_to_db(mel, amin=1e-8)
    flat = np.stack([mel[:, i : i + 100] for i in range(0, mel.shape[1] - 99, 2)])
    flat = (flat - flat.mean(2, keepdims=True)).reshape(len(flat), -1)
    return flat / np.linalg.norm(flat, axis=1, keepdims=True)


def likeness(clip: np.ndarray, other: np.ndarray) -> float:
    """Return how much of `clip` comes back in `other` at any lag, 0 to 1: above 0.6 it is the same loop."""
    return float(np.median((log_mel_patches(clip)[::25] @ log_mel_patches(other).T).max(1)))


def find_merits(level: np.ndarray, low: int, high: int, num_samples: int, by_loudness: bool) -> dict[int, float]:
    """
    Return how well a clip may begin at each half second of a part of a track: loud or typical, and without silence.

    Args:
        level (`np.ndarray`): dB of each half second of the track.
        low (`int`), high (`int`): First half second of the part, and the one after its last.
        num_samples (`int`): Of the track.
        by_loudness (`bool`): Whether loud is good; else what is near to the track's median level.

    Returns:
        `dict[int, float]`: for each start in samples, its merit.
    """
    window, median, merits = -(-CLIP // STEP), np.median(level), {}
    for start in range(low, max(high - window, low) + 1):
        piece = level[start : start + window]
        if start * STEP + CLIP <= num_samples:
            mean = 10 * np.log10(np.mean(10 ** (piece / 10)))
            gap = np.maximum(mean - 25 - piece, 0).mean()  # dB that half seconds lie too deep
            slope = abs(piece[:8].mean() - piece[-8:].mean())  # dB, a fade or a break
            merits[start * STEP] = (mean if by_loudness else -abs(mean - median)) - 10 * gap - 0.4 * slope
    return merits


def choose_starts(track: np.ndarray) -> list[int]:
    """
    Return where the clips of a track begin, in samples: about two, one per equal part of the track.

    The ends of the track (6%, 1 to 12 s: fades) are left out where it is long enough. Of every part the loudest window
    without silence is taken for the even clips, the one nearest to the track's median level for the odd ones, so that
    the clips of a track differ; where it repeats an earlier clip the next best one is tried, or none is taken.
    """
    power = np.square(track[: len(track) // STEP * STEP]).reshape(-1, STEP).mean(1)
    level = 10 * np.log10(power + 1e-10)  # dB, one value per half second
    seconds = len(track) / RATE
    margin = min(max(0.06 * seconds, 1.0), 12.0)
    count = 1 if seconds < 44 else 3 if seconds > 450 else 2
    if seconds - 2 * margin < count * 20.5:
        margin = max((seconds - count * 20.5) / 2, 0.0)
    edges = np.linspace(2 * margin, min(2 * (seconds - margin), len(level)), count + 1).astype(int)
    starts = []
    for part, (low, high) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
        merits = find_merits(level, low, high, len(track), by_loudness=part % 2 == 0)
        while merits:
            start = max(merits, key=merits.get)
            clip = track[start : start + CLIP]
            if all(likeness(clip, track[other : other + CLIP]) < 0.6 for other in starts):
                starts.append(start)
                break
            merits = {other: merit for other, merit in merits.items() if abs(other - start) >= 4 * RATE}
    return starts


def finish_clip(samples: np.ndarray) -> np.ndarray:
    """Remove the constant part, set level and peak, and fade both cut edges over 5 ms."""
    samples = samples - samples.mean()
    gain = 10 ** (LEVEL / 20) / np.sqrt(np.square(samples).mean())
    samples = samples * min(gain, PEAK / np.abs(samples).max())
    fade = np.linspace(0, 1, RATE * 5 // 1000, dtype=np.float32)
    samples[: len(fade)] *= fade
    samples[-len(fade) :] *= fade[::-1]
    return samples


def cut_clips(package: Path, track: dict, folder: Path) -> dict[str, float]:
    """
    Write the clips of a track, whose files are in an unpacked package, as Opus files into a folder.

    Returns:
        `dict[str, float]`: for each clip where it begins, in seconds.
    """
    samples = read_mono(package, track["path"], RATE, quality="VHQ")
    if track["stem"]:
        samples = samples + read_mono(package, track["stem"], RATE, quality="VHQ")
    samples = scipy.signal.sosfiltfilt(HIGH_PASS, samples).astype(np.float32)
    starts = {}
    for letter, start in zip("abc", choose_starts(samples), strict=False):
        name = f"produced-{track['number']}-{letter}"
        with replace_file(folder / f"{name}.opus") as partial:
            clip = finish_clip(samples[start : start + CLIP])
            soundfile.write(partial, clip, RATE, format="OGG", subtype="OPUS")
        starts[name] = start / RATE
    return starts
