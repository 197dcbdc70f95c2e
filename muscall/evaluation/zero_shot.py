# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Zero-shot classification and tagging: labels as sentences, no training; and when to answer nothing."""

import numpy as np
from scipy.special import softmax

from muscall.evaluation.labels import check_distinct


# The paper's: the bare label, which its released code uses, and the template that its text names.
PROMPTS = {"label": "{}", "track": "A {} track"}
# Where no preset has prompts of its own.
BANK = (*PROMPTS.values(), "{} music", "This is a {} song", "The sound of {}")


def read_prompts(prompts: list[str]) -> list[str]:
    """
    Return the templates that `prompts` are or, as names in `PROMPTS`, stand for.

    Raises:
        `ValueError`: if a template has not exactly one `{}`, or comes twice.
    """
    templates = [PROMPTS.get(prompt, prompt) for prompt in prompts]
    for template in templates:
        if template.count("{}") != 1:
            raise ValueError(f"a prompt is a text with one {{}}, or one of {', '.join(PROMPTS)}; got {template!r}")
    check_distinct("prompts", templates)
    return templates


def label_embeds(text_embeds: np.ndarray) -> np.ndarray:
    """Average the embeddings of prompts, `(num_prompts, num_labels, dim)`, to L2-normalised `(num_labels, dim)`."""
    mean = text_embeds.mean(axis=0, dtype=np.float64)
    return (mean / np.linalg.norm(mean, axis=1, keepdims=True)).astype(np.float32)


def abstention(
    validation_scores: np.ndarray,
    validation_references: np.ndarray,
    scores: np.ndarray,
    references: np.ndarray,
    logit_scale: float,
) -> dict:
    """
    Measure classification that answers nothing where the probability of the best label is below a threshold: the one
    that gave the most right answers less wrong ones on the validation split.

    Args:
        validation_scores (`np.ndarray` of shape `(num_tracks, num_labels)`), validation_references (`np.ndarray`):
            Cosines and true labels of the split that the threshold is chosen on.
        scores (`np.ndarray`), references (`np.ndarray`):
            Those of the split that is reported.
        logit_scale (`float`):
            The model's, which makes probabilities of cosines.

    Returns:
        `dict`: the `threshold`; the share of tracks `answered`, the `accuracy_of_answers` (`None` without any) and the
        `accuracy_of_all`, in per cent.
    """
    confidence = softmax(logit_scale * validation_scores, axis=1).max(axis=1)
    gain = np.where(validation_scores.argmax(axis=1) == validation_references, 1, -1)
    order = np.argsort(-confidence, kind="stable")
    total = np.append(0, gain[order].cumsum())
    ends = np.append(True, np.append(np.diff(confidence[order]) != 0, True))  # no threshold can separate equal values
    best = np.flatnonzero(ends)[total[ends].argmax()]
    threshold = float(confidence[order][best - 1]) if best else float("inf")
    answered = softmax(logit_scale * scores, axis=1).max(axis=1) >= threshold
    right = scores.argmax(axis=1) == references
    return {
        "threshold": threshold,
        "answered": 100 * float(answered.mean()),
        "accuracy_of_answers": 100 * float(right[answered].mean()) if answered.any() else None,
        "accuracy_of_all": 100 * float(right.mean()),
    }


def tag_thresholds(
    validation_scores: np.ndarray,
    validation_references: np.ndarray,
    scores: np.ndarray,
    references: np.ndarray,
    labels: list[str],
) -> dict:
    """
    Measure tagging with a threshold for each label: the one of the best F1 on the validation split. Arguments as in
    [`abstention`]. Labels without an example on either split are left out and named.

    Returns:
        `dict`: `thresholds` and `f1` by label, `macro_f1` (`None` without any label), the labels `without_example`,
        and `tracks_without_tag` in per cent.
    """
    thresholds, f1, skipped = {}, {}, []
    tagged = np.zeros(len(scores), dtype=bool)
    for index, label in enumerate(labels):
        known, known_test = validation_references[:, index] >= 0, references[:, index] >= 0
        truth, test_truth = validation_references[known, index] == 1, references[known_test, index] == 1
        if not truth.any() or not test_truth.any():
            skipped.append(label)
            continue
        thresholds[label] = _threshold_of_best_f1(validation_scores[known, index], truth)
        tags = scores[:, index] >= thresholds[label]
        tagged |= tags
        tags = tags[known_test]
        f1[label] = float(2 * (tags & test_truth).sum() / (tags.sum() + test_truth.sum()))
    return {
        "thresholds": thresholds,
        "f1": f1,
        "macro_f1": float(np.mean(list(f1.values()))) if f1 else None,
        "without_example": skipped,
        "tracks_without_tag": 100 * float((~tagged).mean()),
    }


def _threshold_of_best_f1(scores: np.ndarray, truth: np.ndarray) -> float:
    order = np.argsort(-scores, kind="stable")
    hits = truth[order].cumsum()
    ends = np.append(np.diff(scores[order]) != 0, True)  # no threshold can separate equal scores
    f1 = 2 * hits / (np.arange(1, len(scores) + 1) + truth.sum())  # if the first n are tagged
    best = np.flatnonzero(ends)[f1[ends].argmax()]
    return float(scores[order][best])
