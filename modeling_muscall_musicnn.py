# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The audio tower of pretrained taggers: one or more musicnn networks (https://huggingface.co/papers/1909.06654)."""

import math
from collections.abc import Callable

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


PATCHES_AT_ONCE = 64  # in evaluation mode, on a GPU; the front end makes 25 MiB of each patch
FILTERS_AT_ONCE = 51  # of the timbral ones: what lies between their products is small enough for a CPU to reuse
BANDS_AT_ONCE = 2  # of the timbral ones in half precision
FRAMES_AT_ONCE = 8  # of the temporal filters: neighbours share what they read


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
    """Split patches into groups: a single patch stays in the cache of a CPU. A compiled graph has one group."""
    if torch.compiler.is_compiling():
        return (patches,)
    return patches.split(1 if patches.device.type == "cpu" else PATCHES_AT_ONCE)


class _TimbralFilters:
    """
    The maximum over the bands of `F.conv2d(spectrogram, weight)`, for filters of many bands and few frames. It is
    exact, and takes a fourth of the products: convolutions over the bands are products of Fourier transforms. (On a
    CPU a convolution of one input channel and a tall filter also has a very slow kernel in half precision.)

    Positions are counted from the middle one. The outputs at a position and at its mirror image are the sum and the
    difference of an even part, which cosines give, and an odd part, which sines give: the larger is `even + abs(odd)`.

    Args:
        weight (`torch.Tensor` of shape `(out_channels, 1, height, width)`): The filters.
        bands (`int`): Those of the spectrogram.
    """

    def __init__(self, weight: torch.Tensor, bands: int):
        height, self.width = weight.shape[2:]
        self.last = bands - height  # the last position
        middle = self.last / 2
        numbers = torch.arange(bands, dtype=torch.float32, device=weight.device)
        frequencies = numbers[: bands // 2 + 1, None]

        def waves(positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            angles = (frequencies * positions).remainder(bands) * (2 * math.pi / bands)
            return angles.cos(), angles.sin()

        cosine, sine = waves(numbers - middle)
        self.transform = torch.stack([cosine, -sine], dim=1).flatten(0, 1).to(weight.dtype)
        cosine, sine = waves(numbers[:height])
        # The real and the imaginary part of a complex product, and what each takes of the two of the spectrogram.
        basis = torch.stack([torch.stack([cosine, -sine], dim=1), torch.stack([sine, cosine], dim=1)])
        spectra = basis.flatten(0, 2) @ weight[:, 0].permute(1, 2, 0).flatten(1).float()
        self.spectra = spectra.to(weight.dtype).view(2, len(frequencies), 2 * self.width, -1).mT
        scale = (1 + ((frequencies > 0) & (2 * frequencies < bands)).float()) / bands
        cosine, sine = waves(numbers[: int(middle) + 1] + middle % 1)
        self.inverse = torch.stack([cosine * scale, -sine * scale]).mT.to(weight.dtype)

    def __call__(self, spectrogram: torch.Tensor, with_bands: bool = False) -> tuple[torch.Tensor, ...]:
        """Map `(patches, bands, frames + width - 1)` to maxima `(patches, out_channels, frames)`, and their bands."""
        spectrum = (self.transform @ spectrogram).unflatten(1, (-1, 2))
        frames = spectrum.shape[3] - self.width + 1
        shifted = torch.stack([spectrum[..., i : i + frames] for i in range(self.width)], dim=3)
        shifted = shifted.permute(1, 2, 3, 0, 4).flatten(3).flatten(1, 2)  # (frequencies, 2 * width, patches * frames)
        maxima, bands = [], []
        for part in self.spectra.split(FILTERS_AT_ONCE, dim=2):
            pairs = zip(self.inverse, part, strict=True)
            even, odd = (inverse @ (spectra @ shifted).flatten(1) for inverse, spectra in pairs)
            outputs = even + odd.abs()
            if with_bands:
                values, indices = outputs.max(0)
                above = odd.gather(0, indices[None])[0] >= 0
                bands.append(torch.where(above, (self.last + 1) // 2 + indices, self.last // 2 - indices))
            else:
                values = outputs.amax(0)
            maxima.append(values)
        shape = (-1, spectrogram.shape[0], frames)  # `len` would be a constant in an exported graph
        return tuple(torch.cat(parts).view(shape).transpose(0, 1) for parts in (maxima, bands) if parts)


class _HalfTimbralFilters:
    """
    The same as [`_TimbralFilters`] in half precision, where large products of matrices are faster than fewer products:
    for `BANDS_AT_ONCE` positions together, which have most of their input in common.
    """

    def __init__(self, weight: torch.Tensor, bands: int):
        self.width, more = weight.shape[3], (BANDS_AT_ONCE - 1) * weight.shape[3]
        self.positions = bands - weight.shape[2] + 1
        # A row for each position and filter: the filter, moved on by the number of the position.
        size = weight[0].numel() + more
        moved = F.pad(weight.flatten(1), (more, more)).unfold(1, size, self.width).flip(1)
        self.matrix = moved.transpose(0, 1).flatten(0, 1).T

    def __call__(self, spectrogram: torch.Tensor, with_bands: bool = False) -> tuple[torch.Tensor, ...]:
        """Map `(patches, bands, frames + width - 1)` to maxima `(patches, out_channels, frames)`, and their bands."""
        padded = F.pad(spectrogram, (0, 0, 0, -self.positions % BANDS_AT_ONCE))
        frames = padded.shape[2] - self.width + 1
        shifted = torch.stack([padded[..., i : i + frames] for i in range(self.width)], dim=3).transpose(1, 2)
        parts = shifted.flatten(2).unfold(2, len(self.matrix), BANDS_AT_ONCE * self.width)
        outputs = (parts.flatten(0, 2) @ self.matrix).unflatten(0, parts.shape[:3])
        outputs = outputs.unflatten(3, (BANDS_AT_ONCE, -1)).flatten(2, 3)[:, :, : self.positions]
        return tuple(part.mT for part in (outputs.max(2) if with_bands else (outputs.amax(2),)))


class _TemporalFilters:
    """
    The maximum over the bands of `F.conv2d(spectrogram, weight)`, for filters of one band and many frames: a product
    of matrices, for `FRAMES_AT_ONCE` frames together, which have most of their input in common.

    Args:
        weight (`torch.Tensor` of shape `(out_channels, 1, 1, width)`): The filters.
    """

    def __init__(self, weight: torch.Tensor):
        self.width, more = weight.shape[3], FRAMES_AT_ONCE - 1
        # A row for each frame and filter: the filter, moved on by the number of the frame.
        moved = F.pad(weight[:, 0, 0], (more, more)).unfold(1, self.width + more, 1).flip(1)
        self.matrix = moved.transpose(0, 1).flatten(0, 1).T

    def __call__(self, spectrogram: torch.Tensor, with_bands: bool = False) -> tuple[torch.Tensor, ...]:
        """Map `(patches, bands, frames + width - 1)` to maxima `(patches, out_channels, frames)`, and their bands."""
        frames = spectrogram.shape[2] - self.width + 1
        padded = F.pad(spectrogram, (0, -frames % FRAMES_AT_ONCE))
        parts = padded.unfold(2, len(self.matrix), FRAMES_AT_ONCE)  # (patches, bands, parts of the frames, inputs)
        # Flattened before the product: it would copy the matrix for each band.
        outputs = (parts.flatten(0, 2) @ self.matrix).unflatten(0, parts.shape[:3])
        maxima = outputs.max(1) if with_bands else (outputs.amax(1),)
        return tuple(part.unflatten(2, (FRAMES_AT_ONCE, -1)).flatten(1, 2)[:, :frames].mT for part in maxima)


class _MaximaOverBands(torch.autograd.Function):
    """
    Filters with a cheaper gradient. For each filter and frame only the band with the maximum has a gradient, so only
    the window of that band is used, and no output of other bands is kept (benchmarks/musicnn_tower.py). Where maxima
    are equal, one of them has the gradient. The spectrogram has none.
    """

    @staticmethod
    def forward(ctx, spectrogram: torch.Tensor, weight: torch.Tensor, filters: Callable) -> torch.Tensor:
        parts = [filters(patches, with_bands=True) for patches in _split_patches(spectrogram)]
        maxima, bands = (torch.cat(part) for part in zip(*parts, strict=True))
        ctx.save_for_backward(spectrogram, weight, bands)
        return maxima

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[None, torch.Tensor, None]:
        spectrogram, weight, bands = ctx.saved_tensors
        gradient, (height, width) = gradient.to(weight.dtype), weight.shape[2:]
        # (patches, frames, bands, width, height), whose last axis is contiguous in memory
        windows = spectrogram.to(weight.dtype).mT.contiguous().unfold(1, width, 1).unfold(2, height, 1)
        frames, total = torch.arange(windows.shape[1], device=weight.device), 0
        for patch, *rows in zip(windows, bands, gradient, strict=True):
            parts = zip(*(row.split(FILTERS_AT_ONCE) for row in rows), strict=True)
            total = total + torch.cat([part[:, None] @ patch[frames, band].flatten(2) for band, part in parts])
        return None, total.unflatten(2, (width, height)).mT, None


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
        weight = self.conv.weight * sign[:, None, None, None]
        if weight.shape[2] == 1:
            filters = _TemporalFilters(weight)
        else:
            timbral = _TimbralFilters if weight.dtype == torch.float32 else _HalfTimbralFilters
            filters = timbral(weight, spectrogram.shape[2])
        if torch.is_grad_enabled() and weight.requires_grad and not spectrogram.requires_grad:
            maxima = _MaximaOverBands.apply(spectrogram[:, 0], weight, filters)
        else:
            maxima = torch.cat([filters(part)[0] for part in _split_patches(spectrogram[:, 0])])
        return self.norm(F.relu(maxima * sign[:, None] + self.conv.bias[:, None])[:, :, None])[:, :, 0]


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
        front = torch.cat([filters(spectrogram) for filters in self.filters], dim=1)
        # In training the statistics are those of the whole batch.
        chunks = [front] if self.training else _split_patches(front)
        return torch.cat([self.pool(chunk) for chunk in chunks])

    def pool(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map the outputs of the filters `(patches, channels, frames)` to `(patches, feature_size)`."""
        parts = [hidden_states]
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
        features = torch.cat([network(patches) for network in self.networks], dim=1)
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
