# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Retrieval in both directions, through the `evaluate` module `metrics/cross_modal_retrieval`."""

from types import ModuleType

import numpy as np

from muscall.evaluation.report import DIRECTIONS, RETRIEVAL_METRICS


def load_metric() -> ModuleType:
    """
    Return the module itself, for what the metrics are made of: `query_statistics` per query, where a query may have
    several relevant items; `summarize` and `summarize_directions` of these; `bootstrap` and `interval`.
    """
    from metrics.cross_modal_retrieval import cross_modal_retrieval  # takes seconds to import

    return cross_modal_retrieval


def retrieval_metrics(text_embeds, audio_ids, audio_embeds, num_resamples: int = 0, **kwargs) -> dict:
    """Compute the metrics of both directions; arguments and result as of `metrics_from_embeds` in the module."""
    return load_metric().metrics_from_embeds(text_embeds, audio_ids, audio_embeds, num_resamples, **kwargs)


def chance_metrics(audio_ids) -> dict[str, float]:
    """Compute what a random ranking scores on average; `audio_ids` as in [`retrieval_metrics`]."""
    return retrieval_metrics(np.ones((len(audio_ids), 1)), audio_ids, np.ones((int(max(audio_ids)) + 1, 1)))


def pool_metrics(text_embeds, audio_ids, audio_embeds, pool: int, seeds: int) -> dict[str, tuple[float, float]]:
    """
    Compute retrieval among `pool` random tracks and all their captions, as the paper reports it for 1,000.

    Args:
        text_embeds (`np.ndarray` of shape `(num_captions, dim)`), audio_ids (`np.ndarray` of shape `(num_captions,)`),
        audio_embeds (`np.ndarray` of shape `(num_tracks, dim)`):
            As in [`retrieval_metrics`].
        pool (`int`):
            Tracks in a pool.
        seeds (`int`):
            Pools to draw, with the seeds 0 to `seeds - 1`.

    Returns:
        `dict[str, tuple[float, float]]`: each metric's mean over the pools and its standard deviation among them.
    """
    if not 1 <= pool <= len(audio_embeds):
        raise ValueError(f"--pool must be between 1 and the {len(audio_embeds)} tracks there are, got {pool}")
    results = []
    for seed in range(seeds):
        tracks = np.sort(np.random.default_rng(seed).choice(len(audio_embeds), pool, replace=False))
        captions = np.isin(audio_ids, tracks)
        ids = np.searchsorted(tracks, audio_ids[captions])
        results.append(retrieval_metrics(text_embeds[captions], ids, audio_embeds[tracks]))
    names = [f"{direction}_{key}" for direction in DIRECTIONS for key in RETRIEVAL_METRICS] + ["mean_R@10"]
    columns = {name: [metrics[name] for metrics in results] for name in names}
    return {name: (float(np.mean(c)), float(np.std(c, ddof=1)) if seeds > 1 else 0.0) for name, c in columns.items()}
