# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Zero-shot tagging and classification from a table of scores, ties counted neutrally, intervals by bootstrap."""

import collections
import math

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


def rank_tracks(scores, references):
    """
    What `areas` needs of one label, whichever tracks are drawn.

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


def areas(rankings, weights):
    """
    ROC-AUC and PR-AUC of each label, from tracks that count as often as `weights` says.

    Args:
        rankings (`list[tuple]` of length `num_labels`):
            `rank_tracks` of each label.
        weights (`np.ndarray` of shape `(num_tracks, num_draws)`):
            Integers; each column is one draw of the tracks.

    Returns:
        `np.ndarray` of shape `(2, num_labels, num_draws)`: `AREAS`, NaN where a draw has no positive or no negative.
    """
    results = np.full((len(AREAS), len(rankings), weights.shape[1]), np.nan)
    for label, (order, positive, bounds, hit_bounds) in enumerate(rankings):
        total, hits = _running_sums(weights[order]), _running_sums(weights[positive])  # (tracks + 1, num_draws)
        positives, negatives = hits[-1], total[-1] - hits[-1]
        defined = (positives > 0) & (negatives > 0)
        (above, upto), (hits_above, hits_upto) = total[bounds], hits[hit_bounds]  # (num_groups, num_draws)
        found = hits_upto - hits_above
        # Pairs of a positive and a negative that are in order count 2, tied pairs 1. Integers: the quotient is exact.
        pairs = (found * (2 * negatives - (above - hits_above) - (upto - hits_upto))).sum(axis=0)
        np.divide(pairs, 2 * positives * negatives, out=results[0, label], where=defined)
        precision = (found * (hits_upto / np.maximum(upto, 1))).sum(axis=0)
        np.divide(precision, positives, out=results[1, label], where=defined)
    return results


def resample(rankings, num_tracks, num_resamples, seed, max_weights=2**18):
    """
    `areas` on bootstrap resamples of the tracks, in O(`max_weights`) memory or that of one resample. The same seed and
    number of tracks draw the same tracks.
    """
    random = np.random.default_rng(seed)
    chunk = max(1, max_weights // num_tracks)
    results = []
    for start in range(0, num_resamples, chunk):
        draws = [random.integers(num_tracks, size=num_tracks) for _ in range(min(chunk, num_resamples - start))]
        counts = [np.bincount(draw, minlength=num_tracks) for draw in draws]
        results.append(areas(rankings, np.ascontiguousarray(np.transpose(counts))))
    return np.concatenate(results, axis=-1)


def _as_array(name, values):
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().double().numpy()
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:  # numpy's words on ragged rows and on text
        raise ValueError(f"`{name}` must be an array of numbers, got one that numpy refuses: {error}") from error


def _check(scores, labels, num_resamples):
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


def _mean(values):
    """Mean of those that are not NaN, of which there may be none."""
    values = [value for value in values if not math.isnan(value)]
    return math.fsum(values) / len(values) if values else math.nan  # exact sum: the order of labels cannot show


def _value(value):
    return None if math.isnan(value) else float(value)


def _interval(samples):
    samples = samples[~np.isnan(samples)]
    return tuple(np.percentile(samples, (2.5, 97.5)).tolist()) if samples.size else None


def multi_label_metrics(scores, references, labels=None, num_resamples=0, seed=0):
    """Configuration `"multi_label"`; arguments and results as in `_KWARGS_DESCRIPTION`."""
    scores, labels = _check(scores, labels, num_resamples)
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

    rankings = [rank_tracks(*columns) for columns in zip(scores.T, references.T, strict=True)]
    values = dict(zip(AREAS, areas(rankings, np.ones((len(scores), 1), dtype=np.int64))[..., 0], strict=True))
    results = {name: _value(_mean(value)) for name, value in values.items()}
    per_label = {
        label: {name: _value(value[column]) for name, value in values.items()}
        | {name: int((references[:, column] == truth).sum()) for name, truth in (("positives", 1), ("negatives", 0))}
        for column, label in enumerate(labels)
    }
    if num_resamples:
        for name, samples in zip(AREAS, resample(rankings, len(scores), num_resamples, seed), strict=True):
            results[f"{name}_interval"] = _interval(np.array([_mean(draw) for draw in samples.T.tolist()]))
            for label, sample in zip(labels, samples, strict=True):
                per_label[label][f"{name}_interval"] = _interval(sample)
    areas_of = {label: numbers["roc_auc"] for label, numbers in per_label.items()}
    return results | {
        "per_label": per_label,
        "undefined": [label for label, area in areas_of.items() if area is None],
        "at_or_below_chance": [label for label, area in areas_of.items() if area is not None and area <= 0.5],
        "num_tracks": len(scores),
        "num_labels": len(labels),
    }


def single_label_metrics(scores, references, labels=None, num_resamples=0, seed=0):
    """Configuration `"single_label"`; arguments and results as in `_KWARGS_DESCRIPTION`."""
    scores, labels = _check(scores, labels, num_resamples)
    num_tracks, num_labels = scores.shape
    if num_labels < 2:
        raise ValueError(f"`scores` must have at least 2 labels to choose from, got {num_labels}.")
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
    references = references.astype(np.int64)

    best = scores == scores.max(axis=1, keepdims=True)
    tied = best.sum(axis=1)
    confusion = np.zeros((num_labels, num_labels))
    for size in np.unique(tied):  # counts are integers: the order of tracks cannot show
        counts = np.zeros((num_labels, num_labels), dtype=np.int64)
        np.add.at(counts, references[tied == size], best[tied == size])
        confusion += counts / size
    count = np.bincount(references, minlength=num_labels)
    occurs = np.flatnonzero(count)
    recall = 100 * confusion.diagonal() / np.maximum(count, 1)
    results = {
        "accuracy": 100 * math.fsum(confusion.diagonal()) / num_tracks,
        "balanced_accuracy": _mean(recall[occurs]),
    }
    if num_resamples:
        right = best[np.arange(num_tracks), references] / tied
        random, samples = np.random.default_rng(seed), []
        for _ in range(num_resamples):
            tracks = random.integers(num_tracks, size=num_tracks)
            drawn = np.bincount(references[tracks], minlength=num_labels)
            hits = np.bincount(references[tracks], right[tracks], minlength=num_labels)
            samples.append((100 * hits.sum() / num_tracks, 100 * (hits[drawn > 0] / drawn[drawn > 0]).mean()))
        for name, sample in zip(list(results), np.transpose(samples), strict=True):
            results[f"{name}_interval"] = _interval(sample)
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

    def _compute(self, **inputs):
        return single_label_metrics(**inputs) if self.config_name == "single_label" else multi_label_metrics(**inputs)
