# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The objective: which parts learn, what is saved, how the tasks share the loss."""

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from small_models import build_musicnn, build_musicnn_model
from tiny_objective import gradients_of, make_batch, make_objective

from muscall.training.gradient_cache import backward
from muscall.training.objectives import ContrastiveTask, Objective


@pytest.fixture
def accelerator():
    yield Accelerator(cpu=True)
    AcceleratorState._reset_state(reset_partial_state=True)


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
    assert sizes[-1] == len(windows) and objective.window_cache is None


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
    shapes = {name: tuple(parameter.shape) for name, parameter in objective.ssl_projector.named_parameters()}
    assert shapes == {"0.weight": (32, 32), "2.weight": (16, 32)}


def test_parts_of_the_loss():
    objective = make_objective("ssl")
    inputs, targets = make_batch()
    with torch.no_grad():
        loss, parts = objective.loss(objective(**objective.augment(inputs)), targets)
    torch.testing.assert_close(loss, 0.7 * parts["contrastive_loss"] + 0.3 * parts["ssl_loss"])
    features = F.normalize(objective.model.audio_projection(torch.randn(3, 32)), dim=-1)
    assert features.shape == (3, 32) and objective.embedding_norms["audio_embedding"] > 0


def test_a_frozen_tower_is_evaluated_behind_its_cache_and_saved_once():
    """Whatever is frozen, checkpoints hold the same names."""
    objective = make_objective().eval()
    names = list(objective.state_dict())
    objective.freeze({"audio_model"})
    windows, sizes = make_batch()[0]["input_values"], []
    objective.model.audio_model.log_mel.register_forward_hook(lambda module, args, output: sizes.append(len(args[0])))
    with torch.no_grad(), objective.evaluated_model() as model:
        first, again = (model.get_audio_features(windows).pooler_output for _ in range(2))
    assert torch.equal(first, again) and sizes == [1] * len(windows)
    assert list(objective.state_dict()) == names
    assert objective.audio_tower.tower is objective.model.audio_model


def test_a_constant_input_norm_does_not_learn():
    model = build_musicnn_model()
    model.audio_model = build_musicnn()
    objective = Objective(model, [ContrastiveTask(model)])
    input_norms = {name for name, _ in model.named_parameters() if "input_norm" in name}
    for batch_norm in (True, False):
        objective.freeze(set(), batch_norm)
        still = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
        assert still == (input_norms if batch_norm else set())


def test_sentences_learn_from_stored_embeddings():
    objective = make_objective()
    objective = Objective(objective.model, [ContrastiveTask(objective.model, stored_embeds=True)]).train()
    objective.freeze({"audio_model"})
    inputs, targets = make_batch()
    del inputs["input_values"]
    stored = torch.randn(len(targets["track_ids"]), objective.model.config.projection_dim)
    embeds = objective(**inputs, audio_embeds=stored)
    torch.testing.assert_close(embeds["audio_embeds"], F.normalize(stored, dim=1))
    expected = objective.model.get_text_features(**inputs).pooler_output
    torch.testing.assert_close(embeds["text_embeds"], expected)
    objective.loss(embeds, targets)[0].backward()
    learning = {name.partition(".")[0] for name, tensor in objective.model.named_parameters() if tensor.requires_grad}
    assert learning == {"text_model", "text_projection", "logit_scale"}
    assert all(tensor.grad is not None for tensor in objective.model.text_model.parameters())
