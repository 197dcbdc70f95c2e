# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""PyTorch MusCALL model: log-mel front end, ModifiedResNet audio tower, text tower and the space they share."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import (
    MODEL_FOR_TEXT_ENCODING_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForTextEncoding,
    PreTrainedModel,
)
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPooling, ModelOutput
from transformers.utils import can_return_tuple, logging


try:  # as remote code the files are siblings in a package; in the checkout they are top-level modules
    from .configuration_muscall import MusCALLAudioConfig, MusCALLConfig, MusCALLMusicnnConfig
except ImportError:
    from configuration_muscall import MusCALLAudioConfig, MusCALLConfig, MusCALLMusicnnConfig


logger = logging.get_logger(__name__)

MAX_LOGIT_SCALE = math.log(100)
WINDOWS_AT_ONCE = 64  # without gradients; a recording of hours has hundreds
PATCHES_AT_ONCE = 64  # of musicnn in evaluation mode; its front end makes 20 MiB of each
FILTERS_AT_ONCE = 64  # of its front end: what they make of a patch is reduced while it is in a CPU's cache


def contrastive_loss(logits_per_text: torch.Tensor) -> torch.Tensor:
    """
    InfoNCE in both directions: the mean of the cross-entropies over rows (text -> audio) and over columns
    (audio -> text). Section 3.2 of the paper, equation 2.

    Args:
        logits_per_text (`torch.Tensor` of shape `(batch_size, batch_size)`):
            Scaled similarities; text `i` belongs to audio `i`.
    """
    target = torch.arange(len(logits_per_text), device=logits_per_text.device)
    return (F.cross_entropy(logits_per_text, target) + F.cross_entropy(logits_per_text.t(), target)) / 2


@dataclass
class MusCALLOutput(ModelOutput):
    """
    Args:
        loss (`torch.FloatTensor` of shape `(1,)`, *optional*, returned when `return_loss` is `True`):
            Contrastive loss over the batch.
        logits_per_audio (`torch.FloatTensor` of shape `(audio_batch_size, text_batch_size)`):
            Cosine similarities times the logit scale.
        logits_per_text (`torch.FloatTensor` of shape `(text_batch_size, audio_batch_size)`):
            The transpose of `logits_per_audio`.
        text_embeds (`torch.FloatTensor` of shape `(text_batch_size, projection_dim)`):
            L2-normalised text embeddings.
        audio_embeds (`torch.FloatTensor` of shape `(audio_batch_size, projection_dim)`):
            L2-normalised audio embeddings.
        text_model_output (`BaseModelOutputWithPooling`):
            The text tower's output.
        audio_model_output (`BaseModelOutputWithPooling`):
            The audio tower's output.
    """

    loss: torch.FloatTensor | None = None
    logits_per_audio: torch.FloatTensor | None = None
    logits_per_text: torch.FloatTensor | None = None
    text_embeds: torch.FloatTensor | None = None
    audio_embeds: torch.FloatTensor | None = None
    text_model_output: BaseModelOutputWithPooling | None = None
    audio_model_output: BaseModelOutputWithPooling | None = None

    def to_tuple(self) -> tuple[Any, ...]:
        return tuple(value.to_tuple() if isinstance(value, ModelOutput) else value for value in self.values())


class MusCALLLogMel(nn.Module):
    """
    Waveform -> log-mel spectrogram in decibels, always in float32. Each window is clamped to `top_db` below its own
    maximum, so its values do not depend on the batch it came in.
    """

    def __init__(self, config: MusCALLAudioConfig):
        super().__init__()
        self.config = config
        # Not in the checkpoint. `from_pretrained` leaves such buffers empty: `_init_weights` fills them.
        self.register_buffer("window", torch.empty(config.n_fft, dtype=torch.float32), persistent=False)
        shape = (config.n_fft // 2 + 1, config.num_mel_bins)
        self.register_buffer("mel_filters", torch.empty(shape, dtype=torch.float32), persistent=False)

    def constants(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The periodic Hann window `(n_fft,)` and the HTK mel filters `(n_fft // 2 + 1, num_mel_bins)`."""
        config = self.config
        # In float32 step by step as in torchaudio: filters rounded from float64 move the faintest cells by 1e-3 dB.
        # https://github.com/pytorch/audio/blob/v2.11.0/src/torchaudio/functional/functional.py#L495
        kwargs = {"dtype": torch.float32, "device": "cpu"}
        low, high = (2595 * math.log10(1 + edge / 700) for edge in (config.f_min, config.f_max))
        edges = 700 * (10 ** (torch.linspace(low, high, config.num_mel_bins + 2, **kwargs) / 2595) - 1)
        frequencies = torch.linspace(0, config.sampling_rate // 2, config.n_fft // 2 + 1, **kwargs)
        distance = edges - frequencies[:, None]  # (n_fft // 2 + 1, num_mel_bins + 2)
        width = edges.diff()
        mel_filters = torch.minimum(-distance[:, :-2] / width[:-1], distance[:, 2:] / width[1:]).clamp(min=0)
        return torch.hann_window(config.n_fft, **kwargs), mel_filters

    def _apply(self, fn, recurse=True):
        # `.half()` and `.to(torch.bfloat16)` move the constants but must not round them.
        super()._apply(fn, recurse)
        if self.window.dtype != torch.float32:
            self.window, self.mel_filters = (constant.to(self.window.device) for constant in self.constants())
        return self

    def forward(self, input_values: torch.Tensor) -> torch.Tensor:
        """`(batch_size, samples)` -> `(batch_size, num_mel_bins, frames)`, in dB."""
        config, window = self.config, self.window
        with torch.autocast(input_values.device.type, enabled=False):
            spectrum = torch.stft(
                input_values.float(), config.n_fft, config.hop_length, window=window, return_complex=True
            )
            power = torch.view_as_real(spectrum).square().sum(-1) / window.square().sum()
            mel = (power.transpose(1, 2) @ self.mel_filters).transpose(1, 2)
            decibels = 10 * torch.log10(mel.clamp(min=1e-10))
            return decibels.maximum(decibels.amax((1, 2), keepdim=True) - config.top_db)


class MusCALLMusicnnLogMel(MusCALLLogMel):
    """As [`MusCALLLogMel`], but musicnn's: bands of equal area on Slaney's scale, zero padding, `log10(1 + 1e4 x)`."""

    def constants(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The periodic Hann window `(n_fft,)` and Slaney's mel filters `(n_fft // 2 + 1, num_mel_bins)`."""
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
        distance = edges - frequencies[:, None]  # (n_fft // 2 + 1, num_mel_bins + 2)
        width = edges.diff()
        triangles = torch.minimum(-distance[:, :-2] / width[:-1], distance[:, 2:] / width[1:]).clamp(min=0)
        mel_filters = triangles * 2 / (edges[2:] - edges[:-2])
        return torch.hann_window(config.n_fft, dtype=torch.float32, device="cpu"), mel_filters.float()

    def forward(self, input_values: torch.Tensor) -> torch.Tensor:
        """`(batch_size, samples)` -> `(batch_size, num_mel_bins, frames)`"""
        config = self.config
        with torch.autocast(input_values.device.type, enabled=False):
            spectrum = torch.stft(
                input_values.float(),
                config.n_fft,
                config.hop_length,
                window=self.window,
                pad_mode="constant",
                return_complex=True,
            )
            power = torch.view_as_real(spectrum).square().sum(-1)
            mel = (power.transpose(1, 2) @ self.mel_filters).transpose(1, 2)
            return torch.log10(1 + 1e4 * mel)


class MusCALLConvNorm(nn.Module):
    """Convolution and batch norm. While the statistics are constants they are folded into the convolution."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        conv, norm = self.conv, self.norm
        if norm.training:
            return norm(conv(hidden_states))
        scale = norm.weight.float() * (norm.running_var.float() + norm.eps).rsqrt()
        weight = (conv.weight * scale[:, None, None, None]).to(conv.weight.dtype)
        bias = (norm.bias - norm.running_mean * scale).to(conv.weight.dtype)
        return F.conv2d(hidden_states, weight, bias, conv.stride, conv.padding)


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
    """Residual block whose stride is an average pool: it does not alias as a strided convolution does."""

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
        """`(batch_size, num_cells, channels)` -> `(batch_size, hidden_size)`"""
        tokens = torch.cat([cells.mean(1, keepdim=True), cells], 1) + self.position_embedding
        query, key, value = (
            projected.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (batch_size, heads, tokens, head_dim)
            for projected in (self.q_proj(tokens[:, :1]), self.k_proj(tokens), self.v_proj(tokens))
        )
        return self.out_proj(F.scaled_dot_product_attention(query, key, value).flatten(1))


class MusCALLAveragePool(nn.Module):
    """Mean over the cells of the trunk, then a linear layer."""

    def __init__(self, config: MusCALLAudioConfig):
        super().__init__()
        self.out_proj = nn.Linear(config.trunk_channels, config.hidden_size)

    def forward(self, cells: torch.Tensor) -> torch.Tensor:
        """`(batch_size, num_cells, channels)` -> `(batch_size, hidden_size)`"""
        return self.out_proj(cells.mean(1))


def _split(patches: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """One at a time stays in a CPU's cache, which is 1.4 times as fast as eight."""
    return patches.split(1 if patches.device.type == "cpu" else PATCHES_AT_ONCE)


def _convolve(spectrogram: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> Iterator[torch.Tensor]:
    """`F.conv2d`, some filters at a time."""
    for part in zip(weight.split(FILTERS_AT_ONCE), bias.split(FILTERS_AT_ONCE), strict=True):
        yield F.conv2d(spectrogram, *part)


class _MaximaOverBands(torch.autograd.Function):
    """
    `F.conv2d(spectrogram, weight, bias).amax(2)`, with the gradient of the filters from the one window of each filter
    and frame that the maximum is of, where that of the convolution takes those of all bands: training is several times
    faster on a CPU (benchmarks/musicnn_tower.py). Of equal maxima the gradient is that of one. There is none for the
    spectrogram.
    """

    @staticmethod
    def forward(ctx, spectrogram: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        maxima, bands = [], []
        for patches in _split(spectrogram):
            values, indices = zip(*(part.max(2) for part in _convolve(patches, weight, bias)), strict=True)
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
        """`(patches, 1, num_mel_bins, frames)` -> `(patches, out_channels, frames)`"""
        spectrogram = F.pad(spectrogram, self.padding)
        if self.norm.training:
            return self.norm(F.relu(self.conv(spectrogram))).amax(2)
        # ReLU and norm with fixed statistics are monotonous, the norm falling where its scale is negative: they
        # commute with the maximum, or minimum, and are computed once instead of once for each band.
        sign = 1 - 2 * (self.norm.weight < 0).to(spectrogram.dtype)
        weight, bias = self.conv.weight * sign[:, None, None, None], self.conv.bias * sign
        if torch.is_grad_enabled() and weight.requires_grad and not spectrogram.requires_grad:
            maxima = _MaximaOverBands.apply(spectrogram, weight, bias)
        elif self.conv.kernel_size[0] == 1:  # the maximum over adjacent numbers is the faster one
            maxima = F.conv2d(spectrogram.mT.contiguous(), weight.mT, bias).amax(3)
        else:
            maxima = torch.cat([part.amax(2) for part in _convolve(spectrogram, weight, bias)], dim=1)
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
        """`(patches, num_mel_bins, frames)` -> `(patches, feature_size)`"""
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


class MusCALLPreTrainedModel(PreTrainedModel):
    config: MusCALLConfig
    base_model_prefix = "muscall"
    supports_gradient_checkpointing = True
    _no_split_modules = ["MusCALLStem", "MusCALLBottleneck", "MusCALLAttentionPool", "MusCALLMusicnnNetwork"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *model_args, output_loading_info=False, **kwargs):
        """
        As [`PreTrainedModel.from_pretrained`], but a missing or extra tensor, or one that holds NaN or infinity, is an
        error, and weights that were never trained or have collapsed load with a warning that says so.
        """
        model, info = super().from_pretrained(
            pretrained_model_name_or_path, *model_args, output_loading_info=True, **kwargs
        )
        wrong = {name: sorted(info[name]) for name in ("missing_keys", "unexpected_keys") if info[name]}
        if wrong:
            found = "; ".join(f"{name.replace('_', ' ')}: {', '.join(keys)}" for name, keys in wrong.items())
            raise ValueError(f"The checkpoint {pretrained_model_name_or_path} does not fit its configuration: {found}")
        # A file's tensors lie at any address, and some CPU kernels round otherwise there: realigned, a loaded model
        # gives the bits of the saved one.
        for parameter in model.parameters():
            parameter.data = parameter.data.clone()
        tensors = {name: tensor for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
        if broken := sorted(name for name, tensor in tensors.items() if not tensor.isfinite().all()):
            raise ValueError(
                f"The checkpoint {pretrained_model_name_or_path} holds NaN or infinite values: {', '.join(broken)}"
            )
        for symptom in model.symptoms():
            logger.warning(f"The checkpoint {pretrained_model_name_or_path} does not look usable: {symptom}")
        return (model, info) if output_loading_info else model

    def symptoms(self) -> list[str]:
        """What is wrong with the weights, in words."""
        return []

    @torch.no_grad()
    def _init_weights(self, module):
        """Covers every parameter and buffer of ours: what a checkpoint lacks is filled here and nowhere else."""
        super()._init_weights(module)
        if isinstance(module, MusCALLLogMel):
            window, mel_filters = module.constants()
            init.copy_(module.window, window)
            init.copy_(module.mel_filters, mel_filters)
        elif isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, MusCALLBottleneck):
            init.zeros_(module.conv3.norm.weight)  # each block starts as its shortcut
        elif isinstance(module, MusCALLAttentionPool):
            std = module.q_proj.in_features**-0.5
            init.normal_(module.position_embedding, std=std)
            for projection in (module.q_proj, module.k_proj, module.v_proj, module.out_proj):
                init.normal_(projection.weight, std=std)
        elif isinstance(module, MusCALLModel):
            init.constant_(module.logit_scale, self.config.logit_scale_init_value)
            for layer in (*_linear_layers(module.audio_projection), *_linear_layers(module.text_projection)):
                init.normal_(layer.weight, std=layer.in_features**-0.5)


class MusCALLAudioModel(MusCALLPreTrainedModel):
    """
    The audio tower: log-mel and CLIP's ModifiedResNet, `(batch_size, samples)` -> `(batch_size, hidden_size)`.
    https://github.com/openai/CLIP/blob/a9b1bf5920416aaeaec965c25dd9e8f98c864f16/clip/model.py#L94
    """

    config: MusCALLAudioConfig
    main_input_name = "input_values"
    input_modalities = ("audio",)

    def __init__(self, config: MusCALLAudioConfig):
        super().__init__(config)
        if config.f_max > config.sampling_rate / 2:
            logger.warning_once(
                f"`f_max` ({config.f_max} Hz) lies above half of `sampling_rate` ({config.sampling_rate} Hz): the mel "
                "bands up there are empty."
            )
        self.log_mel = MusCALLLogMel(config)
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

    @can_return_tuple
    def forward(self, input_values: torch.Tensor, **kwargs) -> BaseModelOutputWithPooling:
        r"""
        Args:
            input_values (`torch.FloatTensor` of shape `(batch_size, window_samples)`):
                Mono waveform windows at `config.sampling_rate`.

        Returns:
            `BaseModelOutputWithPooling`: `last_hidden_state` of shape `(batch_size, num_cells, channels)` and
            `pooler_output` of shape `(batch_size, hidden_size)`, not normalised.
        """
        config = self.config
        if input_values.dim() != 2 or input_values.shape[1] != config.window_samples:
            raise ValueError(
                f"`input_values` must have shape (batch_size, {config.window_samples}): windows of "
                f"{config.window_seconds} s at {config.sampling_rate} Hz, got {tuple(input_values.shape)}. "
                "The processor cuts and pads audio to such windows."
            )
        spectrogram = self.log_mel(input_values)[:, None].to(self.stem.conv1.conv.weight.dtype)
        # Channels last is faster, but on a CPU PyTorch's batch norm then sums its statistics in a single float32: over
        # decibels its output is wrong by 2e-4, against 6e-7.
        if not (self.training and spectrogram.device.type == "cpu"):
            spectrogram = spectrogram.contiguous(memory_format=torch.channels_last)
        hidden_states = self.stem(spectrogram)
        for block in self.blocks:
            hidden_states = block(hidden_states)
        cells = hidden_states.flatten(2).transpose(1, 2)
        return BaseModelOutputWithPooling(last_hidden_state=cells, pooler_output=self.pool(cells))


class MusCALLMusicnnModel(MusCALLPreTrainedModel):
    """
    An audio tower of musicnn networks, `(batch_size, samples)` -> `(batch_size, hidden_size)`: their features are
    concatenated, and averaged over the patches of a window. `scripts/convert_musicnn.py`
    makes it from the pretrained taggers.
    """

    config: MusCALLMusicnnConfig
    main_input_name = "input_values"
    input_modalities = ("audio",)

    def __init__(self, config: MusCALLMusicnnConfig):
        super().__init__(config)
        self.log_mel = MusCALLMusicnnLogMel(config)
        self.networks = nn.ModuleList(MusCALLMusicnnNetwork(config) for _ in range(config.num_networks))
        self.post_init()

    @can_return_tuple
    def forward(self, input_values: torch.Tensor, **kwargs) -> BaseModelOutputWithPooling:
        r"""
        Args:
            input_values (`torch.FloatTensor` of shape `(batch_size, window_samples)`):
                Mono waveform windows at `config.sampling_rate`.

        Returns:
            `BaseModelOutputWithPooling`: `last_hidden_state` of shape `(batch_size, num_patches, hidden_size)`, a
            feature for each patch, one after the other but the last, which ends with the window; and `pooler_output`
            of shape `(batch_size, hidden_size)`, their mean, each weighted by the frames that it adds.
        """
        config = self.config
        if input_values.dim() != 2 or input_values.shape[1] != config.window_samples:
            raise ValueError(
                f"`input_values` must have shape (batch_size, {config.window_samples}): windows of "
                f"{config.window_seconds} s at {config.sampling_rate} Hz, got {tuple(input_values.shape)}. "
                "The processor cuts and pads audio to such windows."
            )
        spectrogram = self.log_mel(input_values).to(self.networks[0].dense.weight.dtype)
        size, frames, starts = config.patch_frames, config.window_frames, config.patch_starts
        patches = torch.stack([spectrogram[..., start : start + size] for start in starts], dim=1).flatten(0, 1)
        whole = self.training or torch.compiler.is_compiling()  # training takes the statistics of the whole batch
        chunks = [patches] if whole else _split(patches)
        features = torch.cat([torch.cat([network(chunk) for network in self.networks], dim=1) for chunk in chunks])
        features = features.unflatten(0, (-1, len(starts)))
        new = torch.full((len(starts),), size / frames, dtype=features.dtype, device=features.device)
        new[-1] = 1 - (len(starts) - 1) * size / frames
        return BaseModelOutputWithPooling(last_hidden_state=features, pooler_output=(features * new[:, None]).sum(1))


AUDIO_MODELS = {model.config_class.model_type: model for model in (MusCALLAudioModel, MusCALLMusicnnModel)}


def _text_encoder_class(text_config):
    """The auto class that has the encoder alone, without a decoder or a head (T5, CLIP), where there is one."""
    return AutoModelForTextEncoding if type(text_config) in MODEL_FOR_TEXT_ENCODING_MAPPING else AutoModel


def _projection(size: int, config: MusCALLConfig) -> nn.Module:
    if config.projection_hidden_size is None:
        return nn.Linear(size, config.projection_dim, bias=False)
    hidden_size = config.projection_hidden_size
    return nn.Sequential(
        nn.Linear(size, hidden_size), nn.GELU(), nn.Linear(hidden_size, config.projection_dim, bias=False)
    )


def _linear_layers(projection: nn.Module) -> list[nn.Linear]:
    return [module for module in projection.modules() if isinstance(module, nn.Linear)]


class MusCALLModel(MusCALLPreTrainedModel):
    r"""
    Dual encoder that aligns music with sentences: Contrastive Audio-Language Learning for Music (ISMIR 2022,
    https://huggingface.co/papers/2208.12208).

    Args:
        config (`MusCALLConfig`):
            The configuration of both towers.
    """

    def __init__(self, config: MusCALLConfig):
        super().__init__(config)
        self.audio_model = AUDIO_MODELS[config.audio_config.model_type]._from_config(config.audio_config)
        self.text_model = _text_encoder_class(config.text_config).from_config(config.text_config)
        self._drop_text_pooler()
        self.audio_projection = _projection(config.audio_config.hidden_size, config)
        self.text_projection = _projection(config.text_config.hidden_size, config)
        self.logit_scale = nn.Parameter(torch.tensor(float(config.logit_scale_init_value)))
        self.post_init()

    def _drop_text_pooler(self):
        # BERT and its kin carry a pooler that `text_pooling` replaces: unused, it would stop training with DDP.
        if "pooler" in dict(self.text_model.named_children()):
            self.text_model.pooler = None

    @classmethod
    def from_text_pretrained(cls, pretrained_model_name_or_path, *, text_pooling="mean", **config_kwargs):
        r"""
        A model with a pretrained text tower and everything else at random.

        Args:
            pretrained_model_name_or_path (`str` or `os.PathLike`):
                Any text encoder that `AutoModel` loads, for example `"sentence-transformers/all-MiniLM-L6-v2"`.
            text_pooling (`str`, *optional*, defaults to `"mean"`):
                `"eos"`, `"cls"` or `"mean"`; Sentence-Transformers models mostly use the mean, CLIP `"eos"`.
            config_kwargs:
                Further fields of [`MusCALLConfig`], such as `audio_config` or `projection_dim`.

        Example:

        ```python
        >>> model = MusCALLModel.from_text_pretrained("sentence-transformers/all-MiniLM-L6-v2", projection_dim=256)
        ```"""
        text_config = AutoConfig.from_pretrained(pretrained_model_name_or_path).get_text_config()
        text_model = _text_encoder_class(text_config).from_pretrained(
            pretrained_model_name_or_path, config=text_config, dtype=torch.float32
        )
        model = cls(MusCALLConfig(text_config=text_config, text_pooling=text_pooling, **config_kwargs))
        model.text_model = text_model
        model.config.text_config.name_or_path = ""  # a path of this machine means nothing in a published file
        model._drop_text_pooler()
        return model

    @torch.no_grad()
    def symptoms(self) -> list[str]:
        """
        Signs, in words, that the weights were never trained or have collapsed: a logit scale that is exactly where it
        started, a projection that is zero or indistinguishable from noise, a text tower whose embeddings of unlike
        token sequences are all the same.
        """
        found = []
        start = torch.tensor(float(self.config.logit_scale_init_value))
        if self.logit_scale.dtype == start.dtype and self.logit_scale.item() == start.item():
            found.append("its logit scale is exactly the initial value, so no contrastive training has touched it")
        for name in ("audio_projection", "text_projection"):
            weight = _linear_layers(getattr(self, name))[-1].weight.float()
            # The largest singular value of independent noise (Marchenko and Pastur 1967); a trained projection of 256
            # dimensions is 1.2 times above it, noise at most 1.02 times. One that started from the identity may be
            # below it too, but a few of its numbers are far larger than the others: normal ones have a kurtosis of 3.
            noise = weight.std() * sum(size**0.5 for size in weight.shape)
            even = weight.pow(4).mean() < 4 * weight.var().square()
            if (torch.linalg.matrix_norm(weight, 2) < 1.05 * noise and even) or not weight.any():
                found.append(f"`{name}` is zero, or noise as at its initialisation")
        if self.config.text_config._attn_implementation in ("eager", "sdpa"):  # others do not run everywhere
            generator = torch.Generator().manual_seed(0)
            vocab_size = self.get_input_embeddings().weight.shape[0]
            input_ids = torch.randint(vocab_size, (8, 8), generator=generator).to(self.device)
            if self.config.text_pooling == "eos":
                end = self.config.text_config.eos_token_id
                input_ids[:, -1] = vocab_size - 1 if end == 2 else end
            text_embeds = self.get_text_features(input_ids, torch.ones_like(input_ids)).pooler_output.float()
            # Of 8 unit vectors: the squared length of their sum is 64 where they are all the same.
            if not text_embeds.sum(0).square().sum() < 64 * 0.999:
                found.append("its text tower has collapsed: it gives unlike sentences the same embedding")
        return found

    def get_input_embeddings(self) -> nn.Module:
        return self.text_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module):
        self.text_model.set_input_embeddings(value)

    def _pool_text(self, hidden_states, input_ids, attention_mask) -> torch.Tensor:
        """`(batch_size, sequence_length, hidden_size)` -> `(batch_size, hidden_size)`"""
        if self.config.text_pooling == "cls":
            return hidden_states[:, 0]
        if self.config.text_pooling == "eos":
            # The paper's code pools at the largest token id, which in its vocabulary is the end of text. So do the
            # checkpoints of CLIP whose configuration has a wrong id, 2.
            # https://github.com/huggingface/transformers/pull/24773
            end = self.config.text_config.eos_token_id
            position = (input_ids if end == 2 else (input_ids == end).int()).argmax(1)
            return hidden_states[torch.arange(hidden_states.shape[0], device=hidden_states.device), position]
        if attention_mask is None:
            return hidden_states.mean(1)
        weights = attention_mask[..., None].to(hidden_states.dtype)
        return (hidden_states * weights).sum(1) / weights.sum(1)

    @can_return_tuple
    def get_text_features(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs
    ) -> BaseModelOutputWithPooling:
        r"""
        Args:
            input_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`):
                Token ids.
            attention_mask (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*):
                1 for tokens, 0 for padding.
            kwargs:
                Further arguments of the text encoder, such as `token_type_ids` or `output_attentions`.

        Returns:
            `BaseModelOutputWithPooling`: the text tower's output; `pooler_output` is the L2-normalised embedding of
            shape `(batch_size, projection_dim)`.

        Example:

        ```python
        >>> inputs = processor(text=["calm solo piano", "fast samba with brass"], return_tensors="pt")
        >>> text_embeds = model.get_text_features(**inputs).pooler_output
        ```"""
        outputs = self.text_model(input_ids=input_ids, attention_mask=attention_mask, **kwargs)
        pooled = self._pool_text(outputs.last_hidden_state, input_ids, attention_mask)
        outputs.pooler_output = F.normalize(self.text_projection(pooled), dim=-1)
        return outputs

    @can_return_tuple
    def get_audio_features(
        self, input_values: torch.Tensor, window_weights: torch.Tensor | None = None, **kwargs
    ) -> BaseModelOutputWithPooling:
        r"""
        Args:
            input_values (`torch.FloatTensor` of shape `(batch_size, samples)` or `(batch_size, windows, samples)`):
                One window of each track, or several.
            window_weights (`torch.FloatTensor` of shape `(batch_size, windows)`, *optional*):
                Weight of each window in its track's embedding; windows of weight 0 are padding and are not run.
                By default all windows weigh the same.

        Returns:
            `BaseModelOutputWithPooling`: the audio tower's output, a row for each window that was run; `pooler_output`
            is the L2-normalised embedding of each track, of shape `(batch_size, projection_dim)`.

        Example:

        ```python
        >>> inputs = processor(audio=["song.mp3", "other.flac"], return_tensors="pt")
        >>> audio_embeds = model.get_audio_features(**inputs).pooler_output
        ```"""
        if input_values.dim() == 2:
            if window_weights is not None:
                raise ValueError("`window_weights` needs `input_values` of shape (batch_size, windows, samples).")
            outputs = self._run_windows(input_values)
            outputs.pooler_output = F.normalize(self.audio_projection(outputs.pooler_output), dim=-1)
            return outputs

        if input_values.dim() != 3:
            raise ValueError(
                "`input_values` must have shape (batch_size, samples) or (batch_size, windows, samples), got "
                f"{tuple(input_values.shape)}."
            )
        if window_weights is None:
            window_weights = input_values.new_ones(input_values.shape[:2])
        if window_weights.shape != input_values.shape[:2]:
            raise ValueError(
                f"`window_weights` must have shape (batch_size, windows), {tuple(input_values.shape[:2])} for these "
                f"`input_values`, got {tuple(window_weights.shape)}."
            )
        if torch.compiler.is_compiling():  # a graph has no shapes that depend on data: padding is run, with weight 0
            windows, weights = input_values.flatten(0, 1), window_weights.flatten()
            tracks = torch.arange(len(input_values), device=weights.device).repeat_interleave(input_values.shape[1])
        else:
            real = window_weights > 0
            windows, weights, tracks = input_values[real], window_weights[real], real.nonzero()[:, 0]
        outputs = self._run_windows(windows)
        window_embeds = F.normalize(self.audio_projection(outputs.pooler_output), dim=-1)
        weighted = window_embeds * weights[:, None].to(window_embeds.dtype)
        track_embeds = weighted.new_zeros(len(input_values), weighted.shape[1]).index_add(0, tracks, weighted)
        outputs.pooler_output = F.normalize(track_embeds, dim=-1)
        return outputs

    def _run_windows(self, windows: torch.Tensor) -> BaseModelOutputWithPooling:
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or len(windows) <= WINDOWS_AT_ONCE:
            return self.audio_model(windows)
        parts = [self.audio_model(part) for part in windows.split(WINDOWS_AT_ONCE)]
        return BaseModelOutputWithPooling(
            last_hidden_state=torch.cat([part.last_hidden_state for part in parts]),
            pooler_output=torch.cat([part.pooler_output for part in parts]),
        )

    @torch.no_grad()
    def best_segments(self, text: str, track, processor, sampling_rate=None, num_segments=1) -> list[dict[str, float]]:
        r"""
        Where in a track a sentence fits best. Reads the track a few windows at a time, whatever its length.

        Args:
            text (`str`):
                A sentence.
            track (`str`, `bytes`, `np.ndarray`, `dict`):
                One track, in any form that the processor takes.
            processor (`MusCALLProcessor`):
                The processor of this checkpoint.
            sampling_rate (`int`, *optional*):
                The rate that bare samples were recorded at, in hertz (Hz).
            num_segments (`int`, *optional*, defaults to 1):
                How many windows to return; fewer where the track has fewer.

        Returns:
            `list[dict[str, float]]`: best first, `start` and `end` in seconds and `score`, the cosine similarity.

        Example:

        ```python
        >>> model.best_segments("the drums come in", "song.mp3", processor)
        [{'start': 40.0, 'end': 60.0, 'score': 0.31}]
        ```"""
        if not isinstance(text, str):
            raise ValueError(f"`text` is one sentence, got {type(text).__name__}")
        text_embeds = self.get_text_features(**processor(text=text, return_tensors="pt").to(self.device)).pooler_output
        segments = []
        for batch in processor.feature_extractor.iter_windows(track, sampling_rate, windows="all"):
            input_values = torch.from_numpy(batch["input_values"]).to(self.device)
            audio_embeds = self.get_audio_features(input_values).pooler_output
            scores = (audio_embeds.float() @ text_embeds[0].float()).tolist()
            for start, end, score in zip(batch["window_starts"], batch["window_ends"], scores, strict=True):
                segments.append({"start": float(start), "end": float(end), "score": score})
        return sorted(segments, key=lambda segment: -segment["score"])[:num_segments]

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor,
        input_values: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        window_weights: torch.Tensor | None = None,
        return_loss: bool = False,
        **kwargs,
    ) -> MusCALLOutput:
        r"""
        Args:
            input_ids (`torch.LongTensor` of shape `(text_batch_size, sequence_length)`):
                Token ids.
            input_values (`torch.FloatTensor` of shape `(audio_batch_size, [windows,] samples)`):
                Waveform windows.
            attention_mask (`torch.LongTensor` of shape `(text_batch_size, sequence_length)`, *optional*):
                1 for tokens, 0 for padding.
            window_weights (`torch.FloatTensor` of shape `(audio_batch_size, windows)`, *optional*):
                As in [`~MusCALLModel.get_audio_features`].
            return_loss (`bool`, *optional*, defaults to `False`):
                Whether to return the contrastive loss; text `i` then belongs to audio `i`.
            kwargs:
                Further arguments of the text encoder.

        Example:

        ```python
        >>> inputs = processor(text=["calm solo piano", "fast samba"], audio="song.mp3", return_tensors="pt")
        >>> model(**inputs).logits_per_audio.softmax(-1)
        ```"""
        audio_outputs = self.get_audio_features(input_values, window_weights)
        text_outputs = self.get_text_features(input_ids, attention_mask, **kwargs)
        audio_embeds, text_embeds = audio_outputs.pooler_output, text_outputs.pooler_output

        similarity = text_embeds.float() @ audio_embeds.float().t().to(text_embeds.device)
        logits_per_text = self.scale_similarity(similarity)
        if return_loss and len(text_embeds) != len(audio_embeds):
            raise ValueError(
                f"`return_loss=True` needs one text per audio, got {len(text_embeds)} texts and {len(audio_embeds)} "
                "audio items."
            )
        return MusCALLOutput(
            loss=contrastive_loss(logits_per_text) if return_loss else None,
            logits_per_audio=logits_per_text.t(),
            logits_per_text=logits_per_text,
            text_embeds=text_embeds,
            audio_embeds=audio_embeds,
            text_model_output=text_outputs,
            audio_model_output=audio_outputs,
        )

    def scale_similarity(self, similarity: torch.Tensor) -> torch.Tensor:
        """Cosine similarities -> logits; the scale is at most 100."""
        return similarity * self.logit_scale.float().to(similarity.device).clamp(max=MAX_LOGIT_SCALE).exp()


MusCALLModel.register_for_auto_class("AutoModel")

__all__ = [
    "AUDIO_MODELS",
    "MusCALLAudioModel",
    "MusCALLModel",
    "MusCALLMusicnnModel",
    "MusCALLOutput",
    "MusCALLPreTrainedModel",
    "contrastive_loss",
]
