# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Zero-shot tagging and classification from a table of scores, ties counted neutrally, intervals by bootstrap."""

import collections
import functools
import math
from collections.abc import Callable, Iterator

import datasets
import evaluate
import numpy as np
import torch


_DESCRIPTION = """
Judges a table of scores, one row per track and one column per label. With several labels per track: ROC-AUC and PR-AUC
(average precision) label by label, and their means over the labels. With one label per track: accuracy, recall of each
label, their mean (balanced accuracy) and the confusion matrix. Tied scores are neutral, so a model that scores
everything alike gets chance.
"""

_KWARGS_DESCRIPTION = """
Args:
    scores (`array` or `torch.Tensor` of shape `(num_tracks, num_labels)`):
        Finite scores of any scale, cosines for instance; higher means that the label fits better.
    references (`array`, `torch.Tensor` or `list`):
        Configuration `"multi_label"`, which is the default: of shape `(num_tracks, num_labels)`, 1 where the track has
        the label, 0 where it has not, -1 where nobody knows. The last are left out of the numbers of that label.
        Configuration `"single_label"`: of length `num_tracks`, the column of `scores` that is right.
    labels (`list[str]`, *optional*):
        Names of the columns of `scores`. Defaults to `"0"`, `"1"` and so on.
    num_resamples (`int`, *optional*, defaults to 0):
        Bootstrap resamples of the tracks for intervals; 0 leaves these out.
    seed (`int`, *optional*, defaults to 0):
        Seed of the resamples.

Returns:
    `dict`: in configuration `"multi_label"`
        - **roc_auc**, **pr_auc** (`float`): means over the labels that are defined, 0 to 1; `None` if no label is.
        - **per_label** (`dict[str, dict]`): for each label `roc_auc`, `pr_auc`, `positives` and `negatives`. The two
          areas are `None` where there is no positive or no negative.
        - **undefined** (`list[str]`): labels without a positive or without a negative.
        - **at_or_below_chance** (`list[str]`): labels whose ROC-AUC is at most 0.5.

    and in configuration `"single_label"`
        - **accuracy** (`float`): tracks whose best label is right, in per cent.
        - **balanced_accuracy** (`float`): mean recall of the labels that occur, in per cent.
        - **per_label** (`dict[str, dict]`): for each label `accuracy`, its recall in per cent or `None`, and `count`.
        - **undefined** (`list[str]`): labels without a track.
        - **confusion** (`list[list[float]]`): tracks by true label (rows) and best label (columns).

    and in both **num_tracks** and **num_labels** (`int`). With `num_resamples`, **roc_auc_interval** and
    **pr_auc_interval** (also in `per_label`) or **accuracy_interval** and **balanced_accuracy_interval**
    (`tuple[float, float]`): 95 % intervals over resamples of the tracks, or `None` where the value is undefined.

Examples:

    Nobody knows whether there is a piano in the first track, and no track has a flute.

    >>> import evaluate
    >>> metric = evaluate.load("metrics/zero_shot_tagging")
    >>> results = metric.compute(
    ...     scores=[[0.9, 0.2, 0.1], [0.8, 0.4, 0.2], [0.3, 0.4, 0.3], [0.1, 0.6, 0.4]],
    ...     references=[[1, -1, 0], [0, 0, 0], [1, 1, 0], [0, 1, 0]],
    ...     labels=["rock", "piano", "flute"],
    ... )
    >>> results["roc_auc"], round(results["pr_auc"], 4), results["undefined"]
    (0.75, 0.8333, ['flute'])
    >>> results["per_label"]["flute"]
    {'roc_auc': None, 'pr_auc': None, 'positives': 0, 'negatives': 4}

    One label per track. The second track is as close to one label as to the other: half a hit.

    >>> metric = evaluate.load("metrics/zero_shot_tagging", "single_label")
    >>> results = metric.compute(scores=[[0.9, 0.1], [0.2, 0.2], [0.1, 0.5], [0.3, 0.2]], references=[0, 1, 1, 1])
    >>> results["accuracy"], results["balanced_accuracy"], results["confusion"]
    (62.5, 75.0, [[1.0, 0.0], [1.5, 1.5]])
"""

_CITATION = """
@inproceedings{manco2022contrastive,
    title = {Contrastive Audio-Language Learning for Music},
    author = {Manco, Ilaria and Benetos, Emmanouil and Quinton, Elio and Fazekas, Gy{\\"o}rgy},
    booktitle = {Proceedings of the 23rd International Society for Music Information Retrieval Conference},
    year = {2022},
    url = {https://arxiv.org/abs/2208.12208}
}
@article{fawcett2006introduction,
    title = {An Introduction to {ROC} Analysis},
    author = {Fawcett, Tom},
    journal = {Pattern Recognition Letters},
    volume = {27},
    number = {8},
    pages = {861--874},
    year = {2006},
    doi = {10.1016/j.patrec.2005.10.010}
}
"""

AREAS = ("roc_auc", "pr_auc")
ACCURACIES = ("accuracy", "balanced_accuracy")


def rank_tracks(scores: np.ndarray, references: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """
    Rank the tracks for one label, once for all draws that [`areas`] judges.

    Args:
        scores (`np.ndarray` of shape `(num_tracks,)`), references (`np.ndarray` of shape `(num_tracks,)`):
            Scores, and 1, 0 or -1; tracks with -1 are left out.

    Returns:
        `tuple` of four `np.ndarray`: the tracks, best first; those of them that are positive; and two of shape
        `(2, num_groups)`: for each group of tied tracks with a positive among them, how many of all tracks and how
        many of the positive ones are strictly better (first row) and at least as good (second row).
    """
    known = np.flatnonzero(references >= 0)
    order = known[np.argsort(-scores[known], kind="stable")]
    ranked, positive = scores[order], np.flatnonzero(references[order] == 1)
    changes = np.flatnonzero(ranked[1:] != ranked[:-1]) + 1
    bounds = np.stack([np.append(0, changes), np.append(changes, len(order))])
    hits = np.searchsorted(positive, bounds)
    kept = hits[0] < hits[1]
    return order, order[positive], bounds[:, kept], hits[:, kept]


def _running_sums(counts):
    sums = np.zeros((len(counts) + 1, counts.shape[1]), dtype=np.int64)
    np.cumsum(counts, axis=0, out=sums[1:])
    return sums


def areas(rankings: list[tuple], counts: np.ndarray) -> np.ndarray:
    """
    Compute ROC-AUC and PR-AUC of each label, from tracks that count as often as `counts` says.

    Args:
        rankings (`list[tuple]` of length `num_labels`):
            What [`rank_tracks`] returned for each label.
        counts (`np.ndarray` of shape `(num_draws, num_tracks)`):
            Integers; each row is one draw of the tracks.

    Returns:
        `np.ndarray` of shape `(2, num_labels, num_draws)`: `AREAS`, NaN where a draw has no positive or no negative.
    """
    weights = np.ascontiguousarray(counts.T)
    results = np.full((len(AREAS), len(rankings), weights.shape[1]), np.nan)
    for label, (order, positive, bounds, hit_bounds) in enumerate(rankings):
        total, hits = _running_sums(weights[order]), _running_sums(weights[positive])  # (tracks + 1, num_draws)
        positives, negatives = hits[-1], total[-1] - hits[-1]
        defined = (positives > 0) & (negatives > 0)
        (above, upto), (hits_above, hits_upto) = total[bounds], hits[hit_bounds]  # (num_groups, num_draws)
        group_hits = hits_upto - hits_above
        # Pairs of a positive and a negative that are in order count 2, tied pairs 1. Integers: the quotient is exact.
        pairs = (group_hits * (2 * negatives - (above - hits_above) - (upto - hits_upto))).sum(axis=0)
        np.divide(pairs, 2 * positives * negatives, out=results[0, label], where=defined)
        precision = (group_hits * (hits_upto / np.maximum(upto, 1))).sum(axis=0)
        np.divide(precision, positives, out=results[1, label], where=defined)
    return results


def right_shares(scores: np.ndarray, references: np.ndarray) -> np.ndarray:
    """
    Compute how right the answer to each track is: 1 where the best label is the true one, 0 where it is not, and
    `1 / t` where the true one is among `t` that tie for the best.

    Args:
        scores (`np.ndarray` of shape `(num_tracks, num_labels)`), references (`np.ndarray` of shape `(num_tracks,)`):
            Scores, and the true label's column of each track.
    """
    best = scores == scores.max(axis=1, keepdims=True)
    return best[np.arange(len(scores)), references] / best.sum(axis=1)


def accuracy(shares: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Compute the accuracy in per cent, `(num_draws,)`, from [`right_shares`] and `counts` as in [`areas`]."""
    return 100 * (counts @ shares) / counts.sum(axis=-1)


def accuracies(shares: np.ndarray, references: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """
    Compute accuracy and balanced accuracy in per cent, from tracks that count as often as `counts` says.

    Args:
        shares (`np.ndarray` of shape `(num_tracks,)`), references (`np.ndarray` of shape `(num_tracks,)`):
            What [`right_shares`] returned, and the true label's column of each track.
        counts (`np.ndarray` of shape `(num_draws, num_tracks)`):
            As in [`areas`].

    Returns:
        `np.ndarray` of shape `(2, num_draws)`: `ACCURACIES`, the second over the labels that the draw has.
    """
    is_label = np.equal.outer(references, np.unique(references)).astype(np.float64)  # (num_tracks, labels that occur)
    drawn, hits = counts @ is_label, counts @ (shares[:, None] * is_label)  # (num_draws, labels that occur)
    balanced = [100 * (hit[has] / size[has]).mean() for hit, size, has in zip(hits, drawn, drawn > 0, strict=True)]
    return np.stack([accuracy(shares, counts), balanced])


def bootstrap(
    metrics_of: Callable[[np.ndarray], np.ndarray],
    num_tracks: int,
    num_resamples: int,
    seed: int = 0,
    max_counts: int = 2**18,
) -> np.ndarray:
    """
    Compute metrics on bootstrap resamples of the tracks, in O(`max_counts`) memory or that of one resample. The same
    seed and number of tracks draw the same tracks.

    Args:
        metrics_of (`Callable`):
            From how often each track counts, `(num_draws, num_tracks)`, to metrics of shape `(..., num_draws)`: for
            example `functools.partial(areas, rankings)`.
        num_tracks (`int`):
            Number of tracks.
        num_resamples (`int`), seed (`int`, *optional*, defaults to 0):
            Number of resamples, at least 1, and their seed.
        max_counts (`int`, *optional*, defaults to 2**18):
            Counts held at a time.

    Returns:
        `np.ndarray` of shape `(..., num_resamples)`.
    """
    random, chunk = np.random.default_rng(seed), max(1, max_counts // num_tracks)
    samples = []
    for start in range(0, num_resamples, chunk):
        draws = [random.integers(num_tracks, size=num_tracks) for _ in range(min(chunk, num_resamples - start))]
        samples.append(metrics_of(np.stack([np.bincount(draw, minlength=num_tracks) for draw in draws])))
    return np.concatenate(samples, axis=-1)


def interval(samples: np.ndarray) -> tuple[float, float] | None:
    """Return the 95 % interval of a metric from its value on each resample, without those where it is NaN."""
    samples = samples[~np.isnan(samples)]
    return tuple(np.percentile(samples, (2.5, 97.5)).tolist()) if samples.size else None


def _as_array(name, values):
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().double().numpy()
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:  # numpy's words on ragged rows and on text
        raise ValueError(f"`{name}` must be an array of numbers, got one that numpy refuses: {error}") from error


def _check_table(scores, labels, num_resamples):
    scores = _as_array("scores", scores)
    if scores.ndim != 2 or 0 in scores.shape:
        raise ValueError(f"`scores` must be of shape (num_tracks, num_labels) with both above 0, got {scores.shape}.")
    num_labels = scores.shape[1]
    labels = [str(label) for label in (range(num_labels) if labels is None else labels)]
    if len(labels) != num_labels:
        raise ValueError(f"`labels` must be {num_labels} names, one per column of `scores`, got {len(labels)}.")
    if repeated := [label for label, count in collections.Counter(labels).items() if count > 1]:
        raise ValueError(f"`labels` must be unique, got more than once {repeated}.")
    wrong = np.argwhere(~np.isfinite(scores))
    if len(wrong):
        track, column = wrong[0]
        raise ValueError(
            f"`scores` must be finite, got NaN or Inf in {len(wrong)} of {scores.size} places, the first being "
            f"{scores[track, column]} of track {track} and label {labels[column]!r}."
        )
    if num_resamples < 0:
        raise ValueError(f"`num_resamples` must be at least 0, got {num_resamples}.")
    return scores, labels


def _check_tags(references, scores, labels):
    references = _as_array("references", references)
    if references.shape != scores.shape:
        raise ValueError(f"`references` must be of the shape of `scores`, {scores.shape}, got {references.shape}.")
    wrong = np.argwhere(~np.isin(references, (-1, 0, 1)))
    if len(wrong):
        track, column = wrong[0]
        raise ValueError(
            f"`references` must be 1, 0 or -1 (unknown), got others in {len(wrong)} of {references.size} places, the "
            f"first being {references[track, column]} of track {track} and label {labels[column]!r}."
        )
    return references


def _check_classes(references, num_tracks, num_labels):
    references = _as_array("references", references)
    if references.shape != (num_tracks,):
        raise ValueError(
            f"`references` must be {num_tracks} integers, one per row of `scores`, got shape {references.shape}."
        )
    wrong = np.flatnonzero(~np.isin(references, np.arange(num_labels)))
    if wrong.size:
        raise ValueError(
            f"`references` must be columns of `scores`, integers 0 to {num_labels - 1}, got others in {wrong.size} of "
            f"{num_tracks} places, the first being {references[wrong[0]]} of track {wrong[0]}."
        )
    return references.astype(np.int64)


def _mean(values):
    """Compute the mean of those values that are not NaN, of which there may be none."""
    values = [value for value in values if not math.isnan(value)]
    return math.fsum(values) / len(values) if values else math.nan  # exact sum: the order of labels cannot show


def _value(value):
    return None if math.isnan(value) else float(value)


def multi_label_metrics(
    scores: np.ndarray | torch.Tensor,
    references: np.ndarray | torch.Tensor | list,
    labels: list[str] | None = None,
    num_resamples: int = 0,
    seed: int = 0,
) -> dict:
    """Compute configuration `"multi_label"`; arguments and results as in `_KWARGS_DESCRIPTION`."""
    scores, labels = _check_table(scores, labels, num_resamples)
    references = _check_tags(references, scores, labels)

    rankings = [rank_tracks(*columns) for columns in zip(scores.T, references.T, strict=True)]
    values = dict(zip(AREAS, areas(rankings, np.ones((1, len(scores)), dtype=np.int64))[..., 0], strict=True))
    results = {name: _value(_mean(value)) for name, value in values.items()}
    per_label = {
        label: {name: _value(value[column]) for name, value in values.items()}
        | {name: int((references[:, column] == truth).sum()) for name, truth in (("positives", 1), ("negatives", 0))}
        for column, label in enumerate(labels)
    }
    if num_resamples:
        resampled = bootstrap(functools.partial(areas, rankings), len(scores), num_resamples, seed)
        for name, samples in zip(AREAS, resampled, strict=True):
            results[f"{name}_interval"] = interval(np.array([_mean(draw) for draw in samples.T.tolist()]))
            for label, label_samples in zip(labels, samples, strict=True):
                per_label[label][f"{name}_interval"] = interval(label_samples)
    areas_of = {label: numbers["roc_auc"] for label, numbers in per_label.items()}
    return results | {
        "per_label": per_label,
        "undefined": [label for label, area in areas_of.items() if area is None],
        "at_or_below_chance": [label for label, area in areas_of.items() if area is not None and area <= 0.5],
        "num_tracks": len(scores),
        "num_labels": len(labels),
    }


def count_confusion(scores: np.ndarray, references: np.ndarray) -> np.ndarray:
    """
    Count the tracks by true label (rows) and best label (columns); where `t` labels tie for the best score of a track,
    each gets `1 / t`. Arguments as in [`right_shares`].
    """
    num_labels = scores.shape[1]
    best = scores == scores.max(axis=1, keepdims=True)
    tied = best.sum(axis=1)
    confusion = np.zeros((num_labels, num_labels))
    for size in np.unique(tied):  # counts are integers: the order of tracks cannot show
        counts = np.zeros((num_labels, num_labels), dtype=np.int64)
        np.add.at(counts, references[tied == size], best[tied == size])
        confusion += counts / size
    return confusion


def single_label_metrics(
    scores: np.ndarray | torch.Tensor,
    references: np.ndarray | torch.Tensor | list,
    labels: list[str] | None = None,
    num_resamples: int = 0,
    seed: int = 0,
) -> dict:
    """Compute configuration `"single_label"`; arguments and results as in `_KWARGS_DESCRIPTION`."""
    scores, labels = _check_table(scores, labels, num_resamples)
    num_tracks, num_labels = scores.shape
    if num_labels < 2:
        raise ValueError(f"`scores` must have at least 2 labels to choose from, got {num_labels}.")
    references = _check_classes(references, num_tracks, num_labels)

    confusion = count_confusion(scores, references)
    count = np.bincount(references, minlength=num_labels)
    recall = 100 * confusion.diagonal() / np.maximum(count, 1)
    results = {
        "accuracy": 100 * math.fsum(confusion.diagonal()) / num_tracks,
        "balanced_accuracy": _mean(recall[np.flatnonzero(count)]),
    }
    if num_resamples:
        metrics_of = functools.partial(accuracies, right_shares(scores, references), references)
        for name, samples in zip(ACCURACIES, bootstrap(metrics_of, num_tracks, num_resamples, seed), strict=True):
            results[f"{name}_interval"] = interval(samples)
    return results | {
        "per_label": {
            label: {"accuracy": float(recall[column]) if count[column] else None, "count": int(count[column])}
            for column, label in enumerate(labels)
        },
        "undefined": [label for label, tracks in zip(labels, count, strict=True) if tracks == 0],
        "confusion": confusion.tolist(),
        "num_tracks": num_tracks,
        "num_labels": num_labels,
    }


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class ZeroShotTagging(evaluate.Metric):
    def _info(self):
        # Scores are plain keywords: as columns they would be copied through Python lists. References are floats here,
        # or `datasets` would cut 0.5 to 0 before it can be refused.
        table = datasets.List(datasets.Value("float64"))
        columns = {"default": table, "multi_label": table, "single_label": datasets.Value("float64")}
        if self.config_name not in columns:
            raise ValueError(f"The configuration must be among {list(columns)}, got {self.config_name!r}.")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({"references": columns[self.config_name]}),
            reference_urls=[
                "https://huggingface.co/papers/2208.12208",
                "https://doi.org/10.1016/j.patrec.2005.10.010",
                "https://scikit-learn.org/stable/modules/generated/sklearn.metrics.average_precision_score.html",
            ],
        )

    def compute(self, **inputs):
        """Compute the metrics."""
        for argument, values in inputs.items():
            if isinstance(values, Iterator):
                raise ValueError(
                    f"`{argument}` must be a list or an array, got a {type(values).__name__}, which can be read only "
                    f"once: pass list({argument})."
                )
        return super().compute(**inputs)

    def _compute(self, **inputs):
        return single_label_metrics(**inputs) if self.config_name == "single_label" else multi_label_metrics(**inputs)
