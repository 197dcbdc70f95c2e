# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Checkpoints of this repository and transformers' CLAP behind one interface: texts, tracks, windows to embeddings."""

import hashlib
import inspect
import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from transformers import (
    AutoProcessor,
    BatchEncoding,
    ClapFeatureExtractor,
    ClapModel,
    ClapProcessor,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    ProcessorMixin,
)

from audio_muscall import AudioSource
from modeling_muscall import MusCALLModel
from modeling_muscall_musicnn import MusCALLMusicnnModel
from muscall.checkpoint import damaged_weights_in_words, resolve
from muscall.data.tracks import audio_source
from muscall.hashing import hash_folder, hash_weights
from processing_muscall import MusCALLFeatureExtractor, MusCALLProcessor


class Encoder(ABC):
    """
    A dual encoder and what it reads.

    Args:
        model (`PreTrainedModel`):
            The dual encoder. It is put into evaluation mode.
        processor (`ProcessorMixin`):
            The processor of the model.
        feature_extractor (`MusCALLFeatureExtractor`):
            Cuts tracks into windows at the rate and of the length that the model takes.
        folder (`Path`, *optional*):
            Where the checkpoint lies. A model in training has none.

    Attributes:
        logit_scale (`float`): What the model multiplies cosine similarities with.
        collate_audio (`Callable`): Tracks, rows of `muscall.data.sources.load_corpus` -> inputs of `audio_features`.
        collate_text (`Callable`): Sentences -> inputs of `text_features`. Neither holds the model, so that both can be
            sent to the workers of a data loader.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        processor: ProcessorMixin,
        feature_extractor: MusCALLFeatureExtractor,
        folder: Path | None = None,
    ):
        self.model, self.processor = model.eval(), processor
        self.feature_extractor, self.folder = feature_extractor, folder

    @abstractmethod
    def audio_features(self, **inputs: torch.Tensor) -> torch.Tensor:
        """Return L2-normalised embeddings of shape `(tracks, dim)` for what `collate_audio` returned."""

    @abstractmethod
    def text_and_sentence_features(self, **inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Return for what `collate_text` returned two L2-normalised embeddings: that of the space that texts share with
        audio, of shape `(texts, dim)`, and that in which texts are compared with texts, of shape
        `(texts, sentence_dim)`.
        """

    def text_features(self, **inputs: torch.Tensor) -> torch.Tensor:
        """Return L2-normalised embeddings of shape `(texts, dim)` for what `collate_text` returned."""
        return self.text_and_sentence_features(**inputs)[0]

    def use_bfloat16(self):
        """
        Compute embeddings of audio in bfloat16 from now on, if the device multiplies matrices in it and the model is
        faster for it. Texts stay in float32, and so do all embeddings that are returned.
        """
        # The taggers are large products of matrices; a MobileNet alone is not, and gains nothing.
        has_taggers = any(isinstance(module, MusCALLMusicnnModel) for module in self.model.modules())
        if has_taggers and multiplies_bfloat16(self.model.device):
            self.model.audio_model.to(torch.bfloat16)
            self.model.audio_projection.to(torch.bfloat16)

    @abstractmethod
    def embed_windows(self, input_values: np.ndarray) -> np.ndarray:
        """Embed windows `(windows, samples)` as L2-normalised float32 `(windows, dim)`."""

    def embed_track(
        self, track: AudioSource, windows: int | str | Callable[[int], tuple[np.ndarray, np.ndarray]] = "all"
    ) -> np.ndarray:
        """
        Embed a track of any length, in any form that the processor takes, as L2-normalised `(dim,)`.

        Args:
            windows (`int`, `str` or `Callable`, *optional*, defaults to `"all"`):
                Which windows are heard, see [`MusCALLFeatureExtractor.iter_windows`].
        """
        total = 0
        for batch in self.feature_extractor.iter_windows(track, windows=windows):
            total = total + batch["window_weights"] @ self.embed_windows(batch["input_values"])
        return total / np.linalg.norm(total)

    def embed_texts(self, texts: list[str]) -> np.ndarray:
        """Embed sentences as L2-normalised float32 `(texts, dim)`."""
        return self.embed_sentences(texts)[0]

    @torch.no_grad()
    def embed_sentences(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Embed sentences twice, as [`text_and_sentence_features`] says, in float32."""
        inputs = {name: values.to(self.model.device) for name, values in self.collate_text(texts).items()}
        text_embeds, sentence_embeds = self.text_and_sentence_features(**inputs)
        return text_embeds.float().cpu().numpy(), sentence_embeds.float().cpu().numpy()

    @property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer of the text tower."""
        return self.processor.tokenizer

    def protocol(self) -> dict[str, str | int | float]:
        """Return what decides which audio is heard: `windows`, `window_seconds` and `sampling_rate`."""
        return {
            "windows": self.feature_extractor.windows,
            "window_seconds": self.feature_extractor.window_seconds,
            "sampling_rate": self.feature_extractor.sampling_rate,
        }

    def describe(self) -> dict[str, str | int | float]:
        """Return what decides the embeddings of an index, and the path of the checkpoint, to load it again."""
        return {
            "path": str(self.folder.absolute()),
            "weights": hash_weights(self.folder),
            "window_seconds": float(self.feature_extractor.window_seconds),
            "sampling_rate": self.feature_extractor.sampling_rate,
            "dim": self.model.config.projection_dim,
        }

    def identity(self) -> str:
        """
        Return a hash of all that the embeddings depend on: weights, code, processor, window policy, versions of the
        libraries, and device.
        """
        digest = hashlib.sha256(f"{self.protocol()} {self.model.config.to_json_string(use_diff=False)}".encode())
        for name, tensor in self.model.state_dict().items():
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        digest.update(f"{torch.__version__} {transformers.__version__} {self.model.device.type}".encode())
        for path in _code_files():
            digest.update(path.read_bytes())
        with tempfile.TemporaryDirectory() as folder:
            self.processor.save_pretrained(folder)
            digest.update(hash_folder(Path(folder)).encode())
        return digest.hexdigest()


class MusCALLEncoder(Encoder):
    """A [`MusCALLModel`] with its [`MusCALLProcessor`]."""

    def __init__(self, model: MusCALLModel, processor: MusCALLProcessor, folder: Path | None = None):
        super().__init__(model, processor, processor.feature_extractor, folder)
        self.collate_audio = partial(_collate_windows, processor.feature_extractor)
        self.collate_text = partial(_collate_text, processor)

    @property
    def logit_scale(self) -> float:
        return self.model.scale_similarity(torch.ones(())).item()

    def audio_features(self, **inputs: torch.Tensor) -> torch.Tensor:
        return self.model.get_audio_features(**inputs).pooler_output

    def text_and_sentence_features(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        outputs = self.model.get_text_features(input_ids, attention_mask)
        # What the projection gets: of a text tower that began as a sentence encoder, it still is a sentence embedding.
        pooled = self.model._pool_text(outputs.last_hidden_state, input_ids, attention_mask)
        return outputs.pooler_output, F.normalize(pooled, dim=-1)

    @torch.no_grad()
    def embed_windows(self, input_values: np.ndarray) -> np.ndarray:
        features = self.audio_features(input_values=torch.from_numpy(input_values).to(self.model.device))
        if features.dtype != torch.float32:
            features = F.normalize(features.float(), dim=-1)  # rounded numbers have another length
        return features.cpu().numpy()


class ClapEncoder(Encoder):
    """
    A [`ClapModel`] with the windows of this repository, each of the length that CLAP was made for: its own feature
    extractor would take a random part of a long track.
    """

    def __init__(self, model: ClapModel, processor: ClapProcessor, folder: Path | None = None):
        self.clap_extractor = processor.feature_extractor
        feature_extractor = MusCALLFeatureExtractor(
            sampling_rate=self.clap_extractor.sampling_rate, window_seconds=self.clap_extractor.max_length_s
        )
        super().__init__(model, processor, feature_extractor, folder)
        self.collate_audio = partial(_collate_clap, self.clap_extractor, feature_extractor)
        self.collate_text = partial(_collate_text, partial(processor.tokenizer, padding=True, truncation=True))

    @property
    def logit_scale(self) -> float:
        return self.model.logit_scale_a.exp().item()

    def _embed_spectrograms(self, input_features: torch.Tensor, is_longer: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.model.get_audio_features(input_features, is_longer=is_longer).pooler_output, dim=-1)

    def audio_features(
        self, input_features: torch.Tensor, is_longer: torch.Tensor, window_weights: torch.Tensor
    ) -> torch.Tensor:
        real = window_weights > 0
        windows = self._embed_spectrograms(input_features, is_longer) * window_weights[real][:, None]
        tracks = real.nonzero()[:, 0]
        return F.normalize(windows.new_zeros(len(real), windows.shape[1]).index_add(0, tracks, windows), dim=-1)

    def text_and_sentence_features(self, **inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = F.normalize(self.model.get_text_features(**inputs).pooler_output, dim=-1)
        return features, features

    @torch.no_grad()
    def embed_windows(self, input_values: np.ndarray) -> np.ndarray:
        inputs = _clap_inputs(self.clap_extractor, input_values)
        features = self._embed_spectrograms(**{name: value.to(self.model.device) for name, value in inputs.items()})
        return features.float().cpu().numpy()


def load_encoder(model_name_or_path: str | Path, windows: str | int | None = None) -> Encoder:
    """
    Load a checkpoint in float32, with the code of this checkout.

    Args:
        model_name_or_path (`str` or `Path`):
            The folder or Hub id of a checkpoint of this repository, or of transformers' CLAP.
        windows (`str` or `int`, *optional*):
            Which windows of a track are heard, see [`MusCALLFeatureExtractor`]. Defaults to the setting of the
            checkpoint, for CLAP to `"all"`.

    Raises:
        `ValueError`: if the folder holds neither, or no weights.
    """
    folder = resolve(str(model_name_or_path))
    has_weights = any(folder.glob("model*.safetensors")) or any(folder.glob("pytorch_model*.bin"))
    no_weights = f"{folder} holds no weights: name a checkpoint with --model, for instance runs/default"
    if not has_weights and not (folder / "config.json").exists():
        raise ValueError(no_weights)
    model_type = PreTrainedConfig.get_config_dict(folder)[0].get("model_type")
    if model_type not in ("muscall", "clap"):
        raise ValueError(
            f"{folder} holds a {model_type!r} model: expected a dual encoder of audio and text, 'muscall' or 'clap'"
        )
    if not has_weights:
        raise ValueError(no_weights)
    if model_type == "muscall":
        processor = MusCALLProcessor(
            MusCALLFeatureExtractor.from_pretrained(folder), PreTrainedTokenizerFast.from_pretrained(folder)
        )
        with damaged_weights_in_words(folder):
            model = MusCALLModel.from_pretrained(folder, dtype=torch.float32)
        encoder = MusCALLEncoder(model, processor, folder)
    else:
        with damaged_weights_in_words(folder):
            model = ClapModel.from_pretrained(folder, dtype=torch.float32)
        encoder = ClapEncoder(model, AutoProcessor.from_pretrained(folder), folder)
    if windows is not None:
        settings = {"sampling_rate": encoder.feature_extractor.sampling_rate, "windows": windows}
        settings["window_seconds"] = encoder.feature_extractor.window_seconds
        encoder.feature_extractor.windows = MusCALLFeatureExtractor(**settings).windows  # the class checks the value
    return encoder


def multiplies_bfloat16(device: torch.device) -> bool:
    """Return whether a device multiplies matrices in bfloat16. Without AMX, a processor is slower in it."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # oneDNN, which computes the products, leaves AMX alone where the variable says so.
    return device.type == "cpu" and torch.cpu._is_amx_tile_supported() and "ONEDNN_MAX_CPU_ISA" not in os.environ


def _code_files() -> list[Path]:
    """Return the files that compute embeddings: those of the public classes, all beside each other, and this one."""
    public = Path(inspect.getfile(MusCALLFeatureExtractor)).parent.glob("*muscall*.py")
    return [*sorted(public), Path(__file__)]


def _collate_windows(feature_extractor: MusCALLFeatureExtractor, tracks: list[dict]) -> dict[str, torch.Tensor]:
    return dict(feature_extractor([audio_source(track) for track in tracks], return_tensors="pt"))


def _clap_inputs(clap_extractor: ClapFeatureExtractor, windows: np.ndarray) -> dict[str, torch.Tensor]:
    features = clap_extractor(list(windows), sampling_rate=clap_extractor.sampling_rate, return_tensors="pt")
    # No window is longer than CLAP's own length. A fusing feature extractor would call a random one of them longer.
    is_longer = torch.zeros(len(windows), 1, dtype=torch.bool)
    return {"input_features": features["input_features"], "is_longer": is_longer}


def _collate_clap(
    clap_extractor: ClapFeatureExtractor, feature_extractor: MusCALLFeatureExtractor, tracks: list[dict]
) -> dict[str, torch.Tensor]:
    inputs = _collate_windows(feature_extractor, tracks)
    windows = inputs["input_values"][inputs["window_weights"] > 0].numpy()
    return _clap_inputs(clap_extractor, windows) | {"window_weights": inputs["window_weights"]}


def _collate_text(tokenize: Callable[..., BatchEncoding], texts: list[str]) -> dict[str, torch.Tensor]:
    inputs = tokenize(text=list(texts), return_tensors="pt")
    return {name: inputs[name] for name in ("input_ids", "attention_mask")}
