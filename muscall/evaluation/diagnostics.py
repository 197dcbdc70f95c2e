# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""What the metrics do not show of a joint space: gap, hubs, collapse, length of captions; and pictures of it."""

from pathlib import Path

import numpy as np


DEPTH = 10
LENGTHS = (1, 6, 11, 21, 41)  # words of a caption: where each bin starts
SHOWN = 100  # tracks in the picture of similarities
POINTS = 2000  # of each kind on the map


def diagnose(text_embeds, audio_ids, audio_embeds, captions: list[str], hits: np.ndarray) -> dict:
    """
    Args:
        text_embeds (`np.ndarray` of shape `(num_captions, dim)`), audio_embeds (`np.ndarray` of shape
        `(num_tracks, dim)`):
            L2-normalised.
        audio_ids (`np.ndarray` of shape `(num_captions,)`):
            The track of each caption.
        captions (`list[str]`):
            The captions.
        hits (`np.ndarray` of shape `(num_captions,)`):
            Whether each caption found its track among the first ten.

    Returns:
        `dict`: `modality_gap`, the distance of the two centroids (0 to 2); `audio_similarity` and `text_similarity`,
        the mean cosine of two different items of one kind (1: collapsed); `matched_similarity` and
        `unmatched_similarity`, that of captions with their tracks and with others; `hubness`, the share in per cent of
        the captions' first ten places that the most frequent 1 % of the tracks hold, and `hubness_of_chance`, the
        least it can be; `R@10_by_length`, by words of the caption.
    """
    text_embeds, audio_embeds = np.asarray(text_embeds, np.float32), np.asarray(audio_embeds, np.float32)
    depth = min(DEPTH, len(audio_embeds))
    counts = np.zeros(len(audio_embeds), dtype=np.int64)
    total, matched = 0.0, 0.0
    chunk = max(1, 2**24 // len(audio_embeds))
    for start in range(0, len(text_embeds), chunk):
        scores = text_embeds[start : start + chunk] @ audio_embeds.T
        total += scores.sum(dtype=np.float64)
        matched += scores[np.arange(len(scores)), audio_ids[start : start + chunk]].sum(dtype=np.float64)
        best = np.argpartition(-scores, depth - 1, axis=1)[:, :depth]
        counts += np.bincount(best.ravel(), minlength=len(counts))
    hubs = max(1, round(len(counts) / 100))
    pairs, unmatched = len(text_embeds), len(text_embeds) * (len(audio_embeds) - 1)
    lengths = np.array([len(caption.split()) for caption in captions])
    bins = np.searchsorted(LENGTHS, lengths, side="right") - 1
    by_length = {}
    for index, low in enumerate(LENGTHS):
        if (members := bins == index).any():
            name = f"{low}-{LENGTHS[index + 1] - 1}" if index + 1 < len(LENGTHS) else f"{low}+"
            by_length[name] = {"R@10": 100 * float(hits[members].mean()), "captions": int(members.sum())}
    return {
        "modality_gap": float(np.linalg.norm(text_embeds.mean(0) - audio_embeds.mean(0))),
        "audio_similarity": _mean_cosine(audio_embeds),
        "text_similarity": _mean_cosine(text_embeds),
        "matched_similarity": matched / pairs,
        "unmatched_similarity": (total - matched) / unmatched if unmatched else None,
        "hubness": 100 * float(np.sort(counts)[-hubs:].sum() / counts.sum()),
        "hubness_of_chance": 100 * hubs / len(counts),
        "R@10_by_length": by_length,
    }


def _mean_cosine(embeds: np.ndarray) -> float | None:
    if len(embeds) < 2:
        return None
    total = embeds.sum(axis=0, dtype=np.float64)
    return float((total @ total - len(embeds)) / (len(embeds) * (len(embeds) - 1)))


def draw(folder: Path, text_embeds, audio_ids, audio_embeds, ranks: dict[str, np.ndarray]) -> list[Path]:
    """
    Writes `similarity.png` (the first captions against their tracks), `ranks.png` (how often the right item stands at
    which rank) and `map.png` (the first two principal components of both kinds together); returns their paths.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    shown = min(SHOWN, len(audio_embeds))
    first = [int(np.flatnonzero(audio_ids == track)[0]) for track in range(shown)]
    paths = [folder / f"{name}.png" for name in ("similarity", "ranks", "map")]

    figure, axes = pyplot.subplots(figsize=(6, 5), layout="constrained")
    image = axes.imshow(text_embeds[first] @ audio_embeds[:shown].T, cmap="magma")
    axes.set(xlabel="track", ylabel="caption", title=f"Cosine of {shown} captions and their tracks")
    figure.colorbar(image, shrink=0.85)
    figure.savefig(paths[0], dpi=150)

    figure, panels = pyplot.subplots(1, len(ranks), figsize=(9, 3.6), layout="constrained", squeeze=False)
    for axes, (direction, values), pool in zip(
        panels[0], ranks.items(), (len(audio_embeds), len(text_embeds)), strict=True
    ):
        edges = np.unique(np.round(np.geomspace(1, pool + 1, 25)).astype(int))
        axes.hist(values, edges, color="#3b6ea8")
        median = np.median(values)
        axes.axvline(median, color="#c0392b", label=f"median {median:g}")
        axes.axvline((pool + 1) / 2, color="gray", linestyle="--", label="middle of the pool")
        axes.set(xscale="log", xlabel="rank of the right item", ylabel="queries", title=direction.replace("_", " "))
        axes.legend()
    figure.savefig(paths[1], dpi=150)

    random = np.random.default_rng(0)
    kinds = [embeds[np.sort(random.permutation(len(embeds))[:POINTS])] for embeds in (audio_embeds, text_embeds)]
    joint = np.concatenate(kinds).astype(np.float64)
    centre = joint.mean(axis=0)
    _, values, axes_of_space = np.linalg.svd(joint - centre, full_matrices=False)
    share = 100 * (values[:2] ** 2).sum() / (values**2).sum()
    figure, axes = pyplot.subplots(figsize=(6, 5), layout="constrained")
    for name, points, colour in zip(("tracks", "captions"), kinds, ("#3b6ea8", "#e08e2b"), strict=True):
        axes.scatter(*((points - centre) @ axes_of_space[:2].T).T, s=8, alpha=0.6, color=colour, label=name)
    axes.set(title=f"First two principal components ({share:.0f} % of the variance)", xticks=[], yticks=[])
    axes.legend()
    figure.savefig(paths[2], dpi=150)
    pyplot.close("all")
    return paths
