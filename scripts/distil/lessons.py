# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""What the teachers make of sounds, the student that learns it, and how far it is from them."""

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torchaudio.transforms import Resample

from configuration_muscall import MusCALLMobileNetConfig
from modeling_muscall import MusCALLModel
from modeling_muscall_mobilenet import MusCALLMobileNetModel
from muscall.training.audioset import RATE as AUDIOSET_RATE
from muscall.training.audioset import AudioSetTeacher
from muscall.training.distillation import patch_overlap
from scripts.distil.sounds import RATE


WEIGHTS = {"musicnn": 1.0, "embedding": 2.0, "hidden": 0.6, "pooled": 0.3, "classes": 0.5}


@dataclass
class Lesson:
    """
    Windows, and what the teachers make of them.

    Attributes:
        waves (`torch.FloatTensor` of shape `(batch_size, samples)`): At the student's rate.
        patches (`torch.FloatTensor` of shape `(batch_size, patches, hidden_size)`): musicnn's features of 3 s each.
        pooled, hidden, logits (`torch.FloatTensor`): See [`AudioSetOutput`].
    """

    waves: torch.Tensor
    patches: torch.Tensor
    pooled: torch.Tensor
    hidden: torch.Tensor
    logits: torch.Tensor


class Teachers(nn.Module):
    """
    The teachers, frozen: the musicnn tower and the projection of a model, and the AudioSet teacher.

    Args:
        model (`MusCALLModel`): A model with a musicnn tower, such as the released one.
        audioset (`AudioSetTeacher`): See [`load_audioset_teacher`].
        window_seconds (`float`): Length of the windows of the lessons.

    Raises:
        `ValueError`: if the model has another tower.
    """

    def __init__(self, model: MusCALLModel, audioset: AudioSetTeacher, window_seconds: float):
        super().__init__()
        self.musicnn, self.audioset = copy.deepcopy(model.audio_model), audioset
        config = self.musicnn.config
        if config.model_type != "muscall_musicnn_model":
            raise ValueError(f"the teacher must have a musicnn tower, got {config.model_type}")
        config.window_seconds = window_seconds
        self.projection = copy.deepcopy(model.audio_projection)
        self.to_musicnn, self.to_audioset = Resample(RATE, config.sampling_rate), Resample(RATE, AUDIOSET_RATE)
        # The features end in a batch norm: what it multiplies with is how far each spreads.
        spread = torch.cat([network.dense_norm.weight.abs() for network in self.musicnn.networks])
        self.register_buffer("spread", spread.detach())
        added = torch.full((len(config.patch_starts),), config.patch_frames / config.window_frames)
        added[-1] = 1 - added[:-1].sum()
        self.register_buffer("added", added)  # what each patch adds to the window
        for name, size in (("pooled", audioset.pooled_size), ("hidden", audioset.hidden_size)):
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_spread", torch.ones(size))
        self.eval().requires_grad_(False)

    @torch.no_grad()
    def forward(self, waves: torch.Tensor) -> Lesson:
        """Teach windows of 24 kHz, `(batch_size, samples)`."""
        device = waves.device.type
        on_gpu, inputs = device == "cuda", self.to_musicnn(waves)
        with torch.autocast(device, torch.bfloat16, enabled=on_gpu):
            patches = self.musicnn(inputs).last_hidden_state
        with torch.autocast(device, torch.float16, enabled=on_gpu):
            output = self.audioset(self.to_audioset(waves))
        return Lesson(inputs, patches.float(), *output)

    def measure(self, lessons: list[Lesson]) -> None:
        """Keep mean and spread of what the AudioSet teacher makes of sounds, by which the distances are divided."""
        for name, least in (("pooled", 0.02), ("hidden", 0.05)):
            values = torch.cat([getattr(lesson, name) for lesson in lessons])
            getattr(self, f"{name}_mean").copy_(values.mean(0))
            getattr(self, f"{name}_spread").copy_(values.std(0).clamp(min=least))

    def embed(self, patches: torch.Tensor) -> torch.Tensor:
        """Map features of patches to the embedding of the window, not normalised."""
        return self.projection((patches * self.added[:, None]).sum(1))


class Student(nn.Module):
    """The fast tower, and two layers that only training has, for what the AudioSet teacher gives."""

    def __init__(self, config: MusCALLMobileNetConfig, teachers: Teachers):
        super().__init__()
        self.tower = MusCALLMobileNetModel(config)
        self.to_hidden = nn.Linear(config.trunk_channels, len(teachers.hidden_mean))
        self.to_pooled = nn.Linear(config.trunk_channels, len(teachers.pooled_mean))
        overlap = patch_overlap(teachers.musicnn.config, self.tower.num_columns)
        self.register_buffer("overlap", overlap, persistent=False)
        for module in self.tower.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.reset_parameters()  # PyTorch's own random state, from which the fast model was trained
            elif isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.01

    def forward(self, waves: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the features of musicnn's patches, and standardised pooled and hidden features; all float32."""
        with torch.autocast(waves.device.type, torch.bfloat16, enabled=waves.device.type == "cuda"):
            columns = self.tower(waves).last_hidden_state.float()
        mean = columns.mean(1)
        return self.tower.pool_columns(columns, self.overlap), self.to_pooled(mean), self.to_hidden(mean)


def measure_losses(student: Student, teachers: Teachers, lesson: Lesson) -> dict[str, torch.Tensor]:
    """
    Return how far the student is from its teachers.

    Returns:
        `dict[str, torch.Tensor]`, of shape `(batch_size,)` each: `musicnn`, the mean squared error of the patches'
        features, each by its spread; `embedding`, the cosine distance of the model's embeddings of the window;
        `hidden` and `pooled`, mean squared errors by the spread; `classes`, the Kullback-Leibler divergence of the
        probabilities of AudioSet's classes, summed over them, which the teacher's last layer reads from `hidden`.
    """
    patches, pooled, hidden = student(lesson.waves)
    wanted = (lesson.hidden - teachers.hidden_mean) / teachers.hidden_spread
    wanted_pooled = (lesson.pooled - teachers.pooled_mean) / teachers.pooled_spread
    logits = teachers.audioset.classifier[-1](hidden * teachers.hidden_spread + teachers.hidden_mean)
    probabilities = lesson.logits.sigmoid()
    divergence = F.binary_cross_entropy_with_logits(logits, probabilities, reduction="none")
    divergence = divergence - F.binary_cross_entropy_with_logits(lesson.logits, probabilities, reduction="none")
    return {
        "musicnn": ((patches - lesson.patches) / teachers.spread).square().mean((1, 2)),
        "embedding": 1 - F.cosine_similarity(teachers.embed(patches), teachers.embed(lesson.patches)),
        "hidden": (hidden - wanted).square().mean(1),
        "pooled": (pooled - wanted_pooled).square().mean(1),
        "classes": divergence.sum(1),
    }
