# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Configurations: defaults, round trips, and values that are refused."""

import json

import pytest

from configuration_muscall import MusCALLAudioConfig, MusCALLConfig, MusCALLMusicnnConfig


def test_defaults_are_the_papers():
    config = MusCALLConfig()
    audio, text = config.audio_config, config.text_config
    assert (audio.sampling_rate, audio.window_seconds, audio.n_fft, audio.hop_length) == (16000, 20, 1024, 512)
    assert (audio.num_mel_bins, audio.f_min, audio.f_max, audio.top_db) == (128, 0, 8000, 100)
    assert (audio.stem_width, tuple(audio.depths), audio.hidden_size) == (16, (3, 4, 6, 3), 256)
    assert (audio.num_attention_heads, audio.pooling, audio.grid_size) == (8, "attention", (4, 19))
    assert (text.model_type, text.num_hidden_layers, text.hidden_size) == ("clip_text_model", 4, 512)
    assert (text.num_attention_heads, text.vocab_size, text.max_position_embeddings) == (8, 49408, 77)
    assert (text.hidden_act, config.text_pooling, config.projection_dim) == ("gelu", "eos", 512)


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(MusCALLConfig(), id="default"),
        pytest.param(MusCALLConfig(audio_config={"window_seconds": 6.5, "depths": [1, 2, 1, 1]}), id="audio"),
        # CLIP's own default activation and depth, which are not ours, must survive too.
        pytest.param(MusCALLConfig(text_config={"num_hidden_layers": 12, "hidden_act": "quick_gelu"}), id="clip"),
        pytest.param(MusCALLConfig(text_config={"model_type": "bert"}, text_pooling="mean"), id="bert"),
    ],
)
def test_round_trip(config, tmp_path):
    config.save_pretrained(tmp_path)
    loaded = MusCALLConfig.from_pretrained(tmp_path)
    assert json.loads(loaded.to_json_string()) == json.loads(config.to_json_string())
    assert loaded.text_config.to_dict() == config.text_config.to_dict()


def test_partial_text_config_keeps_the_papers_values():
    config = MusCALLConfig(text_config={"num_hidden_layers": 2})
    assert (config.text_config.num_hidden_layers, config.text_config.hidden_act) == (2, "gelu")


def test_audio_config_from_the_full_repository(tmp_path):
    MusCALLConfig(audio_config={"window_seconds": 10}).save_pretrained(tmp_path)
    assert MusCALLAudioConfig.from_pretrained(tmp_path).window_seconds == 10


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sampling_rate", 0),
        ("window_seconds", -1),
        ("window_seconds", float("nan")),
        ("window_seconds", 0.5),
        ("hop_length", 0),
        ("hop_length", 2048),
        ("num_mel_bins", 16),
        ("f_min", 9000),
        ("f_max", float("inf")),
        ("top_db", 0),
        ("stem_width", 15),
        ("depths", (3, 4, 6)),
        ("depths", (3, 4, 6, 0)),
        ("hidden_size", 0),
        ("num_attention_heads", 7),
        ("pooling", "max"),
    ],
)
def test_impossible_audio_value(field, value):
    with pytest.raises(ValueError, match=rf"`{field}` must be .+, got"):
        MusCALLAudioConfig(**{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [("text_pooling", "max"), ("projection_dim", 0), ("logit_scale_init_value", 5.0), ("initializer_range", 0.0)],
)
def test_impossible_value(field, value):
    with pytest.raises(ValueError, match=rf"`{field}` must be .+, got"):
        MusCALLConfig(**{field: value})


def test_eos_pooling_needs_an_end_of_text_token():
    with pytest.raises(ValueError, match="eos_token_id is not one token"):
        MusCALLConfig(text_config={"model_type": "bert"}, text_pooling="eos")
    with pytest.raises(ValueError, match="eos_token_id is not one token"):
        MusCALLConfig(text_config={"vocab_size": 1000})


def test_wrong_type():
    with pytest.raises(Exception, match="projection_dim.*expected int, got str"):
        MusCALLConfig(projection_dim="512")


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("window_seconds", 1, "at least one patch of 187 frames"),
        ("window_seconds", float("nan"), "finite"),
        ("hop_length", 1024, "at most n_fft"),
        ("num_networks", 0, "above 0"),
        ("f_min", 9000, "between 0 and f_max"),
        ("num_mel_bins", 2, "at least 3"),
    ],
)
def test_impossible_value_of_musicnn(field, value, expected):
    with pytest.raises(ValueError, match=f"MusCALLMusicnnConfig: `{field}` must be .*{expected}"):
        MusCALLMusicnnConfig(**{field: value})


def test_an_unknown_tower_is_refused():
    with pytest.raises(ValueError, match="muscall_musicnn_model or .*, got 'clap_audio_model'"):
        MusCALLConfig(audio_config={"model_type": "clap_audio_model"})
    with pytest.raises(ValueError, match="`projection_hidden_size` must be an integer above 0"):
        MusCALLConfig(projection_hidden_size=0)
