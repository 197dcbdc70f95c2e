# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Labels of tracks: which there are, which each track has, and how well scores tell them."""

from collections import Counter
from collections.abc import Iterable
from types import ModuleType

import numpy as np
from datasets import Dataset


def load_metric() -> ModuleType:
    """Return the `evaluate` module `metrics/zero_shot_tagging`, for what its metrics are made of."""
    from metrics.zero_shot_tagging import zero_shot_tagging  # takes seconds to import

    return zero_shot_tagging


def choose_labels(
    splits: Iterable[Dataset], given: list[str] | None, phrases: dict[str, str], multi_label: bool
) -> dict[str, str]:
    """
    Return the labels that are told apart, each with the words that stand for it in a prompt.

    Args:
        splits (`Iterable[Dataset]`): The tracks of all splits, with a column `labels`.
        given (`list[str]`, *optional*, defaults to those of the preset, or else of the tracks): Names of labels.
        phrases (`dict[str, str]`): The words for a label, where they are not its name with spaces for underscores.
        multi_label (`bool`): Whether tracks may have labels that are left out.

    Raises:
        `ValueError`: if a label comes twice, if two would be asked for in the same words, or if a track has one only
        that is not among them.
    """
    present = {label for tracks in splits for row in tracks["labels"] for label in row}
    labels = given or list(phrases) or sorted(present)
    check_distinct("labels", labels)
    if (unknown := sorted(present - set(labels))) and not multi_label:
        raise ValueError(f"tracks have labels that are not among those given: {', '.join(unknown)}")
    if len(labels) < 2 and not multi_label:
        raise ValueError(f"classification needs at least two labels, got {labels}")
    words = {label: phrases.get(label, label.replace("_", " ")) for label in labels}
    check_distinct("labels, as a prompt words them", [phrase.lower() for phrase in words.values()])
    return words


def check_distinct(name: str, values: list[str]):
    """Raise `ValueError` if a value comes twice; `name` says in the message what the values are."""
    if twice := sorted(value for value, count in Counter(values).items() if count > 1):
        raise ValueError(f"{name} must differ from each other, got more than once: {', '.join(twice)}")


def read_references(tracks: Dataset, labels: list[str], multi_label: bool) -> np.ndarray:
    """
    Return the labels of each track as numbers.

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


def label_metrics(scores: np.ndarray, references: np.ndarray, labels: Iterable[str], num_resamples: int = 0) -> dict:
    """
    Compute the metrics of `metrics/zero_shot_tagging`: those of its single-label configuration where `references` are
    indices, those of its multi-label one where they are a matrix; arguments and result as there.
    """
    metric = load_metric()
    metrics_of = metric.multi_label_metrics if references.ndim == 2 else metric.single_label_metrics
    return metrics_of(scores, references, list(labels), num_resamples)
