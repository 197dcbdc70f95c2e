# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The audio tower of two towers."""

import pytest
import torch
from small_models import ENSEMBLE, build_ensemble, build_model

from configuration_muscall import MusCALLConfig, MusCALLEnsembleConfig, MusCALLMobileNetConfig
from modeling_muscall import MusCALLModel


@torch.no_grad()
def test_the_pooled_feature_is_that_of_the_taggers_and_then_that_of_the_mobilenet():
    tower = build_ensemble()
    windows = torch.randn(2, tower.config.window_samples) / 10
    pooled = tower(windows).pooler_output
    assert torch.equal(pooled[:, :14], tower.musicnn(windows).pooler_output)
    assert torch.equal(pooled[:, 14:], tower.mobilenet(windows).pooler_output)


def test_the_configuration_of_both_towers_is_saved_and_read(tmp_path):
    config = MusCALLConfig(audio_config={"model_type": "muscall_ensemble_model", **ENSEMBLE})
    config.save_pretrained(tmp_path)
    loaded = MusCALLConfig.from_pretrained(tmp_path).audio_config
    assert isinstance(loaded.mobilenet_config, MusCALLMobileNetConfig)
    assert loaded.to_dict() == config.audio_config.to_dict()
    assert (loaded.hidden_size, loaded.window_seconds, loaded.sampling_rate) == (26, 4, 16000)


@torch.no_grad()
def test_a_saved_model_gives_the_same_embeddings(tmp_path):
    model = build_model(audio_config={"model_type": "muscall_ensemble_model", **ENSEMBLE})
    windows = torch.randn(2, model.config.audio_config.window_samples) / 10
    model.save_pretrained(tmp_path)
    loaded = MusCALLModel.from_pretrained(tmp_path).eval()
    expected = model.get_audio_features(windows).pooler_output
    assert torch.equal(loaded.get_audio_features(windows).pooler_output, expected)


def test_the_input_norms_of_the_taggers_may_stay_constant():
    tower = build_ensemble()
    assert tower.constant_norm_parameters() == tower.musicnn.constant_norm_parameters()


@pytest.mark.parametrize(("field", "value"), [("window_seconds", 5), ("sampling_rate", 8000)])
def test_towers_that_hear_other_windows_are_refused(field, value):
    with pytest.raises(ValueError, match=f"both towers must have one `{field}`, got .* and {value}"):
        MusCALLEnsembleConfig(**ENSEMBLE | {"mobilenet_config": {**ENSEMBLE["mobilenet_config"], field: value}})
