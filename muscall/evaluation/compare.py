# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Two results on the same queries: the difference of each metric, and how sure it is."""

import json
from functools import partial
from pathlib import Path

import numpy as np

from muscall.evaluation import labels, retrieval
from muscall.evaluation.report import format_difference, format_metric, table


KEYS = ("task", "dataset", "split", "fingerprint", "labels", "metrics", "queries")  # of a result file, for comparing


def read_statistics(queries: dict) -> dict[str, np.ndarray]:
    """Return the statistics of each retrieval direction, by query and column, from the `queries` of a result."""
    metric = retrieval.load_metric()
    return {direction: metric.statistics_from_rows(queries[direction]) for direction in metric.DIRECTIONS}


def resample(queries: dict, num_resamples: int, seed: int) -> dict[str, np.ndarray]:
    """
    Compute the metrics of a result on bootstrap resamples of its tracks. Two results on the same tracks get the same
    draws.

    Args:
        queries (`dict`):
            The part `queries` of a result file of eval.py.
        num_resamples (`int`), seed (`int`):
            Number of resamples, and their seed.

    Returns:
        `dict[str, np.ndarray]`: by the name of the metric, its value on each resample.
    """
    if "audio_ids" in queries:
        metric, statistics = retrieval.load_metric(), tuple(read_statistics(queries).values())
        metrics_of = partial(metric.summarize_directions, statistics, np.asarray(queries["audio_ids"]))
        return metric.bootstrap(metrics_of, len(statistics[1]), num_resamples, seed)
    metric = labels.load_metric()
    if "scores" in queries:
        columns = zip(np.array(queries["scores"]).T, np.array(queries["references"]).T, strict=True)
        rankings = [metric.rank_tracks(*column) for column in columns]
        samples = metric.bootstrap(partial(metric.areas, rankings), len(queries["scores"]), num_resamples, seed)
        defined = ~np.isnan(samples).all(axis=(0, 2))
        return dict(zip(metric.AREAS, np.nanmean(samples[:, defined], axis=1), strict=True))
    metrics_of = partial(metric.accuracy, np.asarray(queries["correct"]))
    return {"accuracy": metric.bootstrap(metrics_of, len(queries["correct"]), num_resamples, seed)}


def differences(one: dict, other: dict, num_resamples: int, seed: int = 0) -> dict[str, dict]:
    """
    Compare two results metric by metric, with a paired bootstrap over the tracks.

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
    metrics = {}
    for name in samples[0]:
        values = [result["metrics"][name] for result in (one, other)]
        if None in values:
            continue
        interval = np.percentile(samples[0][name] - samples[1][name], (2.5, 97.5)).tolist()
        metrics[name] = {"values": values, "difference": values[0] - values[1], "interval": interval}
    return metrics


def check_comparable(one: dict, other: dict, names: tuple[str, str]):
    """Raise `ValueError` unless both results, which `names` names, are about the same queries."""
    for result, name in zip((one, other), names, strict=True):
        if missing := [key for key in KEYS if key not in result]:
            raise ValueError(f"{name} is no result file of eval.py: it lacks {', '.join(missing)}")
    if any(one[key] != other[key] for key in ("task", "fingerprint", "labels")):
        subjects = [
            f"{name} is {result['task']} on {result['dataset']} [{result['split']}] with "
            f"{result['labels'] or 'captions'}, fingerprint {result['fingerprint'][:8]}"
            for result, name in zip((one, other), names, strict=True)
        ]
        raise ValueError(f"cannot compare results on different tracks, captions or labels: {'; '.join(subjects)}")


def compare_files(paths: list[str], num_resamples: int) -> list[str]:
    """
    Compare two result files.

    Args:
        paths (`list[str]`):
            Two result files of eval.py.
        num_resamples (`int`):
            Number of bootstrap resamples.

    Returns:
        `list[str]`: what both are, and a table of the differences, as lines for the screen.
    """
    results = [_read_result(Path(path)) for path in paths]
    check_comparable(*results, tuple(paths))
    rows = [["metric", "first", "second", "first less second [95 %]"]]
    for name, comparison in differences(*results, num_resamples).items():
        cells = [format_metric({name: value}, name) for value in comparison["values"]]
        rows.append([name.replace("_", " "), *cells, format_difference(comparison, name)])
    return [
        *(f"{path}: {result['model']}, {result['protocol']}" for path, result in zip(paths, results, strict=True)),
        f"\n{table(rows)}\n",
        f"Paired bootstrap over tracks, {num_resamples} resamples.",
    ]


def _read_result(path: Path) -> dict:
    try:
        return json.loads(path.read_text())
    except ValueError as error:  # of JSON, or of UTF-8
        raise ValueError(f"{path} is no result file of eval.py: {error}") from error
