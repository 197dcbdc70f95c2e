# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The objective of a training: the model, the tasks that it learns, what learns beside it, and their joint loss."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from modeling_muscall import MusCALLModel
from muscall.training.augmentation import WaveformAugmentation
from muscall.training.batch_norm import BATCH_NORMS
from muscall.training.frozen import FrozenTower, WindowCache
from muscall.training.losses import (
    REFERENCE_BATCH_SIZE,
    content_weights,
    contrastive_loss,
    duplicate_mask,
    gather,
    gather_with_gradient,
    nt_xent_loss,
)


@dataclass
class Chunk:
    """
    Some pairs of the batch of this process, as the tasks see them.

    Attributes:
        audio (`BaseModelOutputWithPooling`, *optional*):
            The output of the audio tower: a row for the window of each pair, then, with self-supervision, one for each
            second view. `None` where the corpus has stored embeddings.
        text (`dict[str, torch.Tensor]`):
            `input_ids` and the rest of what the text encoder takes, of shape `(pairs, sequence_length)`.
        teacher_features (`torch.FloatTensor` of shape `(pairs, patches, hidden_size)`, *optional*):
            With distillation, what the teacher makes of the windows.
        audio_embeds (`torch.FloatTensor` of shape `(pairs, projection_dim)`, *optional*):
            The embeddings that the corpus has in the place of audio.
    """

    audio: BaseModelOutputWithPooling | None
    text: dict[str, torch.Tensor]
    teacher_features: torch.Tensor | None = None
    audio_embeds: torch.Tensor | None = None

    @property
    def num_pairs(self) -> int:
        return len(self.text["input_ids"])


class Task(ABC):
    """
    One of the things that the model learns.

    Args:
        weight (`float`):
            Share of this task in the loss, in (0, 1]; the tasks before it share the rest.
        modules (`dict[str, nn.Module]`, *optional*):
            What learns beside the model, by its name in checkpoints. It is no part of the model.
        caches (`Sequence[WindowCache]`, *optional*):
            What is worth writing to disk for later runs.

    Attributes:
        name (`str`): Its loss is logged as `<name>_loss`.
        trains (`frozenset[str]`): The parts of the model that learn from it.
    """

    name: str
    trains: frozenset[str]

    def __init__(
        self,
        weight: float = 1.0,
        modules: dict[str, nn.Module] | None = None,
        caches: Sequence[WindowCache] = (),
    ) -> None:
        self.weight, self.modules, self.caches = weight, modules or {}, caches

    def augment(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the inputs of [`Objective.forward`] with what this task changes in them or adds; once a step."""
        return inputs

    @abstractmethod
    def forward(self, chunk: Chunk) -> dict[str, torch.Tensor]:
        """Return what `loss` needs of these pairs, a row for each."""

    @abstractmethod
    def loss(self, embeds: dict[str, torch.Tensor], targets: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the loss over the global batch; `embeds` holds what `forward` returned, of all processes."""


class ContrastiveTask(Task):
    """
    Captions find their tracks, and tracks their captions.

    Args:
        model (`MusCALLModel`):
            The model to train.
        content_weighting (`bool`, *optional*, defaults to `False`):
            Whether pairs count by `content_weights` of their captions.
        reference_batch_size (`int`, *optional*, defaults to 256):
            That of `content_weights`.
        stored_embeds (`bool`, *optional*, defaults to `False`):
            Whether the corpus has embeddings in the place of audio, from which the side of the sentences alone learns.
    """

    name = "contrastive"

    def __init__(
        self,
        model: MusCALLModel,
        content_weighting: bool = False,
        reference_batch_size: int | None = REFERENCE_BATCH_SIZE,
        stored_embeds: bool = False,
    ) -> None:
        super().__init__()
        text_side = frozenset({"text_model", "text_projection", "logit_scale"})
        self.trains = text_side if stored_embeds else text_side | {"audio_model", "audio_projection"}
        self.model, self.content_weighting, self.reference_batch_size = model, content_weighting, reference_batch_size

    def forward(self, chunk: Chunk) -> dict[str, torch.Tensor]:
        """Return `text_embeds` and `audio_embeds` of shape `(pairs, projection_dim)`, L2-normalised."""
        text_embeds = self.model.get_text_features(**chunk.text).pooler_output
        if chunk.audio_embeds is None:
            audio_embeds = self.model.audio_projection(chunk.audio.pooler_output[: chunk.num_pairs])
        else:
            audio_embeds = chunk.audio_embeds
        return {"text_embeds": text_embeds, "audio_embeds": F.normalize(audio_embeds, dim=-1)}

    def loss(self, embeds: dict[str, torch.Tensor], targets: dict[str, torch.Tensor]) -> torch.Tensor:
        weights = None
        if self.content_weighting:
            weights = content_weights(targets["caption_embeds"], reference_batch_size=self.reference_batch_size)
        return contrastive_loss(
            self.model.scale_similarity(embeds["text_embeds"] @ embeds["audio_embeds"].t()),
            duplicate_mask(targets["track_ids"], targets["caption_ids"]),
            weights,
        )


class SelfSupervisionTask(Task):
    """
    Two augmented views of a window find each other (SimCLR). The first is also the one that is compared with the
    captions: so the audio tower runs twice a step and not three times.

    Args:
        hidden_size (`int`):
            Size of the pooled feature of the audio tower.
        weight (`float`):
            Share of this task in the loss; 0.3 in the paper.
    """

    name = "ssl"
    trains = frozenset({"audio_model"})

    def __init__(self, hidden_size: int, weight: float) -> None:
        self.projector = nn.Sequential(
            nn.Linear(hidden_size, hidden_size, bias=False),
            nn.ReLU(),
            nn.Linear(hidden_size, hidden_size // 2, bias=False),
        )
        self.augmentation = WaveformAugmentation()
        super().__init__(weight, {"ssl_projector": self.projector})

    def augment(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        windows = inputs["input_values"]
        return {**inputs, "input_values": self.augmentation(windows), "second_view": self.augmentation(windows)}

    def forward(self, chunk: Chunk) -> dict[str, torch.Tensor]:
        """Return `first_view` and `second_view` of shape `(pairs, hidden_size // 2)`."""
        first, second = self.projector(chunk.audio.pooler_output).chunk(2)
        return {"first_view": first, "second_view": second}

    def loss(self, embeds: dict[str, torch.Tensor], targets: dict[str, torch.Tensor]) -> torch.Tensor:
        same_track = duplicate_mask(targets["track_ids"], targets["track_ids"])
        return nt_xent_loss(embeds["first_view"], embeds["second_view"], duplicates=same_track)


class Objective(nn.Module):
    """
    The model with the tasks that it learns. `forward` embeds pairs and may be run on a part of the batch at a time;
    `loss` takes the embeddings of all pairs of this process and gathers those of the other processes.

    Args:
        model (`MusCALLModel`):
            The model to train.
        tasks (`Sequence[Task]`):
            What it learns. Each task takes its share of the loss from those before it, and sees the windows as those
            before it augmented them.

    Attributes:
        frozen (`set[str]`): The towers that do not learn.
        embedding_norms (`dict[str, torch.Tensor]`): The mean norm of the newest embeddings, before normalisation.
    """

    def __init__(self, model: MusCALLModel, tasks: Sequence[Task]) -> None:
        super().__init__()
        self.model, self.tasks = model, tuple(tasks)
        for task in self.tasks:
            for name, module in task.modules.items():
                self.add_module(name, module)
        self.frozen: set[str] = set()
        self.batch_norm_is_frozen = False
        self.window_cache: WindowCache | None = None
        self.embedding_norms: dict[str, torch.Tensor] = {}
        model.audio_projection.register_forward_hook(partial(self._record_norm, "audio_embedding"))
        model.text_projection.register_forward_hook(partial(self._record_norm, "text_embedding"))

    @torch.no_grad()
    def _record_norm(self, name: str, module: nn.Module, args: tuple, output: torch.Tensor) -> None:
        self.embedding_norms[name] = output.float().norm(dim=-1).mean()

    def freeze(self, towers: set[str], batch_norm: bool = False) -> None:
        """
        Stop towers from learning, and let all else learn that has a task.

        Args:
            towers (`set[str]`):
                Of `"audio_model"` and `"text_model"`. A frozen tower runs in evaluation mode.
            batch_norm (`bool`, *optional*, defaults to `False`):
                Whether the running statistics stay in use as constants in towers that learn, too.
        """
        self.frozen, self.batch_norm_is_frozen = set(towers), batch_norm
        self.window_cache = (self.window_cache or WindowCache()) if "audio_model" in towers else None
        learning = frozenset().union(*(task.trains for task in self.tasks)) - towers
        for name, part in self.model.named_children():
            part.requires_grad_(name in learning)
        self.model.logit_scale.requires_grad_("logit_scale" in learning)
        if batch_norm:
            for parameter in self.model.audio_model.constant_norm_parameters():
                parameter.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> "Objective":
        super().train(mode)
        for tower in self.frozen:
            self.model.get_submodule(tower).eval()
        if self.batch_norm_is_frozen:
            for module in self.modules():
                if isinstance(module, BATCH_NORMS):
                    module.eval()
        return self

    @property
    def audio_tower(self) -> nn.Module:
        """The audio tower, behind its cache where it is frozen."""
        # Made when it is used: as a submodule it would put the tower's tensors into checkpoints a second time.
        tower = self.model.audio_model
        return tower if self.window_cache is None else FrozenTower(tower, self.window_cache)

    @contextmanager
    def evaluated_model(self) -> Iterator[MusCALLModel]:
        """Yield the model for evaluation, a frozen audio tower behind its cache; checkpoints are for afterwards."""
        tower, self.model.audio_model = self.model.audio_model, self.audio_tower
        try:
            yield self.model
        finally:
            self.model.audio_model = tower

    def save_caches(self) -> None:
        """Write to disk what later runs can use."""
        caches = [cache for task in self.tasks for cache in task.caches]
        for cache in caches if self.window_cache is None else [self.window_cache, *caches]:
            cache.save()

    def augment(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the inputs of `forward` for collated ones; once a step, so that every chunking sees the same."""
        for task in self.tasks:
            inputs = task.augment(inputs)
        return inputs

    def forward(
        self,
        input_values: torch.Tensor | None = None,
        second_view: torch.Tensor | None = None,
        teacher_features: torch.Tensor | None = None,
        audio_embeds: torch.Tensor | None = None,
        **text: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """
        Args:
            input_values (`torch.FloatTensor` of shape `(batch_size, samples)`, *optional*):
                One window of each track; without them, `audio_embeds` stand in their place.
            second_view (`torch.FloatTensor` of shape `(batch_size, samples)`, *optional*):
                The same windows, augmented otherwise.
            teacher_features (`torch.FloatTensor` of shape `(batch_size, patches, hidden_size)`, *optional*):
                What the teacher makes of `input_values`.
            audio_embeds (`torch.FloatTensor` of shape `(batch_size, projection_dim)`, *optional*):
                What a corpus without audio has for each track.
            text:
                `input_ids` and the rest of what the text encoder takes, of shape `(batch_size, sequence_length)`.

        Returns:
            What the tasks return for these pairs.
        """
        windows = input_values if second_view is None else torch.cat([input_values, second_view])
        audio = None if windows is None else self.audio_tower(windows)
        chunk = Chunk(audio, text, teacher_features, audio_embeds)
        # The contrastive task comes last: its embeddings are those whose norms are logged.
        return {name: values for task in reversed(self.tasks) for name, values in task.forward(chunk).items()}

    def loss(
        self, embeds: dict[str, torch.Tensor], targets: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """
        Compute the loss over the global batch, in float32. Every process has the same, and after the average over
        processes every parameter, the logit scale included, has the gradient that one process with all pairs would
        have.

        Args:
            embeds (`dict[str, torch.Tensor]`):
                What `forward` returned for the pairs of this process.
            targets (`dict[str, torch.Tensor]`):
                `track_ids` and `caption_ids` of shape `(batch_size,)`, and for the content-aware loss
                `caption_embeds` of shape `(batch_size, dim)`.

        Returns:
            The loss, and, of several tasks, that of each by name, without gradients.
        """
        embeds = {name: gather_with_gradient(values.float()) for name, values in embeds.items()}
        targets = {name: gather(values) for name, values in targets.items()}
        losses = [task.loss(embeds, targets) for task in self.tasks]
        total = losses[0]
        for task, loss in zip(self.tasks[1:], losses[1:], strict=True):
            total = (1 - task.weight) * total + task.weight * loss
        if len(self.tasks) == 1:
            return total, {}
        return total, {f"{task.name}_loss": loss.detach() for task, loss in zip(self.tasks, losses, strict=True)}
