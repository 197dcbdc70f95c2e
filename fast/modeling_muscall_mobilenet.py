# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
The fast audio tower: log-mel and the large MobileNetV3 (https://huggingface.co/papers/1905.02244), whose strides are
those of music: frames are reduced 32 times and bands as many times, the last time bands alone.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPooling


try:  # as remote code the files are siblings in a package; in the checkout they are top-level modules
    from .configuration_muscall import MusCALLMobileNetConfig
    from .modeling_muscall_tower import MusCALLAudioTower, MusCALLConvNorm, MusCALLLogMel, htk_constants
except ImportError:
    from configuration_muscall import MusCALLMobileNetConfig
    from modeling_muscall_tower import MusCALLAudioTower, MusCALLConvNorm, MusCALLLogMel, htk_constants


EPS = 1e-3  # of the batch norms, as in the paper


@dataclass(frozen=True)
class BlockShape:
    """
    An inverted residual block of the paper's table 1.

    Attributes:
        kernel_size (`int`): Of the depthwise convolution.
        expanded (`int`): Channels inside.
        channels (`int`): Channels that come out.
        excites (`bool`): Whether channels are weighted by squeeze and excitation.
        stride (`int` or `tuple[int, int]`): Of bands and frames.
    """

    kernel_size: int
    expanded: int
    channels: int
    excites: bool
    stride: int | tuple[int, int] = 1


NARROW_BLOCKS = 3  # before the third one most of the time goes by, so these have a width of their own
FIRST_HARD_SWISH = 6
BLOCKS = (
    BlockShape(3, 16, 16, False),
    BlockShape(3, 64, 24, False, 2),
    BlockShape(3, 72, 24, False),
    BlockShape(5, 72, 40, True, 2),
    BlockShape(5, 120, 40, True),
    BlockShape(5, 120, 40, True),
    BlockShape(3, 240, 80, False, 2),
    BlockShape(3, 200, 80, False),
    BlockShape(3, 184, 80, False),
    BlockShape(3, 184, 80, False),
    BlockShape(3, 480, 112, True),
    BlockShape(3, 672, 112, True),
    BlockShape(5, 672, 160, True, (2, 1)),
    BlockShape(5, 960, 160, True),
    BlockShape(5, 960, 160, True),
)


def _round_channels(channels: int, width: float) -> int:
    """Return the multiple of 8 that is nearest to `channels * width`, and at least 8."""
    return max(8, int(channels * width + 4) // 8 * 8)


class MusCALLNaturalLogMel(MusCALLLogMel):
    """Bands on the HTK scale and their natural logarithm, scaled to about -1.4 to 2."""

    def constants(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the periodic Hann window `(n_fft,)` and the HTK mel filters `(n_fft // 2 + 1, num_mel_bins)`."""
        return htk_constants(self.config, torch.float64)

    def compress(self, power: torch.Tensor) -> torch.Tensor:
        """Map the power to `ln(x + 1e-5) / 5 + 0.9` of its bands, `(batch_size, num_mel_bins, frames)`."""
        return (self.to_mel(power) + 1e-5).log() / 5 + 0.9

    def forward(self, input_values: torch.Tensor) -> torch.Tensor:
        """Map a waveform `(batch_size, samples)` to its log-mel spectrogram `(batch_size, num_mel_bins, frames)`."""
        # What one window takes stays in the cache of a CPU.
        whole = torch.compiler.is_compiling() or input_values.device.type != "cpu"
        parts = (input_values,) if whole else input_values.split(1)
        return torch.cat([super(MusCALLNaturalLogMel, self).forward(part) for part in parts])


class MusCALLSqueezeExcitation(nn.Module):
    """Weight each channel by what all channels are on average (https://huggingface.co/papers/1709.01507)."""

    def __init__(self, channels: int):
        super().__init__()
        hidden_size = max(8, (channels // 4 + 7) // 8 * 8)
        self.fc1 = nn.Linear(channels, hidden_size)
        self.fc2 = nn.Linear(hidden_size, channels)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        weights = F.hardsigmoid(self.fc2(F.relu(self.fc1(hidden_states.mean((2, 3))))))
        return hidden_states * weights[:, :, None, None]


class MusCALLInvertedResidual(GradientCheckpointingLayer):
    """A block that is wide inside and narrow outside: expand, filter each channel, excite, project."""

    def __init__(self, in_channels: int, expanded: int, out_channels: int, shape: BlockShape, hard_swish: bool):
        super().__init__()
        self.activation = F.hardswish if hard_swish else F.relu
        self.expand = MusCALLConvNorm(in_channels, expanded, 1, eps=EPS) if expanded != in_channels else None
        self.filter = MusCALLConvNorm(expanded, expanded, shape.kernel_size, shape.stride, groups=expanded, eps=EPS)
        self.excite = MusCALLSqueezeExcitation(expanded) if shape.excites else None
        self.project = MusCALLConvNorm(expanded, out_channels, 1, eps=EPS)
        self.is_residual = shape.stride == 1 and in_channels == out_channels

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        residual = hidden_states
        if self.expand is not None:
            hidden_states = self.activation(self.expand(hidden_states), inplace=True)
        hidden_states = self.activation(self.filter(hidden_states), inplace=True)
        if self.excite is not None:
            hidden_states = self.excite(hidden_states)
        hidden_states = self.project(hidden_states)
        return hidden_states + residual if self.is_residual else hidden_states


class MusCALLMobileNetModel(MusCALLAudioTower):
    """
    An audio tower of a MobileNetV3. Its `last_hidden_state` are the columns of the trunk, the means over the bands,
    `(batch_size, num_columns, config.trunk_channels)`; the pooled feature is a linear layer over their mean.
    """

    config: MusCALLMobileNetConfig
    _no_split_modules = ["MusCALLInvertedResidual"]

    def __init__(self, config: MusCALLMobileNetConfig):
        super().__init__(config)
        self.log_mel = MusCALLNaturalLogMel(config)
        channels = _round_channels(16, config.stem_width)
        self.stem = MusCALLConvNorm(1, channels, 3, stride=(2, 4), eps=EPS)
        blocks = []
        for number, shape in enumerate(BLOCKS):
            width = config.stem_width if number < NARROW_BLOCKS else config.width
            sizes = _round_channels(shape.expanded, width), _round_channels(shape.channels, width)
            blocks.append(MusCALLInvertedResidual(channels, *sizes, shape, number >= FIRST_HARD_SWISH))
            channels = sizes[1]
        self.blocks = nn.ModuleList(blocks)
        self.head = MusCALLConvNorm(channels, config.trunk_channels, 1, eps=EPS)
        self.out_proj = nn.Linear(config.trunk_channels, config.hidden_size)
        self.post_init()

    def encode(self, spectrogram: torch.Tensor) -> BaseModelOutputWithPooling:
        """Encode the log-mel `(batch_size, num_mel_bins, frames)` as columns and their pooled feature."""
        hidden_states = spectrogram[:, None].to(self.out_proj.weight.dtype)
        hidden_states = hidden_states.contiguous(memory_format=torch.channels_last)
        hidden_states = F.hardswish(self.stem(hidden_states))
        for block in self.blocks:
            hidden_states = block(hidden_states)
        columns = F.hardswish(self.head(hidden_states)).mean(2).transpose(1, 2)
        return BaseModelOutputWithPooling(last_hidden_state=columns, pooler_output=self.out_proj(columns.mean(1)))

    def synchronisable_norms(self) -> list[str]:
        """Return the names of all batch norms, each of which follows a convolution."""
        return [name for name, module in self.named_modules() if isinstance(module, nn.BatchNorm2d)]

    @property
    def num_columns(self) -> int:
        """Columns of the trunk along time."""
        return self.config.num_columns

    def pool_columns(self, hidden_states: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Pool columns by `weights` `(features, num_columns)`: `(batch_size, features, hidden_size)`."""
        return self.out_proj(weights.to(hidden_states) @ hidden_states)


__all__ = ["MusCALLMobileNetModel"]
