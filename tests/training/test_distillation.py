# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""A student that gives the features of its teacher."""

import json

import numpy as np
import pytest
import torch
import yaml
from accelerate import Accelerator
from helpers import RATE, RECIPE, TEACHER, save_model, save_teacher
from safetensors.torch import load_file

import train
from configuration_muscall import MusCALLMusicnnConfig
from modeling_muscall import MusCALLModel
from muscall.data.sources import load_corpus
from muscall.data.windows import TrainingWindows
from muscall.training.arguments import ModelArguments, TrainingArguments
from muscall.training.building import build_model
from muscall.training.distillation import DistillationTask, FunctionMatchingWindows, mix, patch_overlap
from muscall.training.gradient_cache import backward
from muscall.training.objectives import ContrastiveTask, Objective


STUDENT = yaml.safe_load(RECIPE)["model_config"]["audio_config"] | {"pooling": "average"}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return save_teacher(tmp_path_factory.mktemp("teacher"), **TEACHER)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A model whose audio tower is to be replaced by a student."""
    return save_model(tmp_path_factory.mktemp("start"))


def make_model(start, **changes):
    groups = {"model_name_or_path": str(start), "model_config": {"audio_config": STUDENT | changes}}
    return build_model(ModelArguments(**groups))[0]


def test_patches_share_the_columns_of_time():
    config = MusCALLMusicnnConfig(**TEACHER)  # patches start at 0, 16, 32 and 47 of 63 frames
    overlap = patch_overlap(config, 7)  # columns of 9 frames
    assert overlap.shape == (4, 7)
    torch.testing.assert_close(overlap[0], torch.tensor([9.0, 7, 0, 0, 0, 0, 0]) / 16)
    torch.testing.assert_close(overlap[1], torch.tensor([0, 2.0, 9, 5, 0, 0, 0]) / 16)
    torch.testing.assert_close(overlap[3], torch.tensor([0, 0, 0, 0, 0, 7.0, 9]) / 16)


def test_the_loss_is_zero_for_the_teachers_own_features_and_as_by_hand_for_others(teacher, start):
    distillation = DistillationTask(str(teacher), make_model(start))
    features = torch.randn(3, 4, 32)
    turned = torch.nn.Linear(32, 8)
    torch.testing.assert_close(distillation.distance(features, features, turned), torch.zeros(3))
    spread = torch.cat([network.dense_norm.weight for network in distillation.teacher.tower.networks]).abs()
    layer = load_file(teacher / "tags.safetensors")
    other = features + spread  # one standard deviation off, everywhere
    p, q = ((values @ layer["weight"] + layer["bias"]).sigmoid() for values in (features, other))
    divergence = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    distance = 1 - torch.nn.functional.cosine_similarity(turned(other), turned(features), dim=2).mean(1)
    expected = 1 + divergence.sum(2).mean(1) + distance
    torch.testing.assert_close(distillation.distance(other, features, turned), expected, rtol=1e-4, atol=1e-4)


def test_the_average_of_the_students_patches_is_its_pooled_feature(teacher, start):
    model = make_model(start).eval()
    student, distillation = model.audio_model, DistillationTask(str(teacher), model)
    outputs = student(torch.randn(2, 2 * RATE))
    columns = student.config.grid_size[1]
    distillation.overlap = torch.eye(columns)  # patches as long as the columns: all are heard equally
    features = student.pool_columns(outputs.last_hidden_state, distillation.overlap)
    assert features.shape == (2, columns, 32)
    torch.testing.assert_close(features.mean(1), outputs.pooler_output)


def test_who_cannot_be_student_or_teacher_is_told_why(teacher, start, tmp_path):
    with pytest.raises(ValueError, match="expected tags.safetensors there, scripts/convert_musicnn.py writes it"):
        DistillationTask(str(start), make_model(start))
    with pytest.raises(ValueError, match="pooling: average"):
        DistillationTask(str(teacher), make_model(start, pooling="attention"))
    with pytest.raises(ValueError, match="the student's window_seconds must be the teacher's, 2, got 4"):
        DistillationTask(str(teacher), make_model(start, window_seconds=4))
    with pytest.raises(ValueError, match="features must be as wide as those of the old one, 32, got 24"):
        make_model(start, hidden_size=24)
    with pytest.raises(ValueError, match=r"distillation_weight must be in \(0, 1\], got 0"):
        TrainingArguments(distillation_weight=0.0)
    with pytest.raises(ValueError, match="leave freeze_audio_steps at 0"):
        TrainingArguments(distillation_teacher=str(teacher), freeze_audio_steps=-1)


def test_what_is_mixed_lies_under_the_first():
    random = np.random.default_rng(0)
    loud, soft = random.normal(0, 1, 1000).astype(np.float32), random.normal(0, 0.01, 1000).astype(np.float32)
    added = mix(loud, soft, 6.0) - loud
    assert 10 * np.log10(np.square(loud).mean() / np.square(added).mean()) == pytest.approx(6, abs=1e-3)
    assert np.abs(np.corrcoef(added, soft)[0, 1]) > 0.999 and added.dtype == np.float32
    assert mix(loud, 0 * soft, 6.0) is loud


def test_each_track_comes_in_so_many_ways(corpus):
    tracks = load_corpus(str(corpus))["train"]
    windows, plain = (
        FunctionMatchingWindows(tracks, RATE, 2 * RATE, 0, variants=3),
        TrainingWindows(tracks, RATE, 2 * RATE, 0),
    )
    heard = []
    for epoch in range(6):
        windows.set_epoch(epoch)
        torch.manual_seed(epoch)  # the random state of the training decides nothing, and is left alone
        state = torch.get_rng_state()
        heard.append([windows[index]["input_values"] for index in range(8)])
        assert torch.equal(torch.get_rng_state(), state)
    for first, again in zip(heard[:3], heard[3:], strict=True):
        np.testing.assert_array_equal(first, again)
    for index in range(8):
        np.testing.assert_array_equal(heard[0][index], plain[index]["input_values"])
        assert all(np.abs(heard[0][index] - heard[way][index]).max() > 0.01 for way in (1, 2))
        assert heard[1][index].dtype == np.float32 and np.isfinite(heard[1][index]).all()


def test_chunks_and_losses_agree(teacher, start):
    """With the contrastive loss and alone; in chunks and whole."""
    accelerator, torch_inputs = Accelerator(cpu=True), torch.randn(6, 2 * RATE)
    inputs = {"input_values": torch_inputs, "input_ids": torch.randint(5, 99, (6, 4))}
    inputs["input_ids"][:, -1] = 49407
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    targets = {"track_ids": torch.arange(6), "caption_ids": torch.arange(6)}
    losses = {}
    for weight in (1.0, 0.25):
        gradients = []
        for chunk_size in (None, 4):
            torch.manual_seed(0)
            model = make_model(start)
            distillation = DistillationTask(str(teacher), model, weight)
            tasks = [distillation] if weight == 1 else [ContrastiveTask(model), distillation]
            objective = Objective(model, tasks).train()
            objective.freeze(set(), batch_norm=True)
            objective.eval()  # without dropout
            loss, parts = backward(accelerator, objective, inputs, targets, chunk_size)
            losses[weight, chunk_size] = (loss, parts)
            gradients.append({name: p.grad for name, p in objective.named_parameters() if p.grad is not None})
        assert gradients[0].keys() == gradients[1].keys()
        for name, gradient in gradients[0].items():
            torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-3, atol=1e-5)
        others = [name for name in gradients[0] if not name.startswith("model.audio_model.")]
        assert bool(others) == (weight < 1)
        torch.testing.assert_close(losses[weight, None][0], losses[weight, 4][0])
    loss, parts = losses[0.25, None]
    torch.testing.assert_close(loss, 0.75 * parts["contrastive_loss"] + 0.25 * parts["distillation_loss"])
    torch.testing.assert_close(parts["distillation_loss"], losses[1.0, None][0])


@pytest.mark.slow
def test_a_student_learns_and_leaves_all_else_as_it_was(teacher, start, corpus, recipe, tmp_path):
    args = ["--config", str(recipe), "--dataset", str(corpus), "--output_dir", str(tmp_path / "run")]
    args += ["--model_name_or_path", str(start), "--model_config", json.dumps({"audio_config": STUDENT})]
    args += ["--distillation_teacher", str(teacher), "--distillation_variants", "2", "--num_workers", "0"]
    train.main([*args, "--num_epochs", "6"])
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert np.mean(losses[-6:]) < 0.7 * np.mean(losses[:6])
    trained, before = MusCALLModel.from_pretrained(tmp_path / "run"), MusCALLModel.from_pretrained(start)
    assert trained.config.audio_config.pooling == "average"
    for name, tensor in before.state_dict().items():
        if not name.startswith("audio_model."):
            assert torch.equal(tensor, trained.state_dict()[name]), name
    with pytest.raises(ValueError, match="it goes without streaming"):
        more = ["--streaming", "--steps_per_epoch", "4", "--output_dir", str(tmp_path / "stream")]
        train.main([*args, *more])
