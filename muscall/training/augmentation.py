# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Waveform augmentation of whole batches on their device."""

import math

import torch
from torch import nn


def coloured_noise(waveforms: torch.Tensor, snr: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    """
    Adds noise whose power falls or rises with frequency.

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
    wanted = waveforms.square().mean(1, keepdim=True).sqrt() * 10 ** (-snr[:, None] / 20)
    return waveforms + noise * (wanted / noise.square().mean(1, keepdim=True).sqrt())


def equalise(waveforms: torch.Tensor, gains: torch.Tensor, sampling_rate: float = 16000) -> torch.Tensor:
    """
    Makes some frequencies louder than others.

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
    Moves the pitch of each waveform by its own interval and keeps its length: a phase vocoder stretches the time by
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
    spectrum = spectrum.flatten(0, 1) + 1e-7  # silence too must pass a phase on
    bins = torch.arange(n_fft // 2 + 1, device=waveforms.device)
    kept = (bins * ratio[:, None] < n_fft // 2).to(waveforms.dtype)  # the rest would lie above half the sampling rate

    # Frame m of the stretched spectrum lies between the frames at m / ratio. Its magnitude does too; its phase goes on
    # from frame m - 1 by as much as the phase of the original moves there within one hop.
    num_stretched = int(num_frames * float(ratio.max())) + 5  # so many that all that is read lies under whole windows
    position = torch.arange(num_stretched, device=waveforms.device)[:, None] / ratio
    before = position.long().clamp(max=num_frames - 2)
    fraction = (position - before).clamp(max=1)[..., None]
    rows = before + num_frames * torch.arange(batch_size, device=waveforms.device)
    stretched = spectrum.new_empty(num_stretched, batch_size, len(bins))
    stretched[0] = last = spectrum[rows[0]]
    for number in range(1, num_stretched):
        this, following = spectrum[rows[number]], spectrum[rows[number] + 1]
        length, following_length = this.abs(), following.abs()
        magnitude = torch.lerp(length, following_length, fraction[number]) * kept
        locked = last.clone()  # neighbours under one peak have opposite signs
        locked[:, 1:] -= last[:, :-1]
        locked[:, :-1] -= last[:, 1:]
        scale = magnitude / (length * following_length * locked.abs().clamp(min=1e-20))
        stretched[number] = last = locked * (following * this.conj()) * scale
    stretched = torch.istft(stretched.permute(1, 2, 0), n_fft, hop_length, window=window)

    position = torch.arange(num_samples, device=waveforms.device) * ratio[:, None]
    before = position.long().clamp(max=stretched.shape[1] - 2)
    fraction = (position - before).clamp(max=1)
    return torch.lerp(stretched.gather(1, before), stretched.gather(1, before + 1), fraction)


class WaveformAugmentation(nn.Module):
    """
    Polarity, coloured noise, pitch and gain, drawn for every waveform by itself, on the waveforms' device and from its
    random state: what leaves the music the same to a listener.

    Args:
        polarity_probability (`float`, *optional*, defaults to 0.5):
            Share of waveforms whose sign is flipped.
        noise_probability (`float`, *optional*, defaults to 0.5):
            Share of waveforms with noise, of a slope between -2 (brown) and 2 (violet).
        min_snr, max_snr (`float`, *optional*, defaults to 5 and 40):
            Range of the signal-to-noise ratio in decibels (dB).
        pitch_probability (`float`, *optional*, defaults to 0.5):
            Share of waveforms whose pitch is shifted.
        max_semitones (`float`, *optional*, defaults to 4):
            Largest shift in either direction.
        max_gain (`float`, *optional*, defaults to 12):
            Largest change of level in either direction, in decibels (dB).
        equalisation_probability (`float`, *optional*, defaults to 0):
            Share of waveforms of which six bands are up to 9 dB louder or softer; not part of the paper's.
    """

    def __init__(
        self,
        polarity_probability: float = 0.5,
        noise_probability: float = 0.5,
        min_snr: float = 5,
        max_snr: float = 40,
        pitch_probability: float = 0.5,
        max_semitones: float = 4,
        max_gain: float = 12,
        equalisation_probability: float = 0.0,
    ):
        super().__init__()
        self.polarity_probability, self.noise_probability = polarity_probability, noise_probability
        self.min_snr, self.max_snr = min_snr, max_snr
        self.pitch_probability, self.max_semitones, self.max_gain = pitch_probability, max_semitones, max_gain
        self.equalisation_probability = equalisation_probability

    @torch.no_grad()
    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """`(batch_size, samples)` -> an augmented copy of the same shape."""

        def draw(low: float, high: float) -> torch.Tensor:
            return torch.empty(len(waveforms), device=waveforms.device).uniform_(low, high)

        shifted = draw(0, 1) < self.pitch_probability
        semitones = draw(-self.max_semitones, self.max_semitones)
        noisy, snr, slope = draw(0, 1) < self.noise_probability, draw(self.min_snr, self.max_snr), draw(-2, 2)
        flipped, gain = draw(0, 1) < self.polarity_probability, draw(-self.max_gain, self.max_gain)

        waveforms = waveforms.clone()
        if self.equalisation_probability:
            equalised = draw(0, 1) < self.equalisation_probability
            gains = torch.empty(len(waveforms), 6, device=waveforms.device).uniform_(-9, 9)
            waveforms = torch.where(equalised[:, None], equalise(waveforms, gains), waveforms)
        if shifted.any():
            waveforms[shifted] = pitch_shift(waveforms[shifted], semitones[shifted])
        if noisy.any():
            waveforms[noisy] = coloured_noise(waveforms[noisy], snr[noisy], slope[noisy])
        return waveforms * (10 ** (gain / 20) * torch.where(flipped, -1.0, 1.0))[:, None]
