# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Both metrics as users meet them: their cards, and loading by path in a process of its own."""

import doctest
import os
import re
import subprocess
import sys

import evaluate
import pytest
import yaml
from helpers import ROOT

from metrics.cross_modal_retrieval import cross_modal_retrieval
from metrics.zero_shot_tagging import zero_shot_tagging


METRICS = ROOT / "metrics"
LOADING = "import sys, evaluate; eye = [[1, 0], [0, 1]]; load = evaluate.load; "


@pytest.mark.parametrize("module", [cross_modal_retrieval, zero_shot_tagging])
def test_card_and_docstring_examples_run(module, monkeypatch):
    monkeypatch.chdir(ROOT)
    card = (METRICS / module.__name__.rpartition(".")[2] / "README.md").read_text()
    _, header, body = card.split("---\n", 2)
    assert yaml.safe_load(header)["tags"] == ["evaluate", "metric"]
    for name, text in (("card", re.sub("```.*", "", body)), ("docstring", module._KWARGS_DESCRIPTION)):
        test = doctest.DocTestParser().get_doctest(text, {}, name, None, 0)
        assert test.examples
        assert doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test).failed == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "code", "printed"),
    [
        (
            "cross_modal_retrieval",
            "metric = load(sys.argv[1]); "
            "print(metric.compute(text_embeds=eye, audio_ids=[0, 1], audio_embeds=eye)['mean_R@10'])",
            "100.0",
        ),
        (
            "zero_shot_tagging",
            "print(load(sys.argv[1]).compute(scores=eye, references=eye)['roc_auc'], "
            "load(sys.argv[1], 'single_label').compute(scores=eye, references=[0, 1])['accuracy'])",
            "1.0 100.0",
        ),
    ],
)
def test_loads_by_path_offline_in_a_fresh_process(tmp_path, name, code, printed):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    process = subprocess.run(
        [sys.executable, "-c", LOADING + code, str(METRICS / name)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    assert process.stdout.strip() == printed, process.stderr


@pytest.mark.parametrize("argument", ["text_embeds", "audio_embeds", "audio_ids"])
def test_retrieval_says_what_it_wants_instead_of_a_generator(tmp_path, argument):
    metric = evaluate.load(str(METRICS / "cross_modal_retrieval"), cache_dir=str(tmp_path))
    inputs = {"text_embeds": [[1.0, 0.0]], "audio_embeds": [[1.0, 0.0]], "audio_ids": [0]}
    inputs[argument] = (row for row in inputs[argument])
    with pytest.raises(ValueError, match=rf"`{argument}` must be a list .* got a generator.*list\({argument}\)"):
        metric.compute(**inputs)


@pytest.mark.parametrize("argument", ["scores", "references", "labels"])
def test_tagging_says_what_it_wants_instead_of_a_generator(tmp_path, argument):
    metric = evaluate.load(str(METRICS / "zero_shot_tagging"), cache_dir=str(tmp_path))
    inputs = {"scores": [[1.0, 0.0]], "references": [[1, 0]], "labels": ["a", "b"]}
    inputs[argument] = map(list, inputs[argument])
    with pytest.raises(ValueError, match=rf"`{argument}` must be a list .* got a map.*list\({argument}\)"):
        metric.compute(**inputs)
