# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The model card: each figure with the digits of the one table of metrics, and what the weights are bound by."""

from collections import Counter

from helpers import HUB_TASKS
from huggingface_hub import ModelCard

from muscall.evaluation.report import DIRECTIONS, RETRIEVAL_METRICS
from muscall.training.publishing import write_card


def make_results():
    metrics = {f"{direction}_{name}": 12.3456 for direction in DIRECTIONS for name in RETRIEVAL_METRICS}
    chance = dict.fromkeys(metrics, 1.0)
    return {
        "test": metrics | {"text_to_audio_R@1_interval": [10.04, 15.06], "num_audio": 48, "num_text": 50},
        "chance": chance,
        "validation": {"step": 24},
        "dataset": ["default", "my/corpus"],
        "fingerprint": {"train": "abc"},
        "num_tracks": {"train": 1234, "validation": 36},
        "licences": Counter({"CC0": 3, "not stated": 1}),
        "num_resamples": 1000,
        "windows": "all",
        "arguments": {
            "model_name_or_path": "fast",
            "audio_model_name_or_path": None,
            "text_model_name_or_path": None,
            "freeze_audio_steps": -1,
            "freeze_text_steps": -1,
        },
        "command": "accelerate launch train.py",
        "training_seconds": 60,
        "versions": {"torch": "2"},
    }


def test_figures_have_the_digits_of_the_table(tmp_path):
    write_card(tmp_path, make_results())
    card = (tmp_path / "README.md").read_text()
    assert "| direction | R@1 | R@5 | R@10 | MedR | mean rank | MRR | mAP@10 |\n| --- | --- |" in card
    assert "| text to audio | 12.3 [10.0, 15.1] | 12.3 | 12.3 | 12.3 | 12.3 | 12.346 | 12.3 |" in card
    assert "| audio to text, chance | 1.0 | 1.0 | 1.0 | 1.0 | 1.0 | 1.000 | 1.0 |" in card


def test_tracks_licences_and_command_are_stated(tmp_path):
    write_card(tmp_path, make_results())
    card = (tmp_path / "README.md").read_text()
    assert "# MusCALL trained on a part of the default corpus and my/corpus" in card
    assert "1234 tracks (fingerprint `abc`); licences of all splits: CC0 (3), not stated (1)" in card
    assert "accelerate launch train.py" in card
    assert "The weights are those of step 24, the best by mean R@10 on the 36 validation tracks." in card


def test_the_card_says_what_the_weights_were_before_the_run(tmp_path):
    results = make_results()
    write_card(tmp_path, results)
    assert "The start: `fast`; its audio and text towers did not learn." in (tmp_path / "README.md").read_text()
    results["arguments"] |= {"model_name_or_path": None, "freeze_audio_steps": 0, "freeze_text_steps": 0}
    write_card(tmp_path, results)
    assert "The start: random weights. 1234 tracks" in (tmp_path / "README.md").read_text()


def test_the_card_names_a_task_of_the_hub(tmp_path):
    write_card(tmp_path, make_results())
    assert ModelCard.load(tmp_path / "README.md").data.pipeline_tag in HUB_TASKS
