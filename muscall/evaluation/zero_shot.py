# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Zero-shot classification and tagging: labels as sentences, no training; and when to answer nothing."""

import functools
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from datasets import Dataset
from scipy.special import softmax


METRIC = Path(__file__).resolve().parents[2] / "metrics" / "zero_shot_tagging"
# Of the paper: the bare label, which its released code uses, and the template that the text names.
PROMPTS = {"label": "{}", "track": "A {} track"}
BANK = (*PROMPTS.values(), "{} music", "This is a {} song", "The sound of {}")  # where no preset brings its own


def read_prompts(prompts: list[str]) -> list[str]:
    """Names of `PROMPTS` or templates -> templates."""
    templates = [PROMPTS.get(prompt, prompt) for prompt in prompts]
    for template in templates:
        if template.count("{}") != 1:
            raise ValueError(f"a prompt is a text with one {{}}, or one of {', '.join(PROMPTS)}; got {template!r}")
    _check_distinct("prompts", templates)
    return templates


def choose_labels(
    splits: Iterable[Dataset], given: list[str] | None, phrases: dict[str, str], multi_label: bool
) -> dict[str, str]:
    """
    The labels that are told apart, and the words that stand for each in a prompt.

    Args:
        splits (`Iterable[Dataset]`): All that are used, with a column `labels`.
        given (`list[str]`, *optional*, defaults to those of the preset, or else of the tracks): Names of labels.
        phrases (`dict[str, str]`): The words for a label, where they are not its name with spaces for underscores.
        multi_label (`bool`): Whether tracks may have labels that are left out.

    Raises:
        `ValueError`: if a label comes twice, if two would be asked for in the same words, or if a track has one only
        that is not among them.
    """
    found = {label for tracks in splits for row in tracks["labels"] for label in row}
    labels = given or list(phrases) or sorted(found)
    _check_distinct("labels", labels)
    if (unknown := sorted(found - set(labels))) and not multi_label:
        raise ValueError(f"tracks have labels that are not among those given: {', '.join(unknown)}")
    if len(labels) < 2 and not multi_label:
        raise ValueError(f"classification needs at least two labels, got {labels}")
    words = {label: phrases.get(label, label.replace("_", " ")) for label in labels}
    _check_distinct("labels, as a prompt words them", [phrase.lower() for phrase in words.values()])
    return words


def _check_distinct(what: str, values: list[str]):
    if twice := sorted(value for value, count in Counter(values).items() if count > 1):
        raise ValueError(f"{what} must differ from each other, got more than once: {', '.join(twice)}")


def read_references(tracks: Dataset, labels: list[str], multi_label: bool) -> np.ndarray:
    """
    Returns:
        `np.ndarray`: `(num_tracks,)` indices of labels; with `multi_label` `(num_tracks, num_labels)` of 1, 0, and -1
        where nobody looked for the label.
    """
    places = {label: index for index, label in enumerate(labels)}
    if not multi_label:
        return np.array([places[row[0]] for row in tracks["labels"]])
    references = np.zeros((len(tracks), len(labels)), dtype=np.int64)
    for column, value in (("unknown", -1), ("labels", 1)):
        for track, row in enumerate(tracks[column] if column in tracks.column_names else []):
            references[track, [places[label] for label in row if label in places]] = value
    return references


def label_embeds(text_embeds: np.ndarray) -> np.ndarray:
    """Embeddings of all prompts, `(num_prompts, num_labels, dim)` -> of the labels, `(num_labels, dim)`: the mean."""
    mean = text_embeds.mean(axis=0, dtype=np.float64)
    return (mean / np.linalg.norm(mean, axis=1, keepdims=True)).astype(np.float32)


@functools.cache
def _metric(config: str):
    import evaluate  # takes seconds to import

    return evaluate.load(str(METRIC), config)


def zero_shot_metrics(scores: np.ndarray, references: np.ndarray, labels: list[str], num_resamples: int = 0) -> dict:
    """
    Through the `evaluate` module `metrics/zero_shot_tagging`: its single-label configuration where `references` are
    indices, its multi-label one where they are a matrix.
    """
    metric = _metric("multi_label" if references.ndim == 2 else "single_label")
    return metric.compute(scores=scores, references=references, labels=list(labels), num_resamples=num_resamples)


def abstention(validation_scores, validation_references, scores, references, logit_scale: float) -> dict:
    """
    Classification that may answer nothing: where the probability of the best label is below a threshold, the one that
    gave the most right answers less wrong ones on the validation split.

    Args:
        validation_scores (`np.ndarray` of shape `(num_tracks, num_labels)`), validation_references (`np.ndarray`):
            Cosines and true labels of the split that the threshold is chosen on.
        scores (`np.ndarray`), references (`np.ndarray`):
            Those of the split that is reported.
        logit_scale (`float`):
            The model's, which makes probabilities of cosines.
    """
    confidence = softmax(logit_scale * validation_scores, axis=1).max(axis=1)
    gain = np.where(validation_scores.argmax(axis=1) == validation_references, 1, -1)
    order = np.argsort(-confidence, kind="stable")
    total = np.append(0, gain[order].cumsum())
    ends = np.append(True, np.append(np.diff(confidence[order]) != 0, True))  # a threshold cannot part equals
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


def tag_thresholds(validation_scores, validation_references, scores, references, labels: list[str]) -> dict:
    """
    Tagging with a threshold for each label, the one of the best F1 on the validation split; arguments as in
    [`abstention`]. Labels without an example on either split are left out and named.
    """
    thresholds, f1, skipped = {}, {}, []
    tagged = np.zeros(len(scores), dtype=bool)
    for index, label in enumerate(labels):
        known, known_test = validation_references[:, index] >= 0, references[:, index] >= 0
        values, truth = validation_scores[known, index], validation_references[known, index] == 1
        test_truth = references[known_test, index] == 1
        if not truth.any() or not test_truth.any():
            skipped.append(label)
            continue
        order = np.argsort(-values, kind="stable")
        hits = truth[order].cumsum()
        ends = np.append(np.diff(values[order]) != 0, True)
        scale = 2 * hits / (np.arange(1, len(values) + 1) + truth.sum())  # F1 if the first n are tagged
        best = np.flatnonzero(ends)[scale[ends].argmax()]
        thresholds[label] = float(values[order][best])
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
