# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The AudioSet teacher. `MUSCALL_AUDIOSET_TEACHER=PATH` runs what needs its published weights."""

import os

import pytest
import torch
import torchaudio
from small_models import as_trained
from torch.nn import functional as F

from muscall.training.audioset import AudioSetTeacher, load_audioset_teacher


WEIGHTS = os.environ.get("MUSCALL_AUDIOSET_TEACHER")


@pytest.fixture(scope="module")
def teacher():
    torch.manual_seed(0)
    return as_trained(AudioSetTeacher()).requires_grad_(False)


@pytest.fixture(scope="module")
def waves():
    return torch.randn(2, 32000, generator=torch.Generator().manual_seed(0)) / 10


def test_size_is_that_of_the_published_network(teacher):
    assert sum(parameter.numel() for parameter in teacher.parameters()) == 983_599


def test_log_mel_is_kaldis(teacher, waves):
    mel, _ = torchaudio.compliance.kaldi.get_mel_banks(128, 1024, 32000, 0.0, 15000.0, 100.0, -500.0, 1.0)
    emphasised = F.conv1d(waves[:, None], torch.tensor([[[-0.97, 1.0]]]))[:, 0]
    window = torch.hann_window(800, periodic=False)
    power = torch.stft(emphasised, 1024, 320, 800, window, return_complex=True).abs().square()
    expected = ((F.pad(mel, (0, 1)) @ power + 1e-5).log() + 4.5) / 5
    torch.testing.assert_close(teacher.log_mel(waves), expected, atol=1e-4, rtol=0)


def test_folded_norms_give_the_same(waves):
    torch.manual_seed(0)
    teacher = as_trained(AudioSetTeacher())
    expected = teacher(waves)
    for output, wanted in zip(teacher.fold_norms()(waves), expected, strict=True):
        torch.testing.assert_close(output, wanted, atol=1e-4, rtol=1e-4)


def test_sounds_of_a_batch_do_not_meet(teacher, waves):
    torch.testing.assert_close(teacher(waves).logits[1:], teacher(waves[1:]).logits, atol=1e-4, rtol=1e-4)


def test_another_file_is_refused_and_the_right_one_named(teacher, tmp_path):
    torch.save(teacher.state_dict(), tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"expected https://.*/mn04_as_mAP_432.pt with SHA-256 899a8c62"):
        load_audioset_teacher(tmp_path / "other.pt")


@pytest.mark.skipif(not WEIGHTS, reason="MUSCALL_AUDIOSET_TEACHER does not name the file mn04_as_mAP_432.pt")
def test_the_published_weights_hear_a_tone_as_one():
    seconds = torch.arange(10 * 32000) / 32000
    tone = 0.3 * torch.sin(2 * torch.pi * 440 * seconds)
    logits = load_audioset_teacher(WEIGHTS)(tone[None]).logits
    assert logits.argmax() == 501  # the class "Sine wave" of AudioSet
