# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Training with the musicnn tower."""

import pytest
import torch
from small_models import TEXT, build_musicnn, build_musicnn_model

import train
from muscall.training.objectives import ContrastiveObjective


def test_a_constant_input_norm_does_not_learn():
    model = build_musicnn_model()
    model.audio_model = build_musicnn()
    objective = ContrastiveObjective(model)
    for batch_norm in (True, False):
        objective.freeze(set(), batch_norm)
        still = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
        assert still == (
            {name for name, _ in model.named_parameters() if "input_norm" in name} if batch_norm else set()
        )


def test_train_starts_from_a_pretrained_tower(tmp_path):
    tower = build_musicnn()
    tower.save_pretrained(tmp_path / "tower")
    args = train.ModelArguments(audio_model_name_or_path=str(tmp_path / "tower"), model_config={"text_config": TEXT})
    model, processor = train.build_model(args)
    for name, tensor in tower.state_dict().items():
        assert torch.equal(model.audio_model.state_dict()[name], tensor), name
    assert model.audio_projection.in_features == 14 and processor.feature_extractor.window_seconds == 4
    (tmp_path / "tower" / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="is no audio tower: expected one of muscall_audio_model, .* got 'bert'"):
        train.build_model(args)
