# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Losses over the global batch: for the same embeddings, the same value and gradients for any number of processes."""

import torch
import torch.distributed as dist

from modeling_muscall import MusCALLModel, MusCALLOutput, contrastive_loss


class _GatherWithGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, local: torch.Tensor) -> torch.Tensor:
        ctx.batch_size = len(local)
        gathered = [torch.empty_like(local) for _ in range(dist.get_world_size())]
        dist.all_gather(gathered, local.contiguous())
        return torch.cat(gathered)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        # Every process computes the whole loss, so this sum is num_processes times its gradient; the average that
        # DistributedDataParallel takes over the parameters' gradients divides by num_processes again.
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient[dist.get_rank() * ctx.batch_size :][: ctx.batch_size]


def gather_with_gradient(local: torch.Tensor) -> torch.Tensor:
    """
    Concatenates the rows of all processes in the order of their ranks and lets gradients flow back to each.

    Args:
        local (`torch.Tensor` of shape `(batch_size, dim)`):
            The rows of this process; every process has as many.

    Returns:
        `torch.Tensor` of shape `(num_processes * batch_size, dim)`.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return local
    return _GatherWithGradient.apply(local)


def infonce_loss(model: MusCALLModel, outputs: MusCALLOutput) -> torch.Tensor:
    """
    InfoNCE over the global batch, in float32. Every process has the same loss, and after the average over processes
    every parameter, the logit scale included, has the gradient that one process with all pairs would have; but in
    training mode batch norm takes the statistics of each process's own pairs.

    Args:
        model (`MusCALLModel`):
            The unwrapped model, for its logit scale.
        outputs (`MusCALLOutput`):
            What the (wrapped) model returned for the pairs of this process.
    """
    text_embeds = gather_with_gradient(outputs.text_embeds.float())
    audio_embeds = gather_with_gradient(outputs.audio_embeds.float())
    return contrastive_loss(model.scale_similarity(text_embeds @ audio_embeds.t()))
