# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""PyTorch MusCALL model: an audio tower, a text tower and the space they share."""

import math
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import (
    MODEL_FOR_TEXT_ENCODING_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForTextEncoding,
    PreTrainedConfig,
    ProcessorMixin,
)
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling, ModelOutput
from transformers.utils import can_return_tuple, logging


try:  # as remote code the files are siblings in a package; in the checkout they are top-level modules
    from .configuration_muscall import MusCALLConfig
    from .modeling_muscall_ensemble import MusCALLEnsembleModel
    from .modeling_muscall_mobilenet import MusCALLMobileNetModel
    from .modeling_muscall_musicnn import MusCALLMusicnnModel
    from .modeling_muscall_resnet import MusCALLAudioModel
    from .modeling_muscall_tower import MusCALLAudioTower, MusCALLConvNorm, MusCALLPreTrainedModel
except ImportError:
    from configuration_muscall import MusCALLConfig
    from modeling_muscall_ensemble import MusCALLEnsembleModel
    from modeling_muscall_mobilenet import MusCALLMobileNetModel
    from modeling_muscall_musicnn import MusCALLMusicnnModel
    from modeling_muscall_resnet import MusCALLAudioModel
    from modeling_muscall_tower import MusCALLAudioTower, MusCALLConvNorm, MusCALLPreTrainedModel


logger = logging.get_logger(__name__)

MAX_LOGIT_SCALE = math.log(100)
COLLAPSED = 0.9988  # mean cosine of random sequences of tokens
WINDOWS_AT_ONCE = 64  # without gradients; a recording of hours has hundreds


def contrastive_loss(logits_per_text: torch.Tensor) -> torch.Tensor:
    """
    Return InfoNCE in both directions: the mean of the cross-entropies over rows (text -> audio) and over columns
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


AUDIO_MODELS: dict[str, type[MusCALLAudioTower]] = {
    tower.config_class.model_type: tower
    for tower in (MusCALLAudioModel, MusCALLMusicnnModel, MusCALLMobileNetModel, MusCALLEnsembleModel)
}


def _text_encoder_class(text_config: PreTrainedConfig) -> type[AutoModel] | type[AutoModelForTextEncoding]:
    """Return the auto class that loads an encoder without decoder and head (T5, CLIP), where there is one."""
    return AutoModelForTextEncoding if type(text_config) in MODEL_FOR_TEXT_ENCODING_MAPPING else AutoModel


def _make_projection(size: int, config: MusCALLConfig) -> nn.Module:
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

    config: MusCALLConfig

    def __init__(self, config: MusCALLConfig):
        super().__init__(config)
        self.audio_model = AUDIO_MODELS[config.audio_config.model_type]._from_config(config.audio_config)
        self.text_model = _text_encoder_class(config.text_config).from_config(config.text_config)
        self._drop_text_pooler()
        self.audio_projection = _make_projection(config.audio_config.hidden_size, config)
        self.text_projection = _make_projection(config.text_config.hidden_size, config)
        self.logit_scale = nn.Parameter(torch.tensor(float(config.logit_scale_init_value)))
        self.post_init()

    def _drop_text_pooler(self):
        # `text_pooling` replaces the pooler that BERT and similar encoders have. Unused, it would stop training with
        # DistributedDataParallel.
        if "pooler" in dict(self.text_model.named_children()):
            self.text_model.pooler = None

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike,
        *model_args: Any,
        output_loading_info: bool = False,
        **kwargs: Any,
    ) -> "MusCALLModel | tuple[MusCALLModel, dict[str, Any]]":
        """
        Load as [`PreTrainedModel.from_pretrained`] does, with a warning for each of [`find_weight_problems`].

        Raises:
            `ValueError`: if a tensor is missing, is not of this model, or holds NaN or infinity.
        """
        model, info = super().from_pretrained(
            pretrained_model_name_or_path, *model_args, output_loading_info=True, **kwargs
        )
        for problem in find_weight_problems(model):
            logger.warning(f"The checkpoint {pretrained_model_name_or_path} does not look usable: {problem}")
        return (model, info) if output_loading_info else model

    @classmethod
    def from_text_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike, *, text_pooling: str = "mean", **config_kwargs: Any
    ) -> "MusCALLModel":
        r"""
        Build a model with a pretrained text tower and everything else at random.

        Args:
            pretrained_model_name_or_path (`str` or `os.PathLike`):
                Any text encoder that `AutoModel` loads, for example `"sentence-transformers/all-MiniLM-L6-v2"`; or a
                folder with a MusCALL checkpoint, whose text tower is taken.
            text_pooling (`str`, *optional*, defaults to `"mean"`):
                `"eos"`, `"cls"` or `"mean"`; Sentence-Transformers models mostly use the mean, CLIP `"eos"`.
            config_kwargs:
                Further fields of [`MusCALLConfig`], such as `audio_config` or `projection_dim`.

        Example:

        ```python
        >>> model = MusCALLModel.from_text_pretrained("sentence-transformers/all-MiniLM-L6-v2", projection_dim=256)
        ```"""
        config_dict = PreTrainedConfig.get_config_dict(pretrained_model_name_or_path)[0]
        if config_dict.get("model_type") == MusCALLConfig.model_type:
            text_model = cls.from_pretrained(pretrained_model_name_or_path, dtype=torch.float32).text_model
            text_config = text_model.config
        else:
            text_config = AutoConfig.from_pretrained(pretrained_model_name_or_path).get_text_config()
            text_model = _text_encoder_class(text_config).from_pretrained(
                pretrained_model_name_or_path, config=text_config, dtype=torch.float32
            )
        model = cls(MusCALLConfig(text_config=text_config, text_pooling=text_pooling, **config_kwargs))
        model.text_model = text_model
        model.config.text_config.name_or_path = ""  # a local path means nothing in a published file
        model._drop_text_pooler()
        return model

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        super()._init_weights(module)
        if isinstance(module, MusCALLModel):
            init.constant_(module.logit_scale, self.config.logit_scale_init_value)
            for layer in (*_linear_layers(module.audio_projection), *_linear_layers(module.text_projection)):
                init.normal_(layer.weight, std=layer.in_features**-0.5)

    def get_input_embeddings(self) -> nn.Module:
        return self.text_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.text_model.set_input_embeddings(value)

    def _pool_text(
        self, hidden_states: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor | None
    ) -> torch.Tensor:
        """Pool `(batch_size, sequence_length, hidden_size)` to `(batch_size, hidden_size)`."""
        if self.config.text_pooling == "cls":
            return hidden_states[:, 0]
        if self.config.text_pooling == "eos":
            # The paper's code pools at the largest token id, which is the end of text in its vocabulary. So does
            # transformers for CLIP's checkpoints, whose configuration has a wrong id, 2.
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
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs: Any
    ) -> BaseModelOutputWithPooling:
        r"""
        Embed sentences.

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
        self, input_values: torch.Tensor, window_weights: torch.Tensor | None = None, **kwargs: Any
    ) -> BaseModelOutputWithPooling:
        r"""
        Embed tracks.

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
        self._check_windows(input_values, window_weights)
        if window_weights is None:
            window_weights = input_values.new_ones(input_values.shape[:2])
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

    @staticmethod
    def _check_windows(input_values: torch.Tensor, window_weights: torch.Tensor | None):
        if input_values.dim() != 3:
            raise ValueError(
                "`input_values` must have shape (batch_size, samples) or (batch_size, windows, samples), got "
                f"{tuple(input_values.shape)}."
            )
        if window_weights is not None and window_weights.shape != input_values.shape[:2]:
            raise ValueError(
                f"`window_weights` must have shape (batch_size, windows), {tuple(input_values.shape[:2])} for these "
                f"`input_values`, got {tuple(window_weights.shape)}."
            )

    def _run_windows(self, windows: torch.Tensor) -> BaseModelOutputWithPooling:
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or len(windows) <= WINDOWS_AT_ONCE:
            return self.audio_model(windows)
        parts = [self.audio_model(part) for part in windows.split(WINDOWS_AT_ONCE)]
        return BaseModelOutputWithPooling(
            last_hidden_state=torch.cat([part.last_hidden_state for part in parts]),
            pooler_output=torch.cat([part.pooler_output for part in parts]),
        )

    @torch.no_grad()
    def best_segments(
        self,
        text: str,
        track: "str | os.PathLike | bytes | np.ndarray | torch.Tensor | dict",
        processor: ProcessorMixin,
        sampling_rate: int | None = None,
        num_segments: int = 1,
    ) -> list[dict[str, float]]:
        r"""
        Find where in a track a sentence fits best. Reads the track a few windows at a time, whatever its length.

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
            `list[dict[str, float]]`: best first, with `start` and `end` in seconds and `score`, the cosine similarity.

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
        **kwargs: Any,
    ) -> MusCALLOutput:
        r"""
        Compare sentences with tracks.

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
        """Scale cosine similarities to logits; the scale is at most 100."""
        return similarity * self.logit_scale.float().to(similarity.device).clamp(max=MAX_LOGIT_SCALE).exp()


@torch.no_grad()
def find_weight_problems(model: MusCALLModel) -> list[str]:
    """
    Return signs, in words, that weights were never trained or have collapsed: a logit scale that is exactly where it
    started, a projection that is zero or cannot be told from noise, a text tower that gives unlike sequences of tokens
    the same embedding.

    The towers may learn so well that the projections hardly move: where the logit scale has, a projection as at its
    initialisation is no sign of anything.
    """
    problems = []
    start = torch.tensor(float(model.config.logit_scale_init_value))
    is_untouched = model.logit_scale.dtype == start.dtype and model.logit_scale.item() == start.item()
    if is_untouched:
        problems.append("its logit scale is exactly the initial value, so no contrastive training has touched it")
    projections = {"audio_projection": model.audio_projection, "text_projection": model.text_projection}
    for name, projection in projections.items():
        weight = _linear_layers(projection)[-1].weight.float()
        if not weight.any() or (_is_noise(weight) and (is_untouched or _has_another_spread(weight))):
            problems.append(f"`{name}` is zero, or noise as at its initialisation")
    # Other attention kernels do not run everywhere.
    if model.config.text_config._attn_implementation in ("eager", "sdpa") and not (
        mean_cosine(_embed_random_tokens(model)) < COLLAPSED
    ):
        problems.append("its text tower has collapsed: it gives unlike sentences the same embedding")
    return problems


def _is_noise(weight: torch.Tensor) -> bool:
    """Return whether a matrix has neither a strong direction nor a few numbers larger than the others."""
    # The largest singular value of independent noise (Marchenko and Pastur 1967); a projection of 256 dimensions that
    # was trained for long is 1.2 times above it, noise at most 1.02 times. One that started from the identity may be
    # below it too, but a few of its numbers are far larger than the others: normal ones have a kurtosis of 3.
    noise = weight.std() * sum(size**0.5 for size in weight.shape)
    even = weight.pow(4).mean() < 4 * weight.var().square()
    return bool(torch.linalg.matrix_norm(weight, 2) < 1.05 * noise and even)


def _has_another_spread(weight: torch.Tensor) -> bool:
    """Return whether the numbers of a projection are spread neither as at its initialisation nor nearly so."""
    # A training that leaves no direction in a matrix of this size moves its spread by a few per cent; in a smaller
    # one chance alone can hide what it learnt.
    ratio = weight.std() * weight.shape[1] ** 0.5
    return min(weight.shape) >= 64 and not 0.8 < ratio < 1.25


def _embed_random_tokens(model: MusCALLModel) -> torch.Tensor:
    """Embed 8 sequences of 8 random tokens, always the same, as `(8, projection_dim)`, float32."""
    generator = torch.Generator().manual_seed(0)
    vocab_size = model.get_input_embeddings().weight.shape[0]
    input_ids = torch.randint(vocab_size, (8, 8), generator=generator).to(model.device)
    if model.config.text_pooling == "eos":
        end = model.config.text_config.eos_token_id
        input_ids[:, -1] = vocab_size - 1 if end == 2 else end
    return model.get_text_features(input_ids, torch.ones_like(input_ids)).pooler_output.float()


def mean_cosine(embeds: torch.Tensor) -> float:
    """Return the mean cosine of all pairs of L2-normalised embeddings `(batch_size, dim)`: 1 if all are the same."""
    size = len(embeds)
    return ((embeds.sum(0).square().sum() - size) / (size * (size - 1))).item()


for model_class in (MusCALLModel, *AUDIO_MODELS.values()):
    model_class.register_for_auto_class("AutoModel")

__all__ = [
    "AUDIO_MODELS",
    "MAX_LOGIT_SCALE",
    "MusCALLAudioModel",
    "MusCALLAudioTower",
    "MusCALLConvNorm",
    "MusCALLEnsembleModel",
    "MusCALLMobileNetModel",
    "MusCALLModel",
    "MusCALLMusicnnModel",
    "MusCALLOutput",
    "MusCALLPreTrainedModel",
    "contrastive_loss",
    "find_weight_problems",
    "mean_cosine",
]
