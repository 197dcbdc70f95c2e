# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Tagging by `zero_shot_tagging` against numbers worked out by hand and scikit-learn."""

import functools
import tracemalloc

import numpy as np
import pytest
import torch
from sklearn.metrics import (
    average_precision_score,
    roc_auc_score,
)

from metrics.zero_shot_tagging import zero_shot_tagging as module


AREAS = ("roc_auc", "pr_auc")


def areas_by_sklearn(scores, references):
    """ROC-AUC and average precision of one label, `None` where a class is missing."""
    known = references >= 0
    scores, references = scores[known], references[known]
    if len(set(references.tolist())) < 2:
        return None, None
    return roc_auc_score(references, scores), average_precision_score(references, scores)


def random_table(rng, num_tracks, num_labels, unknown=0.2, levels=None):
    """Shares of positives from none to all, and labels that the scores tell well, badly or the wrong way round."""
    shares, slopes = np.linspace(0, 1, num_labels), rng.uniform(-2, 3, num_labels)
    references = (rng.random((num_tracks, num_labels)) < shares).astype(int)
    scores = rng.standard_normal((num_tracks, num_labels)) + slopes * references
    if levels:
        scores = np.round(scores * levels / 4)
    references[rng.random(references.shape) < unknown] = -1
    return scores, references


# scores, references, ROC-AUC and PR-AUC of one label, worked out by hand
HAND_MADE = [
    pytest.param([4, 3, 2, 1], [1, 1, 0, 0], 1, 1, id="in order"),
    pytest.param([1, 2, 3, 4], [1, 1, 0, 0], 0, 5 / 12, id="the wrong way round"),
    pytest.param([0.9, 0.8, 0.3, 0.1], [1, 0, 1, 0], 3 / 4, 5 / 6, id="one pair of four swapped"),
    pytest.param([7, 7, 7, 7], [0, 1, 0, 0], 1 / 2, 1 / 4, id="all tied"),
    pytest.param([0.9, 0.9, 0.1, 0], [1, 0, 0, 1], 3 / 8, 1 / 2, id="tied at the top"),
    pytest.param([0.9, 0.5, 0.5, 0.5, 0.1], [0, 1, 1, 0, 0], 1 / 2, 1 / 2, id="two of three tied"),
    pytest.param([0.5, 0.5, 0.2, 0.2], [1, 1, 0, 0], 1, 1, id="ties within the classes only"),
    pytest.param([0.9, 0.8, 0.3, 0.1], [1, -1, 1, 0], 1, 1, id="the wrong one unknown"),
    pytest.param([0.5, 0.5, 0.5], [1, -1, 0], 1 / 2, 1 / 2, id="one of the tied unknown"),
    pytest.param([0.0, -0.0], [1, 0], 1 / 2, 1 / 2, id="zero and negative zero"),
    pytest.param([5e-324, 0.0], [1, 0], 1, 1, id="smallest float"),
    pytest.param([1e308, -1e308, 0], [0, 1, 1], 0, (1 / 2 + 2 / 3) / 2, id="largest floats"),
    pytest.param([1, 2, 3], [1, 1, 1], None, None, id="no negative"),
    pytest.param([1, 2, 3], [0, 0, 0], None, None, id="no positive"),
    pytest.param([1, 2, 3], [-1, 1, -1], None, None, id="one known"),
    pytest.param([1, 2, 3], [-1, -1, -1], None, None, id="none known"),
]


@pytest.mark.parametrize(("scores", "references", "roc_auc", "pr_auc"), HAND_MADE)
def test_hand_made_labels(scores, references, roc_auc, pr_auc):
    results = module.multi_label_metrics(np.array([scores]).T, np.array([references]).T)
    assert results["per_label"]["0"] == {
        "roc_auc": roc_auc if roc_auc is None else pytest.approx(roc_auc, rel=1e-15),
        "pr_auc": pr_auc if pr_auc is None else pytest.approx(pr_auc, rel=1e-15),
        "positives": references.count(1),
        "negatives": references.count(0),
    }
    assert [results[name] for name in AREAS] == [results["per_label"]["0"][name] for name in AREAS]
    assert results["undefined"] == (["0"] if roc_auc is None else [])
    assert results["at_or_below_chance"] == (["0"] if roc_auc is not None and roc_auc <= 0.5 else [])


def test_means_are_over_the_labels_that_are_defined(tagging_metric):
    scores = [[0.9, 0.2, 0.1, 4], [0.8, 0.4, 0.2, 3], [0.3, 0.4, 0.3, 2], [0.1, 0.6, 0.4, 1]]
    references = [[1, -1, 0, 0], [0, 0, 0, 0], [1, 1, 0, 1], [0, 1, 0, 1]]
    labels = ["rock", "piano", "flute", "calm"]
    results = tagging_metric.compute(scores=scores, references=references, labels=labels)
    assert list(results) == [*AREAS, "per_label", "undefined", "at_or_below_chance", "num_tracks", "num_labels"]
    assert results["roc_auc"] == pytest.approx((0.75 + 0.75 + 0) / 3, rel=1e-15)
    assert results["pr_auc"] == pytest.approx((5 / 6 + 5 / 6 + 5 / 12) / 3, rel=1e-15)
    assert list(results["per_label"]) == labels
    assert list(results["per_label"]["piano"].values()) == pytest.approx([0.75, 5 / 6, 2, 1], rel=1e-15)
    assert results["per_label"]["flute"] == {"roc_auc": None, "pr_auc": None, "positives": 0, "negatives": 4}
    assert (results["undefined"], results["at_or_below_chance"]) == (["flute"], ["calm"])
    assert (results["num_tracks"], results["num_labels"]) == (4, 4)


@pytest.mark.parametrize("levels", [None, 40, 4, 1])
@pytest.mark.parametrize(
    ("num_tracks", "num_labels", "unknown"), [(2, 30, 0), (9, 40, 0.3), (200, 20, 0), (500, 9, 0.9)]
)
def test_areas_match_sklearn(num_tracks, num_labels, unknown, levels):
    scores, references = random_table(np.random.default_rng(num_tracks), num_tracks, num_labels, unknown, levels)
    results = module.multi_label_metrics(scores, references)
    expected = [areas_by_sklearn(*columns) for columns in zip(scores.T, references.T, strict=True)]
    for numbers, areas in zip(results["per_label"].values(), expected, strict=True):
        for name, area in zip(AREAS, areas, strict=True):
            assert numbers[name] == (area if area is None else pytest.approx(area, rel=1e-12, abs=1e-15))
    assert results["undefined"] == [str(label) for label, areas in enumerate(expected) if None in areas]
    defined = [areas for areas in expected if None not in areas]
    assert 0 < len(defined) < num_labels  # both kinds are in the table
    assert [results[name] for name in AREAS] == pytest.approx(np.mean(defined, axis=0), rel=1e-12)


def test_neighbouring_floats_are_not_tied():
    # one unit in the last place apart, in every magnitude; as integers too
    base = np.concatenate([[0.0], 10.0 ** np.arange(-300, 300, 25), -(10.0 ** np.arange(-300, 300, 25))])
    scores = np.concatenate([base, np.nextafter(base, np.inf)])
    for references in (np.repeat([0, 1], len(base)), np.repeat([1, 0], len(base)), np.arange(len(scores)) % 2):
        # float64 tensors keep their bits
        results = module.multi_label_metrics(torch.from_numpy(scores[:, None]), references[:, None])
        numbers = results["per_label"]["0"]
        expected = areas_by_sklearn(scores, references)
        assert [numbers[name] for name in AREAS] == pytest.approx(expected, rel=1e-12)
    assert module.multi_label_metrics([[2**52], [2**52 + 1]], [[0], [1]])["roc_auc"] == 1


@pytest.mark.parametrize("levels", [None, 3])
def test_order_of_tracks_and_labels_does_not_matter(levels):
    rng = np.random.default_rng(0)
    scores, references = random_table(rng, 301, 23, levels=levels)
    results = module.multi_label_metrics(scores, references)
    for _ in range(3):
        tracks, columns = rng.permutation(301), rng.permutation(23)
        assert module.multi_label_metrics(scores[tracks], references[tracks]) == results
        shuffled = module.multi_label_metrics(scores[:, columns], references[:, columns], columns, 20, seed=1)
        straight = module.multi_label_metrics(scores, references, num_resamples=20, seed=1)
        for name in (*AREAS, "roc_auc_interval", "pr_auc_interval", "per_label"):
            assert shuffled[name] == straight[name]
        for name in ("undefined", "at_or_below_chance"):
            assert sorted(shuffled[name]) == sorted(straight[name])


def test_repeated_tracks_and_increasing_functions_of_the_scores_do_not_matter():
    scores, references = random_table(np.random.default_rng(1), 150, 15, levels=12)
    results = module.multi_label_metrics(scores, references)
    stretched = [scores * 1e-200, scores * 1e200, np.exp(scores), scores + np.linspace(-1000, 1000, 15)]
    for changed in (*stretched, scores.astype(np.float32), scores.astype(int)):
        assert module.multi_label_metrics(changed, references) == results
    repeated = module.multi_label_metrics(np.tile(scores, (3, 1)), np.tile(references, (3, 1)))
    assert repeated["undefined"] == results["undefined"]
    for label, numbers in results["per_label"].items():
        assert repeated["per_label"][label]["positives"] == 3 * numbers["positives"]
        if label not in results["undefined"]:
            for name in AREAS:
                assert repeated["per_label"][label][name] == pytest.approx(numbers[name], rel=1e-12)


def test_negated_scores_and_swapped_classes_give_the_complement():
    scores, references = random_table(np.random.default_rng(2), 150, 15, levels=12)
    results = module.multi_label_metrics(scores, references)
    swapped = np.where(references < 0, references, 1 - references)
    for changed in ((-scores, references), (scores, swapped)):
        complement = module.multi_label_metrics(*changed)
        assert complement["undefined"] == results["undefined"]
        for label, numbers in results["per_label"].items():
            if numbers["roc_auc"] is not None:
                assert complement["per_label"][label]["roc_auc"] == pytest.approx(1 - numbers["roc_auc"], abs=1e-15)


@pytest.mark.parametrize("num_tracks", [3, 49, 1000])
def test_collapsed_model_scores_chance(tagging_metric, num_tracks):
    references = (np.arange(num_tracks)[:, None] % (2 + np.arange(7)) == 0).astype(int)
    results = tagging_metric.compute(scores=np.full((num_tracks, 7), 0.3), references=references)
    assert {numbers["roc_auc"] for numbers in results["per_label"].values()} == {0.5}
    shares = [numbers["pr_auc"] for numbers in results["per_label"].values()]
    assert shares == pytest.approx(references.mean(axis=0), rel=1e-15)
    assert results["at_or_below_chance"] == list(results["per_label"])
    classes = np.arange(num_tracks) % 7
    results = module.single_label_metrics(np.full((num_tracks, 7), 0.3), classes)
    assert results["accuracy"] == pytest.approx(100 / 7, rel=1e-14)
    assert results["balanced_accuracy"] == pytest.approx(100 / 7, rel=1e-14)
    expected = np.repeat(np.bincount(classes, minlength=7)[:, None] / 7, 7, axis=1)
    np.testing.assert_allclose(results["confusion"], expected, rtol=1e-14)


@pytest.mark.parametrize("num_tracks", [49, 1000])
def test_perfect_model(tagging_metric, classification_metric, num_tracks):
    # as tensors on the way from a model: half precision, with gradient
    classes = torch.arange(num_tracks) % 7
    scores = torch.eye(7, dtype=torch.bfloat16)[classes].requires_grad_()
    results = tagging_metric.compute(scores=scores, references=scores.detach() > 0, num_resamples=5)
    assert (results["roc_auc"], results["pr_auc"]) == (1, 1)
    assert results["roc_auc_interval"] == results["pr_auc_interval"] == (1, 1)
    results = classification_metric.compute(scores=scores, references=classes, num_resamples=5)
    assert (results["accuracy"], results["balanced_accuracy"]) == (100, 100)
    assert results["accuracy_interval"] == results["balanced_accuracy_interval"] == (100, 100)
    assert np.array_equal(results["confusion"], np.diag(np.bincount(classes)))


@pytest.mark.parametrize(("unknown", "levels"), [(0, None), (0.3, None), (0.3, 4)])
def test_intervals_are_those_of_sklearn_on_resampled_tracks(tagging_metric, unknown, levels):
    """Against resamples written out: each area computed anew from the repeated tracks."""
    scores, references = random_table(np.random.default_rng(3), 25, 12, unknown, levels)
    results = tagging_metric.compute(scores=scores, references=references, num_resamples=40, seed=3)
    plain = tagging_metric.compute(scores=scores, references=references)
    for name in (*AREAS, "undefined", "at_or_below_chance", "num_tracks", "num_labels"):
        assert results[name] == plain[name]
    assert set(results) - set(plain) == {"roc_auc_interval", "pr_auc_interval"}

    draws, samples = np.random.default_rng(3), []
    for _ in range(40):
        tracks = draws.integers(25, size=25)
        samples.append([areas_by_sklearn(s, r) for s, r in zip(scores[tracks].T, references[tracks].T, strict=True)])
    samples = np.array(samples, dtype=np.float64)  # None is NaN
    lost = np.isnan(samples[..., 0]).sum(axis=0)
    assert np.any((lost > 0) & (lost < 40))  # a label that some of the resamples leave undefined
    for name, values in zip(AREAS, np.moveaxis(samples, -1, 0), strict=True):
        expected = np.percentile(np.nanmean(values, axis=1), (2.5, 97.5))
        np.testing.assert_allclose(results[f"{name}_interval"], expected, rtol=1e-12)
        for label, column in zip(results["per_label"], values.T, strict=True):
            numbers = results["per_label"][label]
            assert {key: numbers[key] for key in plain["per_label"][label]} == plain["per_label"][label]
            if label in results["undefined"]:
                assert numbers[f"{name}_interval"] is None
            else:
                expected = np.nanpercentile(column, (2.5, 97.5))
                np.testing.assert_allclose(numbers[f"{name}_interval"], expected, rtol=1e-12, atol=1e-15)


def test_resamples_do_not_depend_on_chunks_and_memory_is_bounded():
    scores, references = random_table(np.random.default_rng(4), 2000, 3, levels=50)
    rankings = [module.rank_tracks(*columns) for columns in zip(scores.T, references.T, strict=True)][1:2]
    areas = functools.partial(module.areas, rankings)
    samples = module.bootstrap(areas, 2000, 50, 0)
    assert samples.shape == (2, 1, 50)
    assert not np.array_equal(samples, module.bootstrap(areas, 2000, 50, 1))
    for max_counts in (1, 2000 * 7):
        chunked = module.bootstrap(areas, 2000, 50, 0, max_counts)
        assert np.array_equal(chunked[0], samples[0])  # ratios of integers
        np.testing.assert_allclose(chunked[1], samples[1], rtol=1e-13)

    tracemalloc.start()
    module.bootstrap(areas, 2000, 2000, 0)  # 32 MB of counts, if all were held
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 24e6


def test_no_label_is_defined():
    results = module.multi_label_metrics([[1, 2], [3, 4]], [[1, 0], [1, -1]], num_resamples=3)
    assert (results["roc_auc"], results["pr_auc"], results["undefined"]) == (None, None, ["0", "1"])
    assert results["roc_auc_interval"] is results["pr_auc_interval"] is None
    assert results["at_or_below_chance"] == []


def test_tags_in_batches(tagging_metric):
    scores, references = random_table(np.random.default_rng(7), 30, 6)
    for start in range(0, 30, 12):
        tagging_metric.add_batch(references=references[start : start + 12])
    assert tagging_metric.compute(scores=scores) == module.multi_label_metrics(scores, references)
