# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""What train.py builds: the model from pretrained parts, the optimizer's groups, which towers learn, the batches."""

from types import SimpleNamespace

import pytest
import torch
from corpora import make_tracks, write_embeds, write_table
from datasets import Dataset
from helpers import save_model
from small_models import TEXT, build_musicnn
from tiny_objective import make_objective

from muscall.data.sources import load_corpus
from muscall.training.arguments import DataArguments, ModelArguments, TrainingArguments
from muscall.training.building import (
    TrainingData,
    build_model,
    build_optimizer,
    check_embeds,
    frozen_towers,
    load_corpora,
)


def test_a_model_starts_from_a_pretrained_tower(tmp_path):
    tower = build_musicnn()
    tower.save_pretrained(tmp_path / "tower")
    args = ModelArguments(audio_model_name_or_path=str(tmp_path / "tower"), model_config={"text_config": TEXT})
    model, processor = build_model(args)
    for name, tensor in tower.state_dict().items():
        assert torch.equal(model.audio_model.state_dict()[name], tensor), name
    assert model.audio_projection.in_features == 14 and processor.feature_extractor.window_seconds == 4
    (tmp_path / "tower" / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="is no audio tower: expected one of muscall_audio_model, .* got 'bert'"):
        build_model(args)


def test_the_start_of_a_model_is_loaded_or_named_in_words(tmp_path):
    folder = save_model(tmp_path / "model")
    tower = build_musicnn()
    tower.save_pretrained(tmp_path / "tower")
    model, _ = build_model(ModelArguments(audio_model_name_or_path=str(tmp_path / "tower")))
    assert str(tmp_path) not in model.config.to_json_string() and "auto_map" not in model.config.audio_config.to_dict()
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:5000])
    with pytest.raises(ValueError, match="the weights of .*/model are damaged: "):
        build_model(ModelArguments(model_name_or_path=str(folder)))
    with pytest.raises(ValueError, match="model_config: .*'projection_dim' expected int, got str"):
        build_model(ModelArguments(model_config={"projection_dim": "wide"}))


@pytest.mark.parametrize(
    ("audio", "text", "step", "expected"),
    [
        (0, 0, 0, set()),
        (3, 0, 2, {"audio_model"}),
        (3, 0, 3, set()),
        (-1, 5, 4, {"audio_model", "text_model"}),
        (-1, 5, 5, {"audio_model"}),
    ],
)
def test_towers_learn_from_their_step_on(audio, text, step, expected):
    assert frozen_towers(step, TrainingArguments(freeze_audio_steps=audio, freeze_text_steps=text)) == expected


def test_each_tower_has_its_rate_and_vectors_do_not_decay():
    objective = make_objective("ssl")
    optimizer = build_optimizer(
        objective, TrainingArguments(learning_rate=0.1, audio_learning_rate=0.2, text_learning_rate=0.0)
    )
    groups = {group["name"]: group for group in optimizer.param_groups}
    towers = ("audio_model", "text_model", "other")
    assert set(groups) == {f"{tower}/{decay}" for tower in towers for decay in ("decayed", "not_decayed")}
    assert {name: group["lr"] for name, group in groups.items() if group["lr"] != 0.1} == {
        "audio_model/decayed": 0.2,
        "audio_model/not_decayed": 0.2,
        "text_model/decayed": 0.0,
        "text_model/not_decayed": 0.0,
    }
    assert {group["weight_decay"] for name, group in groups.items() if name.endswith("not_decayed")} == {0}
    others = [id(parameter) for parameter in groups["other/decayed"]["params"]]
    assert id(objective.ssl_projector[0].weight) in others
    assert id(objective.model.logit_scale) in [id(parameter) for parameter in groups["other/not_decayed"]["params"]]


class Loader(list):
    """Three batches, which name their epoch; `skip_first_batches` of accelerate takes data loaders alone."""

    epoch = None

    def set_epoch(self, epoch):
        self.epoch = epoch
        self[:] = [(epoch, number) for number in range(3)]


def test_batches_go_on_from_any_step(monkeypatch):
    monkeypatch.setattr("muscall.training.building.skip_first_batches", lambda loader, number: loader[number:])
    windows = SimpleNamespace(set_epoch=lambda epoch: None)
    splits = {"train": Dataset.from_dict({"path": list("abcdef")})}
    data = TrainingData(splits, None, windows, Loader(), steps_per_epoch=3, global_batch_size=2)
    every = [(epoch, number) for epoch in range(2) for number in range(3)]
    for step in range(7):
        assert list(data.batches(step, num_epochs=2)) == every[step:]


def test_stored_embeddings_that_a_model_cannot_learn_from(tmp_path):
    tracks = load_corpus(str(write_embeds(tmp_path / "embeds", 4)))["train"]
    model = SimpleNamespace(config=SimpleNamespace(projection_dim=4))
    check_embeds(tracks, model, TrainingArguments(freeze_audio_steps=-1))
    with pytest.raises(ValueError, match="the audio tower cannot learn: set freeze_audio_steps to -1"):
        check_embeds(tracks, model, TrainingArguments())
    model.config.projection_dim = 8
    with pytest.raises(ValueError, match="have 4 numbers, those of the model 8: set projection_dim"):
        check_embeds(tracks, model, TrainingArguments(freeze_audio_steps=-1))


def test_audio_and_stored_embeddings_are_not_mixed(tmp_path):
    embeds = write_embeds(tmp_path / "embeds", 4)
    audio = write_table(tmp_path / "audio.jsonl", make_tracks(tmp_path, "audio"))
    with pytest.raises(ValueError, match="some have audio and some stored embeddings, which cannot be mixed"):
        load_corpora([str(embeds), str(audio)], DataArguments(), seed=0)
