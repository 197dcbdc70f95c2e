# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Linear probe: what a linear classifier reads from frozen audio embeddings."""

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from muscall.evaluation.labels import label_metrics


GRID = (0.001, 0.01, 0.1, 1.0, 10.0)  # inverse strength of the L2 penalty
MAX_ITERATIONS = 1000
NEVER = -1e9  # the score of a label without a training example, which is then never chosen


@dataclass
class ClassProbe:
    """One classifier that tells the labels apart, where each track has one of `num_labels`."""

    classifier: Pipeline
    num_labels: int

    def score(self, embeds: np.ndarray) -> np.ndarray:
        """Return the scores of tracks `(num_tracks, dim)`, of shape `(num_tracks, num_labels)`."""
        decision = self.classifier.decision_function(embeds)
        if len(self.classifier.classes_) == 2:
            decision = np.stack([-decision, decision], axis=1)
        scores = np.full((len(embeds), self.num_labels), NEVER)
        scores[:, self.classifier.classes_] = decision
        return scores


@dataclass
class TagProbe:
    """One classifier for each label, where a track may have several; none where the label says nothing in training."""

    classifiers: list[Pipeline | None]

    def score(self, embeds: np.ndarray) -> np.ndarray:
        """Return the scores of tracks `(num_tracks, dim)`, of shape `(num_tracks, num_labels)`."""
        columns = [
            classifier.decision_function(embeds) if classifier else np.zeros(len(embeds))
            for classifier in self.classifiers
        ]
        return np.stack(columns, axis=1)


def _fit(embeds: np.ndarray, references: np.ndarray, c: float) -> Pipeline:
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=MAX_ITERATIONS))
    with warnings.catch_warnings():  # a fit that reaches the last iteration counts as it is
        warnings.simplefilter("ignore", ConvergenceWarning)
        return classifier.fit(embeds, references)


def fit_probe(embeds: np.ndarray, references: np.ndarray, num_labels: int, c: float) -> ClassProbe | TagProbe:
    """
    Fit logistic regression to standardised embeddings, one for each label where tracks may have several.

    Args:
        embeds (`np.ndarray` of shape `(num_tracks, dim)`), references (`np.ndarray`):
            Embeddings, and labels as [`read_references`] returns them.
        num_labels (`int`):
            Number of labels.
        c (`float`):
            Inverse strength of the L2 penalty.
    """
    if references.ndim == 1:
        return ClassProbe(_fit(embeds, references, c), num_labels)
    classifiers = []
    for column in references.T:
        known = column >= 0
        has_both = len(np.unique(column[known])) == 2
        classifiers.append(_fit(embeds[known], column[known], c) if has_both else None)
    return TagProbe(classifiers)


def linear_probe(splits: dict[str, tuple[np.ndarray, np.ndarray]], labels: list[str], num_resamples: int) -> dict:
    """
    Measure a linear probe. The penalty is the one of `GRID` with the best accuracy, or macro ROC-AUC, on the
    validation split; the classifier is fitted to the train split alone.

    Args:
        splits (`dict[str, tuple[np.ndarray, np.ndarray]]`):
            For `train`, `validation` and `reported` embeddings and references as in [`fit_probe`].
        labels (`list[str]`):
            Names of the labels.
        num_resamples (`int`):
            Bootstrap resamples of the reported tracks.

    Returns:
        `dict`: `metrics` of the reported split, its `scores`, and `c`, the inverse penalty chosen.

    Raises:
        `ValueError`: if there is nothing to fit to, or to choose the penalty by.
    """
    train, validation, reported = (splits[split] for split in ("train", "validation", "reported"))
    is_single_label = train[1].ndim == 1
    if is_single_label and len(np.unique(train[1])) < 2:
        raise ValueError(f"the train split has tracks of one label alone: {labels[train[1][0]]}")
    criterion = "accuracy" if is_single_label else "roc_auc"
    best_quality, best_c, best_probe = -np.inf, None, None
    for c in tqdm(GRID, "fitting the probe", leave=False):
        probe = fit_probe(*train, len(labels), c)
        quality = label_metrics(probe.score(validation[0]), validation[1], labels)[criterion]
        if quality is None:
            raise ValueError("no label has tracks with and without it on the validation split: nothing to choose by")
        if quality > best_quality:
            best_quality, best_c, best_probe = quality, c, probe
    scores = best_probe.score(reported[0])
    return {"metrics": label_metrics(scores, reported[1], labels, num_resamples), "scores": scores, "c": best_c}
