# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""What `zero_shot_tagging` refuses, and how it is loaded and described."""

import functools
from pathlib import Path

import evaluate
import numpy as np
import pytest

from metrics.zero_shot_tagging import zero_shot_tagging as module


ROOT = Path(__file__).parents[2]
METRIC = ROOT / "metrics" / "zero_shot_tagging"


def table_with(value, track=2, label=1):
    table = np.eye(4, 3)
    table[track, label] = value
    return table


def broken(**changes):
    return {"scores": np.eye(4, 3), "references": np.eye(4, 3)} | changes


BAD_TABLES = [
    (broken(scores=np.zeros((0, 3))), r"`scores` must be of shape \(num_tracks, num_labels\).*got \(0, 3\)"),
    (broken(scores=np.zeros((4, 0))), r"`scores` must be of shape.*got \(4, 0\)"),
    (broken(scores=np.zeros(4)), r"`scores` must be of shape.*got \(4,\)"),
    (broken(scores=[[1, 2], [3]]), r"`scores` must be an array of numbers, got.*inhomogeneous"),
    (broken(scores=[["a"]]), r"`scores` must be an array of numbers, got.*could not convert string"),
    (broken(scores=table_with(np.nan)), r"NaN or Inf in 1 of 12 places, the first being nan of track 2 and label '1'"),
    (broken(scores=table_with(-np.inf), labels="xyz"), r"`scores`.*first being -inf of track 2 and label 'y'"),
    (broken(labels=["x", "y"]), r"`labels` must be 3 names, one per column of `scores`, got 2"),
    (broken(labels=["x", "y", "x"]), r"`labels` must be unique, got more than once \['x'\]"),
    (broken(num_resamples=-1), r"`num_resamples` must be at least 0, got -1"),
]


@pytest.mark.parametrize("function", [module.multi_label_metrics, module.single_label_metrics])
@pytest.mark.parametrize(("inputs", "message"), BAD_TABLES)
def test_bad_tables(function, inputs, message):
    with pytest.raises(ValueError, match=message):
        function(**inputs)


@pytest.mark.parametrize(
    ("references", "message"),
    [
        (np.eye(4), r"of the shape of `scores`, \(4, 3\), got \(4, 4\)"),
        (np.eye(3), r"of the shape of `scores`, \(4, 3\), got \(3, 3\)"),
        ([0, 1, 0, 1], r"of the shape of `scores`, \(4, 3\), got \(4,\)"),
        ([[0, 1, 0]] * 3 + [[1]], r"`references` must be an array of numbers, got.*inhomogeneous"),
        (table_with(2), r"1, 0 or -1.*in 1 of 12 places, the first being 2.0 of track 2 and label '1'"),
        (table_with(0.5, 3, 2), r"the first being 0.5 of track 3 and label '2'"),
        (table_with(np.nan), r"the first being nan of track 2"),
        (table_with(-2), r"the first being -2.0 of track 2"),
    ],
)
def test_bad_references(references, message):
    with pytest.raises(ValueError, match=message):
        module.multi_label_metrics(np.eye(4, 3), references)


@pytest.mark.parametrize(
    ("references", "message"),
    [
        ([0, 1, 2], r"`references` must be 4 integers, one per row of `scores`, got shape \(3,\)"),
        (np.eye(4, 3), r"must be 4 integers.*got shape \(4, 3\)"),
        ([0, 1, 2, 3], r"integers 0 to 2, got others in 1 of 4 places, the first being 3.0 of track 3"),
        ([0, -1, 2, -1], r"in 2 of 4 places, the first being -1.0 of track 1"),
        ([0.5, 1, 2, 0], r"the first being 0.5 of track 0"),
        ([0, 1, np.nan, 0], r"the first being nan of track 2"),
    ],
)
def test_bad_classes(references, message):
    with pytest.raises(ValueError, match=message):
        module.single_label_metrics(np.eye(4, 3), references)


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="at least 2 labels to choose from, got 1"):
        module.single_label_metrics(np.ones((4, 1)), [0, 0, 0, 0])


def test_columns_of_evaluate_refuse_the_same(tmp_path):
    load = functools.partial(evaluate.load, str(METRIC), keep_in_memory=True, cache_dir=str(tmp_path))
    for configuration, references, message in (
        ("multi_label", table_with(0.5), r"the first being 0.5 of track 2"),
        ("multi_label", [[0, 1, 0]] * 3 + [[1]], r"inhomogeneous"),
        ("multi_label", [], r"of the shape of `scores`, \(4, 3\), got \(0,\)"),
        ("single_label", [0, 1, 2, 0.5], r"the first being 0.5 of track 3"),
        ("single_label", [0, 1, 2], r"got shape \(3,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            load(configuration).compute(scores=np.eye(4, 3), references=references)


def test_metric_goes_on_after_an_error(tagging_metric):
    with pytest.raises(ValueError, match="the first being 2.0 of track 2"):
        tagging_metric.compute(**broken(references=table_with(2)))
    assert tagging_metric.compute(**broken())["roc_auc"] == 1


def test_names_of_the_configurations(tagging_metric, classification_metric, tmp_path):
    assert tagging_metric.config_name == "default"
    assert classification_metric.config_name == "single_label"
    named = evaluate.load(str(METRIC), "multi_label", cache_dir=str(tmp_path))
    inputs = {"scores": np.eye(4, 3), "references": np.eye(4, 3)}
    assert named.compute(**inputs) == tagging_metric.compute(**inputs)
    with pytest.raises(ValueError, match=r"among \['default', 'multi_label', 'single_label'\], got 'multilabel'"):
        evaluate.load(str(METRIC), "multilabel")
