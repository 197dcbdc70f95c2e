# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The backward pass of a training step, whole or with the activations of only some pairs in memory at a time."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from accelerate import Accelerator
from torch import nn

from muscall.training.batch_norm import BATCH_NORMS


def backward(
    accelerator: Accelerator,
    objective: nn.Module,
    inputs: dict[str, torch.Tensor],
    targets: dict[str, torch.Tensor],
    chunk_size: int | None = None,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """
    Add the gradient of the loss over the global batch to the parameters: all of a training step but the optimizer's.

    With `chunk_size` the activations of only so many pairs are in memory at a time (gradient caching,
    https://arxiv.org/abs/2101.06983): the embeddings are computed without a graph, the loss gives the gradient of
    each, and a second pass, chunk by chunk, carries these to the parameters. The second pass replays the random state
    of the first, so dropout falls on the same cells.

    The gradients of all parameters are those of the step without chunks, up to rounding, if no layer mixes pairs or
    draws random numbers: with batch norm in evaluation mode, or frozen, and without dropout. In training mode batch
    norm takes its statistics from each chunk, as it does from the pairs of each process: the gradients are then those
    of a model that normalises chunk by chunk, and its running statistics move once a chunk.

    Args:
        accelerator (`Accelerator`):
            Runs the backward passes, scaled in fp16.
        objective (`nn.Module`):
            An [`Objective`], as `accelerator.prepare` returned it.
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
    if chunk_size is not None and chunk_size < len(inputs["input_values"]):
        return _backward_in_chunks(accelerator, objective, inputs, targets, chunk_size)
    loss, parts = unwrapped.loss(objective(**inputs), targets)
    with constant_statistics(unwrapped):
        accelerator.backward(loss)
    return loss.detach(), parts


def _backward_in_chunks(
    accelerator: Accelerator,
    objective: nn.Module,
    inputs: dict[str, torch.Tensor],
    targets: dict[str, torch.Tensor],
    chunk_size: int,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Do the two passes of [`backward`] over augmented `inputs`."""
    unwrapped = accelerator.unwrap_model(objective)
    pieces = {name: values.split(chunk_size) for name, values in inputs.items()}
    chunks = [dict(zip(pieces, values, strict=True)) for values in zip(*pieces.values(), strict=True)]

    # First pass: the embeddings without a graph, and the gradient of each
    states, outputs = [], []
    with torch.no_grad(), constant_statistics(unwrapped):
        for chunk in chunks:
            states.append(RandomState(accelerator.device))
            outputs.append(unwrapped(**chunk))
    embeds = {name: torch.cat([output[name] for output in outputs]).requires_grad_() for name in outputs[0]}
    loss, parts = unwrapped.loss(embeds, targets)
    # `autograd.grad` and not `backward`: the logit scale's gradient must not reach its parameter yet, or
    # DistributedDataParallel would take it for the end of a pass.
    logit_scale = unwrapped.model.logit_scale
    sources = [*embeds.values(), logit_scale] if logit_scale.requires_grad else [*embeds.values()]
    gradients = torch.autograd.grad(loss, sources)
    gradients_of_embeds = {name: gradient.split(chunk_size) for name, gradient in zip(embeds, gradients, strict=False)}

    # Second pass: a graph for each chunk, which carries these gradients to the parameters
    for number, (chunk, state) in enumerate(zip(chunks, states, strict=True)):
        last = number + 1 == len(chunks)
        with nullcontext() if last else accelerator.no_sync(objective):
            state.restore()
            output = objective(**chunk)
            surrogate = sum((output[name] * gradients_of_embeds[name][number]).sum() for name in embeds)
            # The logit scale gets its gradient with the last chunk.
            scale_gradient = gradients[-1] if last and logit_scale.requires_grad else 0.0
            with constant_statistics(unwrapped):
                accelerator.backward(surrogate + logit_scale * scale_gradient)
    return loss.detach(), parts


class RandomState:
    """
    The random state of the CPU and of one device, to be restored.

    Args:
        device (`torch.device`):
            The device that the model runs on.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.cpu = torch.get_rng_state()
        self.accelerator = None if device.type == "cpu" else torch.get_device_module(device).get_rng_state(device)

    def restore(self) -> None:
        """Set the random state to what it was when this object was made."""
        torch.set_rng_state(self.cpu)
        if self.accelerator is not None:
            torch.get_device_module(self.device).set_rng_state(self.accelerator, self.device)


@contextmanager
def constant_statistics(module: nn.Module) -> Iterator[None]:
    """
    Keep the running statistics of batch norm, which normalises as before: for a pass that is run a second time, by
    gradient caching or by gradient checkpointing.

    Args:
        module (`nn.Module`):
            The module whose batch norms are meant.
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
