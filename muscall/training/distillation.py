# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
Distillation: a fast audio tower, the student, learns to give the features and tag probabilities that a slow one, the
teacher, gives for the same audio. The audio is augmented and mixed, so that there is more of it
(https://arxiv.org/abs/2106.05237).
"""

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset
from safetensors.torch import load_file

from configuration_muscall import MusCALLMusicnnConfig
from modeling_muscall import MusCALLModel, MusCALLMusicnnModel
from muscall.data.windows import TrainingWindows
from muscall.training.augmentation import WaveformAugmentation
from muscall.training.frozen import FrozenTower, WindowCache
from muscall.training.objectives import Chunk, Task


EQUALISATION_PROBABILITY = 0.5
MIX_PROBABILITY = 0.5
MIX_DECIBELS = (3, 12)  # how far the second track lies under the first, whose captions still hold


class DistillationTask(Task):
    """
    The student gives the features of its teacher, patch by patch of 3 s.

    Args:
        folder (`str`):
            What `scripts/convert_musicnn.py` writes: the teacher, and the layer that names its tags.
        model (`MusCALLModel`):
            Its audio tower is the student, whose pooled feature must be as wide as the teacher's, and an average, as
            the teacher's is.
        weight (`float`, *optional*, defaults to 1):
            Share of this task in the loss.

    Raises:
        `ValueError`: if the folder holds no teacher, the two do not hear the same windows, or their features differ in
            size.
    """

    name = "distillation"
    trains = frozenset({"audio_model"})

    def __init__(self, folder: str, model: MusCALLModel, weight: float = 1.0) -> None:
        cache = WindowCache(save_all=True)
        super().__init__(weight, caches=[cache])
        tags = Path(folder) / "tags.safetensors"
        if not tags.exists():
            raise ValueError(
                f"{folder} is no teacher: expected tags.safetensors there, scripts/convert_musicnn.py writes it"
            )
        teacher = MusCALLMusicnnModel.from_pretrained(folder, dtype=torch.float32).eval().requires_grad_(False)
        student = model.audio_model
        if not student.num_columns:
            raise ValueError("distillation is for the ResNet tower with pooling: average")
        for name in ("sampling_rate", "window_seconds", "hidden_size"):
            expected, got = getattr(teacher.config, name), getattr(student.config, name)
            if expected != got:
                raise ValueError(f"the student's {name} must be the teacher's, {expected}, got {got}")
        self.model = model
        self.teacher = FrozenTower(teacher, cache)
        layer = load_file(tags)
        self.tag_weight, self.tag_bias = layer["weight"], layer["bias"]  # (hidden_size, tags), (tags,)
        # The features end in a batch norm: what it multiplies with is how far each spreads.
        self.spread = torch.cat([network.dense_norm.weight.abs() for network in teacher.networks])
        self.overlap = patch_overlap(teacher.config, student.num_columns)

    def augment(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Add what the teacher makes of the windows."""
        return {**inputs, "teacher_features": self.teacher(inputs["input_values"]).last_hidden_state}

    def forward(self, chunk: Chunk) -> dict[str, torch.Tensor]:
        """Return `distillation`, the distance of each window's features from the teacher's, of shape `(pairs,)`."""
        hidden_states = chunk.audio.last_hidden_state[: chunk.num_pairs]
        features = self.model.audio_model.pool_columns(hidden_states, self.overlap)
        return {"distillation": self.distance(features, chunk.teacher_features, self.model.audio_projection)}

    def loss(self, embeds: dict[str, torch.Tensor], targets: dict[str, torch.Tensor]) -> torch.Tensor:
        return embeds["distillation"].mean()

    def distance(
        self, features: torch.Tensor, teacher_features: torch.Tensor, projection: torch.nn.Module
    ) -> torch.Tensor:
        """
        Measure how far the features are apart: their mean squared error, each by its spread; the Kullback-Leibler
        divergence of the tag probabilities, summed over the tags; and the cosine distance of their projections.

        Args:
            features (`torch.FloatTensor` of shape `(batch_size, patches, hidden_size)`):
                Those of the student.
            teacher_features (`torch.FloatTensor` of shape `(batch_size, patches, hidden_size)`):
                Those of the teacher.
            projection (`torch.nn.Module`):
                `(..., hidden_size)` -> `(..., projection_dim)`, the model's.

        Returns:
            `torch.FloatTensor` of shape `(batch_size,)`, the sum of the three.
        """
        features, teacher_features = features.float(), teacher_features.float()
        weight, bias, spread = (tensor.to(features) for tensor in (self.tag_weight, self.tag_bias, self.spread))
        error = ((features - teacher_features) / spread).square().mean((1, 2))
        logits, teacher_logits = features @ weight + bias, teacher_features @ weight + bias
        probability = teacher_logits.sigmoid()
        divergence = F.binary_cross_entropy_with_logits(logits, probability, reduction="none")
        divergence = divergence - F.binary_cross_entropy_with_logits(teacher_logits, probability, reduction="none")
        with torch.no_grad():
            teacher_embeds = projection(teacher_features)
        distance = 1 - F.cosine_similarity(projection(features).float(), teacher_embeds.float(), dim=-1)
        return error + divergence.sum(2).mean(1) + distance.mean(1)


def patch_overlap(config: MusCALLMusicnnConfig, num_columns: int) -> torch.Tensor:
    """
    Return how much each of the student's columns of time, which share the window evenly, counts in each patch of the
    teacher.

    Args:
        config (`MusCALLMusicnnConfig`):
            The teacher's configuration.
        num_columns (`int`):
            The student's columns.

    Returns:
        `torch.FloatTensor` of shape `(patches, num_columns)`, whose rows sum to 1.
    """
    starts = torch.tensor(config.patch_starts)[:, None]
    edges = torch.linspace(0, config.window_frames, num_columns + 1)
    shared = torch.minimum(edges[1:], starts + config.patch_frames) - torch.maximum(edges[:-1], starts)
    return F.normalize(shared.clamp(min=0), p=1, dim=1)


class FunctionMatchingWindows(TrainingWindows):
    """
    [`TrainingWindows`], augmented: equalised, in another pitch, louder or softer, with noise, and with a second track
    under it. Each track has one window in several variants, of which the first is not augmented. An epoch has one
    variant of each; after the last one they start again, so that the teacher, which is slow, hears each variant once.
    Captions are drawn anew each epoch.

    Args:
        variants (`int`): Variants of each track; the other arguments are those of [`TrainingWindows`].
    """

    def __init__(self, tracks: Dataset, sampling_rate: int, window_samples: int, seed: int, variants: int) -> None:
        super().__init__(tracks, sampling_rate, window_samples, seed)
        self.variants = variants
        self.augmentation = WaveformAugmentation(EQUALISATION_PROBABILITY)

    def __getitem__(self, index: int) -> dict:
        variant = self.epoch % self.variants
        random = np.random.default_rng((self.seed, variant, index))
        item = self.read(index, random)
        if variant:
            samples = item["input_values"]
            if random.random() < MIX_PROBABILITY:
                other = self.read(int(random.integers(len(self))), random)
                samples = mix(samples, other["input_values"], random.uniform(*MIX_DECIBELS))
                item["unreadable"] = item["unreadable"] + other["unreadable"]
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(random.integers(2**63)))
                item["input_values"] = self.augmentation(torch.from_numpy(samples)[None])[0].numpy()
        captions = self.tracks[item["index"]]["captions"]
        item["caption"] = captions[np.random.default_rng((self.seed, self.epoch, index)).integers(len(captions))]
        return item


def mix(samples: np.ndarray, other: np.ndarray, decibels: float) -> np.ndarray:
    """Return the sum of two sounds of one length, `other` at `decibels` under `samples` in power."""
    power, other_power = np.square(samples).mean(), np.square(other).mean()
    if other_power == 0:  # silence adds nothing
        return samples
    return samples + other * np.float32(math.sqrt(power / other_power) * 10 ** (-decibels / 20))
