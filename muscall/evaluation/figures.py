# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Pictures of a joint space of captions and tracks."""

from pathlib import Path

import numpy as np


SHOWN = 100  # tracks in the picture of similarities
POINTS = 2000  # of each kind on the map
AUDIO_COLOUR, TEXT_COLOUR, MEDIAN_COLOUR = "#3b6ea8", "#e08e2b", "#c0392b"


def draw_figures(
    folder: Path,
    text_embeds: np.ndarray,
    audio_ids: np.ndarray,
    audio_embeds: np.ndarray,
    ranks: dict[str, np.ndarray],
) -> list[Path]:
    """
    Draw `similarity.png` (the first captions against their tracks), `ranks.png` (how often the right item stands at
    which rank) and `map.png` (the first two principal components of both kinds together).

    Args:
        folder (`Path`):
            Where the files go.
        text_embeds (`np.ndarray` of shape `(num_captions, dim)`), audio_ids (`np.ndarray` of shape `(num_captions,)`),
        audio_embeds (`np.ndarray` of shape `(num_tracks, dim)`):
            As in [`diagnose`].
        ranks (`dict[str, np.ndarray]`):
            For text to audio and for audio to text the rank of the best right item of each query.

    Returns:
        `list[Path]`: the three files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figures = {
        "similarity": _draw_similarity(text_embeds, audio_ids, audio_embeds),
        "ranks": _draw_ranks(ranks, pools=(len(audio_embeds), len(text_embeds))),
        "map": _draw_map(text_embeds, audio_embeds),
    }
    paths = []
    for name, figure in figures.items():
        paths.append(folder / f"{name}.png")
        figure.savefig(paths[-1], dpi=150)
    return paths


def _make_figure(**settings):
    from matplotlib.figure import Figure  # takes a second to import; without pyplot, which keeps every figure

    return Figure(layout="constrained", **settings)


def _draw_similarity(text_embeds, audio_ids, audio_embeds):
    shown = min(SHOWN, len(audio_embeds))
    first_captions = [int(np.flatnonzero(audio_ids == track)[0]) for track in range(shown)]
    figure = _make_figure(figsize=(6, 5))
    axes = figure.subplots()
    image = axes.imshow(text_embeds[first_captions] @ audio_embeds[:shown].T, cmap="magma")
    axes.set(xlabel="track", ylabel="caption", title=f"Cosine of {shown} captions and their tracks")
    figure.colorbar(image, shrink=0.85)
    return figure


def _draw_ranks(ranks, pools):
    figure = _make_figure(figsize=(9, 3.6))
    panels = figure.subplots(1, len(ranks), squeeze=False)
    for axes, (direction, values), pool in zip(panels[0], ranks.items(), pools, strict=True):
        edges = np.unique(np.round(np.geomspace(1, pool + 1, 25)).astype(int))
        axes.hist(values, edges, color=AUDIO_COLOUR)
        median = np.median(values)
        axes.axvline(median, color=MEDIAN_COLOUR, label=f"median {median:g}")
        axes.axvline((pool + 1) / 2, color="gray", linestyle="--", label="middle of the pool")
        axes.set(xscale="log", xlabel="rank of the right item", ylabel="queries", title=direction.replace("_", " "))
        axes.legend()
    return figure


def _draw_map(text_embeds, audio_embeds):
    random = np.random.default_rng(0)
    kinds = [embeds[np.sort(random.permutation(len(embeds))[:POINTS])] for embeds in (audio_embeds, text_embeds)]
    joint = np.concatenate(kinds).astype(np.float64)
    centre = joint.mean(axis=0)
    _, values, components = np.linalg.svd(joint - centre, full_matrices=False)
    share = 100 * (values[:2] ** 2).sum() / (values**2).sum()
    figure = _make_figure(figsize=(6, 5))
    axes = figure.subplots()
    for name, points, colour in zip(("tracks", "captions"), kinds, (AUDIO_COLOUR, TEXT_COLOUR), strict=True):
        axes.scatter(*((points - centre) @ components[:2].T).T, s=8, alpha=0.6, color=colour, label=name)
    axes.set(title=f"First two principal components ({share:.0f} % of the variance)", xticks=[], yticks=[])
    axes.legend()
    return figure
