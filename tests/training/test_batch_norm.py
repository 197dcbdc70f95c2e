# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Synchronised batch norm: that of one process with all pairs."""

import pytest
import torch
from helpers import TEACHER
from tiny_objective import make_objective
from torch import nn

from configuration_muscall import MusCALLMusicnnConfig
from modeling_muscall import MusCALLMusicnnModel
from muscall.training.batch_norm import SynchronisedBatchNorm2d, synchronise_batch_norm
from muscall.training.gradient_cache import constant_statistics


def test_synchronised_batch_norm_alone(monkeypatch):
    """With one process it is batch norm: output, gradients and statistics."""
    monkeypatch.setattr("torch.distributed.all_reduce", lambda tensor: None)
    generator = torch.Generator().manual_seed(0)
    inputs = 10 * torch.randn(6, 3, 5, 7, generator=generator) - 80  # decibels
    norms = [nn.BatchNorm2d(3), SynchronisedBatchNorm2d(3)]
    outputs = []
    for norm in norms:
        norm.weight.data.copy_(torch.tensor([0.5, 1, 2]))
        values = inputs.clone().requires_grad_()
        output = norm(values)
        (output**3).sum().backward()
        outputs.append([output, values.grad, norm.weight.grad, norm.bias.grad, *norm.buffers()])
    for ours, theirs in zip(*outputs, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    before = [buffer.clone() for buffer in norms[1].buffers()]
    with constant_statistics(norms[1]):
        norms[1](inputs)
    assert all(torch.equal(buffer, old) for buffer, old in zip(norms[1].buffers(), before, strict=True))
    assert norms[1].momentum == 0.1


def test_synchronised_statistics_are_for_the_resnet():
    with pytest.raises(ValueError, match="synchronised is for the ResNet tower: take local or frozen"):
        synchronise_batch_norm(MusCALLMusicnnModel(MusCALLMusicnnConfig(**TEACHER)), torch.device("cpu"))


@pytest.mark.parametrize(("device", "kind"), [("cpu", SynchronisedBatchNorm2d), ("cuda", nn.SyncBatchNorm)])
def test_torch_synchronises_where_it_can_and_names_and_weights_stay(device, kind):
    tower = make_objective().model.audio_model
    before = {name: tensor.clone() for name, tensor in tower.state_dict().items()}
    synchronise_batch_norm(tower, torch.device(device))
    norms = [module for module in tower.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert norms and {type(norm) for norm in norms} == {kind}
    assert tower.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in tower.state_dict().items())
