# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Classification by `zero_shot_tagging` against numbers by hand, scikit-learn and every choice of tied labels."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
)

from metrics.zero_shot_tagging import zero_shot_tagging as module


def test_four_tracks_three_classes(classification_metric):
    results = classification_metric.compute(
        scores=[[0.9, 0.1, 0.0], [0.2, 0.2, 0.1], [0.1, 0.5, 0.3], [0.3, 0.2, 0.6]],
        references=[0, 1, 1, 1],
        labels=["blues", "disco", "metal"],
    )
    assert results == {
        "accuracy": 62.5,
        "balanced_accuracy": 75,
        "per_label": {
            "blues": {"accuracy": 100, "count": 1},
            "disco": {"accuracy": 50, "count": 3},
            "metal": {"accuracy": None, "count": 0},
        },
        "undefined": ["metal"],
        "confusion": [[1, 0, 0], [0.5, 1.5, 1], [0, 0, 0]],
        "num_tracks": 4,
        "num_labels": 3,
    }


@pytest.mark.parametrize("seed", range(5))
def test_classes_match_sklearn(seed):
    rng = np.random.default_rng(seed)
    references = rng.integers(0, 8, 200)  # two of ten classes do not occur
    scores = rng.standard_normal((200, 10)) + 2 * np.eye(10)[references]
    results, predictions = module.single_label_metrics(scores, references), scores.argmax(axis=1)
    assert results["accuracy"] == pytest.approx(100 * accuracy_score(references, predictions), rel=1e-14)
    confusion = confusion_matrix(references, predictions, labels=np.arange(10))
    assert np.array_equal(results["confusion"], confusion)
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        balanced = balanced_accuracy_score(references, predictions)
    assert results["balanced_accuracy"] == pytest.approx(100 * balanced, rel=1e-14)
    assert results["undefined"] == ["8", "9"]
    for label, numbers in enumerate(results["per_label"].values()):
        assert numbers["count"] == confusion[label].sum()
        if numbers["count"]:
            assert numbers["accuracy"] == pytest.approx(100 * confusion[label, label] / numbers["count"], rel=1e-14)


@pytest.mark.parametrize("seed", range(10))
def test_tied_classes_match_every_choice_among_them(seed):
    rng = np.random.default_rng(seed)
    scores, references = rng.integers(0, 3, (5, 4)), rng.integers(0, 4, 5)
    choices = [np.flatnonzero(row == row.max()) for row in scores]
    outcomes = [confusion_matrix(references, choice, labels=range(4)) for choice in itertools.product(*choices)]
    confusion = np.mean(outcomes, axis=0)
    results = module.single_label_metrics(scores, references)
    np.testing.assert_allclose(results["confusion"], confusion, rtol=1e-14)
    assert results["accuracy"] == pytest.approx(100 * np.trace(confusion) / 5, rel=1e-14)
    occurs = confusion.sum(axis=1) > 0
    recall = confusion.diagonal()[occurs] / confusion.sum(axis=1)[occurs]
    assert results["balanced_accuracy"] == pytest.approx(100 * recall.mean(), rel=1e-14)


def test_order_of_tracks_and_classes_does_not_matter():
    rng = np.random.default_rng(5)
    scores, references = rng.integers(0, 4, (300, 7)), rng.integers(0, 6, 300)
    results = module.single_label_metrics(scores, references)
    tracks, columns = rng.permutation(300), rng.permutation(7)
    assert module.single_label_metrics(scores[tracks], references[tracks]) == results
    shuffled = module.single_label_metrics(scores[:, columns], np.argsort(columns)[references], columns)
    for name in ("accuracy", "balanced_accuracy", "per_label", "undefined"):
        assert shuffled[name] == results[name]
    assert np.array_equal(shuffled["confusion"], np.array(results["confusion"])[columns][:, columns])
    repeated = module.single_label_metrics(np.tile(scores, (3, 1)), np.tile(references, 3))
    for name in ("accuracy", "balanced_accuracy"):
        assert repeated[name] == pytest.approx(results[name], rel=1e-13)
    stretched = np.exp(scores) * 10.0 ** rng.integers(-100, 100, (300, 1))  # by track
    assert module.single_label_metrics(stretched, references) == results


def test_intervals_of_classes_are_those_of_metrics_on_resampled_tracks(classification_metric):
    rng = np.random.default_rng(6)
    scores, references = rng.integers(0, 4, (20, 6)), rng.integers(0, 5, 20)
    results = classification_metric.compute(scores=scores, references=references, num_resamples=40, seed=3)
    plain = classification_metric.compute(scores=scores, references=references)
    assert {name: results[name] for name in plain} == plain
    assert set(results) - set(plain) == {"accuracy_interval", "balanced_accuracy_interval"}
    draws, samples = np.random.default_rng(3), []
    for _ in range(40):
        tracks = draws.integers(20, size=20)
        samples.append(module.single_label_metrics(scores[tracks], references[tracks]))
    assert {len(sample["undefined"]) for sample in samples} > {1}  # classes that some of the resamples lack
    for name in ("accuracy", "balanced_accuracy"):
        expected = np.percentile([sample[name] for sample in samples], (2.5, 97.5))
        np.testing.assert_allclose(results[f"{name}_interval"], expected, rtol=1e-12)


def test_classes_in_batches(classification_metric):
    rng = np.random.default_rng(7)
    scores, classes = rng.standard_normal((30, 6)), rng.integers(6, size=30)
    for start in range(0, 30, 12):
        classification_metric.add_batch(references=torch.from_numpy(classes[start : start + 12]))
    assert classification_metric.compute(scores=scores) == module.single_label_metrics(scores, classes)
