# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The table of the paper's claims: what runs differ in, and how seeds become a figure."""

from pathlib import Path

import pytest

import train
from experiments.claims import FAMILIES, Models, summarize_runs


ROOT = Path(__file__).parents[2]


def one_run(*ranks):
    return {"queries/text_to_audio": {"ranks": list(ranks), "AUC": [100.0 / rank for rank in ranks]}}


def test_seeds_are_averaged_and_compared_query_by_query():
    ours, theirs = [one_run(1, 2, 4), one_run(1, 1, 2)], [one_run(2, 4, 4), one_run(2, 2, 4)]
    (summary,) = summarize_runs(ours, theirs).values()
    mean, other = (100 + 75 + 37.5) / 3, (50 + 37.5 + 25) / 3
    assert summary["MedR"] == 1.5
    for metric in ("MRR", "AUC"):
        assert summary[metric]["mean"] == pytest.approx(mean, abs=0.01)
        assert summary[metric]["seeds"] == pytest.approx([(100 + 50 + 25) / 3, 250 / 3], abs=0.01)
        low, high = summary[metric]["less_baseline"]
        assert low < mean - other < high and low >= 12.5 and high <= 50
    assert summary["R@1"]["seeds"] == pytest.approx([100 / 3, 200 / 3], abs=0.01)
    assert summary["R@5"] == {"mean": 100, "seeds": [100, 100], "less_baseline": [0, 0]}


def test_a_baseline_does_not_differ_from_itself():
    runs = [one_run(1, 2, 4), one_run(1, 1, 2)]
    assert summarize_runs(runs, runs)["queries/text_to_audio"]["R@1"]["less_baseline"] == [0, 0]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_row_is_a_run_that_train_py_takes(family):
    rows = FAMILIES[family](Models("musicnn", "tag_baseline", "runs/short_start", "minilm"))
    for arguments in rows.values():
        train.parse_arguments(["--config", str(ROOT / "recipes" / "claims.yaml"), *arguments])
