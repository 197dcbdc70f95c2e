# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The checkpoint behind an index: loading it, telling it from others, and its embeddings."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from modeling_muscall import MusCALLModel
from processing_muscall import MusCALLFeatureExtractor, MusCALLProcessor
from training.hashing import hash_weights, resolve


CHUNK = 16  # windows that the model gets at a time; a track's chunks depend on the track alone, and so do its bits


@dataclass
class Encoder:
    """
    A checkpoint of this repository.

    Args:
        folder (`Path`): Where it lies.
        model (`MusCALLModel`): In evaluation mode.
        processor (`MusCALLProcessor`): Its processor.
    """

    folder: Path
    model: MusCALLModel
    processor: MusCALLProcessor

    @classmethod
    def load(cls, model_name_or_path: str) -> "Encoder":
        """From a folder or a Hub id, with the code of this checkout."""
        folder = resolve(model_name_or_path)
        if not any(folder.glob("model*.safetensors")):
            raise ValueError(f"{folder} holds no weights: name a checkpoint with --model, for instance runs/default")
        model = MusCALLModel.from_pretrained(folder, dtype=torch.float32)
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        return cls(folder, model, MusCALLProcessor(MusCALLFeatureExtractor.from_pretrained(folder), tokenizer))

    def describe(self) -> dict:
        """What decides the embeddings of an index, and the checkpoint's path, to load it again."""
        extractor = self.processor.feature_extractor
        return {
            "path": str(self.folder.absolute()),
            "weights": hash_weights(self.folder),
            "window_seconds": float(extractor.window_seconds),
            "sampling_rate": extractor.sampling_rate,
            "dim": self.model.config.projection_dim,
        }

    @torch.no_grad()
    def embed_windows(self, input_values: np.ndarray) -> np.ndarray:
        """`(windows, samples)` -> `(windows, dim)`, L2-normalised float32."""
        inputs = torch.from_numpy(input_values).to(self.model.device)
        return self.model.get_audio_features(inputs).pooler_output.float().cpu().numpy()

    def embed_track(self, track) -> np.ndarray:
        """A track of any length, in any form that the processor takes -> `(dim,)`, L2-normalised."""
        total = 0
        for batch in self.processor.feature_extractor.iter_windows(track, windows="all", batch_size=CHUNK):
            total = total + batch["window_weights"] @ self.embed_windows(batch["input_values"])
        return total / np.linalg.norm(total)

    @torch.no_grad()
    def embed_texts(self, texts: list[str]) -> np.ndarray:
        """Sentences -> `(texts, dim)`, L2-normalised float32."""
        inputs = self.processor(text=texts, return_tensors="pt").to(self.model.device)
        return self.model.get_text_features(**inputs).pooler_output.float().cpu().numpy()
