# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Audio-text retrieval in both directions, several captions per track, ties counted neutrally."""

import functools
import hashlib
import math
from collections.abc import Callable, Iterator, Sequence

import datasets
import evaluate
import numpy as np
import torch


_DESCRIPTION = """
Ranks every track for each caption (text to audio) and every caption for each track (audio to text) by cosine
similarity. Reports R@1/5/10, median and mean rank, MRR and mAP@10. Tied scores are neutral: each number is its
expectation under a uniformly random order of the tied items, so a model that embeds everything alike scores chance.
"""

_KWARGS_DESCRIPTION = """
Args:
    text_embeds (`array` or `torch.Tensor` of shape `(num_text, dim)`):
        One row per caption. Rows need no normalisation.
    audio_ids (`list[int]` of length `num_text`):
        Row of `audio_embeds` that the caption describes. Every track needs at least one caption.
    audio_embeds (`array` or `torch.Tensor` of shape `(num_audio, dim)`):
        One row per track.
    num_resamples (`int`, *optional*, defaults to 0):
        Bootstrap resamples of the tracks, each with its captions, for intervals; 0 leaves these out.
    seed (`int`, *optional*, defaults to 0):
        Seed of the resamples.
    return_statistics (`bool`, *optional*, defaults to `False`):
        Whether to return what the metrics are means of, query by query.
    ranks (`list[float]`), directions (`list[str]`):
        Configuration `"ranks"` only, one entry per query: its 1-based rank, and `"text_to_audio"` or
        `"audio_to_text"`.

Returns:
    `dict`: for `text_to_audio_` and `audio_to_text_` each
        - **R@1**, **R@5**, **R@10** (`float`): queries with a right item in the first k, in per cent.
        - **MedR**, **mean_rank** (`float`): median and mean rank of the best right item, 1 is the top.
        - **MRR** (`float`): mean reciprocal rank of the best right item, 0 to 1.
        - **mAP@10** (`float`): mean average precision over the first ten, in per cent.

    and **mean_R@10** (`float`), the mean of the two directions, **num_audio** and **num_text** (`int`). With
    `num_resamples`, for each of the metrics also **<name>_interval** (`tuple[float, float]`): its 95 % interval over
    resamples of the queries; the pool that they search stays as it is. With `return_statistics` also **statistics**
    (`dict[str, np.ndarray]`): for each direction a structured array of shape `(num_queries,)` with the float64 columns
    `rank`, `reciprocal_rank`, `hit@1`, `hit@5`, `hit@10` and `AP@10`, each 0 to 1 but for the rank.

Examples:

    Two tracks with two captions each. The last caption is as close to one track as to the other: half a hit.

    >>> import evaluate
    >>> metric = evaluate.load("metrics/cross_modal_retrieval")
    >>> results = metric.compute(
    ...     text_embeds=[[1.0, 0.0], [3.0, 4.0], [0.0, 1.0], [1.0, 1.0]],
    ...     audio_ids=[0, 0, 1, 1],
    ...     audio_embeds=[[1.0, 0.0], [0.0, 1.0]],
    ... )
    >>> results["text_to_audio_R@1"], results["text_to_audio_MedR"], results["text_to_audio_MRR"]
    (62.5, 1.25, 0.8125)
    >>> results["audio_to_text_R@1"], round(results["audio_to_text_mAP@10"], 2)
    (100.0, 83.33)
"""

_CITATION = """
@inproceedings{manco2022contrastive,
    title = {Contrastive Audio-Language Learning for Music},
    author = {Manco, Ilaria and Benetos, Emmanouil and Quinton, Elio and Fazekas, Gy{\\"o}rgy},
    booktitle = {Proceedings of the 23rd International Society for Music Information Retrieval Conference},
    year = {2022},
    url = {https://arxiv.org/abs/2208.12208}
}
@inproceedings{mcsherry2008computing,
    title = {Computing Information Retrieval Performance Measures Efficiently in the Presence of Tied Scores},
    author = {McSherry, Frank and Najork, Marc},
    booktitle = {Advances in Information Retrieval (ECIR 2008)},
    pages = {414--421},
    year = {2008},
    doi = {10.1007/978-3-540-78646-7_38}
}
"""

DIRECTIONS = ("text_to_audio", "audio_to_text")
CUTOFFS = (1, 5, 10)
DEPTH = 10  # of mAP
STATISTICS = ("rank", "reciprocal_rank", *(f"hit@{k}" for k in CUTOFFS), f"AP@{DEPTH}")
STATISTICS_DTYPE = np.dtype([(name, np.float64) for name in STATISTICS])  # one record a query


def tie_counts(scores: np.ndarray, value: float) -> tuple[int, int]:
    """Count the `scores` (`np.ndarray` of shape `(N,)`) strictly above `value`, and those equal to it."""
    return int(np.count_nonzero(scores > value)), int(np.count_nonzero(scores == value))


@functools.lru_cache(maxsize=2**16)
def expected_statistics(levels: tuple[tuple[int, int, int], ...], num_relevant: int) -> tuple[float, ...]:
    """
    Compute the expectations of `STATISTICS` for one query, over all orders of the tied items.

    Args:
        levels (`tuple[tuple[int, int, int], ...]`):
            Per distinct score of the relevant items, best first: items strictly better, items tied (itself included),
            relevant items among the tied. After the first, levels with `DEPTH` or more better items may be left out.
        num_relevant (`int`):
            Relevant items of the query, those in levels left out included.
    """
    better, tied, relevant = levels[0]
    rank = better + (tied + 1) / (relevant + 1)

    position = np.arange(1, tied - relevant + 2)  # of the first relevant item within its tie group
    at_least = np.cumprod(np.append(1.0, 1 - relevant / (tied - position[:-1] + 1)))
    reciprocal_rank = float((at_least * relevant / (tied - position + 1) / (better + position)).sum())

    hits = []
    for k in CUTOFFS:
        draws = min(max(k - better, 0), tied)
        orders = math.comb(tied, draws)  # integers: a collapsed model gives chance to the last bit
        hits.append((orders - math.comb(tied - relevant, draws)) / orders)

    average_precision = 0.0
    above = 0  # relevant items strictly better than the level
    for better, tied, relevant in levels:
        for p in range(1, min(tied, DEPTH - better) + 1):
            relevant_by_p = above + 1 + (p - 1) * (relevant - 1) / max(tied - 1, 1)
            average_precision += relevant / tied * relevant_by_p / (better + p)
        above += relevant
    return rank, reciprocal_rank, *hits, average_precision / min(num_relevant, DEPTH)


def _unit_rows(rows):
    rows = rows / np.maximum(rows.max(axis=1), -rows.min(axis=1))[:, None]  # squares neither over- nor underflow
    return np.divide(rows, np.sqrt(np.einsum("nd,nd->n", rows, rows))[:, None], out=rows)


def query_statistics(
    queries: np.ndarray, items: np.ndarray, relevant: Sequence[np.ndarray], max_scores: int = 2**23
) -> np.ndarray:
    """
    Rank all items for each query by cosine similarity, in float32 and in O(`max_scores`) memory.

    Args:
        queries (`np.ndarray` of shape `(num_queries, dim)`), items (`np.ndarray` of shape `(num_items, dim)`):
            float32 embeddings, finite and not zero.
        relevant (`Sequence[np.ndarray]` of length `num_queries`):
            Rows of the relevant items per query, at least one.
        max_scores (`int`, *optional*, defaults to 2**23):
            Scores held at a time.

    Returns:
        `np.ndarray` of shape `(num_queries,)` and dtype `STATISTICS_DTYPE`: the columns `STATISTICS`.
    """
    # A matrix product rounds equal columns differently at its edges: score each distinct item once, then repeat.
    numbers = {}
    digests = (hashlib.blake2b(row + 0.0, digest_size=16).digest() for row in items)  # + 0.0: no negative zeros
    source = np.array([numbers.setdefault(digest, len(numbers)) for digest in digests])
    distinct = _unit_rows(items[np.unique(source, return_index=True)[1]])
    has_copies = len(distinct) < len(items)

    statistics = np.empty(len(queries), STATISTICS_DTYPE)
    chunk = max(1, max_scores // max(distinct.shape))
    for start in range(0, len(queries), chunk):
        scores = _unit_rows(queries[start : start + chunk]) @ distinct.T  # (chunk, num_distinct)
        for query, row in enumerate(scores, start):
            row = row[source] if has_copies else row
            values = row[relevant[query]].tolist()
            levels = []
            for value in sorted(set(values), reverse=True):
                better, tied = tie_counts(row, value)
                if levels and better >= DEPTH:
                    break
                levels.append((better, tied, values.count(value)))
            statistics[query] = expected_statistics(tuple(levels), len(values))
    return statistics


def _as_matrix(name, embeds):
    if isinstance(embeds, torch.Tensor):
        embeds = embeds.detach().float().cpu().numpy()
    try:
        embeds = np.ascontiguousarray(embeds, dtype=np.float32)
    except (TypeError, ValueError) as error:  # numpy's words on ragged rows and on text
        raise ValueError(f"`{name}` must be an array of numbers, got one that numpy refuses: {error}") from error
    if embeds.ndim != 2 or 0 in embeds.shape:
        raise ValueError(f"`{name}` must be of shape (rows, dim) with rows and dim above 0, got {embeds.shape}.")
    peak = np.maximum(embeds.max(axis=1), -embeds.min(axis=1))
    for fault, rows in (("NaN or Inf", ~np.isfinite(peak)), ("only zeros", peak == 0)):
        if rows.any():
            raise ValueError(
                f"`{name}` must have finite rows that are not zero, got {fault} in {rows.sum()} of {len(rows)} rows, "
                f"the first being row {rows.argmax()}."
            )
    return embeds


def statistics_from_ranks(ranks: np.ndarray) -> np.ndarray:
    """
    Compute `STATISTICS` of queries with one relevant item each from their ranks alone, which are at least 1.

    A rank does not tell the size of a tie group: a query is a hit in the first k if its rank is at most k.
    """
    columns = (ranks, 1 / ranks, *(ranks <= k for k in CUTOFFS), (ranks <= DEPTH) / ranks)
    statistics = np.empty(len(ranks), STATISTICS_DTYPE)
    for name, column in zip(STATISTICS, columns, strict=True):
        statistics[name] = column
    return statistics


def statistics_from_rows(rows: Sequence[Sequence[float]]) -> np.ndarray:
    """Return statistics that were kept as rows of plain numbers, for each query its `STATISTICS` in that order."""
    return np.array([tuple(row) for row in rows], STATISTICS_DTYPE)


def mean(values: np.ndarray, counts: np.ndarray | None = None) -> float | np.ndarray:
    """
    Compute the mean over queries of `values` of shape `(num_queries,)`.

    Without `counts` the sum is exact, so that the order of the queries cannot show. With `counts` of shape
    `(..., num_queries)` each query counts that often, which gives a mean for each row; the sum is one of floats, whose
    last bits may differ.
    """
    if counts is None:
        return math.fsum(values) / len(values)
    return counts @ values / counts.sum(axis=-1)


def median(values: np.ndarray, counts: np.ndarray | None = None) -> float | np.ndarray:
    """Compute the median, of an even number of values the mean of the middle two; arguments as in [`mean`]."""
    order = np.argsort(values, kind="stable")
    cumulative = (np.ones(len(values)) if counts is None else counts)[..., order].cumsum(axis=-1)
    size = cumulative[..., -1:]
    lower, upper = ((cumulative <= middle).sum(axis=-1) for middle in ((size - 1) // 2, size // 2))
    middle = (values[order[lower]] + values[order[upper]]) / 2
    return float(middle) if counts is None else middle


def summarize(statistics: np.ndarray, counts: np.ndarray | None = None) -> dict[str, float | np.ndarray]:
    """
    Compute the metrics of one direction.

    Args:
        statistics (`np.ndarray` of shape `(num_queries,)` and dtype `STATISTICS_DTYPE`):
            What [`query_statistics`] returned.
        counts (`np.ndarray` of shape `(..., num_queries)`, *optional*):
            How often each query counts, in whole numbers; once by default. Each row is for example one resample of
            [`bootstrap`].

    Returns:
        `dict`: `R@k`, `MedR`, `mean_rank`, `MRR` and `mAP@10`; numbers, or with `counts` arrays of shape `(...)`.
    """
    metrics = {f"R@{k}": 100 * mean(statistics[f"hit@{k}"], counts) for k in CUTOFFS}
    metrics |= {"MedR": median(statistics["rank"], counts), "mean_rank": mean(statistics["rank"], counts)}
    metrics["MRR"] = mean(statistics["reciprocal_rank"], counts)
    metrics[f"mAP@{DEPTH}"] = 100 * mean(statistics[f"AP@{DEPTH}"], counts)
    return metrics


def summarize_directions(
    statistics: tuple[np.ndarray, np.ndarray], audio_ids: np.ndarray, counts: np.ndarray | None = None
) -> dict[str, float | np.ndarray]:
    """
    Compute the metrics of both directions and `mean_R@10`.

    Args:
        statistics (`tuple[np.ndarray, np.ndarray]`):
            What [`query_statistics`] returned for text to audio and for audio to text.
        audio_ids (`np.ndarray` of shape `(num_text,)`):
            The track of each caption.
        counts (`np.ndarray` of shape `(..., num_audio)`, *optional*):
            How often each track counts, and each of its captions with it; once by default.
    """
    query_counts = (None, None) if counts is None else (counts[..., audio_ids], counts)
    results = {
        f"{direction}_{name}": value
        for direction, rows, weights in zip(DIRECTIONS, statistics, query_counts, strict=True)
        for name, value in summarize(rows, weights).items()
    }
    results["mean_R@10"] = _mean_of_directions(results)
    return results


def _mean_of_directions(results):
    return sum(results[f"{direction}_R@10"] for direction in DIRECTIONS) / len(DIRECTIONS)


def draw_counts(size: int, num_resamples: int, seed: int, max_counts: int = 2**20) -> Iterator[np.ndarray]:
    """
    Yield bootstrap resamples of `size` units, several at a time in O(`max_counts`) memory: arrays of shape
    `(resamples, size)`, how often each unit was drawn. The same seed and size give the same resamples.
    """
    random, chunk = np.random.default_rng(seed), max(1, max_counts // size)
    for start in range(0, num_resamples, chunk):
        rows = min(chunk, num_resamples - start)
        draws = random.integers(size, size=(rows, size)) + size * np.arange(rows)[:, None]
        # float64, as the statistics are: a product of integers and floats would be converted for each column anew
        yield np.bincount(draws.ravel(), minlength=rows * size).reshape(rows, size).astype(np.float64)


def bootstrap(
    metrics_of: Callable[[np.ndarray], dict[str, np.ndarray]], size: int, num_resamples: int, seed: int = 0
) -> dict[str, np.ndarray]:
    """
    Compute metrics on bootstrap resamples of units: of tracks with all their captions, or of queries. Two systems on
    the same units, resampled with the same seed, are compared resample by resample.

    Args:
        metrics_of (`Callable`):
            From how often each unit counts, of shape `(resamples, size)`, to metrics of shape `(resamples,)`: for
            example `functools.partial(summarize, statistics)`, or `functools.partial(summarize_directions, statistics,
            audio_ids)` with the tracks as units.
        size (`int`):
            Number of units.
        num_resamples (`int`), seed (`int`, *optional*, defaults to 0):
            Number of resamples, at least 1, and their seed.

    Returns:
        `dict[str, np.ndarray]`: by the name of the metric, its value on each resample.
    """
    chunks = [metrics_of(counts) for counts in draw_counts(size, num_resamples, seed)]
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


def interval(samples: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of a metric, or of a difference of two, from its value on each resample."""
    return tuple(np.percentile(samples, (2.5, 97.5)).tolist())


def metrics_from_embeds(
    text_embeds: np.ndarray | torch.Tensor,
    audio_ids: Sequence[int],
    audio_embeds: np.ndarray | torch.Tensor,
    num_resamples: int = 0,
    seed: int = 0,
    return_statistics: bool = False,
) -> dict:
    """Compute all metrics of both directions; arguments as in `_KWARGS_DESCRIPTION`."""
    text_embeds, audio_embeds = _as_matrix("text_embeds", text_embeds), _as_matrix("audio_embeds", audio_embeds)
    if text_embeds.shape[1] != audio_embeds.shape[1]:
        shapes = f"{text_embeds.shape} and {audio_embeds.shape}"
        raise ValueError(f"`text_embeds` and `audio_embeds` must have the same dim, got shapes {shapes}.")
    num_text, num_audio, audio_ids = len(text_embeds), len(audio_embeds), np.asarray(audio_ids)
    if audio_ids.shape != (num_text,) or audio_ids.dtype.kind not in "iu":
        raise ValueError(
            f"`audio_ids` must be {num_text} integers, one per row of `text_embeds`, got {audio_ids.dtype} of shape "
            f"{audio_ids.shape}."
        )
    low, high = audio_ids.min(), audio_ids.max()
    if low < 0 or high >= num_audio:
        raise ValueError(f"`audio_ids` must be rows of `audio_embeds`, 0 to {num_audio - 1}, got {low} to {high}.")
    captions = np.bincount(audio_ids, minlength=num_audio)
    if (without := np.flatnonzero(captions == 0)).size:
        raise ValueError(
            f"Every row of `audio_embeds` needs a caption, got {without.size} of {num_audio} without one: "
            f"{without[:5].tolist()}{' ...' if without.size > 5 else ''}."
        )
    if num_resamples < 0:
        raise ValueError(f"`num_resamples` must be at least 0, got {num_resamples}.")

    captions_of = np.split(np.argsort(audio_ids, kind="stable"), captions.cumsum()[:-1])
    statistics = (
        query_statistics(text_embeds, audio_embeds, audio_ids[:, None]),
        query_statistics(audio_embeds, text_embeds, captions_of),
    )
    metrics_of = functools.partial(summarize_directions, statistics, audio_ids)
    results = metrics_of()
    if num_resamples:
        for name, samples in bootstrap(metrics_of, num_audio, num_resamples, seed).items():
            results[f"{name}_interval"] = interval(samples)
    if return_statistics:
        results["statistics"] = dict(zip(DIRECTIONS, statistics, strict=True))
    return results | {"num_audio": num_audio, "num_text": num_text}


def metrics_from_ranks(ranks: Sequence[float], directions: Sequence[str]) -> dict:
    """
    Compute the metrics of those directions that occur, as [`statistics_from_ranks`] says. mAP@10 is given for text to
    audio only, where one item is relevant.
    """
    ranks, directions = np.asarray(ranks, dtype=np.float64), np.asarray(directions)
    wrong = ranks[~(np.isfinite(ranks) & (ranks >= 1))]
    if ranks.size == 0 or wrong.size:
        raise ValueError(f"`ranks` must be finite and at least 1, got {len(ranks)} ranks, wrong {wrong[:5].tolist()}.")
    if unknown := set(directions.tolist()) - set(DIRECTIONS):
        raise ValueError(f"`directions` must be among {list(DIRECTIONS)}, got {sorted(unknown)}.")

    results = {}
    queries = {direction: ranks[directions == direction] for direction in DIRECTIONS}
    for direction, rank in queries.items():
        if rank.size:
            metrics = summarize(statistics_from_ranks(rank))
            results |= {f"{direction}_{name}": value for name, value in metrics.items()}
    results.pop(f"audio_to_text_mAP@{DEPTH}", None)
    if all(rank.size for rank in queries.values()):
        results["mean_R@10"] = _mean_of_directions(results)
    return results | {"num_audio": queries["audio_to_text"].size, "num_text": queries["text_to_audio"].size}


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class CrossModalRetrieval(evaluate.Metric):
    def _info(self):
        # Embeddings are plain keywords: as columns they would be copied through Python lists.
        columns = {
            "default": {"audio_ids": datasets.Value("int64")},
            "ranks": {"ranks": datasets.Value("float64"), "directions": datasets.Value("string")},
        }
        if self.config_name not in columns:
            raise ValueError(f"The configuration must be among {list(columns)}, got {self.config_name!r}.")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features(columns[self.config_name]),
            format="numpy",
            reference_urls=[
                "https://huggingface.co/papers/2208.12208",
                "https://doi.org/10.1007/978-3-540-78646-7_38",
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
        return metrics_from_ranks(**inputs) if self.config_name == "ranks" else metrics_from_embeds(**inputs)
