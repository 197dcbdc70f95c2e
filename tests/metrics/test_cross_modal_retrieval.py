# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The `cross_modal_retrieval` metric against numbers worked out by hand and against every order of the tied items."""

import itertools
import math
from fractions import Fraction
from pathlib import Path

import evaluate
import numpy as np
import pytest
import torch

from metrics.cross_modal_retrieval import cross_modal_retrieval as module


ROOT = Path(__file__).parents[2]
METRIC = ROOT / "metrics" / "cross_modal_retrieval"
CUTOFFS = (1, 5, 10)


@pytest.fixture(scope="module")
def metric(tmp_path_factory):
    return evaluate.load(str(METRIC), cache_dir=str(tmp_path_factory.mktemp("metrics")))


@pytest.fixture(scope="module")
def ranks_metric(tmp_path_factory):
    return evaluate.load(str(METRIC), "ranks", cache_dir=str(tmp_path_factory.mktemp("metrics")))


def one_order(order, relevant):
    """The textbook definitions on one ranked list without ties, in `STATISTICS` order."""
    places = [place for place, item in enumerate(order, 1) if item in relevant]
    precisions = [found / place for found, place in enumerate(places, 1) if place <= 10]
    hits = [float(places[0] <= k) for k in CUTOFFS]
    return [places[0], 1 / places[0], *hits, math.fsum(precisions) / min(len(relevant), 10)]


def every_order(scores, relevant):
    """Mean of `one_order` over all orders of the tied items."""
    levels = sorted(set(scores), reverse=True)
    groups = [[item for item, score in enumerate(scores) if score == level] for level in levels]
    orders = itertools.product(*[list(itertools.permutations(group)) for group in groups])
    return np.mean([one_order(list(itertools.chain(*order)), set(relevant)) for order in orders], axis=0)


def from_scores(scores):
    """One query and one item per score whose cosine is that score; equal scores give equal items."""
    scores = np.array(scores, dtype=np.float64)
    items = np.stack([scores, np.sqrt(1 - scores**2)], axis=1).astype(np.float32)
    return np.array([[1, 0]], dtype=np.float32), items


def random_set(rng, num_audio, num_text, dim=8, copies=0):
    """Unequal counts, at least one caption per track; `copies` rows on each side repeat an earlier one."""
    audio, text = rng.standard_normal((num_audio, dim)), rng.standard_normal((num_text, dim))
    for embeds in (audio, text):
        rows = rng.permutation(len(embeds))
        embeds[rows[:copies]] = embeds[rows[copies : 2 * copies]]
    ids = rng.permutation(np.concatenate([np.arange(num_audio), rng.integers(0, num_audio, num_text - num_audio)]))
    return {"text_embeds": text.astype(np.float32), "audio_ids": ids, "audio_embeds": audio.astype(np.float32)}


# rank, reciprocal rank, hits at 1, 5, 10, AP@10 of one query, worked out by hand
HAND_MADE = [
    pytest.param([0.9, 0.5, 0.1], [0], [1, 1, 1, 1, 1, 1], id="first"),
    pytest.param([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], [5], [6, 1 / 6, 0, 0, 1, 1 / 6], id="sixth"),
    pytest.param([0.5] * 4, [2], [2.5, 25 / 48, 1 / 4, 1, 1, 25 / 48], id="all four tied"),
    pytest.param([0.9, 0.5, 0.5], [1], [2.5, 5 / 12, 0, 1, 1, 5 / 12], id="one better, two tied"),
    # orders RRI, RIR, IRR: average precision 1, 5/6, 7/12
    pytest.param([0.5] * 3, [0, 2], [4 / 3, 5 / 6, 2 / 3, 1, 1, 29 / 36], id="two of three tied"),
    pytest.param([0.9, 0.8, 0.7, 0.1], [0, 2], [1, 1, 1, 1, 1, 5 / 6], id="two captions, places 1 and 3"),
    pytest.param([0.9, 0.8, 0.8, 0.1], [0, 2], [1, 1, 1, 1, 1, 11 / 12], id="second caption tied at 2 and 3"),
    pytest.param(
        [*np.linspace(0.9, 0.5, 9), 0.4, 0.4, 0.4, 0.4],
        [12],
        [11.5, (1 / 10 + 1 / 11 + 1 / 12 + 1 / 13) / 4, 0, 0, 1 / 4, 1 / 40],
        id="four tied across place 10",
    ),
    pytest.param(
        [*np.linspace(0.9, 0.5, 9), 0.4, 0.4, 0.3],
        [9, 11],
        [10.5, (1 / 10 + 1 / 11) / 2, 0, 0, 1 / 2, 1 / 40],
        id="second caption below place 10",
    ),
    pytest.param([0.5] * 12, range(12), [1, 1, 1, 1, 1, 1], id="twelve captions, no other"),
    pytest.param([*np.linspace(0.9, 0.4, 12), 0.1], [12], [13, 1 / 13, 0, 0, 0, 0], id="beyond place 10"),
]


@pytest.mark.parametrize(("scores", "relevant", "expected"), HAND_MADE)
def test_hand_made_queries(scores, relevant, expected):
    statistics = module.query_statistics(*from_scores(scores), [np.array(relevant)])
    assert statistics[0].tolist() == pytest.approx(expected, rel=1e-14)


def test_two_tracks_four_captions(metric):
    # text to audio: ranks 1, 2, 1, 1.5. audio to text: right captions at places 1 and 3 for both tracks.
    results = metric.compute(
        text_embeds=[[1, 0], [3, 4], [0, 1], [1, 1]], audio_ids=[0, 0, 1, 1], audio_embeds=[[1, 0], [0, 1]]
    )
    assert list(results.values()) == pytest.approx(
        [62.5, 100, 100, 1.25, 1.375, 0.8125, 81.25] + [100, 100, 100, 1, 1, 1, 250 / 3] + [100, 2, 4], rel=1e-14
    )
    names = ["R@1", "R@5", "R@10", "MedR", "mean_rank", "MRR", "mAP@10"]
    keys = [f"{direction}_{name}" for direction in ("text_to_audio", "audio_to_text") for name in names]
    assert list(results) == [*keys, "mean_R@10", "num_audio", "num_text"]


@pytest.mark.parametrize("seed", range(40))
def test_queries_match_every_order_of_the_ties(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.permutation([*rng.integers(1, 4, rng.integers(0, 4)), *[1] * rng.integers(0, 12), rng.integers(1, 6)])
    scores = np.repeat(np.linspace(0.9, -0.9, len(sizes)), sizes)
    relevant = rng.choice(len(scores), size=rng.integers(1, min(len(scores), 6) + 1), replace=False)
    statistics = module.query_statistics(*from_scores(scores), [relevant])
    assert statistics[0].tolist() == pytest.approx(every_order(scores.tolist(), relevant.tolist()), rel=1e-12)


@pytest.mark.parametrize(
    ("num_audio", "num_text", "copies"), [(1, 1, 0), (6, 6, 0), (12, 31, 0), (30, 30, 3), (13, 40, 4), (11, 14, 5)]
)
def test_both_directions_match_every_order_of_the_ties(num_audio, num_text, copies):
    case = random_set(np.random.default_rng(num_text), num_audio, num_text, copies=copies)
    unit = {name: case[name] / np.linalg.norm(case[name], axis=1, keepdims=True) for name in case if "embeds" in name}
    # a sum without rounding, so that copies tie in the oracle too
    scores = np.array([[math.fsum(t * a) for a in unit["audio_embeds"]] for t in unit["text_embeds"]])
    captions = [np.flatnonzero(case["audio_ids"] == audio).tolist() for audio in range(num_audio)]
    oracle = {
        "text_to_audio": [every_order(row.tolist(), [i]) for row, i in zip(scores, case["audio_ids"], strict=True)],
        "audio_to_text": [every_order(row.tolist(), right) for row, right in zip(scores.T, captions, strict=True)],
    }
    results = module.metrics_from_embeds(**case)
    for direction, statistics in oracle.items():
        rank, reciprocal, *hits, precision = np.transpose(statistics)
        expected = [*(100 * np.mean(hits, axis=1)), np.median(rank), rank.mean(), reciprocal.mean()]
        values = [value for name, value in results.items() if name.startswith(direction)]
        assert values == pytest.approx([*expected, 100 * precision.mean()], rel=1e-12)
    both = [results["text_to_audio_R@10"], results["audio_to_text_R@10"]]
    assert results["mean_R@10"] == pytest.approx(np.mean(both), rel=1e-14)


def test_order_of_tracks_and_captions_does_not_matter():
    rng = np.random.default_rng(0)
    case = random_set(rng, 150, 400, copies=40)
    tracks, captions = rng.permutation(150), rng.permutation(400)
    shuffled = {
        "text_embeds": case["text_embeds"][captions],
        "audio_ids": np.argsort(tracks)[case["audio_ids"][captions]],
        "audio_embeds": case["audio_embeds"][tracks],
    }
    assert module.metrics_from_embeds(**shuffled) == module.metrics_from_embeds(**case)


def test_repeated_queries_length_of_rows_and_chunks_do_not_matter():
    rng = np.random.default_rng(1)
    case = random_set(rng, 150, 400, copies=40)
    queries, items, relevant = case["text_embeds"], case["audio_embeds"], case["audio_ids"][:, None]
    statistics = module.query_statistics(queries, items, relevant)
    repeated = module.query_statistics(np.tile(queries, (2, 1)), items, np.tile(relevant, (2, 1)))
    assert np.array_equal(repeated, np.tile(statistics, 2))
    for scale in (1e-30, 1e30):
        stretched = queries * rng.uniform(1, 9, (400, 1)).astype(np.float32) * np.float32(scale)
        assert np.array_equal(module.query_statistics(stretched, items * np.float32(scale), relevant), statistics)
    for max_scores in (1, 1000, 4321):
        assert np.array_equal(module.query_statistics(queries, items, relevant, max_scores), statistics)


@pytest.mark.parametrize(("num_audio", "num_text"), [(1000, 1000), (1001, 3003), (37, 100)])
def test_collapsed_model_scores_chance(metric, num_audio, num_text):
    row = np.random.default_rng(0).standard_normal(512).astype(np.float32)
    ids = np.arange(num_text) % num_audio
    results = metric.compute(
        text_embeds=np.tile(row, (num_text, 1)), audio_ids=ids, audio_embeds=np.tile(row, (num_audio, 1))
    )
    for k in CUTOFFS:
        misses = [Fraction(math.comb(num_text - r, k), math.comb(num_text, k)) for r in np.bincount(ids).tolist()]
        assert results[f"text_to_audio_R@{k}"] == pytest.approx(100 * k / num_audio, rel=1e-15)
        assert results[f"audio_to_text_R@{k}"] == pytest.approx(float(100 * (1 - sum(misses) / num_audio)), rel=1e-14)
    harmonic = math.fsum(1 / place for place in range(1, num_audio + 1))
    assert results["text_to_audio_MRR"] == pytest.approx(harmonic / num_audio, rel=1e-12)
    assert results["text_to_audio_MedR"] == results["text_to_audio_mean_rank"] == (num_audio + 1) / 2


@pytest.mark.parametrize("max_scores", [1, 2**23])
@pytest.mark.parametrize("copy", [998, 500])
def test_copies_tie_although_a_matrix_product_rounds_them_differently(max_scores, copy):
    # With one query at a time the plain float32 product gives column 998 of 999 other last bits in half the rows.
    rng = np.random.default_rng(0)
    queries, items = (rng.standard_normal((n, 512)).astype(np.float32) for n in (100, 999))
    items[3, 0] = 0.0
    items[copy] = items[3]
    items[copy, 0] = -0.0
    first = module.query_statistics(queries, items, np.full((100, 1), 3), max_scores)
    second = module.query_statistics(queries, items, np.full((100, 1), copy), max_scores)
    assert np.array_equal(first, second)
    assert np.all(first["rank"] % 1 == 0.5)


def test_perfect_model(metric):
    # as tensors on the way from a model: half precision, with gradient
    eye = torch.eye(40, dtype=torch.bfloat16, requires_grad=True)
    ids = torch.arange(40).repeat_interleave(3)
    results = metric.compute(text_embeds=eye[ids], audio_ids=ids, audio_embeds=eye)
    for direction in ("text_to_audio", "audio_to_text"):
        values = [value for name, value in results.items() if name.startswith(direction)]
        assert values == [100, 100, 100, 1, 1, 1, 100]
    assert (results["mean_R@10"], results["num_audio"], results["num_text"]) == (100, 40, 120)


def broken(**changes):
    return {"text_embeds": np.eye(4), "audio_ids": [0, 1, 2, 3], "audio_embeds": np.eye(4)} | changes


def eye_with(value):
    embeds = np.eye(4)
    embeds[2] = value
    return embeds


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (broken(text_embeds=np.ones((4, 3))), r"same dim, got shapes \(4, 3\) and \(4, 4\)"),
        (broken(audio_ids=[0, 1, 2, 4]), r"0 to 3, got 0 to 4"),
        (broken(audio_ids=[0, 1, 2, -1]), r"0 to 3, got -1 to 2"),
        (broken(audio_ids=[0, 1, 2]), r"`audio_ids` must be 4 integers.*got int64 of shape \(3,\)"),
        (broken(audio_ids=[0, 0, 2, 0]), r"got 2 of 4 without one: \[1, 3\]"),
        (broken(audio_embeds=np.eye(9, 4) + 1), r"got 5 of 9 without one: \[4, 5, 6, 7, 8\]\."),
        (broken(text_embeds=eye_with(0)), r"`text_embeds`.*only zeros in 1 of 4 rows, the first being row 2"),
        (broken(audio_embeds=eye_with(np.nan)), r"`audio_embeds`.*NaN or Inf in 1 of 4 rows, the first being row 2"),
        (broken(audio_embeds=eye_with([0, -np.inf, 0, 0])), r"`audio_embeds`.*NaN or Inf in 1 of 4"),
        (broken(text_embeds=np.zeros((0, 4)), audio_ids=[]), r"`text_embeds` must be of shape.*got \(0, 4\)"),
        (broken(audio_embeds=[]), r"`audio_embeds` must be of shape.*got \(0,\)"),
        (broken(text_embeds=np.ones(4)), r"`text_embeds` must be of shape \(rows, dim\).*got \(4,\)"),
    ],
)
def test_bad_embeddings(inputs, message):
    with pytest.raises(ValueError, match=message):
        module.metrics_from_embeds(**inputs)


def test_metric_goes_on_after_an_error(metric):
    with pytest.raises(ValueError, match="0 to 3, got 0 to 4"):
        metric.compute(**broken(audio_ids=[0, 1, 2, 4]))
    assert metric.compute(**broken())["mean_R@10"] == 100


def test_ranks(ranks_metric):
    text_to_audio, audio_to_text = [1, 2, 6, 11], [1.5, 10]
    ranks_metric.add_batch(ranks=text_to_audio, directions=["text_to_audio"] * 4)
    ranks_metric.add_batch(ranks=audio_to_text, directions=["audio_to_text"] * 2)
    expected = [25, 50, 75, 4, 5, (1 + 1 / 2 + 1 / 6 + 1 / 11) / 4, 100 * (1 + 1 / 2 + 1 / 6) / 4]
    expected += [0, 50, 100, 5.75, 5.75, (1 / 1.5 + 1 / 10) / 2]
    results = ranks_metric.compute()
    assert list(results.values()) == pytest.approx([*expected, 87.5, 2, 4], rel=1e-14)
    assert "audio_to_text_mAP@10" not in results
    assert "mean_R@10" not in ranks_metric.compute(ranks=[1], directions=["text_to_audio"])


@pytest.mark.parametrize(
    ("ranks", "directions", "message"),
    [
        ([], [], r"got 0 ranks"),
        ([1, 0], ["text_to_audio"] * 2, r"at least 1, got 2 ranks, wrong \[0.0\]"),
        ([1, np.inf, np.nan], ["text_to_audio"] * 3, r"wrong \[inf, nan\]"),
        ([1, 1], ["text_to_audio", "t2a"], r"among \['text_to_audio', 'audio_to_text'\], got \['t2a'\]"),
    ],
)
def test_bad_ranks(ranks, directions, message):
    with pytest.raises(ValueError, match=message):
        module.metrics_from_ranks(ranks, directions)


def test_unknown_configuration():
    with pytest.raises(ValueError, match=r"among \['default', 'ranks'\], got 'rank'"):
        evaluate.load(str(METRIC), "rank")


@pytest.mark.slow
def test_ten_thousand_by_ten_thousand(metric):
    rng = np.random.default_rng(0)
    audio = rng.standard_normal((10_000, 256), dtype=np.float32)
    text = audio + 4 * rng.standard_normal((10_000, 256), dtype=np.float32)
    results = metric.compute(text_embeds=text, audio_ids=np.arange(10_000), audio_embeds=audio)
    scores = text @ (audio / np.linalg.norm(audio, axis=1, keepdims=True)).T
    ranks = 1 + (scores > np.diag(scores)[:, None]).sum(axis=1)
    # float32 scores closer than their rounding may swap between two products: allow one rank in a million
    assert results["text_to_audio_mean_rank"] == pytest.approx(ranks.mean(), rel=1e-6)
    assert results["text_to_audio_R@10"] == pytest.approx(100 * np.mean(ranks <= 10), abs=0.02)
