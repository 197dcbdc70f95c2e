# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The base of all audio towers: the interface, the check of the windows, the log-mel front end, and safe loading."""

import math
import os
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import can_return_tuple


class MusCALLPreTrainedModel(PreTrainedModel):
    """The base of the model and of its audio towers: loading refuses a checkpoint that does not fit or is broken."""

    base_model_prefix = "muscall"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike,
        *model_args: Any,
        output_loading_info: bool = False,
        **kwargs: Any,
    ) -> "MusCALLPreTrainedModel | tuple[MusCALLPreTrainedModel, dict[str, Any]]":
        """
        Load as [`PreTrainedModel.from_pretrained`] does, and refuse a damaged checkpoint.

        Raises:
            `ValueError`: if a tensor is missing, is not of this model, or holds NaN or infinity.
        """
        model, info = super().from_pretrained(
            pretrained_model_name_or_path, *model_args, output_loading_info=True, **kwargs
        )
        wrong = {name: sorted(info[name]) for name in ("missing_keys", "unexpected_keys") if info[name]}
        if wrong:
            details = "; ".join(f"{name.replace('_', ' ')}: {', '.join(keys)}" for name, keys in wrong.items())
            raise ValueError(
                f"The checkpoint {pretrained_model_name_or_path} does not fit its configuration: {details}"
            )
        # The tensors of a file lie at any address, and some CPU kernels round differently there: without a copy, which
        # is aligned, the embeddings of a loaded model are not bit for bit those of the saved one.
        for parameter in model.parameters():
            parameter.data = parameter.data.clone()
        if broken := sorted(name for name, tensor in model.state_dict().items() if not _is_finite(tensor)):
            raise ValueError(
                f"The checkpoint {pretrained_model_name_or_path} holds NaN or infinite values: {', '.join(broken)}"
            )
        return (model, info) if output_loading_info else model


def _is_finite(tensor: torch.Tensor) -> bool:
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return True
    # The extremes of a tensor that holds NaN are NaN. They take an eighth of the time of `tensor.isfinite().all()`.
    return bool(torch.stack(tensor.aminmax()).isfinite().all())


class MusCALLLogMel(nn.Module):
    """
    The base of the log-mel front ends: waveform -> log-mel spectrogram, always in float32. A subclass gives the
    `constants` and `compress`.

    Args:
        config (`PreTrainedConfig`):
            The configuration of an audio tower, with `sampling_rate`, `n_fft`, `hop_length`, `num_mel_bins`, `f_min`
            and `f_max`.
    """

    pad_mode = "reflect"  # how the waveform goes on before its first and after its last sample

    def __init__(self, config):
        super().__init__()
        self.config = config
        # Neither is in the checkpoint. `from_pretrained` leaves such buffers empty, and `_init_weights` fills them.
        self.register_buffer("window", torch.empty(config.n_fft, dtype=torch.float32), persistent=False)
        shape = (config.n_fft // 2 + 1, config.num_mel_bins)
        self.register_buffer("mel_filters", torch.empty(shape, dtype=torch.float32), persistent=False)

    def constants(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the window `(n_fft,)` and the mel filters `(n_fft // 2 + 1, num_mel_bins)`, float32 on the CPU."""
        raise NotImplementedError

    def compress(self, power: torch.Tensor) -> torch.Tensor:
        """Map the power `(batch_size, n_fft // 2 + 1, frames)` to the log-mel `(batch_size, num_mel_bins, frames)`."""
        raise NotImplementedError

    def to_mel(self, power: torch.Tensor) -> torch.Tensor:
        """Sum `(batch_size, n_fft // 2 + 1, frames)` over the bands: `(batch_size, num_mel_bins, frames)`."""
        return (power.transpose(1, 2) @ self.mel_filters).transpose(1, 2)

    def forward(self, input_values: torch.Tensor) -> torch.Tensor:
        """Map a waveform `(batch_size, samples)` to its log-mel spectrogram `(batch_size, num_mel_bins, frames)`."""
        with torch.autocast(input_values.device.type, enabled=False):
            spectrum = torch.stft(
                input_values.float(),
                self.config.n_fft,
                self.config.hop_length,
                window=self.window,
                pad_mode=self.pad_mode,
                return_complex=True,
            )
            return self.compress(torch.view_as_real(spectrum).square().sum(-1))

    def _apply(self, fn, recurse=True):
        # `.half()` and `.to(torch.bfloat16)` move the constants but must not round them.
        super()._apply(fn, recurse)
        if self.window.dtype != torch.float32:
            self.window, self.mel_filters = (constant.to(self.window.device) for constant in self.constants())
        return self


def triangular_filters(edges: torch.Tensor, frequencies: torch.Tensor) -> torch.Tensor:
    """
    Return filters that rise from one edge to 1 at the next, and fall to 0 at the one after it.

    Args:
        edges (`torch.Tensor` of shape `(num_filters + 2,)`): In hertz (Hz), ascending.
        frequencies (`torch.Tensor` of shape `(num_frequencies,)`): Where the filters are sampled, in hertz (Hz).

    Returns:
        `torch.Tensor` of shape `(num_frequencies, num_filters)`.
    """
    distance, width = edges - frequencies[:, None], edges.diff()
    return torch.minimum(-distance[:, :-2] / width[:-1], distance[:, 2:] / width[1:]).clamp(min=0)


def htk_constants(config: PreTrainedConfig, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Return the periodic Hann window `(n_fft,)` and the mel filters of HTK's scale `(n_fft // 2 + 1, num_mel_bins)`,
    float32 on the CPU.

    Args:
        config (`PreTrainedConfig`): See [`MusCALLLogMel`].
        dtype (`torch.dtype`): What the filters are computed in.
    """
    low, high = (2595 * math.log10(1 + edge / 700) for edge in (config.f_min, config.f_max))
    kwargs = {"dtype": dtype, "device": "cpu"}
    edges = 700 * (10 ** (torch.linspace(low, high, config.num_mel_bins + 2, **kwargs) / 2595) - 1)
    frequencies = torch.linspace(0, config.sampling_rate // 2, config.n_fft // 2 + 1, **kwargs)
    window = torch.hann_window(config.n_fft, dtype=torch.float32, device="cpu")
    return window, triangular_filters(edges, frequencies).float()


class MusCALLConvNorm(nn.Module):
    """
    A convolution and its batch norm, which is folded into the convolution while its statistics are constants.

    Args:
        in_channels, out_channels, kernel_size (`int`): As for [`nn.Conv2d`]; half the kernel is padded on each side.
        stride (`int` or `tuple[int, int]`, *optional*, defaults to 1): Of bands and frames.
        groups (`int`, *optional*, defaults to 1): As for [`nn.Conv2d`].
        eps (`float`, *optional*, defaults to 1e-5): Of the batch norm.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int | tuple[int, int] = 1,
        groups: int = 1,
        eps: float = 1e-5,
    ):
        super().__init__()
        padding = kernel_size // 2
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(out_channels, eps)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        conv, norm = self.conv, self.norm
        if norm.training:
            return norm(conv(hidden_states))
        scale = norm.weight.float() * (norm.running_var.float() + norm.eps).rsqrt()
        weight = (conv.weight * scale[:, None, None, None]).to(conv.weight.dtype)
        bias = (norm.bias - norm.running_mean * scale).to(conv.weight.dtype)
        return F.conv2d(hidden_states, weight, bias, conv.stride, conv.padding, groups=conv.groups)


class MusCALLAudioTower(MusCALLPreTrainedModel):
    """
    The interface of an audio tower: windows of a waveform `(batch_size, samples)` -> the features of the parts of each
    window, and one pooled feature. A tower sets `log_mel` and implements `encode`, or is made of towers and overrides
    `encode_windows`; the other methods answer the questions of training, and a tower that has another answer overrides
    them. The configuration of a tower has `sampling_rate`, `window_seconds`, `window_samples` and `hidden_size`.
    """

    main_input_name = "input_values"
    input_modalities = ("audio",)
    log_mel: MusCALLLogMel

    @can_return_tuple
    def forward(self, input_values: torch.Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        r"""
        Args:
            input_values (`torch.FloatTensor` of shape `(batch_size, window_samples)`):
                Mono waveform windows at `config.sampling_rate`.

        Returns:
            `BaseModelOutputWithPooling`: `last_hidden_state` of shape `(batch_size, parts, channels)` and
            `pooler_output` of shape `(batch_size, hidden_size)`, not normalised.

        Raises:
            `ValueError`: if the windows have another shape.
        """
        config = self.config
        if input_values.dim() != 2 or input_values.shape[1] != config.window_samples:
            raise ValueError(
                f"`input_values` must have shape (batch_size, {config.window_samples}): windows of "
                f"{config.window_seconds} s at {config.sampling_rate} Hz, got {tuple(input_values.shape)}. "
                "The processor cuts and pads audio to such windows."
            )
        return self.encode_windows(input_values)

    def encode_windows(self, input_values: torch.Tensor) -> BaseModelOutputWithPooling:
        """Encode windows `(batch_size, window_samples)`, whose shape is right, by their log-mel spectrogram."""
        return self.encode(self.log_mel(input_values))

    def encode(self, spectrogram: torch.Tensor) -> BaseModelOutputWithPooling:
        """Encode the log-mel spectrogram `(batch_size, num_mel_bins, frames)` of windows, float32."""
        raise NotImplementedError

    def constant_norm_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that need not learn while the statistics of the batch norms are constants."""
        return []

    def synchronisable_norms(self) -> list[str]:
        """Return the names of the batch norms whose statistics may be those of all processes; none if that is not
        supported."""
        return []

    @property
    def num_columns(self) -> int:
        """Columns of time that share a window evenly, if the pooled feature is linear in their mean; otherwise 0."""
        return 0

    def pool_columns(self, hidden_states: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """
        Return pooled features of parts of a window, for a tower with columns.

        Args:
            hidden_states (`torch.FloatTensor` of shape `(batch_size, parts, channels)`): The `last_hidden_state`.
            weights (`torch.FloatTensor` of shape `(features, num_columns)`): How much each column counts in each.

        Returns:
            `torch.FloatTensor` of shape `(batch_size, features, hidden_size)`.
        """
        raise NotImplementedError

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        """Cover every parameter and buffer of ours: what a checkpoint lacks is filled here and nowhere else."""
        super()._init_weights(module)
        if isinstance(module, MusCALLLogMel):
            window, mel_filters = module.constants()
            init.copy_(module.window, window)
            init.copy_(module.mel_filters, mel_filters)
        elif isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


__all__ = [
    "MusCALLAudioTower",
    "MusCALLConvNorm",
    "MusCALLLogMel",
    "MusCALLPreTrainedModel",
    "htk_constants",
    "triangular_filters",
]
