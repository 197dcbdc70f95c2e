# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Properties of a joint space that metrics do not show: modality gap, hubs, collapse, and the length of captions."""

import numpy as np


DEPTH = 10  # places of each caption that hubness counts
LENGTHS = (1, 6, 11, 21, 41)  # words of a caption: where each bin starts


def diagnose(
    text_embeds: np.ndarray, audio_ids: np.ndarray, audio_embeds: np.ndarray, captions: list[str], hits: np.ndarray
) -> dict:
    """
    Describe the joint space of captions and tracks.

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
    total, matched, counts = _sum_scores(text_embeds, audio_ids, audio_embeds)
    num_hubs = max(1, round(len(counts) / 100))
    num_unmatched = len(text_embeds) * (len(audio_embeds) - 1)
    return {
        "modality_gap": float(np.linalg.norm(text_embeds.mean(0) - audio_embeds.mean(0))),
        "audio_similarity": _mean_cosine(audio_embeds),
        "text_similarity": _mean_cosine(text_embeds),
        "matched_similarity": matched / len(text_embeds),
        "unmatched_similarity": (total - matched) / num_unmatched if num_unmatched else None,
        "hubness": 100 * float(np.sort(counts)[-num_hubs:].sum() / counts.sum()),
        "hubness_of_chance": 100 * num_hubs / len(counts),
        "R@10_by_length": _recall_by_length(captions, hits),
    }


def _sum_scores(
    text_embeds: np.ndarray, audio_ids: np.ndarray, audio_embeds: np.ndarray
) -> tuple[float, float, np.ndarray]:
    """
    Return the sum of all cosines, the sum of those of captions with their tracks, and how often each track is among
    the first `DEPTH` of a caption; chunk by chunk, since the table of all cosines may not fit into memory.
    """
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
    return total, matched, counts


def _recall_by_length(captions: list[str], hits: np.ndarray) -> dict[str, dict]:
    lengths = np.array([len(caption.split()) for caption in captions])
    bins = np.searchsorted(LENGTHS, lengths, side="right") - 1
    by_length = {}
    for index, low in enumerate(LENGTHS):
        if (members := bins == index).any():
            name = f"{low}-{LENGTHS[index + 1] - 1}" if index + 1 < len(LENGTHS) else f"{low}+"
            by_length[name] = {"R@10": 100 * float(hits[members].mean()), "captions": int(members.sum())}
    return by_length


def _mean_cosine(embeds: np.ndarray) -> float | None:
    if len(embeds) < 2:
        return None
    total = embeds.sum(axis=0, dtype=np.float64)
    return float((total @ total - len(embeds)) / (len(embeds) * (len(embeds) - 1)))
