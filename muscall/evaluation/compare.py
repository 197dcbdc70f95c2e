# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Two results on the same queries: the difference of each metric, and how sure it is."""

import functools

import numpy as np

from metrics.cross_modal_retrieval import cross_modal_retrieval
from metrics.zero_shot_tagging import zero_shot_tagging


KEYS = ("task", "dataset", "split", "fingerprint", "labels", "metrics", "queries")


def resample(queries: dict, num_resamples: int, seed: int) -> dict[str, np.ndarray]:
    """
    The metrics of a result on bootstrap resamples of its tracks; two results on the same tracks get the same draws.

    Args:
        queries (`dict`):
            The part `queries` of a result file of eval.py.
        num_resamples (`int`), seed (`int`):
            Number of resamples, and their seed.
    """
    if "audio_ids" in queries:
        metric, audio_ids = cross_modal_retrieval, np.asarray(queries["audio_ids"])
        statistics = tuple(metric.statistics_from_rows(queries[direction]) for direction in metric.DIRECTIONS)
        metrics_of = functools.partial(metric.summarize_directions, statistics, audio_ids)
        return metric.bootstrap(metrics_of, len(statistics[1]), num_resamples, seed)
    if "scores" in queries:
        columns = zip(np.array(queries["scores"]).T, np.array(queries["references"]).T, strict=True)
        rankings = [zero_shot_tagging.rank_tracks(*column) for column in columns]
        samples = zero_shot_tagging.resample(rankings, len(queries["scores"]), num_resamples, seed)
        defined = ~np.isnan(samples).all(axis=(0, 2))
        return dict(zip(("roc_auc", "pr_auc"), np.nanmean(samples[:, defined], axis=1), strict=True))
    correct, random = np.asarray(queries["correct"]), np.random.default_rng(seed)
    draws = (random.integers(len(correct), size=len(correct)) for _ in range(num_resamples))
    return {"accuracy": np.array([100 * correct[draw].mean() for draw in draws])}


def differences(one: dict, other: dict, num_resamples: int, seed: int = 0) -> dict[str, dict]:
    """
    Paired bootstrap over the tracks.

    Args:
        one (`dict`), other (`dict`):
            Results of eval.py, each with `metrics` and `queries`.
        num_resamples (`int`), seed (`int`):
            Number of resamples, and their seed.

    Returns:
        `dict`: for each metric its `values` (one, other), the `difference` one less other, and the `interval` of 95 %
        that this difference has over the resamples.
    """
    samples = [resample(result["queries"], num_resamples, seed) for result in (one, other)]
    results = {}
    for name in samples[0]:
        values = [result["metrics"][name] for result in (one, other)]
        if None in values:
            continue
        interval = np.percentile(samples[0][name] - samples[1][name], (2.5, 97.5)).tolist()
        results[name] = {"values": values, "difference": values[0] - values[1], "interval": interval}
    return results


def check_comparable(one: dict, other: dict, names: tuple[str, str]):
    """Raises `ValueError` unless both results are about the same queries."""
    for result, name in zip((one, other), names, strict=True):
        if missing := [key for key in KEYS if key not in result]:
            raise ValueError(f"{name} is no result file of eval.py: it lacks {', '.join(missing)}")
    if any(one[key] != other[key] for key in ("task", "fingerprint", "labels")):
        about = [
            f"{name} is {result['task']} on {result['dataset']} [{result['split']}] with "
            f"{result['labels'] or 'captions'}, fingerprint {result['fingerprint'][:8]}"
            for result, name in zip((one, other), names, strict=True)
        ]
        raise ValueError(f"cannot compare results on different tracks, captions or labels: {'; '.join(about)}")
