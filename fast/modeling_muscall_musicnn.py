# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The audio tower of pretrained taggers: one or more musicnn networks (https://huggingface.co/papers/1909.06654)."""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPooling


try:  # as remote code the files are siblings in a package; in the checkout they are top-level modules
    from .configuration_muscall import MusCALLMusicnnConfig
    from .modeling_muscall_tower import MusCALLAudioTower, MusCALLLogMel, triangular_filters
except ImportError:
    from configuration_muscall import MusCALLMusicnnConfig
    from modeling_muscall_tower import MusCALLAudioTower, MusCALLLogMel, triangular_filters


PATCHES_AT_ONCE = 64  # in evaluation mode, on a GPU; the front end makes 20 MiB of each patch
FILTERS_AT_ONCE = 64  # of the front end: their outputs are reduced while they are in the cache of a CPU


class MusCALLMusicnnLogMel(MusCALLLogMel):
    """The front end of musicnn: bands of equal area on Slaney's scale, zero padding, and `log10(1 + 1e4 x)`."""

    pad_mode = "constant"

    def constants(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the periodic Hann window `(n_fft,)` and Slaney's mel filters `(n_fft // 2 + 1, num_mel_bins)`."""
        config = self.config
        kwargs = {"dtype": torch.float64, "device": "cpu"}
        # Linear below 1000 Hz, 3 mel in 200 Hz; logarithmic above, 27 mel in a factor of 6.4.
        low, high = (
            3 * edge / 200 if edge < 1000 else 15 + 27 * math.log(edge / 1000, 6.4)
            for edge in (config.f_min, config.f_max)
        )
        mel = torch.linspace(low, high, config.num_mel_bins + 2, **kwargs)
        edges = torch.where(mel < 15, 200 * mel / 3, 1000 * 6.4 ** ((mel - 15) / 27))
        frequencies = torch.linspace(0, config.sampling_rate / 2, config.n_fft // 2 + 1, **kwargs)
        mel_filters = triangular_filters(edges, frequencies) * 2 / (edges[2:] - edges[:-2])
        return torch.hann_window(config.n_fft, dtype=torch.float32, device="cpu"), mel_filters.float()

    def compress(self, power: torch.Tensor) -> torch.Tensor:
        """Map the power to `log10(1 + 1e4 x)` of its bands, `(batch_size, num_mel_bins, frames)`."""
        return torch.log10(1 + 1e4 * self.to_mel(power))


def _split_patches(patches: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Split patches into groups: a single patch stays in the cache of a CPU, which is 1.4 times as fast as eight."""
    return patches.split(1 if patches.device.type == "cpu" else PATCHES_AT_ONCE)


def _convolve_in_parts(spectrogram: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield the output of `F.conv2d` for `FILTERS_AT_ONCE` filters after the others."""
    for part in zip(weight.split(FILTERS_AT_ONCE), bias.split(FILTERS_AT_ONCE), strict=True):
        yield F.conv2d(spectrogram, *part)


class _MaximaOverBands(torch.autograd.Function):
    """
    `F.conv2d(spectrogram, weight, bias).amax(2)` with a cheaper gradient of the filters. For each filter and frame
    only the band with the maximum has a gradient, so only the window of that band is used; the convolution's own
    gradient uses the windows of all bands. Training is several times faster on a CPU (benchmarks/musicnn_tower.py).
    Where maxima are equal, one of them has the gradient. The spectrogram has none.
    """

    @staticmethod
    def forward(ctx, spectrogram: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        maxima, bands = [], []
        for patches in _split_patches(spectrogram):
            parts = (part.max(2) for part in _convolve_in_parts(patches, weight, bias))
            values, indices = zip(*parts, strict=True)
            maxima.append(torch.cat(values, dim=1))
            bands.append(torch.cat(indices, dim=1))
        ctx.save_for_backward(spectrogram, weight, torch.cat(bands))
        return torch.cat(maxima)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[None, torch.Tensor, torch.Tensor]:
        spectrogram, weight, bands = ctx.saved_tensors
        gradient, (height, width) = gradient.to(weight.dtype), weight.shape[2:]
        # (patches, frames, bands, width, height), whose last axis is contiguous in memory
        windows = spectrogram[:, 0].to(weight.dtype).mT.contiguous().unfold(1, width, 1).unfold(2, height, 1)
        frames, total = torch.arange(windows.shape[1], device=weight.device), 0
        for patch, *rows in zip(windows, bands, gradient, strict=True):
            parts = zip(*(row.split(FILTERS_AT_ONCE) for row in rows), strict=True)
            total = total + torch.cat([part[:, None] @ patch[frames, band].flatten(2) for band, part in parts])
        return None, total.unflatten(2, (width, height)).mT, gradient.sum((0, 2))


class MusCALLMusicnnFilters(GradientCheckpointingLayer):
    """One shape of front-end filters: convolution, ReLU, batch norm, and the maximum over the bands."""

    def __init__(self, out_channels: int, bands: int, frames: int):
        super().__init__()
        self.conv = nn.Conv2d(1, out_channels, (bands, frames))
        self.norm = nn.BatchNorm2d(out_channels, eps=1e-3)
        self.padding = ((frames - 1) // 2, frames // 2)

    def forward(self, spectrogram: torch.Tensor) -> torch.Tensor:
        """Map `(patches, 1, num_mel_bins, frames)` to `(patches, out_channels, frames)`."""
        spectrogram = F.pad(spectrogram, self.padding)
        if self.norm.training:
            return self.norm(F.relu(self.conv(spectrogram))).amax(2)
        # ReLU and a norm with constant statistics are monotonic; the norm falls where its scale is negative. So the
        # maximum, or there the minimum, can come first: both are then computed once instead of once for each band.
        sign = 1 - 2 * (self.norm.weight < 0).to(spectrogram.dtype)
        weight, bias = self.conv.weight * sign[:, None, None, None], self.conv.bias * sign
        if torch.is_grad_enabled() and weight.requires_grad and not spectrogram.requires_grad:
            maxima = _MaximaOverBands.apply(spectrogram, weight, bias)
        elif self.conv.kernel_size[0] == 1:  # the maximum over adjacent numbers is the faster one
            maxima = F.conv2d(spectrogram.mT.contiguous(), weight.mT, bias).amax(3)
        else:
            maxima = torch.cat([part.amax(2) for part in _convolve_in_parts(spectrogram, weight, bias)], dim=1)
        return self.norm(F.relu(maxima * sign[:, None])[:, :, None])[:, :, 0]


class MusCALLMusicnnNetwork(nn.Module):
    """
    One musicnn: filters of musical shapes, three dense layers over time, and pooling over time.
    https://github.com/jordipons/musicnn/blob/d60ba42/musicnn/models.py
    """

    def __init__(self, config: MusCALLMusicnnConfig):
        super().__init__()
        self.input_norm = nn.BatchNorm2d(1, eps=1e-3)
        timbral, temporal = 4 * config.num_filters, config.num_filters
        bands = config.num_mel_bins
        shapes = [(timbral, int(share * bands), 7) for share in (0.4, 0.7)]
        shapes += [(temporal, 1, frames) for frames in (128, 64, 32)]
        self.filters = nn.ModuleList(MusCALLMusicnnFilters(*shape) for shape in shapes)
        front, middle = sum(shape[0] for shape in shapes), config.num_middle_filters
        self.convs = nn.ModuleList(nn.Conv1d(size, middle, 7, padding=3) for size in (front, middle, middle))
        self.norms = nn.ModuleList(nn.BatchNorm1d(middle, eps=1e-3) for _ in range(3))
        pooled = 2 * (front + 3 * middle)
        self.pool_norm = nn.BatchNorm1d(pooled, eps=1e-3)
        self.dense = nn.Linear(pooled, config.feature_size)
        self.dense_norm = nn.BatchNorm1d(config.feature_size, eps=1e-3)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """Map `(patches, num_mel_bins, frames)` to `(patches, feature_size)`."""
        spectrogram = self.input_norm(patches[:, None])
        parts = [torch.cat([filters(spectrogram) for filters in self.filters], dim=1)]
        hidden_states = parts[0]
        for layer, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            residual = hidden_states if layer > 0 else 0
            hidden_states = norm(F.relu(conv(hidden_states))) + residual
            parts.append(hidden_states)
        sequence = torch.cat(parts, dim=1)
        pooled = torch.stack([sequence.amax(2), sequence.mean(2)], dim=2).flatten(1)
        return self.dense_norm(F.relu(self.dense(self.pool_norm(pooled))))


class MusCALLMusicnnModel(MusCALLAudioTower):
    """
    An audio tower of musicnn networks, whose features are concatenated. Its `last_hidden_state` are the features of
    the patches of a window, `(batch_size, num_patches, hidden_size)`, one after the other but the last, which ends
    with the window; `pooler_output` is their mean, each weighted by the frames that it adds.
    `scripts/convert_musicnn.py` makes it from the pretrained taggers.
    """

    config: MusCALLMusicnnConfig
    _no_split_modules = ["MusCALLMusicnnNetwork"]

    def __init__(self, config: MusCALLMusicnnConfig):
        super().__init__(config)
        self.log_mel = MusCALLMusicnnLogMel(config)
        self.networks = nn.ModuleList(MusCALLMusicnnNetwork(config) for _ in range(config.num_networks))
        self.post_init()

    def encode(self, spectrogram: torch.Tensor) -> BaseModelOutputWithPooling:
        """Encode the log-mel `(batch_size, num_mel_bins, frames)` as features of patches and their mean."""
        config = self.config
        spectrogram = spectrogram.to(self.networks[0].dense.weight.dtype)
        size, frames, starts = config.patch_frames, config.window_frames, config.patch_starts
        patches = torch.stack([spectrogram[..., start : start + size] for start in starts], dim=1).flatten(0, 1)
        whole = self.training or torch.compiler.is_compiling()  # training takes the statistics of the whole batch
        chunks = [patches] if whole else _split_patches(patches)
        features = torch.cat([torch.cat([network(chunk) for network in self.networks], dim=1) for chunk in chunks])
        features = features.unflatten(0, (-1, len(starts)))
        added = torch.full((len(starts),), size / frames, dtype=features.dtype, device=features.device)
        added[-1] = 1 - (len(starts) - 1) * size / frames
        return BaseModelOutputWithPooling(last_hidden_state=features, pooler_output=(features * added[:, None]).sum(1))

    def constant_norm_parameters(self) -> list[nn.Parameter]:
        """
        Return the parameters of the input norms. With constant statistics they are one scale and one offset, which the
        filters can learn as well; a spectrogram without gradient halves the cost of a step.
        """
        return [parameter for network in self.networks for parameter in network.input_norm.parameters()]


__all__ = ["MusCALLMusicnnModel"]
