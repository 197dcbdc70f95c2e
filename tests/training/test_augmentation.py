# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Augmentation by what can be measured: the pitch of tones, the power and slope of noise, the share of each change."""

import math

import pytest
import torch

from muscall.training import augmentation
from muscall.training.augmentation import WaveformAugmentation, coloured_noise, equalise, pitch_shift


RATE = 16000


def tones(frequencies, seconds=5):
    time = torch.arange(seconds * RATE, dtype=torch.float64) / RATE
    return (0.3 * torch.sin(2 * math.pi * torch.tensor(frequencies)[:, None] * time)).float()


def spectrum_of_middle(waveforms, num_bins=1 << 20):
    middle = waveforms[:, RATE // 2 : -RATE // 2]
    return torch.fft.rfft(middle * torch.hann_window(middle.shape[1]), 2 * num_bins).abs().square()


@pytest.mark.parametrize("semitones", [-12, -4, -2.5, -1, 0, 0.3, 1, 3.7, 7, 12])
def test_pitch_of_tones(semitones):
    frequencies = [55.0, 110.0, 261.6, 440.0, 1000.0, 2500.0]
    shifted = pitch_shift(tones(frequencies), torch.full((6,), float(semitones)))
    assert shifted.shape == (6, 5 * RATE)
    spectrum = spectrum_of_middle(shifted)
    hertz = torch.arange(spectrum.shape[1]) * RATE / 2 / (spectrum.shape[1] - 1)
    for row, frequency in zip(spectrum, frequencies, strict=True):
        wanted = frequency * 2 ** (semitones / 12)
        assert abs(1200 * math.log2(hertz[row.argmax()] / wanted)) < 10  # cents
        assert row[(hertz - wanted).abs() < 10].sum() > 0.95 * row.sum()
    level = shifted[:, RATE:-RATE].square().mean(1).sqrt()
    torch.testing.assert_close(level, torch.full((6,), 0.3 / math.sqrt(2)), rtol=0.1, atol=0)


def test_each_waveform_has_its_own_interval():
    semitones = torch.tensor([-4.0, 0.0, 4.0])
    waveforms = tones([440.0, 300.0, 700.0])
    together = pitch_shift(waveforms, semitones)
    for number in range(3):
        alone = pitch_shift(waveforms[number : number + 1], semitones[number : number + 1])
        torch.testing.assert_close(together[number : number + 1], alone, rtol=0, atol=1e-4)


def test_length_and_time_of_events_are_kept():
    for length in (3 * RATE, 3 * RATE + 77):
        clicks = torch.zeros(3, length)
        clicks[:, RATE] = 1
        shifted = pitch_shift(clicks, torch.tensor([-4.0, 1.5, 4.0]))
        assert shifted.shape == clicks.shape and shifted.isfinite().all()
        assert ((shifted.abs().argmax(1) - RATE).abs() < 0.05 * RATE).all()
    assert pitch_shift(torch.zeros(2, RATE), torch.tensor([1.0, -1.0])).abs().max() < 1e-6


def test_what_rises_above_nyquist_is_gone_and_not_folded():
    shifted = pitch_shift(tones([7000.0]), torch.tensor([4.0]))
    assert shifted[:, RATE // 2 : -RATE // 2].abs().max() < 0.003


@pytest.mark.parametrize("slope", [-2.0, -1.0, 0.0, 1.0, 2.0])
def test_noise_has_the_power_and_the_slope_asked_for(slope):
    torch.manual_seed(0)
    waveforms = tones([440.0, 880.0, 300.0], seconds=8)
    noise = coloured_noise(waveforms, torch.tensor([0.0, 20.0, 40.0]), torch.full((3,), slope)) - waveforms
    snr = 10 * torch.log10(waveforms.square().mean(1) / noise.square().mean(1))
    torch.testing.assert_close(snr, torch.tensor([0.0, 20.0, 40.0]), rtol=0, atol=0.01)
    power = torch.fft.rfft(noise[0]).abs().square()
    octaves = [10 * torch.log10(power[low * 8 : 2 * low * 8].mean()) for low in (250, 500, 1000, 2000)]  # 8 bins a Hz
    steps = torch.stack(octaves).diff()
    torch.testing.assert_close(steps, torch.full((3,), slope * 10 * math.log10(2)), rtol=0, atol=0.5)
    silence = coloured_noise(torch.zeros(1, RATE), torch.tensor([5.0]), torch.tensor([slope]))
    assert not silence.any()


OFF = {"POLARITY_PROBABILITY": 0, "NOISE_PROBABILITY": 0, "PITCH_PROBABILITY": 0, "MAX_LEVEL_CHANGE": 0}


def augment(monkeypatch, waveforms, **changes):
    """One change alone."""
    for name, value in (OFF | changes).items():
        monkeypatch.setattr(augmentation, name, value)
    return WaveformAugmentation()(waveforms)


def test_shares_and_ranges(monkeypatch):
    torch.manual_seed(0)
    waveforms = tones([440.0], seconds=1).repeat(400, 1)
    assert torch.equal(augment(monkeypatch, waveforms), waveforms)
    flipped = (augment(monkeypatch, waveforms, POLARITY_PROBABILITY=0.5) == -waveforms).all(1)
    assert 150 < flipped.sum() < 250
    gains = 20 * torch.log10(augment(monkeypatch, waveforms, MAX_LEVEL_CHANGE=12).abs().amax(1) / 0.3)
    assert gains.min() < -10 and gains.max() > 10 and gains.abs().max() < 12.1
    noisy = (augment(monkeypatch, waveforms, NOISE_PROBABILITY=0.25) != waveforms).any(1)
    assert 60 < noisy.sum() < 140
    shifted = (augment(monkeypatch, waveforms[:200], PITCH_PROBABILITY=0.1) != waveforms[:200]).any(1)
    assert 8 < shifted.sum() < 36


def test_the_paper_s_shares_and_ranges():
    assert (augmentation.POLARITY_PROBABILITY, augmentation.NOISE_PROBABILITY) == (0.5, 0.5)
    assert (augmentation.PITCH_PROBABILITY, augmentation.MAX_SEMITONES) == (0.5, 4)
    assert (augmentation.SNR_RANGE, augmentation.MAX_LEVEL_CHANGE) == ((5, 40), 12)


def test_equalising_changes_each_frequency_by_its_gain():
    time = torch.arange(16000) / 16000
    tones = torch.stack([torch.sin(2 * torch.pi * hertz * time) for hertz in (60, 693, 8000 / 1.0001)])
    gains = torch.tensor([[6.0, 0.0, -6.0]]).expand(3, 3)  # at 60, 693 and 8000 Hz
    power = equalise(tones, gains).square().mean(1) / tones.square().mean(1)
    torch.testing.assert_close(10 * power.log10(), torch.tensor([6.0, 0.0, -6.0]), atol=0.05, rtol=0)
    torch.testing.assert_close(equalise(tones, 0 * gains), tones)


def test_drawn_from_the_seed_and_leaves_its_input():
    augmentation, waveforms = WaveformAugmentation(), tones([440.0, 220.0, 330.0, 500.0], seconds=2)
    before = waveforms.clone()
    views = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        views.append(augmentation(waveforms))
    assert torch.equal(views[0], views[1]) and not torch.equal(views[0], views[2])
    assert torch.equal(waveforms, before) and views[0].shape == waveforms.shape and views[0].isfinite().all()
