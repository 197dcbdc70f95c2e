# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""MusCALL model configuration: an audio tower over log-mel windows and any text encoder that `AutoConfig` knows."""

import math
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec


# The text transformer of the paper's released code, trained from scratch: CLIP's, four layers deep, with the exact
# GELU. https://github.com/ilaria-manco/muscall/blob/dfe0782/configs/models/muscall.yaml
DEFAULT_TEXT_CONFIG = {
    "vocab_size": 49408,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "max_position_embeddings": 77,
    "hidden_act": "gelu",
    "bos_token_id": 49406,
    "eos_token_id": 49407,
    "pad_token_id": 49407,
}


class MusCALLTowerConfig(PreTrainedConfig):
    """
    The base of the configurations of audio towers, which have the fields `sampling_rate`, `window_seconds`, `n_fft`,
    `hop_length`, `num_mel_bins`, `f_min`, `f_max` and a `hidden_size`.
    """

    base_config_key = "audio_config"

    def __post_init__(self, **kwargs: Any):
        super().__post_init__(**kwargs)
        self.validate_architecture()  # here too, so that construction raises a plain `ValueError`

    @property
    def window_samples(self) -> int:
        """Length of one window in samples."""
        return round(self.window_seconds * self.sampling_rate)

    @property
    def window_frames(self) -> int:
        """Spectrogram frames of one window."""
        return self.window_samples // self.hop_length + 1

    def _check_spectrogram(self):
        _check(0 <= self.f_min < self.f_max, self, "f_min", f"between 0 and f_max ({self.f_max} Hz), exclusive")
        _check(math.isfinite(self.f_max), self, "f_max", "a finite frequency in Hz")
        _check(self.hop_length <= self.n_fft, self, "hop_length", f"at most n_fft ({self.n_fft} samples)")


@strict
class MusCALLAudioConfig(MusCALLTowerConfig):
    r"""
    Configuration of the paper's audio tower: waveform -> log-mel -> ModifiedResNet -> pooling. The defaults are those
    of the paper's released configuration, except for `f_max`, which that file sets to 11025 Hz, above Nyquist.

    Args:
        sampling_rate (`int`, *optional*, defaults to 16000):
            Rate of the input waveform in hertz (Hz).
        window_seconds (`float`, *optional*, defaults to 20):
            Length of one input window in seconds. The positions of the attention pool belong to this length.
        n_fft (`int`, *optional*, defaults to 1024):
            Length of the Fourier transform and of its Hann window in samples.
        hop_length (`int`, *optional*, defaults to 512):
            Step between two spectrogram frames in samples.
        num_mel_bins (`int`, *optional*, defaults to 128):
            Number of mel bands.
        f_min (`float`, *optional*, defaults to 0):
            Lower edge of the lowest mel band in hertz (Hz).
        f_max (`float`, *optional*, defaults to 8000):
            Upper edge of the highest mel band in hertz (Hz). Above `sampling_rate / 2` the upper bands are empty:
            converted checkpoints keep that, with a warning.
        top_db (`float`, *optional*, defaults to 100):
            Dynamic range in decibels (dB) kept below the loudest cell of each window.
        stem_width (`int`, *optional*, defaults to 16):
            Channels after the stem. The four stages end with 4, 8, 16 and 32 times as many.
        depths (`list[int]`, *optional*, defaults to `(3, 4, 6, 3)`):
            Residual blocks in each of the four stages.
        hidden_size (`int`, *optional*, defaults to 256):
            Size of the pooled feature.
        num_attention_heads (`int`, *optional*, defaults to 8):
            Heads of the attention pool.
        pooling (`str`, *optional*, defaults to `"attention"`):
            `"attention"` (learned positions, the mean token is the query) or `"average"`.

    Raises:
        `ValueError`: if a value is out of its range; the message names field, value and range.

    Example:

    ```python
    >>> config = MusCALLAudioConfig(window_seconds=10)
    >>> config.window_samples, config.grid_size
    (160000, (4, 9))

    ```"""

    model_type = "muscall_audio_model"

    sampling_rate: int = 16000
    window_seconds: float | int = 20
    n_fft: int = 1024
    hop_length: int = 512
    num_mel_bins: int = 128
    f_min: float | int = 0
    f_max: float | int = 8000
    top_db: float | int = 100
    stem_width: int = 16
    depths: list[int] | tuple[int, ...] = (3, 4, 6, 3)
    hidden_size: int = 256
    num_attention_heads: int = 8
    pooling: str = "attention"

    @property
    def grid_size(self) -> tuple[int, int]:
        """Cells (mel, time) that the trunk yields for one window: five halvings, the first of which rounds up."""
        return (self.num_mel_bins + 1) // 2 // 16, (self.window_frames + 1) // 2 // 16

    @property
    def trunk_channels(self) -> int:
        """Channels of the last stage."""
        return 32 * self.stem_width

    def validate_architecture(self) -> None:
        """Check every value against its range; also part of the `@strict` validation before saving."""
        for name in ("sampling_rate", "window_seconds", "n_fft", "hop_length", "num_mel_bins", "top_db"):
            _check(math.isfinite(getattr(self, name)) and getattr(self, name) > 0, self, name, "a number above 0")
        for name in ("hidden_size", "num_attention_heads"):
            _check(getattr(self, name) > 0, self, name, "an integer above 0")
        _check(self.stem_width > 0 and self.stem_width % 2 == 0, self, "stem_width", "an even integer above 0")
        self._check_spectrogram()
        _check(
            len(self.depths) == 4 and all(depth > 0 for depth in self.depths), self, "depths", "four integers above 0"
        )
        _check(self.pooling in ("attention", "average"), self, "pooling", "'attention' or 'average'")
        _check(
            self.pooling == "average" or self.trunk_channels % self.num_attention_heads == 0,
            self,
            "num_attention_heads",
            f"a divisor of 32 * stem_width ({self.trunk_channels})",
        )
        _check(
            self.window_samples > self.n_fft // 2, self, "window_seconds", f"longer than half of n_fft ({self.n_fft})"
        )
        _check(self.grid_size[0] > 0, self, "num_mel_bins", "at least 31: the trunk halves the bands five times")
        _check(self.grid_size[1] > 0, self, "window_seconds", "at least 31 frames: the trunk halves them five times")


@strict
class MusCALLMusicnnConfig(MusCALLTowerConfig):
    r"""
    Configuration of an audio tower of one or more musicnn networks (https://huggingface.co/papers/1909.06654) over one
    log-mel spectrogram. The defaults are those of the two pretrained taggers of the package `musicnn`.

    Args:
        sampling_rate (`int`, *optional*, defaults to 16000):
            Rate of the input waveform in hertz (Hz).
        window_seconds (`float`, *optional*, defaults to 20):
            Length of one input window in seconds.
        n_fft (`int`, *optional*, defaults to 512):
            Length of the Fourier transform and of its Hann window in samples.
        hop_length (`int`, *optional*, defaults to 256):
            Step between two spectrogram frames in samples.
        num_mel_bins (`int`, *optional*, defaults to 96):
            Number of mel bands.
        f_min (`float`, *optional*, defaults to 0):
            Lower edge of the lowest mel band in hertz (Hz).
        f_max (`float`, *optional*, defaults to 8000):
            Upper edge of the highest mel band in hertz (Hz).
        patch_frames (`int`, *optional*, defaults to 187):
            Frames that a network sees at a time, 3 s.
        num_networks (`int`, *optional*, defaults to 2):
            Networks whose features are concatenated.
        num_filters (`int`, *optional*, defaults to 51):
            Filters of each temporal shape; a timbral shape has four times as many.
        num_middle_filters (`int`, *optional*, defaults to 64):
            Filters of each dense layer between the front end and the pooling.
        feature_size (`int`, *optional*, defaults to 200):
            Size of the feature of one network.

    Raises:
        `ValueError`: if a value is out of its range; the message names field, value and range.

    Example:

    ```python
    >>> config = MusCALLMusicnnConfig()
    >>> config.window_samples, config.hidden_size, config.patch_starts
    (320000, 400, [0, 187, 374, 561, 748, 935, 1064])

    ```"""

    model_type = "muscall_musicnn_model"

    sampling_rate: int = 16000
    window_seconds: float | int = 20
    n_fft: int = 512
    hop_length: int = 256
    num_mel_bins: int = 96
    f_min: float | int = 0
    f_max: float | int = 8000
    patch_frames: int = 187
    num_networks: int = 2
    num_filters: int = 51
    num_middle_filters: int = 64
    feature_size: int = 200

    @property
    def patch_starts(self) -> list[int]:
        """Starts of the patches that cover one window, in frames; the last one ends with it."""
        size, frames = self.patch_frames, self.window_frames
        return [min(number * size, frames - size) for number in range(math.ceil(frames / size))]

    @property
    def hidden_size(self) -> int:
        """Size of the pooled feature."""
        return self.num_networks * self.feature_size

    def validate_architecture(self) -> None:
        """Check every value against its range; also part of the `@strict` validation before saving."""
        for name in ("sampling_rate", "n_fft", "hop_length", "patch_frames", "num_networks"):
            _check(getattr(self, name) > 0, self, name, "an integer above 0")
        for name in ("num_filters", "num_middle_filters", "feature_size"):
            _check(getattr(self, name) > 0, self, name, "an integer above 0")
        _check(math.isfinite(self.window_seconds), self, "window_seconds", "a finite number of seconds")
        self._check_spectrogram()
        _check(self.num_mel_bins >= 3, self, "num_mel_bins", "at least 3: filters span 0.4 and 0.7 of the bands")
        _check(
            self.window_frames >= self.patch_frames,
            self,
            "window_seconds",
            f"at least one patch of {self.patch_frames} frames",
        )


@strict
class MusCALLMobileNetConfig(MusCALLTowerConfig):
    r"""
    Configuration of the fast audio tower: waveform -> log-mel -> MobileNetV3 -> mean
    (https://huggingface.co/papers/1905.02244).

    Args:
        sampling_rate (`int`, *optional*, defaults to 16000):
            Rate of the input waveform in hertz (Hz).
        window_seconds (`float`, *optional*, defaults to 20):
            Length of one input window in seconds.
        n_fft (`int`, *optional*, defaults to 512):
            Length of the Fourier transform and of its Hann window in samples.
        hop_length (`int`, *optional*, defaults to 320):
            Step between two spectrogram frames in samples.
        num_mel_bins (`int`, *optional*, defaults to 96):
            Number of mel bands.
        f_min (`float`, *optional*, defaults to 0):
            Lower edge of the lowest mel band in hertz (Hz).
        f_max (`float`, *optional*, defaults to 8000):
            Upper edge of the highest mel band in hertz (Hz).
        width (`float`, *optional*, defaults to 0.8):
            Channels of the blocks, as a multiple of those of the large MobileNetV3.
        stem_width (`float`, *optional*, defaults to 0.5):
            The same for the stem and the first three blocks, which take most of the time.
        trunk_channels (`int`, *optional*, defaults to 640):
            Channels after the blocks, 960 in the large MobileNetV3.
        hidden_size (`int`, *optional*, defaults to 400):
            Size of the pooled feature.

    Raises:
        `ValueError`: if a value is out of its range; the message names field, value and range.

    Example:

    ```python
    >>> config = MusCALLMobileNetConfig(window_seconds=10)
    >>> config.window_samples, config.num_columns
    (160000, 16)

    ```"""

    model_type = "muscall_mobilenet_model"

    sampling_rate: int = 16000
    window_seconds: float | int = 20
    n_fft: int = 512
    hop_length: int = 320
    num_mel_bins: int = 96
    f_min: float | int = 0
    f_max: float | int = 8000
    width: float | int = 0.8
    stem_width: float | int = 0.5
    trunk_channels: int = 640
    hidden_size: int = 400

    @property
    def num_columns(self) -> int:
        """Columns of the trunk for one window: 32 frames each, the last one what is left."""
        return math.ceil(self.window_frames / 32)

    def validate_architecture(self) -> None:
        """Check every value against its range; also part of the `@strict` validation before saving."""
        for name in ("sampling_rate", "n_fft", "hop_length", "num_mel_bins", "trunk_channels", "hidden_size"):
            _check(getattr(self, name) > 0, self, name, "an integer above 0")
        for name in ("window_seconds", "width", "stem_width"):
            _check(math.isfinite(getattr(self, name)) and getattr(self, name) > 0, self, name, "a number above 0")
        self._check_spectrogram()
        _check(
            self.window_samples > self.n_fft // 2, self, "window_seconds", f"longer than half of n_fft ({self.n_fft})"
        )


@strict
class MusCALLEnsembleConfig(MusCALLTowerConfig):
    r"""
    Configuration of an audio tower of two: pretrained taggers, and beside them a MobileNet that has learnt from other
    teachers. Both hear the same windows.

    Args:
        musicnn_config (`dict` or `MusCALLMusicnnConfig`, *optional*):
            The taggers.
        mobilenet_config (`dict` or `MusCALLMobileNetConfig`, *optional*):
            The MobileNet.

    Raises:
        `ValueError`: if the two differ in `sampling_rate` or `window_seconds`, or a value is out of its range.

    Example:

    ```python
    >>> config = MusCALLEnsembleConfig(mobilenet_config={"hidden_size": 167})
    >>> config.window_samples, config.hidden_size
    (320000, 567)

    ```"""

    model_type = "muscall_ensemble_model"
    sub_configs_defaults = {"musicnn_config": MusCALLMusicnnConfig, "mobilenet_config": MusCALLMobileNetConfig}

    musicnn_config: dict | PreTrainedConfig | None = None
    mobilenet_config: dict | PreTrainedConfig | None = None

    @property
    def sampling_rate(self) -> int:
        """Rate of the input waveform in hertz (Hz)."""
        return self.musicnn_config.sampling_rate

    @property
    def window_seconds(self) -> float | int:
        """Length of one input window in seconds."""
        return self.musicnn_config.window_seconds

    @property
    def hidden_size(self) -> int:
        """Size of the pooled feature: that of the taggers and then that of the MobileNet."""
        return self.musicnn_config.hidden_size + self.mobilenet_config.hidden_size

    def validate_architecture(self) -> None:
        """Check that both towers hear the same windows; also part of the `@strict` validation before saving."""
        for name in ("sampling_rate", "window_seconds"):
            expected, got = (getattr(config, name) for config in (self.musicnn_config, self.mobilenet_config))
            if expected != got:
                raise ValueError(
                    f"MusCALLEnsembleConfig: both towers must have one `{name}`, got {expected!r} and {got!r}."
                )


@strict
class MusCALLConfig(PreTrainedConfig):
    r"""
    Configuration of a [`MusCALLModel`]: the two towers and the space they share. The defaults are the paper's released
    configuration.

    Args:
        audio_config (`dict` or `MusCALLTowerConfig`, *optional*):
            The audio tower: the paper's ResNet, or the one that the dictionary's `model_type` names.
        text_config (`dict` or `PreTrainedConfig`, *optional*):
            Any text encoder that `AutoConfig` knows, named by its `model_type`. A dictionary without `model_type` is
            CLIP's text transformer, and what it leaves out is the paper's: 4 layers, 512 wide, 8 heads, 49,408 tokens,
            77 positions, exact GELU.
        text_pooling (`str`, *optional*, defaults to `"eos"`):
            Which token stands for the sentence: `"eos"` (the first end-of-text token), `"cls"` (the first token) or
            `"mean"` (the mean of all tokens that are not padding).
        projection_dim (`int`, *optional*, defaults to 512):
            Size of the shared embedding space.
        projection_hidden_size (`int`, *optional*):
            Size of a hidden layer in both projections into that space; without it they are linear, as in the paper.
        logit_scale_init_value (`float`, *optional*, defaults to ln(1 / 0.07)):
            Initial logarithm of the logit scale; at most ln(100), where the scale is clamped.
        initializer_range (`float`, *optional*, defaults to 0.02):
            Standard deviation for the weights of layers that have no rule of their own.

    Raises:
        `ValueError`: if a value is out of its range; the message names field, value and range.

    Example:

    ```python
    >>> config = MusCALLConfig(text_config={"num_hidden_layers": 2})
    >>> config.text_config.model_type, config.text_config.num_hidden_layers, config.audio_config.window_seconds
    ('clip_text_model', 2, 20)

    ```"""

    model_type = "muscall"
    sub_configs_defaults = {
        "audio_config": MusCALLAudioConfig,
        "text_config": SubConfigSpec(
            config_class=AutoConfig, model_type="clip_text_model", init_kwargs=DEFAULT_TEXT_CONFIG
        ),
    }

    audio_config: dict | PreTrainedConfig | None = None
    text_config: dict | PreTrainedConfig | None = None
    text_pooling: str = "eos"
    projection_dim: int = 512
    projection_hidden_size: int | None = None
    logit_scale_init_value: float | int = math.log(1 / 0.07)
    initializer_range: float | int = 0.02

    def __post_init__(self, **kwargs: Any):
        if isinstance(self.text_config, dict) and "model_type" not in self.text_config:
            self.text_config = {**DEFAULT_TEXT_CONFIG, **self.text_config}
        if isinstance(self.audio_config, dict):
            self.audio_config = _make_audio_config(self.audio_config)
        super().__post_init__(**kwargs)
        self.validate_architecture()  # here too, so that construction raises a plain `ValueError`

    def validate_architecture(self) -> None:
        """Check every value against its range; also part of the `@strict` validation before saving."""
        _check(self.text_pooling in ("eos", "cls", "mean"), self, "text_pooling", "'eos', 'cls' or 'mean'")
        _check(
            self.text_pooling != "eos" or self.text_config.eos_token_id in range(self.text_config.vocab_size),
            self,
            "text_pooling",
            "'cls' or 'mean' for a text encoder whose eos_token_id is not one token of its vocabulary",
        )
        _check(self.projection_dim > 0, self, "projection_dim", "an integer above 0")
        _check(
            self.projection_hidden_size is None or self.projection_hidden_size > 0,
            self,
            "projection_hidden_size",
            "an integer above 0, or None",
        )
        _check(
            -math.inf < self.logit_scale_init_value <= math.log(100),
            self,
            "logit_scale_init_value",
            "at most ln(100) = 4.6052",
        )
        _check(self.initializer_range > 0, self, "initializer_range", "above 0")


AUDIO_CONFIGS: dict[str, type[MusCALLTowerConfig]] = {
    config.model_type: config
    for config in (MusCALLAudioConfig, MusCALLMusicnnConfig, MusCALLMobileNetConfig, MusCALLEnsembleConfig)
}


def _make_audio_config(values: dict[str, Any]) -> MusCALLTowerConfig:
    model_type = values.get("model_type", MusCALLAudioConfig.model_type)
    if model_type not in AUDIO_CONFIGS:
        raise ValueError(
            f"MusCALLConfig: `audio_config` must be of type {' or '.join(AUDIO_CONFIGS)}, got {model_type!r}."
        )
    return AUDIO_CONFIGS[model_type](**{name: value for name, value in values.items() if name != "model_type"})


def _check(condition: bool, config: PreTrainedConfig, name: str, expected: str):
    if not condition:
        raise ValueError(f"{type(config).__name__}: `{name}` must be {expected}, got {getattr(config, name)!r}.")


for config_class in (MusCALLConfig, *AUDIO_CONFIGS.values()):
    config_class.register_for_auto_class()

__all__ = [
    "AUDIO_CONFIGS",
    "MusCALLAudioConfig",
    "MusCALLConfig",
    "MusCALLEnsembleConfig",
    "MusCALLMobileNetConfig",
    "MusCALLMusicnnConfig",
    "MusCALLTowerConfig",
]
