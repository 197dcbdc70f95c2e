# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Waveform augmentation of whole batches on their device."""

import math

import torch
from torch import nn


# What `WaveformAugmentation` draws: the share of waveforms that each change meets, and its range.
POLARITY_PROBABILITY = 0.5
NOISE_PROBABILITY = 0.5
SNR_RANGE = (5, 40)  # decibels (dB)
SLOPE_RANGE = (-2, 2)  # brown to violet
PITCH_PROBABILITY = 0.5
MAX_SEMITONES = 4  # in either direction
MAX_LEVEL_CHANGE = 12  # decibels (dB), in either direction
NUM_BANDS = 6
MAX_BAND_GAIN = 9  # decibels (dB), in either direction


def coloured_noise(waveforms: torch.Tensor, snr: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    """
    Add noise whose power falls or rises with frequency.

    Args:
        waveforms (`torch.FloatTensor` of shape `(batch_size, samples)`):
            The audio.
        snr (`torch.FloatTensor` of shape `(batch_size,)`):
            Power of each waveform over that of its noise in decibels (dB). Silence stays silent.
        slope (`torch.FloatTensor` of shape `(batch_size,)`):
            The power goes with frequency to this exponent: 0 is white, -1 pink, -2 brown, 1 blue, 2 violet.
    """
    num_samples = waveforms.shape[1]
    frequencies = torch.arange(num_samples // 2 + 1, device=waveforms.device, dtype=waveforms.dtype)
    amplitude = frequencies.clamp(min=1) ** (slope[:, None] / 2)  # per bin: only the shape matters
    amplitude[:, 0] = 0  # no constant offset
    spectrum = torch.fft.rfft(torch.randn_like(waveforms)) * amplitude
    noise = torch.fft.irfft(spectrum, num_samples)
    level = waveforms.square().mean(1, keepdim=True).sqrt() * 10 ** (-snr[:, None] / 20)
    return waveforms + noise * (level / noise.square().mean(1, keepdim=True).sqrt())


def equalise(waveforms: torch.Tensor, gains: torch.Tensor, sampling_rate: float = 16000) -> torch.Tensor:
    """
    Make frequencies louder or softer than others.

    Args:
        waveforms (`torch.FloatTensor` of shape `(batch_size, samples)`):
            The audio.
        gains (`torch.FloatTensor` of shape `(batch_size, bands)`):
            In decibels (dB), at frequencies evenly spread over the octaves from 60 Hz to half the sampling rate;
            straight lines between them.
        sampling_rate (`float`, *optional*, defaults to 16000):
            In hertz (Hz).
    """
    num_samples, bands = waveforms.shape[1], gains.shape[1]
    frequencies = torch.fft.rfftfreq(num_samples, 1 / sampling_rate, device=waveforms.device).clamp(min=60)
    place = torch.log(frequencies / 60) / math.log(sampling_rate / 120) * (bands - 1)
    before = place.long().clamp(max=bands - 2)
    gain = torch.lerp(gains[:, before], gains[:, before + 1], place - before)
    return torch.fft.irfft(torch.fft.rfft(waveforms) * 10 ** (gain / 20), num_samples)


def pitch_shift(waveforms: torch.Tensor, semitones: torch.Tensor, n_fft: int = 2048) -> torch.Tensor:
    """
    Move the pitch of each waveform by its own interval and keeps its length: a phase vocoder stretches the time by
    the ratio of the frequencies, and reading the result faster or slower by the same ratio restores it. The phases of
    neighbouring bins are kept together as in M. Puckette, Phase-locked vocoder, WASPAA 1995.

    Args:
        waveforms (`torch.FloatTensor` of shape `(batch_size, samples)`):
            The audio.
        semitones (`torch.FloatTensor` of shape `(batch_size,)`):
            The interval, up where positive, of at most an octave. Not a whole number is fine.
        n_fft (`int`, *optional*, defaults to 2048):
            Length of the Fourier transform, in samples; a frame is half of it apart from the next.
    """
    batch_size, num_samples = waveforms.shape
    ratio = 2 ** (semitones / 12)
    hop_length, window = n_fft // 2, torch.hann_window(n_fft, device=waveforms.device, dtype=waveforms.dtype)
    spectrum = torch.stft(waveforms, n_fft, hop_length, window=window, return_complex=True).transpose(1, 2)
    num_frames = spectrum.shape[1]
    spectrum = spectrum.flatten(0, 1) + 1e-7  # silence has no phase, but the frame after it needs one
    bins = torch.arange(n_fft // 2 + 1, device=waveforms.device)
    kept = (bins * ratio[:, None] < n_fft // 2).to(
        waveforms.dtype
    )  # the other bins would rise above half the sampling rate

    # Frame m of the stretched spectrum lies between the frames at m / ratio. Its magnitude does too; its phase goes on
    # from frame m - 1 by as much as the phase of the original moves there within one hop.
    num_stretched = (
        int(num_frames * float(ratio.max())) + 5
    )  # the last ones only complete the windows over what is read
    position = torch.arange(num_stretched, device=waveforms.device)[:, None] / ratio
    before = position.long().clamp(max=num_frames - 2)
    fraction = (position - before).clamp(max=1)[..., None]
    rows = before + num_frames * torch.arange(batch_size, device=waveforms.device)
    stretched = spectrum.new_empty(num_stretched, batch_size, len(bins))
    stretched[0] = last = spectrum[rows[0]]
    for number in range(1, num_stretched):
        current, following = spectrum[rows[number]], spectrum[rows[number] + 1]
        length, following_length = current.abs(), following.abs()
        magnitude = torch.lerp(length, following_length, fraction[number]) * kept
        locked = last.clone()  # neighbouring bins under one peak have opposite signs
        locked[:, 1:] -= last[:, :-1]
        locked[:, :-1] -= last[:, 1:]
        scale = magnitude / (length * following_length * locked.abs().clamp(min=1e-20))
        stretched[number] = last = locked * (following * current.conj()) * scale
    stretched = torch.istft(stretched.permute(1, 2, 0), n_fft, hop_length, window=window)

    position = torch.arange(num_samples, device=waveforms.device) * ratio[:, None]
    before = position.long().clamp(max=stretched.shape[1] - 2)
    fraction = (position - before).clamp(max=1)
    return torch.lerp(stretched.gather(1, before), stretched.gather(1, before + 1), fraction)


class WaveformAugmentation(nn.Module):
    """
    Changes that leave the music the same to a listener: polarity, coloured noise, pitch and level, and, where asked
    for, equalisation. They are drawn for every waveform by itself, on its device and from the random state there.

    Args:
        equalisation_probability (`float`, *optional*, defaults to 0):
            Share of waveforms that are equalised; the paper equalises none.
    """

    def __init__(self, equalisation_probability: float = 0.0) -> None:
        super().__init__()
        self.equalisation_probability = equalisation_probability

    @torch.no_grad()
    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Return an augmented copy of waveforms of shape `(batch_size, samples)`."""
        size = (len(waveforms),)
        is_shifted = _draw(waveforms, size, 0, 1) < PITCH_PROBABILITY
        semitones = _draw(waveforms, size, -MAX_SEMITONES, MAX_SEMITONES)
        is_noisy = _draw(waveforms, size, 0, 1) < NOISE_PROBABILITY
        snr, slope = _draw(waveforms, size, *SNR_RANGE), _draw(waveforms, size, *SLOPE_RANGE)
        is_flipped = _draw(waveforms, size, 0, 1) < POLARITY_PROBABILITY
        level = _draw(waveforms, size, -MAX_LEVEL_CHANGE, MAX_LEVEL_CHANGE)

        waveforms = waveforms.clone()
        if self.equalisation_probability:
            is_equalised = _draw(waveforms, size, 0, 1) < self.equalisation_probability
            gains = _draw(waveforms, (len(waveforms), NUM_BANDS), -MAX_BAND_GAIN, MAX_BAND_GAIN)
            waveforms = torch.where(is_equalised[:, None], equalise(waveforms, gains), waveforms)
        if is_shifted.any():
            waveforms[is_shifted] = pitch_shift(waveforms[is_shifted], semitones[is_shifted])
        if is_noisy.any():
            waveforms[is_noisy] = coloured_noise(waveforms[is_noisy], snr[is_noisy], slope[is_noisy])
        return waveforms * (10 ** (level / 20) * torch.where(is_flipped, -1.0, 1.0))[:, None]


def _draw(waveforms: torch.Tensor, shape: tuple[int, ...], low: float, high: float) -> torch.Tensor:
    """Draw evenly between two bounds, in float32 on the device of the waveforms."""
    return torch.empty(shape, device=waveforms.device).uniform_(low, high)
