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
        (["--mixed_precision", "fp8"], "mixed_precision must be no, bf16 or fp16, got 'fp8'"),
        (["--model_config", "{projection_dim: 8}"], "model_config must be JSON, got {projection_dim: 8}: Expecting"),
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


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("--steps_per_epoch 5", "steps_per_epoch 5 would have no effect: it needs streaming"),
        ("--shuffle_buffer 5", "it needs streaming"),
        ("--streaming --steps_per_epoch 5 --holdout_fraction 0.2", "it needs no streaming: a stream brings its own"),
        ("--freeze_audio_steps -1 --audio_learning_rate 0.1", "it needs an audio tower that learns"),
        ("--freeze_audio_steps -1 --batch_norm frozen", "it needs an audio tower that learns"),
        ("--freeze_text_steps -1 --text_learning_rate 0.1", "it needs a text tower that learns"),
        ("--sentence_model_name_or_path a/b", "it needs content_weighting"),
        ("--content_weight_reference_batch 0", "it needs content_weighting"),
        ("--distillation_weight 0.5", "it needs a distillation_teacher"),
        ("--distillation_variants 2", "it needs a distillation_teacher"),
        ("--distillation_teacher a --ssl_weight 0.3", "it needs a distillation_weight below 1"),
        ("--distillation_teacher a --content_weighting", "it needs a distillation_weight below 1"),
    ],
)
def test_an_argument_without_effect_is_refused(recipe, args, message):
    with pytest.raises(ValueError, match=f"would have no effect: .*{message.split(': it ')[-1]}"):
        parse_arguments(["--config", str(recipe), *args.split()])


def test_the_command_line_may_take_from_a_recipe_what_its_arguments_need(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("content_weighting: true\nsentence_model_name_or_path: a/b\n")
    assert not parse_arguments(["--config", str(recipe), "--content_weighting", "false"])[2].content_weighting
    recipe.write_text("sentence_model_name_or_path: a/b\n")
    assert parse_arguments(["--config", str(recipe), "--content_weighting"])[2].content_weighting
    with pytest.raises(ValueError, match="sentence_model_name_or_path a/b would have no effect"):
        parse_arguments(["--config", str(recipe)])


def test_a_recipe_is_read_as_yaml_or_refused_in_words(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("mixed_precision: no\n")
    assert parse_arguments(["--config", str(recipe)])[2].mixed_precision == "no"
    for content, message in ((b"seed: [1", "is no YAML"), (b"- seed", "got a list"), (b"seed: \xff", "is no YAML")):
        recipe.write_bytes(content)
        with pytest.raises(ValueError, match=f"recipe.yaml.*{message}"):
            parse_arguments(["--config", str(recipe)])
    with pytest.raises(OSError, match="missing.yaml"):
        parse_arguments(["--config", str(tmp_path / "missing.yaml")])
