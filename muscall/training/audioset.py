# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
The AudioSet teacher: `mn04_as`, a MobileNetV3 of 1 M parameters that names AudioSet's 527 classes (EfficientAT, MIT
licence, https://huggingface.co/papers/2211.04772). Its weights are an input of training and no part of the repository.
"""

from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from modeling_muscall_mobilenet import BLOCKS, EPS, FIRST_HARD_SWISH
from modeling_muscall_tower import triangular_filters
from muscall.hashing import hash_file


URL = "https://github.com/fschmid56/EfficientAT/releases/download/v0.0.1/mn04_as_mAP_432.pt"
SHA256 = "899a8c6217063f6941793102a2780b3dd788ab11fce468d9cf5f0577c453321c"
RATE = 32000  # hertz
WIDTH = 0.4  # of the channels, as a share of the large MobileNetV3's
N_FFT, WINDOW, HOP, NUM_MEL_BINS, F_MAX = 1024, 800, 320, 128, 15000
PRE_EMPHASIS = 0.97
NUM_CLASSES = 527


class AudioSetOutput(NamedTuple):
    """
    What the teacher makes of sounds, all of it float32.

    Attributes:
        pooled (`torch.FloatTensor` of shape `(batch_size, 384)`): The mean of the last convolution.
        hidden (`torch.FloatTensor` of shape `(batch_size, 512)`): What the classes are read from.
        logits (`torch.FloatTensor` of shape `(batch_size, 527)`): Of the classes, each of which has its own sigmoid.
    """

    pooled: torch.Tensor
    hidden: torch.Tensor
    logits: torch.Tensor


def _divisible(channels: float) -> int:
    """Return the multiple of 8 that is nearest, at least 8 and not more than a tenth below."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _conv_norm(
    in_channels: int, out_channels: int, kernel_size: int, activation: nn.Module, **kwargs
) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False, **kwargs)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels, EPS), activation)


class _Excitation(nn.Module):
    """Weight each channel by what all channels are on average."""

    def __init__(self, channels: int):
        super().__init__()
        hidden_size = _divisible(channels // 4)
        layers = {"fc1": nn.Linear(channels, hidden_size), "fc2": nn.Linear(hidden_size, channels)}
        self.conc_se_layers = nn.ModuleList([nn.ModuleDict(layers)])  # under the names of the published weights

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        layers = self.conc_se_layers[0]
        weights = layers["fc2"](F.relu(layers["fc1"](hidden_states.mean((2, 3))))).sigmoid()
        return hidden_states * weights[:, :, None, None]


class _Block(nn.Module):
    """An inverted residual block."""

    def __init__(self, layers: list[nn.Module], is_residual: bool):
        super().__init__()
        self.block, self.is_residual = nn.Sequential(*layers), is_residual

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        output = self.block(hidden_states)
        return hidden_states + output if self.is_residual else output


def _make_features() -> nn.Sequential:
    """Return the convolutions: those of the paper's table, which are ours but for one stride of time."""
    channels = _divisible(16 * WIDTH)
    features = [_conv_norm(1, channels, 3, nn.Hardswish(), stride=2)]
    for number, shape in enumerate(BLOCKS):
        activation = nn.Hardswish() if number >= FIRST_HARD_SWISH else nn.ReLU()
        stride = shape.stride if isinstance(shape.stride, int) else max(shape.stride)
        expanded, out_channels = _divisible(shape.expanded * WIDTH), _divisible(shape.channels * WIDTH)
        layers = [_conv_norm(channels, expanded, 1, activation)] if expanded != channels else []
        layers.append(_conv_norm(expanded, expanded, shape.kernel_size, activation, stride=stride, groups=expanded))
        if shape.excites:
            layers.append(_Excitation(expanded))
        layers.append(_conv_norm(expanded, out_channels, 1, nn.Identity()))
        features.append(_Block(layers, stride == 1 and channels == out_channels))
        channels = out_channels
    features.append(_conv_norm(channels, 6 * channels, 1, nn.Hardswish()))
    return nn.Sequential(*features)


class AudioSetTeacher(nn.Module):
    """
    The network with random weights; [`load_audioset_teacher`] gives the trained one. Call it with mono waveforms at
    32 kHz, `(batch_size, samples)`. Under autocast the convolutions run in its precision, the rest stays float32.
    """

    def __init__(self):
        super().__init__()
        self.features = _make_features()
        self.pooled_size = self.features[-1][0].out_channels
        self.hidden_size = _divisible(1280 * WIDTH)
        self.classifier = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(self.pooled_size, self.hidden_size),
            nn.Hardswish(),
            nn.Dropout(0.2),
            nn.Linear(self.hidden_size, NUM_CLASSES),
        )
        window = F.pad(torch.hann_window(WINDOW, periodic=False), ((N_FFT - WINDOW) // 2,) * 2)
        # Kaldi's bands: triangles over the mel scale, not over hertz.
        mel = 1127 * (1 + torch.linspace(0, RATE / 2, N_FFT // 2 + 1, dtype=torch.float64) / 700).log()
        highest = 1127 * torch.tensor(1 + F_MAX / 700, dtype=torch.float64).log()
        edges = highest * torch.linspace(0, 1, NUM_MEL_BINS + 2, dtype=torch.float64)
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("mel_filters", triangular_filters(edges, mel).float(), persistent=False)

    def log_mel(self, waves: torch.Tensor) -> torch.Tensor:
        """Map `(batch_size, samples)` to the log-mel spectrogram `(batch_size, 128, frames)`."""
        waves = waves[:, 1:] - PRE_EMPHASIS * waves[:, :-1]
        spectrum = torch.stft(waves, N_FFT, HOP, window=self.window, return_complex=True)
        power = torch.view_as_real(spectrum).square().sum(-1)
        return (((power.mT @ self.mel_filters).mT + 1e-5).log() + 4.5) / 5

    def forward(self, waves: torch.Tensor) -> AudioSetOutput:
        with torch.autocast(waves.device.type, enabled=False):
            spectrogram = self.log_mel(waves.float())
        hidden_states = self.features(spectrogram[:, None].contiguous(memory_format=torch.channels_last))
        with torch.autocast(waves.device.type, enabled=False):
            pooled = hidden_states.float().mean((2, 3))
            hidden = self.classifier[2:4](pooled)
            return AudioSetOutput(pooled, hidden, self.classifier[4:](hidden))

    def fold_norms(self) -> "AudioSetTeacher":
        """Put the batch norms into their convolutions, for good: evaluation only. Return the teacher."""
        for module in list(self.modules()):
            if isinstance(module, nn.Sequential) and isinstance(module[0], nn.Conv2d):
                module[0] = torch.nn.utils.fuse_conv_bn_eval(module[0], module[1])
                module[1] = nn.Identity()
        return self.to(memory_format=torch.channels_last)


def load_audioset_teacher(path: str | Path) -> AudioSetTeacher:
    """
    Load the trained teacher, frozen and in evaluation mode.

    Args:
        path (`str` or `Path`): The file that `URL` names.

    Raises:
        `ValueError`: if it is another file.
    """
    if (digest := hash_file(path)) != SHA256:
        raise ValueError(f"{path} is not the AudioSet teacher: expected {URL} with SHA-256 {SHA256}, got {digest}")
    teacher = AudioSetTeacher()
    teacher.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return teacher.eval().requires_grad_(False).fold_norms()
