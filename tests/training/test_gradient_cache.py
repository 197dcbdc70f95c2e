# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The training step: the same loss and gradients for one process with one graph, many processes and many chunks."""

import os
from functools import cache

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from forks import finish, fork_ranks
from safetensors.torch import load_file, save_file
from tiny_objective import LOSSES, SIZE, gradients_of, make_batch, make_objective

from muscall.training.batch_norm import synchronise_batch_norm
from muscall.training.gradient_cache import backward


@cache
def one_graph(loss, dtype, is_frozen):
    """The step written out for all pairs at once; return its loss and gradients, and the statistics after it."""
    objective = make_objective(loss).to(dtype)
    objective.freeze(set(), is_frozen)
    inputs, targets = make_batch()
    value, _ = objective.loss(objective(**objective.augment(inputs)), targets)
    value.backward()
    return {"loss": value.detach(), **gradients_of(objective)}, statistics_of(objective)


def statistics_of(objective):
    return {name: buffer for name, buffer in objective.named_buffers() if "running" in name}


def run_cases(world, folder):
    rank = int(os.environ["RANK"])
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    share = SIZE // world
    inputs, targets = make_batch(rank * share, (rank + 1) * share)
    results = {}
    for dtype in (torch.float32, torch.float64):
        for loss in LOSSES:
            for batch_norm, chunk_size in (("synchronised", None), ("frozen", None), ("frozen", 1), ("frozen", 5)):
                objective = make_objective(loss).to(dtype)
                if batch_norm == "synchronised":
                    synchronise_batch_norm(objective.model.audio_model, accelerator.device)
                    objective.to(dtype)
                objective.freeze(set(), batch_norm == "frozen")
                wrapped = accelerator.prepare(objective)
                value, _ = backward(accelerator, wrapped, inputs, targets, chunk_size)
                case = f"{dtype}/{loss}/{batch_norm}/{chunk_size}"
                tensors = {"loss": value, **gradients_of(objective), **statistics_of(objective)}
                for name, tensor in tensors.items():
                    results[f"{case}/{name}"] = tensor.contiguous()
    save_file(results, f"{folder}/{rank}.safetensors")
    accelerator.end_training()


@pytest.fixture(scope="module", params=[1, 3], ids=lambda world: f"{world} processes")
def processes(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    for rank in fork_ranks(request.param, run_cases, request.param, folder):
        finish(rank)
    return [load_file(folder / f"{rank}.safetensors") for rank in range(request.param)]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("loss", LOSSES)
def test_processes_and_chunks_have_the_loss_and_gradients_of_one_graph(processes, loss, dtype):
    for batch_norm, chunk_size in (("synchronised", None), ("frozen", None), ("frozen", 1), ("frozen", 5)):
        expected, statistics = one_graph(loss, dtype, batch_norm == "frozen")
        case = f"{dtype}/{loss}/{batch_norm}/{chunk_size}"
        for results in processes:
            actual = {name: results[f"{case}/{name}"] for name in expected}
            errors = {name: (actual[name] - expected[name]).norm() for name in expected}
            total = torch.stack([expected[name].norm() for name in expected]).norm()
            assert torch.stack(list(errors.values())).norm() < 1e-5 * total, case
            # Each by itself in float64: in float32 those of the first layers are small sums of large terms. The
            # softmax makes the bias of the keys' zero.
            for name, error in errors.items():
                relative, absolute = (1e-5, 1e-8) if dtype == torch.float64 else (1e-3, 1e-7)
                assert error < relative * expected[name].norm() + absolute * total, (case, name)
            if batch_norm == "synchronised":
                for name, buffer in statistics.items():
                    torch.testing.assert_close(results[f"{case}/{name}"], buffer, rtol=1e-4, atol=1e-4)


@pytest.fixture
def accelerator():
    yield Accelerator(cpu=True)
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize("loss", ["plain", "content and ssl"])
def test_chunks_replay_dropout_and_move_the_statistics_once_each(accelerator, loss):
    """In training mode: as one graph over the outputs of the chunks, one after the other."""
    inputs, targets = make_batch()
    objective = make_objective(loss, dropout=0.5).train()
    expected = make_objective(loss, dropout=0.5).train()
    torch.manual_seed(7)
    value, parts = backward(accelerator, objective, inputs, targets, chunk_size=5)
    after = torch.rand(1)

    torch.manual_seed(7)
    views = expected.augment(inputs)
    chunks = zip(*(values.split(5) for values in views.values()), strict=True)
    outputs = [expected(**dict(zip(views, chunk, strict=True))) for chunk in chunks]
    assert torch.equal(after, torch.rand(1))  # so the step after it draws the same too
    loss_value, expected_parts = expected.loss({n: torch.cat([o[n] for o in outputs]) for n in outputs[0]}, targets)
    loss_value.backward()
    torch.testing.assert_close(value, loss_value.detach(), rtol=1e-6, atol=0)
    assert parts.keys() == expected_parts.keys()
    for (name, gradient), wanted in zip(gradients_of(objective).items(), gradients_of(expected).values(), strict=True):
        assert (gradient - wanted).norm() < 1e-5 * wanted.norm() + 1e-7, name
    for (name, buffer), wanted in zip(objective.named_buffers(), expected.buffers(), strict=True):
        assert torch.equal(buffer, wanted), name


def test_gradient_checkpointing_moves_the_statistics_once(accelerator):
    inputs, targets = make_batch()
    plain, checkpointed = make_objective().train(), make_objective().train()
    checkpointed.model.activation_checkpointing_enable()
    for objective in (plain, checkpointed):
        backward(accelerator, objective, inputs, targets)
    for (name, buffer), wanted in zip(checkpointed.named_buffers(), plain.buffers(), strict=True):
        assert torch.equal(buffer, wanted), name
    for gradient, wanted in zip(gradients_of(checkpointed).values(), gradients_of(plain).values(), strict=True):
        torch.testing.assert_close(gradient, wanted)


def test_chunks_in_bf16():
    try:
        accelerator = Accelerator(cpu=True, mixed_precision="bf16")
        gradients = []
        for chunk_size in (None, 5):
            objective = make_objective("ssl")
            objective.freeze(set(), True)
            backward(accelerator, accelerator.prepare(objective), *make_batch(), chunk_size)
            gradients.append(torch.cat([gradient.flatten() for gradient in gradients_of(objective).values()]))
        assert (gradients[0] - gradients[1]).norm() < 0.02 * gradients[0].norm()
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
