# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
A fast audio tower learns what a slow one hears: the ResNet gives the features and tag probabilities of musicnn for the
same audio, which is augmented and mixed so that there is more of it (https://arxiv.org/abs/2106.05237).
"""

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset
from safetensors.torch import load_file

from configuration_muscall import MusCALLMusicnnConfig
from modeling_muscall import MusCALLAudioModel, MusCALLMusicnnModel
from muscall.data.windows import TrainingWindows
from muscall.training.augmentation import WaveformAugmentation
from muscall.training.frozen import FrozenTower


MIX_PROBABILITY = 0.5
MIX_DECIBELS = (3, 12)  # how far the second track lies under the first, whose captions still hold


class Distillation:
    """
    Compares a student with its teacher patch by patch, 3 s each.

    Args:
        folder (`str`):
            What `scripts.convert_musicnn.py` writes: the teacher, and the layers that name its tags.
        student (`MusCALLAudioModel`):
            Its pooled feature must be as wide as the teacher's, and an average, as the teacher's is.

    Raises:
        `ValueError`: if the two do not hear the same windows, or their features differ in size.
    """

    def __init__(self, folder: str, student: MusCALLAudioModel):
        tags = Path(folder) / "tags.safetensors"
        if not tags.exists():
            raise ValueError(f"{folder} is no teacher: expected tags.safetensors there, convert_musicnn.py writes it")
        teacher = MusCALLMusicnnModel.from_pretrained(folder, dtype=torch.float32).eval().requires_grad_(False)
        if not isinstance(student, MusCALLAudioModel) or student.config.pooling != "average":
            raise ValueError("distillation is for the ResNet tower with pooling: average")
        for name in ("sampling_rate", "window_seconds", "hidden_size"):
            wanted, got = getattr(teacher.config, name), getattr(student.config, name)
            if wanted != got:
                raise ValueError(f"the student's {name} must be the teacher's, {wanted}, got {got}")
        self.teacher = FrozenTower(teacher, save_all=True)
        layer = load_file(tags)
        self.weight, self.bias = layer["weight"], layer["bias"]  # (hidden_size, tags), (tags,)
        # The features end in a batch norm: what it multiplies with is how far each spreads.
        self.spread = torch.cat([network.dense_norm.weight.abs() for network in teacher.networks])
        self.overlap = patch_overlap(teacher.config, student.config.grid_size[1])

    def student_features(self, student: MusCALLAudioModel, cells: torch.Tensor) -> torch.Tensor:
        """The cells of the trunk `(batch_size, num_cells, channels)` -> `(batch_size, patches, hidden_size)`"""
        columns = cells.unflatten(1, student.config.grid_size).mean(1)  # (batch_size, time, channels)
        return student.pool.out_proj(self.overlap.to(columns) @ columns)

    def loss(
        self, features: torch.Tensor, teacher_features: torch.Tensor, projection: torch.nn.Module
    ) -> torch.Tensor:
        """
        How far the features are apart: their mean squared error, each by its spread; the Kullback-Leibler divergence
        of the tag probabilities, summed over the tags; and the cosine distance of what the projection makes of them.

        Args:
            features (`torch.FloatTensor` of shape `(batch_size, patches, hidden_size)`), teacher_features: alike.
            projection (`torch.nn.Module`): `(..., hidden_size)` -> `(..., projection_dim)`, the model's.

        Returns:
            `torch.FloatTensor` of shape `(batch_size,)`, the sum of the three.
        """
        features, teacher_features = features.float(), teacher_features.float()
        weight, bias, spread = (tensor.to(features) for tensor in (self.weight, self.bias, self.spread))
        error = ((features - teacher_features) / spread).square().mean((1, 2))
        logits, wanted = (some @ weight + bias for some in (features, teacher_features))
        probability = wanted.sigmoid()
        divergence = F.binary_cross_entropy_with_logits(logits, probability, reduction="none")
        divergence = divergence - F.binary_cross_entropy_with_logits(wanted, probability, reduction="none")
        with torch.no_grad():
            wanted = projection(teacher_features)
        distance = 1 - F.cosine_similarity(projection(features).float(), wanted.float(), dim=-1)
        return error + divergence.sum(2).mean(1) + distance.mean(1)


def patch_overlap(config: MusCALLMusicnnConfig, num_columns: int) -> torch.Tensor:
    """
    How much each of the student's columns of time, which share the window evenly, counts in each patch of the
    teacher: `(patches, num_columns)`, rows that sum to 1.
    """
    starts = torch.tensor(config.patch_starts)[:, None]
    edges = torch.linspace(0, config.window_frames, num_columns + 1)
    shared = torch.minimum(edges[1:], starts + config.patch_frames) - torch.maximum(edges[:-1], starts)
    return F.normalize(shared.clamp(min=0), p=1, dim=1)


class FunctionMatchingWindows(TrainingWindows):
    """
    [`TrainingWindows`], augmented: equalised, in another pitch, louder or softer, with noise, and with a second track
    under it. Each window comes in `variants` ways, the first as it is, one an epoch and then again, so that the
    teacher, which is slow, need not hear each anew; captions are drawn anew each epoch.

    Args:
        variants (`int`): How many.
    """

    def __init__(self, tracks: Dataset, sampling_rate: int, window_samples: int, seed: int, variants: int):
        super().__init__(tracks, sampling_rate, window_samples, seed)
        self.variants = variants
        self.augmentation = WaveformAugmentation(equalisation_probability=0.5)

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
    """The sum of both, `other` at `decibels` under `samples` in power; silence adds nothing."""
    power, other_power = np.square(samples).mean(), np.square(other).mean()
    if other_power == 0:
        return samples
    return samples + other * np.float32(math.sqrt(power / other_power) * 10 ** (-decibels / 20))
