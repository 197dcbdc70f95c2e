# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The paper's audio tower: log-mel in decibels, CLIP's ModifiedResNet, and pooling by attention or by the mean."""

import math

import torch
import torch.nn.functional as F
from torch import nn
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import logging


try:  # as remote code the files are siblings in a package; in the checkout they are top-level modules
    from .configuration_muscall import MusCALLAudioConfig
    from .modeling_muscall_tower import MusCALLAudioTower, MusCALLConvNorm, MusCALLLogMel, htk_constants
except ImportError:
    from configuration_muscall import MusCALLAudioConfig
    from modeling_muscall_tower import MusCALLAudioTower, MusCALLConvNorm, MusCALLLogMel, htk_constants


logger = logging.get_logger(__name__)


class MusCALLDecibelLogMel(MusCALLLogMel):
    """
    Waveform -> log-mel spectrogram in decibels. Each window is clamped to `top_db` below its own maximum, so its
    values do not depend on the batch it came in.
    """

    def constants(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the periodic Hann window `(n_fft,)` and the HTK mel filters `(n_fft // 2 + 1, num_mel_bins)`."""
        # In float32 step by step as in torchaudio: filters rounded from float64 move the faintest cells by 1e-3 dB.
        # https://github.com/pytorch/audio/blob/v2.11.0/src/torchaudio/functional/functional.py#L495
        return htk_constants(self.config, torch.float32)

    def compress(self, power: torch.Tensor) -> torch.Tensor:
        """Map the power to decibels `(batch_size, num_mel_bins, frames)`."""
        mel = self.to_mel(power / self.window.square().sum())
        decibels = 10 * torch.log10(mel.clamp(min=1e-10))
        return decibels.maximum(decibels.amax((1, 2), keepdim=True) - self.config.top_db)


class MusCALLStem(nn.Module):
    """Three 3x3 convolutions, the first with stride 2, and an average pool: a quarter of the size on both axes."""

    def __init__(self, width: int):
        super().__init__()
        self.conv1 = MusCALLConvNorm(1, width // 2, 3, stride=2)
        self.conv2 = MusCALLConvNorm(width // 2, width // 2, 3)
        self.conv3 = MusCALLConvNorm(width // 2, width, 3)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        for conv in (self.conv1, self.conv2, self.conv3):
            hidden_states = conv(hidden_states).relu_()
        return F.avg_pool2d(hidden_states, 2)


class MusCALLBottleneck(GradientCheckpointingLayer):
    """A residual block whose stride is an average pool, which does not alias as a strided convolution does."""

    def __init__(self, in_channels: int, channels: int, stride: int):
        super().__init__()
        self.stride = stride
        self.conv1 = MusCALLConvNorm(in_channels, channels, 1)
        self.conv2 = MusCALLConvNorm(channels, channels, 3)
        self.conv3 = MusCALLConvNorm(channels, 4 * channels, 1)
        self.shortcut = None
        if stride > 1 or in_channels != 4 * channels:
            self.shortcut = MusCALLConvNorm(in_channels, 4 * channels, 1)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        residual = hidden_states
        hidden_states = self.conv2(self.conv1(hidden_states).relu_()).relu_()
        if self.stride > 1:
            hidden_states, residual = F.avg_pool2d(hidden_states, self.stride), F.avg_pool2d(residual, self.stride)
        if self.shortcut is not None:
            residual = self.shortcut(residual)
        return self.conv3(hidden_states).add_(residual).relu_()


class MusCALLAttentionPool(nn.Module):
    """
    Attention over the cells of the trunk and their mean, with learned positions. The query is the mean token, whose
    output alone is used: https://github.com/openai/CLIP/blob/a9b1bf5920416aaeaec965c25dd9e8f98c864f16/clip/model.py#L58
    computes one query per cell and drops the others.
    """

    def __init__(self, config: MusCALLAudioConfig):
        super().__init__()
        channels = config.trunk_channels
        self.num_heads = config.num_attention_heads
        self.position_embedding = nn.Parameter(torch.empty(math.prod(config.grid_size) + 1, channels))
        self.q_proj = nn.Linear(channels, channels)
        self.k_proj = nn.Linear(channels, channels)
        self.v_proj = nn.Linear(channels, channels)
        self.out_proj = nn.Linear(channels, config.hidden_size)

    def forward(self, cells: torch.Tensor) -> torch.Tensor:
        """Pool cells `(batch_size, num_cells, channels)` to `(batch_size, hidden_size)`."""
        tokens = torch.cat([cells.mean(1, keepdim=True), cells], 1) + self.position_embedding
        query, key, value = (
            projected.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (batch_size, heads, tokens, head_dim)
            for projected in (self.q_proj(tokens[:, :1]), self.k_proj(tokens), self.v_proj(tokens))
        )
        return self.out_proj(F.scaled_dot_product_attention(query, key, value).flatten(1))


class MusCALLAveragePool(nn.Module):
    """The mean over the cells of the trunk, then a linear layer."""

    def __init__(self, config: MusCALLAudioConfig):
        super().__init__()
        self.out_proj = nn.Linear(config.trunk_channels, config.hidden_size)

    def forward(self, cells: torch.Tensor) -> torch.Tensor:
        """Pool cells `(batch_size, num_cells, channels)` to `(batch_size, hidden_size)`."""
        return self.out_proj(cells.mean(1))


class MusCALLAudioModel(MusCALLAudioTower):
    """
    The audio tower of the paper: log-mel and CLIP's ModifiedResNet. Its `last_hidden_state` are the cells of the
    trunk, `(batch_size, num_cells, channels)`, in the order of `config.grid_size`.
    https://github.com/openai/CLIP/blob/a9b1bf5920416aaeaec965c25dd9e8f98c864f16/clip/model.py#L94
    """

    config: MusCALLAudioConfig
    _no_split_modules = ["MusCALLStem", "MusCALLBottleneck", "MusCALLAttentionPool"]

    def __init__(self, config: MusCALLAudioConfig):
        super().__init__(config)
        if config.f_max > config.sampling_rate / 2:
            logger.warning_once(
                f"`f_max` ({config.f_max} Hz) lies above half of `sampling_rate` ({config.sampling_rate} Hz): the mel "
                "bands up there are empty."
            )
        self.log_mel = MusCALLDecibelLogMel(config)
        self.stem = MusCALLStem(config.stem_width)
        blocks, in_channels = [], config.stem_width
        for stage, depth in enumerate(config.depths):
            channels = config.stem_width * 2**stage
            for block in range(depth):
                blocks.append(MusCALLBottleneck(in_channels, channels, stride=2 if stage > 0 and block == 0 else 1))
                in_channels = 4 * channels
        self.blocks = nn.ModuleList(blocks)
        self.pool = MusCALLAttentionPool(config) if config.pooling == "attention" else MusCALLAveragePool(config)
        self.post_init()

    def encode(self, spectrogram: torch.Tensor) -> BaseModelOutputWithPooling:
        """Encode decibels `(batch_size, num_mel_bins, frames)` as cells and their pooled feature."""
        hidden_states = spectrogram[:, None].to(self.stem.conv1.conv.weight.dtype)
        # Channels last is faster, but on a CPU PyTorch's batch norm then sums its statistics in a single float32: over
        # decibels its output is wrong by 2e-4, against 6e-7.
        if not (self.training and hidden_states.device.type == "cpu"):
            hidden_states = hidden_states.contiguous(memory_format=torch.channels_last)
        hidden_states = self.stem(hidden_states)
        for block in self.blocks:
            hidden_states = block(hidden_states)
        cells = hidden_states.flatten(2).transpose(1, 2)
        return BaseModelOutputWithPooling(last_hidden_state=cells, pooler_output=self.pool(cells))

    def synchronisable_norms(self) -> list[str]:
        """Return the names of all batch norms, each of which follows a convolution."""
        return [name for name, module in self.named_modules() if isinstance(module, nn.BatchNorm2d)]

    @property
    def num_columns(self) -> int:
        """Columns of cells along time with the average pool; 0 with attention, which is not linear in the cells."""
        return self.config.grid_size[1] if self.config.pooling == "average" else 0

    def pool_columns(self, hidden_states: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Pool columns of cells by `weights` `(features, num_columns)`: `(batch_size, features, hidden_size)`."""
        columns = hidden_states.unflatten(1, self.config.grid_size).mean(1)  # (batch_size, num_columns, channels)
        return self.pool.out_proj(weights.to(columns) @ columns)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        super()._init_weights(module)
        if isinstance(module, MusCALLBottleneck):
            init.zeros_(module.conv3.norm.weight)  # each block starts as its shortcut
        elif isinstance(module, MusCALLAttentionPool):
            std = module.q_proj.in_features**-0.5
            init.normal_(module.position_embedding, std=std)
            for projection in (module.q_proj, module.k_proj, module.v_proj, module.out_proj):
                init.normal_(projection.weight, std=std)


__all__ = ["MusCALLAttentionPool", "MusCALLAudioModel", "MusCALLAveragePool"]
