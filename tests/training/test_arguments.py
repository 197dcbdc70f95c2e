# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Arguments: what recipe and command line say, and values that are refused."""

import pytest
from helpers import ROOT

from configuration_muscall import MusCALLConfig
from muscall.training.arguments import ModelArguments, parse_arguments


def test_arguments_that_cannot_be(recipe):
    for args, message in (
        (["--chunk_size", "0"], "chunk_size must be at least 1, got 0"),
        (["--ssl_weight", "1"], r"ssl_weight must be in \[0, 1\), got 1.0"),
        (["--batch_norm", "none"], "batch_norm must be local, synchronised or frozen, got 'none'"),
        (
            ["--report_to", "nothing"],
            "report_to: nothing is not installed or not known to accelerate; there is: .*tensor",
        ),
        (["--streaming"], "streaming needs steps_per_epoch"),
    ):
        with pytest.raises(ValueError, match=message):
            parse_arguments(["--config", str(recipe), *args])


def test_pretrained_parts_replace_those_of_the_recipe(recipe):
    assert parse_arguments(["--config", str(recipe), "--model_name_or_path", "some/model"])[0].model_config == {}
    config = parse_arguments(["--config", str(recipe), "--text_model_name_or_path", "some/text"])[0].model_config
    assert set(config) == {"audio_config", "projection_dim"}
    config = parse_arguments(["--config", str(recipe), "--audio_model_name_or_path", "some/tower"])[0].model_config
    assert set(config) == {"text_config", "projection_dim"}
    with pytest.raises(ValueError, match="audio_model_name_or_path brings its own audio_config"):
        ModelArguments(audio_model_name_or_path="some/tower", model_config={"audio_config": {}})
    with pytest.raises(ValueError, match="MusCALLMusicnnConfig has no field depths"):
        ModelArguments(model_config={"audio_config": {"model_type": "muscall_musicnn_model", "depths": 1}})
    with pytest.raises(ValueError, match="MusCALLConfig has no field projection_dims"):
        parse_arguments(["--config", str(recipe), "--model_config", '{"projection_dims": 8}'])
    with pytest.raises(ValueError, match="eval_every must be at least 1, got 0"):
        parse_arguments(["--config", str(recipe), "--eval_every", "0"])


def test_recipes_are_arguments(tmp_path):
    for path in (ROOT / "recipes").glob("*.yaml"):
        model_args, _, args = parse_arguments(["--config", str(path), "--num_epochs", "3"])
        assert args.num_epochs == 3 and isinstance(args.learning_rate, float)
        MusCALLConfig(**(model_args.model_config or {}))
    (tmp_path / "wrong.yaml").write_text("batchsize: 8\nseed: 1\n")
    with pytest.raises(ValueError, match=r"wrong.yaml: unknown arguments batchsize. Known are: .*batch_size"):
        parse_arguments(["--config", str(tmp_path / "wrong.yaml")])
