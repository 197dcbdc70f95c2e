"""Audio-text retrieval in both directions, several captions per track, ties counted neutrally."""

import functools
import hashlib
import math

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
    (`dict[str, np.ndarray]`): for each direction an array of shape `(num_queries, 6)` with rank, reciprocal rank, hit
    in the first 1, 5 and 10, and average precision.

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


def tie_counts(scores, value):
    """Number of `scores` (`np.ndarray` of shape `(N,)`) strictly above `value`, and equal to it."""
    return int(np.count_nonzero(scores > value)), int(np.count_nonzero(scores == value))


@functools.lru_cache(maxsize=2**16)
def expected_statistics(levels, num_relevant):
    """
    Expectations of `STATISTICS` for one query, over all orders of the tied items.

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
            found = above + 1 + (p - 1) * (relevant - 1) / max(tied - 1, 1)
            average_precision += relevant / tied * found / (better + p)
        above += relevant
    return rank, reciprocal_rank, *hits, average_precision / min(num_relevant, DEPTH)


def _unit_rows(rows):
    rows = rows / np.maximum(rows.max(axis=1), -rows.min(axis=1))[:, None]  # squares neither over- nor underflow
    return np.divide(rows, np.sqrt(np.einsum("nd,nd->n", rows, rows))[:, None], out=rows)


def query_statistics(queries, items, relevant, max_scores=2**23):
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
        `np.ndarray` of shape `(num_queries, 6)`: `STATISTICS` per query.
    """
    # A matrix product rounds equal columns differently at its edges: score each distinct item once, then repeat.
    seen = {}
    digests = (hashlib.blake2b(row + 0.0, digest_size=16).digest() for row in items)  # + 0.0: no negative zeros
    source = np.array([seen.setdefault(digest, len(seen)) for digest in digests])
    distinct = _unit_rows(items[np.unique(source, return_index=True)[1]])
    has_copies = len(distinct) < len(items)

    statistics = np.empty((len(queries), len(STATISTICS)))
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
    embeds = np.ascontiguousarray(embeds, dtype=np.float32)
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


def _mean(values):
    return math.fsum(values) / len(values)  # exact sum: the order of queries cannot show


def summarize(direction, statistics):
    """Metrics of one direction from `statistics` (`np.ndarray` of shape `(num_queries, 6)`)."""
    rank, reciprocal_rank, *hits, average_precision = statistics.T
    metrics = {f"R@{k}": 100 * _mean(hit) for k, hit in zip(CUTOFFS, hits, strict=True)}
    metrics |= {"MedR": float(np.median(rank)), "mean_rank": _mean(rank), "MRR": _mean(reciprocal_rank)}
    metrics[f"mAP@{DEPTH}"] = 100 * _mean(average_precision)
    return {f"{direction}_{name}": value for name, value in metrics.items()}


def resample(statistics, audio_ids, num_resamples, seed):
    """
    The metrics of both directions on bootstrap resamples of the tracks: a track that is drawn twice counts twice, and
    so does each of its captions. The same seed and number of tracks draw the same tracks.

    Args:
        statistics (`tuple[np.ndarray, np.ndarray]`):
            `query_statistics` of text to audio and of audio to text.
        audio_ids (`np.ndarray` of shape `(num_text,)`):
            The track of each caption.
        num_resamples (`int`), seed (`int`):
            Number of resamples, and their seed.

    Returns:
        `dict[str, np.ndarray]`: by the name of the metric, its value on each resample.
    """
    num_audio = len(statistics[1])
    tracks = (np.asarray(audio_ids), np.arange(num_audio))
    sums = [
        np.stack([np.bincount(track, column, num_audio) for column in (np.ones(len(track)), *values.T)], axis=1)
        for track, values in zip(tracks, statistics, strict=True)
    ]
    orders = [np.argsort(values[:, 0], kind="stable") for values in statistics]
    random, samples = np.random.default_rng(seed), {}
    for _ in range(num_resamples):
        counts = np.bincount(random.integers(num_audio, size=num_audio), minlength=num_audio)
        for direction, track, values, sum_, order in zip(DIRECTIONS, tracks, statistics, sums, orders, strict=True):
            size, rank, reciprocal_rank, *hits, average_precision = counts @ sum_
            drawn = counts[track[order]].cumsum()  # the middle two of the ranks drawn, in order
            middle = np.searchsorted(drawn, [(size - 1) // 2 + 1, size // 2 + 1])
            row = {f"R@{k}": 100 * hit / size for k, hit in zip(CUTOFFS, hits, strict=True)}
            row |= {"MedR": values[order[middle], 0].mean(), "mean_rank": rank / size}
            row |= {"MRR": reciprocal_rank / size, f"mAP@{DEPTH}": 100 * average_precision / size}
            for name, value in row.items():
                samples.setdefault(f"{direction}_{name}", []).append(value)
    samples["mean_R@10"] = np.mean([samples[f"{direction}_R@10"] for direction in DIRECTIONS], axis=0)
    return {name: np.asarray(values) for name, values in samples.items()}


def metrics_from_embeds(text_embeds, audio_ids, audio_embeds, num_resamples=0, seed=0, return_statistics=False):
    """All metrics of both directions; arguments as in `_KWARGS_DESCRIPTION`."""
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
    if (silent := np.flatnonzero(captions == 0)).size:
        raise ValueError(
            f"Every row of `audio_embeds` needs a caption, got {silent.size} of {num_audio} without one: "
            f"{silent[:5].tolist()}{' ...' if silent.size > 5 else ''}."
        )

    captions_of = np.split(np.argsort(audio_ids, kind="stable"), captions.cumsum()[:-1])
    if num_resamples < 0:
        raise ValueError(f"`num_resamples` must be at least 0, got {num_resamples}.")
    statistics = (
        query_statistics(text_embeds, audio_embeds, audio_ids[:, None]),
        query_statistics(audio_embeds, text_embeds, captions_of),
    )
    results = summarize("text_to_audio", statistics[0]) | summarize("audio_to_text", statistics[1])
    results["mean_R@10"] = _mean([results[f"{direction}_R@10"] for direction in DIRECTIONS])
    if num_resamples:
        for name, values in resample(statistics, audio_ids, num_resamples, seed).items():
            results[f"{name}_interval"] = tuple(np.percentile(values, (2.5, 97.5)).tolist())
    if return_statistics:
        results["statistics"] = dict(zip(DIRECTIONS, statistics, strict=True))
    return results | {"num_audio": num_audio, "num_text": num_text}


def metrics_from_ranks(ranks, directions):
    """
    Metrics of those directions that occur. A rank does not tell the size of a tie group: R@k counts ranks of at most
    k. mAP@10 is given for text to audio only, where one item is relevant.
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
            hits = [rank <= k for k in CUTOFFS]
            results |= summarize(direction, np.stack([rank, 1 / rank, *hits, (rank <= DEPTH) / rank], axis=1))
    results.pop(f"audio_to_text_mAP@{DEPTH}", None)
    if all(rank.size for rank in queries.values()):
        results["mean_R@10"] = _mean([results[f"{direction}_R@10"] for direction in DIRECTIONS])
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

    def _compute(self, **inputs):
        return metrics_from_ranks(**inputs) if self.config_name == "ranks" else metrics_from_embeds(**inputs)
