# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Linear probe: what a linear classifier reads from frozen audio embeddings."""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from muscall.evaluation.zero_shot import zero_shot_metrics


GRID = (0.001, 0.01, 0.1, 1.0, 10.0)  # inverse strength of the L2 penalty
MAX_ITERATIONS = 1000


def _fit(embeds: np.ndarray, references: np.ndarray, c: float) -> Pipeline:
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=MAX_ITERATIONS))
    with warnings.catch_warnings():  # a fit that is cut off counts as it is
        warnings.simplefilter("ignore", ConvergenceWarning)
        return classifier.fit(embeds, references)


def _fit_all(embeds: np.ndarray, references: np.ndarray, num_labels: int, c: float):
    """A function from embeddings to scores of shape `(num_tracks, num_labels)`."""
    if references.ndim == 1:
        classifier = _fit(embeds, references, c)
        classes = classifier.classes_

        def scores(rows):
            result = np.full((len(rows), num_labels), -1e9)  # a class without a training example is never chosen
            decision = classifier.decision_function(rows)
            if len(classes) == 2:
                decision = np.stack([-decision, decision], axis=1)
            result[:, classes] = decision
            return result

        return scores
    classifiers = []
    for column in references.T:
        known = column >= 0
        two_sided = len(np.unique(column[known])) == 2
        classifiers.append(_fit(embeds[known], column[known], c) if two_sided else None)
    return lambda rows: np.stack(
        [classifier.decision_function(rows) if classifier else np.zeros(len(rows)) for classifier in classifiers],
        axis=1,
    )


def linear_probe(splits: dict[str, tuple[np.ndarray, np.ndarray]], labels: list[str], num_resamples: int) -> dict:
    """
    Logistic regression on standardised embeddings, one for each label where tracks may have several. The penalty is
    the one of `GRID` with the best accuracy, or macro ROC-AUC, on the validation split; the classifier is fitted to
    the train split alone.

    Args:
        splits (`dict[str, tuple[np.ndarray, np.ndarray]]`):
            For `train`, `validation` and `reported` embeddings and references as in `muscall.evaluation.zero_shot`.
        labels (`list[str]`):
            Names of the labels.
        num_resamples (`int`):
            Bootstrap resamples of the reported tracks.

    Returns:
        `dict`: `metrics` of the reported split, its `scores`, and `c`, the inverse penalty chosen.
    """
    train, validation, test = (splits[split] for split in ("train", "validation", "reported"))
    if train[1].ndim == 1 and len(np.unique(train[1])) < 2:
        raise ValueError(f"the train split has tracks of one label alone: {labels[train[1][0]]}")
    name, best = ("accuracy" if train[1].ndim == 1 else "roc_auc"), (-np.inf, None, None)
    for c in tqdm(GRID, "fitting the probe", leave=False):
        predict = _fit_all(*train, len(labels), c)
        quality = zero_shot_metrics(predict(validation[0]), validation[1], labels)[name]
        if quality is None:
            raise ValueError("no label has tracks with and without it on the validation split: nothing to choose by")
        if quality > best[0]:
            best = (quality, c, predict)
    scores = best[2](test[0])
    return {"metrics": zero_shot_metrics(scores, test[1], labels, num_resamples), "scores": scores, "c": best[1]}
