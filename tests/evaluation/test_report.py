# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Result files, and results in a model card."""

import json

from huggingface_hub import ModelCard

from muscall.evaluation.report import update_card, write_json


def test_results_are_whole_or_absent(tmp_path):
    write_json(tmp_path / "new" / "a.json", {"task": "x", "queries": {"a": [1, 2]}})
    assert json.loads((tmp_path / "new" / "a.json").read_text()) == {"task": "x", "queries": {"a": [1, 2]}}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.json"]


def test_card_keeps_what_others_measured(tmp_path):
    path = tmp_path / "README.md"
    path.write_text("---\nlicense: mit\n---\n\nText.\n")
    base = {"model": "m", "split": "test", "protocol": {}, "checkpoint_sha256": "0"}
    update_card(path, {**base, "task": "zeroshot", "dataset": "gtzan", "metrics": {"accuracy": 50.0}}, [])
    update_card(
        path, {**base, "task": "zeroshot", "dataset": "fma", "metrics": {"accuracy": 40.0, "num_tracks": 3}}, []
    )
    update_card(path, {**base, "task": "zeroshot", "dataset": "gtzan", "metrics": {"accuracy": 60.0}}, [])
    entries = {entry.dataset_name: entry.metric_value for entry in ModelCard.load(path).data.eval_results}
    assert entries == {"gtzan": 60.0, "fma": 40.0}
