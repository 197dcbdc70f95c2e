# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""What is trained: the model, the projector of audio self-supervision beside it, and their joint loss."""

from contextlib import contextmanager, nullcontext
from functools import partial

import torch
import torch.distributed as dist
import torch.nn.functional as F
from accelerate import Accelerator
from torch import nn

from modeling_muscall import MusCALLAudioModel, MusCALLConvNorm, MusCALLModel
from muscall.training.augmentation import WaveformAugmentation
from muscall.training.distillation import Distillation
from muscall.training.frozen import FrozenTower
from muscall.training.losses import (
    REFERENCE_BATCH_SIZE,
    content_weights,
    contrastive_loss,
    duplicate_mask,
    gather,
    gather_with_gradient,
    nt_xent_loss,
)


BATCH_NORMS = nn.BatchNorm1d | nn.BatchNorm2d


class ContrastiveObjective(nn.Module):
    """
    The model with all that its training adds. `forward` embeds pairs and may be run on a part of the batch at a time;
    `loss` takes the embeddings of all pairs of this process and gathers those of the other processes.

    With audio self-supervision (SimCLR) `augment` gives two views of each window. The first is also the one that is
    compared with the captions: so the audio tower runs twice a step and not three times.

    Args:
        model (`MusCALLModel`):
            The model to train.
        content_weighting (`bool`, *optional*, defaults to `False`):
            Whether pairs count by `content_weights` of their captions.
        reference_batch_size (`int`, *optional*, defaults to 256):
            That of `content_weights`.
        ssl_weight (`float`, *optional*, defaults to 0):
            Share of the self-supervised loss in the loss; 0.3 in the paper. Above 0 there is a `ssl_projector`, which
            is trained and saved in checkpoints, but is not part of the model.
        ssl_temperature (`float`, *optional*, defaults to 0.5):
            Temperature of the self-supervised loss.
        distillation ([`Distillation`], *optional*):
            The teacher of the audio tower.
        distillation_weight (`float`, *optional*, defaults to 0):
            Share of the distillation in the loss. At 1 there is no other loss, and the audio tower alone learns.
    """

    def __init__(
        self,
        model: MusCALLModel,
        content_weighting: bool = False,
        reference_batch_size: int | None = REFERENCE_BATCH_SIZE,
        ssl_weight: float = 0.0,
        ssl_temperature: float = 0.5,
        distillation: Distillation | None = None,
        distillation_weight: float = 0.0,
    ):
        super().__init__()
        self.model = model
        self.content_weighting, self.reference_batch_size = content_weighting, reference_batch_size
        self.ssl_weight, self.ssl_temperature = ssl_weight, ssl_temperature
        self.distillation, self.distillation_weight = distillation, distillation_weight
        self.frozen, self.frozen_batch_norm, self.embedding_norms = set(), False, {}
        self.frozen_tower: FrozenTower | None = None
        for name in ("audio", "text"):
            getattr(model, f"{name}_projection").register_forward_hook(partial(self._record_norm, f"{name}_embedding"))
        if ssl_weight:
            size = model.config.audio_config.hidden_size
            self.augmentation = WaveformAugmentation()
            self.ssl_projector = nn.Sequential(
                nn.Linear(size, size, bias=False), nn.ReLU(), nn.Linear(size, size // 2, bias=False)
            )

    @torch.no_grad()
    def _record_norm(self, name: str, module, args, output: torch.Tensor):
        self.embedding_norms[name] = output.float().norm(dim=-1).mean()  # of what is then normalised

    def freeze(self, towers: set[str], batch_norm: bool = False):
        """
        Stops these towers (`"audio_model"`, `"text_model"`) from learning, and the others go on. A frozen tower runs
        in evaluation mode; `batch_norm` keeps the running statistics in use, frozen or not.
        """
        self.frozen, self.frozen_batch_norm = set(towers), batch_norm
        if self.frozen_tower is not None:
            self.frozen_tower.remove()
        self.frozen_tower = FrozenTower(self.model.audio_model) if "audio_model" in towers else None
        if self.frozen_tower is not None:
            self.frozen_tower.install()
        alone = self.distillation_weight == 1
        for name, part in self.model.named_children():
            part.requires_grad_(name not in towers and (name == "audio_model" or not alone))
        self.model.logit_scale.requires_grad_(not alone)
        for network in getattr(self.model.audio_model, "networks", ()) if batch_norm else ():
            # As a constant, no more than a scale and an offset, which the filters can learn at half of the cost.
            network.input_norm.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True):
        super().train(mode)
        for tower in self.frozen:
            getattr(self.model, tower).eval()
        if self.frozen_batch_norm:
            for module in self.modules():
                if isinstance(module, BATCH_NORMS):
                    module.eval()
        return self

    def augment(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Adds what `forward` needs beside the collated inputs; once a step, so that every chunking sees the same."""
        windows = inputs["input_values"]
        if self.ssl_weight:
            inputs = {**inputs, "input_values": self.augmentation(windows), "second_view": self.augmentation(windows)}
        if self.distillation is not None:
            inputs = {
                **inputs,
                "teacher_features": self.distillation.teacher(inputs["input_values"]).last_hidden_state,
            }
        return inputs

    def forward(
        self,
        input_values: torch.Tensor,
        second_view: torch.Tensor | None = None,
        teacher_features: torch.Tensor | None = None,
        **text_inputs,
    ) -> dict[str, torch.Tensor]:
        """
        Args:
            input_values (`torch.FloatTensor` of shape `(batch_size, samples)`):
                One window of each track.
            second_view (`torch.FloatTensor` of shape `(batch_size, samples)`, *optional*):
                The same windows, augmented otherwise.
            teacher_features (`torch.FloatTensor` of shape `(batch_size, patches, hidden_size)`, *optional*):
                What the teacher makes of `input_values`.
            text_inputs:
                `input_ids` and the rest of what the text encoder takes, of shape `(batch_size, sequence_length)`.

        Returns:
            `text_embeds` and `audio_embeds` of shape `(batch_size, projection_dim)`, L2-normalised, and with a second
            view `first_view` and `second_view` of shape `(batch_size, hidden_size // 2)`; with a teacher
            `distillation` of shape `(batch_size,)`, and nothing else where that is the only loss.
        """
        outputs = self.model.audio_model(
            input_values if second_view is None else torch.cat([input_values, second_view])
        )
        pooled, embeds = outputs.pooler_output, {}
        if teacher_features is not None:
            cells = outputs.last_hidden_state[: len(input_values)]
            features = self.distillation.student_features(self.model.audio_model, cells)
            embeds["distillation"] = self.distillation.loss(features, teacher_features, self.model.audio_projection)
            if self.distillation_weight == 1:
                return embeds
        embeds["text_embeds"] = self.model.get_text_features(**text_inputs).pooler_output
        embeds["audio_embeds"] = F.normalize(self.model.audio_projection(pooled[: len(input_values)]), dim=-1)
        if second_view is not None:
            embeds["first_view"], embeds["second_view"] = self.ssl_projector(pooled).chunk(2)
        return embeds

    def loss(
        self, embeds: dict[str, torch.Tensor], targets: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """
        The loss over the global batch, in float32. Every process has the same, and after the average over processes
        every parameter, the logit scale included, has the gradient that one process with all pairs would have.

        Args:
            embeds (`dict[str, torch.Tensor]`):
                What `forward` returned for the pairs of this process.
            targets (`dict[str, torch.Tensor]`):
                `track_ids` and `caption_ids` of shape `(batch_size,)`, and for the content-aware loss
                `caption_embeds` of shape `(batch_size, dim)`.

        Returns:
            The loss, and its parts by name, without gradients.
        """
        embeds = {name: gather_with_gradient(values.float()) for name, values in embeds.items()}
        parts = {}
        if "distillation" in embeds:
            parts["distillation_loss"] = embeds["distillation"].mean()
            if self.distillation_weight == 1:
                return parts["distillation_loss"], {}
        targets = {name: gather(values) for name, values in targets.items()}
        same_track = duplicate_mask(targets["track_ids"], targets["track_ids"])
        weights = None
        if self.content_weighting:
            weights = content_weights(targets["caption_embeds"], reference_batch_size=self.reference_batch_size)
        contrastive = contrastive_loss(
            self.model.scale_similarity(embeds["text_embeds"] @ embeds["audio_embeds"].t()),
            duplicate_mask(targets["track_ids"], targets["caption_ids"]),
            weights,
        )
        loss = contrastive
        if self.ssl_weight:
            parts["ssl_loss"] = nt_xent_loss(
                embeds["first_view"], embeds["second_view"], self.ssl_temperature, same_track
            )
            loss = (1 - self.ssl_weight) * loss + self.ssl_weight * parts["ssl_loss"]
        if "distillation_loss" in parts:
            loss = (1 - self.distillation_weight) * loss + self.distillation_weight * parts["distillation_loss"]
        if parts:
            parts["contrastive_loss"] = contrastive
        return loss, {name: part.detach() for name, part in parts.items()}


def backward(
    accelerator: Accelerator,
    objective: nn.Module,
    inputs: dict[str, torch.Tensor],
    targets: dict[str, torch.Tensor],
    chunk_size: int | None = None,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """
    Adds the gradient of the loss over the global batch to the parameters; all of a training step but the optimizer's.

    With `chunk_size` the activations of only so many pairs are in memory at a time (gradient caching,
    https://arxiv.org/abs/2101.06983): the embeddings are computed without a graph, the loss gives the gradient of
    each, and a second pass, chunk by chunk, carries these to the parameters. The second pass replays the random state
    of the first, so dropout falls on the same cells.

    What is equal to the step without chunks: the gradients of all parameters, up to rounding, if no layer mixes pairs
    or draws random numbers: with batch norm in evaluation mode, or frozen, and without dropout. In training mode batch
    norm takes its statistics from each chunk, as it does from the pairs of each process: the gradients are then those
    of a model that normalises chunk by chunk, and its running statistics move once a chunk.

    Args:
        accelerator (`Accelerator`):
            Runs the backward passes, scaled in fp16.
        objective (`nn.Module`):
            A [`ContrastiveObjective`], as `accelerator.prepare` returned it.
        inputs (`dict[str, torch.Tensor]`):
            What its `augment` takes, for the pairs of this process.
        targets (`dict[str, torch.Tensor]`):
            What its `loss` takes.
        chunk_size (`int`, *optional*):
            Pairs in a chunk; the last one may be smaller. `None` takes all at once.

    Returns:
        The loss, and its parts by name, without gradients.
    """
    unwrapped = accelerator.unwrap_model(objective)
    inputs = unwrapped.augment(inputs)
    if chunk_size is None or chunk_size >= len(inputs["input_values"]):
        loss, parts = unwrapped.loss(objective(**inputs), targets)
        with constant_statistics(unwrapped):
            accelerator.backward(loss)
        return loss.detach(), parts

    pieces = {name: values.split(chunk_size) for name, values in inputs.items()}
    chunks = [dict(zip(pieces, values, strict=True)) for values in zip(*pieces.values(), strict=True)]
    states, parts = [], []
    with torch.no_grad(), constant_statistics(unwrapped):
        for chunk in chunks:
            states.append(RandomState(accelerator.device))
            parts.append(unwrapped(**chunk))
    embeds = {name: torch.cat([part[name] for part in parts]).requires_grad_() for name in parts[0]}
    loss, parts = unwrapped.loss(embeds, targets)
    # `autograd.grad` and not `backward`: the logit scale's gradient must not reach its parameter yet, or
    # DistributedDataParallel would take it for the end of a pass.
    logit_scale = unwrapped.model.logit_scale
    wanted = [*embeds.values(), logit_scale] if logit_scale.requires_grad else [*embeds.values()]
    gradients = torch.autograd.grad(loss, wanted)
    gradients_of_embeds = {name: gradient.split(chunk_size) for name, gradient in zip(embeds, gradients, strict=False)}

    for number, (chunk, state) in enumerate(zip(chunks, states, strict=True)):
        last = number + 1 == len(chunks)
        with nullcontext() if last else accelerator.no_sync(objective):
            state.restore()
            outputs = objective(**chunk)
            surrogate = sum((outputs[name] * gradients_of_embeds[name][number]).sum() for name in embeds)
            # The logit scale gets its gradient with the last chunk.
            scale_gradient = gradients[-1] if last and logit_scale.requires_grad else 0.0
            with constant_statistics(unwrapped):
                accelerator.backward(surrogate + logit_scale * scale_gradient)
    return loss.detach(), parts


class RandomState:
    """The random state of the CPU and of one device, to be restored."""

    def __init__(self, device: torch.device):
        self.device = device
        self.cpu = torch.get_rng_state()
        self.accelerator = None if device.type == "cpu" else torch.get_device_module(device).get_rng_state(device)

    def restore(self):
        torch.set_rng_state(self.cpu)
        if self.accelerator is not None:
            torch.get_device_module(self.device).set_rng_state(self.accelerator, self.device)


@contextmanager
def constant_statistics(module: nn.Module):
    """
    Batch norm normalises as before, but its running statistics stay: for a pass that is run a second time, here or by
    gradient checkpointing.
    """
    # A momentum of 0, and not `track_running_stats`, which changes what checkpointing finds saved.
    norms = [(norm, norm.momentum) for norm in module.modules() if isinstance(norm, BATCH_NORMS)]
    counts = [norm.num_batches_tracked.clone() for norm, _ in norms]
    for norm, _ in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for (norm, momentum), count in zip(norms, counts, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(count)


class _NormaliseGlobally(torch.autograd.Function):
    """Batch norm over the pixels of all processes, without the affine part; `size` is the number of those pixels."""

    @staticmethod
    def forward(ctx, hidden_states: torch.Tensor, eps: float):
        values = hidden_states.to(torch.promote_types(hidden_states.dtype, torch.float32))
        totals = torch.cat([values.sum((0, 2, 3)), values.new_full((1,), values.numel() / values.shape[1])])
        dist.all_reduce(totals)
        size, mean = totals[-1], totals[:-1] / totals[-1]
        # Around the mean, in a second pass: squares of decibels would lose the variance.
        variance = (values - mean[:, None, None]).square().sum((0, 2, 3))
        dist.all_reduce(variance)
        variance = variance / size
        scale = (variance + eps).rsqrt()
        normalised = (values - mean[:, None, None]) * scale[:, None, None]
        ctx.save_for_backward(normalised, scale, size)
        ctx.mark_non_differentiable(mean, variance, size)
        return normalised.to(hidden_states.dtype), mean, variance, size

    @staticmethod
    def backward(ctx, gradient: torch.Tensor, *_):
        normalised, scale, size = ctx.saved_tensors
        gradient = gradient.to(normalised.dtype)
        sums = torch.stack([gradient.sum((0, 2, 3)), (gradient * normalised).sum((0, 2, 3))])
        dist.all_reduce(sums)
        constant, slope = (sums / size)[:, :, None, None]
        return ((gradient - constant - normalised * slope) * scale[:, None, None]).to(gradient.dtype), None


class SynchronisedBatchNorm2d(nn.BatchNorm2d):
    """
    Batch norm with the statistics of all processes. As `torch.nn.SyncBatchNorm`, which has no CPU version; the
    variances are computed around the mean.
    """

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(hidden_states)
        normalised, mean, variance, size = _NormaliseGlobally.apply(hidden_states, self.eps)
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * size / (size - 1), self.momentum)
            self.num_batches_tracked += 1
        return normalised * self.weight[:, None, None] + self.bias[:, None, None]


def synchronise_batch_norm(model: MusCALLModel):
    """
    Makes every batch norm of the audio tower one over all processes, in place; weights and names stay.

    Raises:
        `ValueError`: for the tower of musicnn, whose batch norms follow other layers.
    """
    if not isinstance(model.audio_model, MusCALLAudioModel):
        raise ValueError("batch_norm synchronised is for the ResNet tower: take local or frozen for this one.")
    for module in model.modules():
        if isinstance(module, MusCALLConvNorm):
            norm = SynchronisedBatchNorm2d(module.norm.num_features, device=module.norm.weight.device)
            norm.load_state_dict(module.norm.state_dict())
            module.norm = norm
