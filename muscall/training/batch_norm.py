# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Batch norm with the statistics of all processes."""

import torch
import torch.distributed as dist
from torch import nn

from modeling_muscall import MusCALLAudioTower


BATCH_NORMS = nn.BatchNorm1d | nn.BatchNorm2d | nn.SyncBatchNorm


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
    Batch norm with the statistics of all processes on a CPU, where there is no `torch.nn.SyncBatchNorm`. The variances
    are computed around the mean.
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


def synchronise_batch_norm(tower: MusCALLAudioTower, device: torch.device) -> None:
    """
    Make every batch norm of an audio tower one over all processes, in place; weights and names stay.

    Args:
        tower (`MusCALLAudioTower`):
            The tower, on any device.
        device (`torch.device`):
            Where it will be trained.

    Raises:
        `ValueError`: for the tower of musicnn, whose batch norms follow other layers.
    """
    names = tower.synchronisable_norms()
    if not names:
        raise ValueError("batch_norm synchronised is for the ResNet tower: take local or frozen for this one.")
    if device.type != "cpu":
        nn.SyncBatchNorm.convert_sync_batchnorm(tower)
        return
    for name in names:
        norm = tower.get_submodule(name)
        synchronised = SynchronisedBatchNorm2d(norm.num_features, device=norm.weight.device)
        synchronised.load_state_dict(norm.state_dict())
        tower.set_submodule(name, synchronised)
