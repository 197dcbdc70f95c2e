# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""What the `cross_modal_retrieval` metric makes of the statistics of queries: weighted summaries and resamples."""

import json
from pathlib import Path

import evaluate
import numpy as np
import pytest

from metrics.cross_modal_retrieval import cross_modal_retrieval as module


METRIC = Path(__file__).parents[2] / "metrics" / "cross_modal_retrieval"


@pytest.fixture(scope="module")
def metric(tmp_path_factory):
    return evaluate.load(str(METRIC), cache_dir=str(tmp_path_factory.mktemp("metrics")))


def test_intervals_are_those_of_metrics_on_resampled_queries(metric):
    """Against resamples written out: each metric computed anew from the repeated ranks."""
    random = np.random.default_rng(0)
    audio_ids = np.array([0, 0, 0, 1, 2, 2, 3, 4, 4, 5, 6, 7, 7])
    text, audio = random.normal(size=(13, 4)), random.normal(size=(8, 4))
    results = metric.compute(text_embeds=text, audio_ids=audio_ids, audio_embeds=audio, num_resamples=40, seed=3)
    plain = metric.compute(text_embeds=text, audio_ids=audio_ids, audio_embeds=audio)
    assert {name: results[name] for name in plain} == plain
    assert set(results) - set(plain) == {f"{name}_interval" for name in plain if not name.startswith("num")}

    scores = np.array([[np.dot(t, a) / np.linalg.norm(t) / np.linalg.norm(a) for a in audio] for t in text])
    ranks = [1 + (scores[row] > scores[row, track]).sum() for row, track in enumerate(audio_ids)]
    draws, samples = np.random.default_rng(3), {"R@5": [], "MedR": [], "MRR": []}
    for _ in range(40):
        tracks = draws.integers(8, size=8)
        drawn = np.array([ranks[row] for track in tracks for row in np.flatnonzero(audio_ids == track)])
        samples["R@5"].append(100 * (drawn <= 5).mean())
        samples["MedR"].append(np.median(drawn))
        samples["MRR"].append((1 / drawn).mean())
    for name, values in samples.items():
        expected = np.percentile(values, (2.5, 97.5))
        np.testing.assert_allclose(results[f"text_to_audio_{name}_interval"], expected, rtol=1e-12)
    for direction in ("text_to_audio", "audio_to_text"):
        for name in ("R@1", "R@5", "R@10", "MedR", "mean_rank", "MRR", "mAP@10"):
            low, high = results[f"{direction}_{name}_interval"]
            assert low <= high
    with pytest.raises(ValueError, match="`num_resamples` must be at least 0, got -1"):
        metric.compute(text_embeds=text, audio_ids=audio_ids, audio_embeds=audio, num_resamples=-1)


def random_statistics(random, num_queries):
    """Statistics with ties in the ranks, at random places."""
    ranks = random.integers(2, 12, num_queries) / 2
    return module.statistics_from_ranks(np.maximum(ranks, 1))


@pytest.mark.parametrize("num_queries", [1, 2, 9, 40])
def test_counts_are_repeated_queries(num_queries):
    random = np.random.default_rng(num_queries)
    statistics = random_statistics(random, num_queries)
    counts = random.integers(0, 4, (5, num_queries)) + (np.arange(num_queries) == 0)  # at least one query
    weighted = module.summarize(statistics, counts)
    for row, repeats in enumerate(counts):
        expected = module.summarize(np.repeat(statistics, repeats))
        assert {name: values[row] for name, values in weighted.items()} == pytest.approx(expected, rel=1e-13)


def test_each_query_once_is_the_plain_summary():
    statistics = random_statistics(np.random.default_rng(0), 50)
    plain = module.summarize(statistics)
    assert module.summarize(statistics, np.ones(50)) == pytest.approx(plain, rel=1e-14)
    assert plain["MedR"] == np.median(statistics["rank"])


def test_resamples_do_not_depend_on_how_many_are_drawn_at_a_time():
    expected = np.concatenate(list(module.draw_counts(7, 20, seed=1)))
    random = np.random.default_rng(1)
    assert expected.tolist() == [np.bincount(random.integers(7, size=7), minlength=7).tolist() for _ in range(20)]
    assert np.array_equal(np.concatenate(list(module.draw_counts(7, 20, seed=1, max_counts=22))), expected)


def test_bootstrap_of_any_metric():
    values = np.array([1.0, 2.0, 6.0])
    samples = module.bootstrap(lambda counts: {"mean": module.mean(values, counts)}, 3, num_resamples=50, seed=2)
    random = np.random.default_rng(2)
    assert samples["mean"] == pytest.approx([values[random.integers(3, size=3)].mean() for _ in range(50)])
    assert module.interval(samples["mean"]) == pytest.approx(np.percentile(samples["mean"], (2.5, 97.5)))


def test_statistics_survive_json(metric):
    eye = np.eye(4)
    results = metric.compute(text_embeds=eye, audio_ids=np.arange(4), audio_embeds=eye, return_statistics=True)
    statistics = results["statistics"]["text_to_audio"]
    assert statistics.dtype.names == ("rank", "reciprocal_rank", "hit@1", "hit@5", "hit@10", "AP@10")
    rows = json.loads(json.dumps(statistics.tolist()))
    assert rows[0] == [1, 1, 1, 1, 1, 1]
    assert np.array_equal(module.statistics_from_rows(rows), statistics)
