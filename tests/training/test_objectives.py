# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The training step: the same loss and gradients for one process with one graph, many processes and many chunks."""

import os
import socket
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import yaml
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from helpers import RATE, RECIPE
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPTokenizer

from configuration_muscall import MusCALLConfig
from modeling_muscall import MusCALLConvNorm, MusCALLModel
from muscall.training.objectives import (
    ContrastiveObjective,
    SynchronisedBatchNorm2d,
    backward,
    constant_statistics,
    synchronise_batch_norm,
)


ROOT = Path(__file__).parents[2]
SIZE = 12  # pairs of the global batch
CAPTIONS = [*"abcdefgh", "a b", "the sound of one low and very rich tone", "b", "c d e"]  # "b" comes twice
TRACKS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 3]  # and so does track 3
LOSSES = {
    "plain": {},
    "content": {"content_weighting": True},
    "ssl": {"ssl_weight": 0.3},
    "content and ssl": {"content_weighting": True, "ssl_weight": 0.3},
}


class TwoViews(nn.Module):
    """An augmentation that draws nothing: the first view is softer, the second one is later."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, waveforms):
        self.calls += 1
        return 0.5 * waveforms if self.calls % 2 else waveforms.roll(RATE // 2, 1)


def make_objective(loss="plain", dropout=0.0, **kwargs):
    torch.manual_seed(0)
    config = yaml.safe_load(RECIPE)["model_config"]
    config["text_config"]["attention_dropout"] = dropout
    model = MusCALLModel(MusCALLConfig(**config))
    for module in model.modules():
        if isinstance(module, MusCALLConvNorm):  # as after some training, also those that start as zero
            module.norm.weight.data.uniform_(0.5, 1.5)
            module.norm.running_mean.uniform_(-1, 1)
            module.norm.running_var.uniform_(0.5, 2)
    objective = ContrastiveObjective(model, **LOSSES[loss], **kwargs)
    objective.augmentation = TwoViews()
    return objective


def make_batch(first=0, last=SIZE):
    generator = torch.Generator().manual_seed(1)
    waves = torch.randn(SIZE, 2 * RATE, generator=generator) * torch.linspace(0.01, 0.5, SIZE)[:, None]
    caption_embeds = torch.randn(SIZE, 8, generator=generator) + 0.5
    text = CLIPTokenizer.from_pretrained(ROOT / "clip_tokenizer")(
        CAPTIONS[first:last], padding=True, return_tensors="pt"
    )
    targets = {
        "track_ids": torch.tensor(TRACKS[first:last]),
        "caption_ids": torch.tensor([CAPTIONS.index(caption) for caption in CAPTIONS[first:last]]),
        "caption_embeds": caption_embeds[first:last],
    }
    return {"input_values": waves[first:last], **text}, targets


def gradients_of(objective):
    return {name: parameter.grad for name, parameter in objective.named_parameters()}


def one_graph(objective, inputs, targets):
    """The step written out for all pairs at once."""
    loss, _ = objective.loss(objective(**objective.augment(inputs)), targets)
    loss.backward()
    return {"loss": loss.detach(), **gradients_of(objective)}


def run_cases(rank, world, port, folder):
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world), "MASTER_PORT": str(port)}
    os.environ["MASTER_ADDR"] = "127.0.0.1"
    accelerator = Accelerator(cpu=True)
    share = SIZE // world
    inputs, targets = make_batch(rank * share, (rank + 1) * share)
    results = {}
    for dtype in (torch.float32, torch.float64):
        for loss in LOSSES:
            for batch_norm, chunk_size in (("synchronised", None), ("frozen", None), ("frozen", 1), ("frozen", 5)):
                objective = make_objective(loss).to(dtype)
                if batch_norm == "synchronised":
                    synchronise_batch_norm(objective.model)
                    objective.to(dtype)
                objective.freeze(set(), batch_norm == "frozen")
                wrapped = accelerator.prepare(objective)
                value, _ = backward(accelerator, wrapped, inputs, targets, chunk_size)
                case = f"{dtype}/{loss}/{batch_norm}/{chunk_size}"
                buffers = {name: buffer for name, buffer in objective.named_buffers() if "running" in name}
                for name, tensor in {"loss": value, **gradients_of(objective), **buffers}.items():
                    results[f"{case}/{name}"] = tensor.contiguous()
    save_file(results, f"{folder}/{rank}.safetensors")
    accelerator.end_training()


@pytest.fixture(scope="module", params=[1, 2, 3], ids=lambda world: f"{world} processes")
def processes(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    torch.multiprocessing.spawn(run_cases, (request.param, port, folder), nprocs=request.param)
    return [load_file(folder / f"{rank}.safetensors") for rank in range(request.param)]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("loss", LOSSES)
def test_processes_and_chunks_have_the_loss_and_gradients_of_one_graph(processes, loss, dtype):
    for batch_norm, chunk_size in (("synchronised", None), ("frozen", None), ("frozen", 1), ("frozen", 5)):
        objective = make_objective(loss).to(dtype)
        objective.freeze(set(), batch_norm == "frozen")
        expected = one_graph(objective, *make_batch())
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
                for name, buffer in objective.named_buffers():
                    if "running" in name:
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


def test_a_frozen_tower_runs_once_for_each_window(accelerator):
    objective = make_objective().train()
    inputs, targets = make_batch()
    windows, sizes = inputs["input_values"], []
    objective.model.audio_model.log_mel.register_forward_hook(lambda module, args, output: sizes.append(len(args[0])))
    with torch.no_grad():
        expected = objective.model.eval().get_audio_features(windows).pooler_output
        objective.train()
        objective.freeze({"audio_model"})
        sizes.clear()
        torch.testing.assert_close(objective(**inputs)["audio_embeds"], expected)
    assert sizes == [1] * len(windows.unique(dim=0))
    loss, _ = backward(accelerator, objective, inputs, targets)
    objective.zero_grad()
    chunked, _ = backward(accelerator, objective, inputs, targets, chunk_size=4)
    torch.testing.assert_close(loss, chunked)
    assert objective.model.audio_projection.weight.grad.abs().sum() > 0
    rolled = objective(**{**inputs, "input_values": windows.roll(1, 0)})["audio_embeds"]
    torch.testing.assert_close(rolled, expected.roll(1, 0))
    assert sizes == [1] * len(windows.unique(dim=0))

    objective.freeze(set())  # it learns again: what was known of it no longer holds
    objective(**inputs)
    assert sizes[-1] == len(windows) and objective.frozen_tower is None


def test_synchronised_statistics_are_for_the_resnet():
    model = make_objective().model
    model.audio_model = torch.nn.Identity()
    with pytest.raises(ValueError, match="synchronised is for the ResNet tower: take local or frozen"):
        synchronise_batch_norm(model)


def test_frozen_towers_do_not_learn(accelerator):
    objective = make_objective(dropout=0.5).train()
    objective.freeze({"text_model"})
    assert not objective.model.text_model.training and objective.model.audio_model.training
    backward(accelerator, objective, *make_batch(), chunk_size=4)
    learning = {name for name, gradient in gradients_of(objective).items() if gradient is not None}
    assert learning and not any(name.startswith("model.text_model") for name in learning)
    assert "model.text_projection.weight" in learning and "model.logit_scale" in learning

    objective.freeze({"audio_model"})
    objective.zero_grad()
    statistics = {name: buffer.clone() for name, buffer in objective.named_buffers()}
    backward(accelerator, objective, *make_batch())
    assert all(torch.equal(buffer, statistics[name]) for name, buffer in objective.named_buffers())
    learning = {name for name, gradient in gradients_of(objective).items() if gradient is not None}
    assert not any(name.startswith("model.audio_model") for name in learning)
    assert objective.model.text_model.training


def test_the_projector_is_no_part_of_the_model(tmp_path):
    objective = make_objective("ssl")
    assert any(name.startswith("ssl_projector") for name in objective.state_dict())
    objective.model.save_pretrained(tmp_path)
    assert not any("ssl" in name for name in load_file(tmp_path / "model.safetensors"))
    shapes = [tuple(layer.weight.shape) for layer in objective.ssl_projector if hasattr(layer, "weight")]
    assert shapes == [(32, 32), (16, 32)] and not any(p.ndim == 1 for p in objective.ssl_projector.parameters())


def test_parts_of_the_loss():
    objective = make_objective("ssl")
    inputs, targets = make_batch()
    with torch.no_grad():
        loss, parts = objective.loss(objective(**objective.augment(inputs)), targets)
    torch.testing.assert_close(loss, 0.7 * parts["contrastive_loss"] + 0.3 * parts["ssl_loss"])
    features = F.normalize(objective.model.audio_projection(torch.randn(3, 32)), dim=-1)
    assert features.shape == (3, 32) and objective.embedding_norms["audio_embedding"] > 0
