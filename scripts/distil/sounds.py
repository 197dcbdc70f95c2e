# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Sounds on the device that learns from them: many tracks in one tensor, windows drawn from it, augmentation."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import soundfile
import torch


RATE = 24000  # hertz
FASTER = 0.5  # the share of windows that are read faster or slower, and so in another pitch
SPEEDS = (0.9, 1.12)
# A second window under the first, and speech over it: the share of windows, and decibels (dB) over them.
MUSIC_UNDER, MUSIC_DECIBELS = 0.35, (-15, 0)
SPEECH_OVER, SPEECH_DECIBELS = 0.12, (-6, 8)
EQUALISED = 0.45
LOW_PASS, LOW_PASS_OCTAVES = 0.15, (11.3, 13.3)  # octaves over 1 Hz: 2.5 to 10 kHz
HIGH_PASS, HIGH_PASS_OCTAVES = 0.1, (6, 8.5)  # 64 to 360 Hz
NOISY, NOISE_DECIBELS = 0.12, (-45, -15)
PEAK_DECIBELS = (-22, -1)
SILENCE = 1e-7  # mean square


def read_tracks(folder: Path, shortest: int) -> list[np.ndarray]:
    """
    Return the audio files of a folder as int16 arrays, in the order of their names.

    Args:
        folder (`Path`): Holds mono files of 24 kHz; one that is not there holds none.
        shortest (`int`): Samples that a track must have, the others are left out.

    Raises:
        `ValueError`: if a file has another rate or more than one channel.
    """

    def read(path: Path) -> np.ndarray:
        samples, rate = soundfile.read(path, dtype="int16")
        if rate != RATE or samples.ndim != 1:
            raise ValueError(f"{path}: expected mono of {RATE} Hz, got {samples.shape} at {rate} Hz")
        return samples

    paths = sorted(path for path in folder.glob("*") if path.suffix in (".opus", ".flac"))
    with ThreadPoolExecutor() as pool:
        return [samples for samples in pool.map(read, paths) if len(samples) >= shortest]


class Pool:
    """
    Tracks in one tensor of 16-bit samples, from which windows are drawn, each second as likely as any other.

    Args:
        tracks (`list[np.ndarray]`): int16, each at least `window + 2` samples long.
        window (`int`): Length of a window in samples.
        device (`str` or `torch.device`): Where all of it lies.
    """

    def __init__(self, tracks: list[np.ndarray], window: int, device: str | torch.device):
        self.window = window
        lengths = torch.tensor([len(track) for track in tracks])
        self.lengths, self.starts = lengths.to(device), (lengths.cumsum(0) - lengths).to(device)
        self.samples = torch.from_numpy(np.concatenate(tracks)).to(device)
        self.shares = (lengths / lengths.sum()).to(device)

    @property
    def hours(self) -> float:
        """Return the length of all tracks in hours."""
        return len(self.samples) / RATE / 3600

    def draw(self, count: int, faster: float = FASTER) -> torch.Tensor:
        """Return random windows, float32 `(count, window)`; the share `faster` of them at another speed."""
        device = self.samples.device
        tracks = torch.multinomial(self.shares, count, replacement=True)
        speed = torch.where(torch.rand(count, device=device) < faster, uniform(SPEEDS, count, device)[:, 0], 1)
        speed = torch.where(self.window * speed + 2 <= self.lengths[tracks], speed, 1)
        free = (self.lengths[tracks] - (self.window * speed).long() - 2).clamp(min=0)
        # In float64, for float32 does not tell the samples of an hour apart.
        start = self.starts[tracks] + (torch.rand(count, device=device, dtype=torch.float64) * free).long()
        position = torch.arange(self.window, device=device, dtype=torch.float64) * speed[:, None]
        before = position.long()
        fraction = (position - before).float()
        before += start[:, None]
        after = (before + 1).clamp(max=len(self.samples) - 1)
        return torch.lerp(self.samples[before].float(), self.samples[after].float(), fraction) / 2**15

    def cut(self) -> torch.Tensor:
        """Return all whole windows of all tracks, one after the other, float32 `(windows, window)`."""
        windows = [
            self.samples[start : start + length].unfold(0, self.window, self.window)
            for start, length in zip(self.starts.tolist(), self.lengths.tolist(), strict=True)
        ]
        return torch.cat(windows).float() / 2**15


def uniform(bounds: tuple[float, float], count: int, device: torch.device) -> torch.Tensor:
    """Return random numbers between two bounds, `(count, 1)`."""
    low, high = bounds
    return low + (high - low) * torch.rand(count, 1, device=device)


def some(share: float, waves: torch.Tensor) -> torch.Tensor:
    """Return which waveforms are met by what meets this share of them, a mask of shape `(batch_size, 1)`."""
    return torch.rand(len(waves), 1, device=waves.device) < share


def gain(decibels: tuple[float, float], waves: torch.Tensor) -> torch.Tensor:
    """Return a random factor for each waveform, `(batch_size, 1)`."""
    return 10 ** (uniform(decibels, len(waves), waves.device) / 20)


def power(waves: torch.Tensor) -> torch.Tensor:
    """Return the mean square of each waveform, `(batch_size, 1)`."""
    return waves.square().mean(1, keepdim=True)


def mix(waves: torch.Tensor, others: torch.Tensor, share: float, decibels: tuple[float, float]) -> torch.Tensor:
    """Add `others` to a share of the waveforms, at a random level over that of the waveform. Silence adds nothing."""
    level = (power(waves) / power(others).clamp(min=SILENCE)).sqrt() * gain(decibels, waves)
    return waves + some(share, waves) * (power(others) > SILENCE) * level * others


def equalise(waves: torch.Tensor) -> torch.Tensor:
    """Raise and lower wide bands of a share of the waveforms, and cut off the highest or lowest of others."""
    count, device = len(waves), waves.device
    octaves = torch.fft.rfftfreq(waves.shape[1], 1 / RATE, device=device).clamp(min=20).log2()
    decibels = torch.zeros(count, len(octaves), device=device)
    for _ in range(3):
        centre, width = uniform((5, 13.5), count, device), uniform((0.5, 2.5), count, device)
        height = 8 * torch.randn(count, 1, device=device).clamp(-1.5, 1.5)
        decibels += height * torch.exp(-0.5 * ((octaves - centre) / width) ** 2)
    low_pass, high_pass = some(LOW_PASS, waves), some(HIGH_PASS, waves)
    decibels -= low_pass * (40 * (octaves - uniform(LOW_PASS_OCTAVES, count, device))).clamp(0, 60)
    decibels -= high_pass * (20 * (uniform(HIGH_PASS_OCTAVES, count, device) - octaves)).clamp(0, 60)
    decibels *= some(EQUALISED, waves) | low_pass | high_pass
    return torch.fft.irfft(torch.fft.rfft(waves) * 10 ** (decibels / 20), waves.shape[1])


def augment(waves: torch.Tensor, speech: Pool | None) -> torch.Tensor:
    """
    Return waveforms with other music under some of them, speech over some, equalised, noisy, louder or softer.

    Args:
        waves (`torch.FloatTensor` of shape `(batch_size, samples)`): Each is also the music under the next one.
        speech (`Pool`, *optional*): Where speech is drawn from.
    """
    waves = mix(waves, waves.roll(1, 0), MUSIC_UNDER, MUSIC_DECIBELS)
    if speech:
        waves = mix(waves, speech.draw(len(waves)), SPEECH_OVER, SPEECH_DECIBELS)
    waves = equalise(waves)
    noise = torch.randn_like(waves) * power(waves).sqrt()
    waves = waves + some(NOISY, waves) * gain(NOISE_DECIBELS, waves) * noise
    return waves / waves.abs().amax(1, keepdim=True).clamp(min=1e-4) * gain(PEAK_DECIBELS, waves)
