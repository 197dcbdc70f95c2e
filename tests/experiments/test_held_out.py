# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The figures of the held-out tracks, on tables made by hand."""

import json

import numpy as np
import pytest

from experiments.claims import keep_queries
from experiments.held_out import (
    Ranking,
    areas_under_curve,
    describe,
    measure,
    measure_all,
    rank,
    read_music,
    read_questions,
    read_tracks,
)
from muscall.evaluation.retrieval import load_metric


def items_of(cosines):
    """Items of which a query along the first axis has these cosines; equal cosines give equal items."""
    cosines = np.array(cosines)
    return np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1)


def test_the_best_of_the_tracks_that_a_sentence_means():
    ranking = rank(np.array([[1.0, 0.0]]), items_of([0.9, 0.5, 0.7, 0.1]), [[1, 2]])
    assert ranking.statistics["rank"].tolist() == [2]
    assert ranking.areas.tolist() == [0.5]


def test_ties_are_neutral():
    ranking = rank(np.array([[1.0, 0.0]]), items_of([0.2, 0.2, 0.2, 0.2]), [[0]])
    assert ranking.statistics["rank"].tolist() == [2.5]
    assert ranking.areas.tolist() == [0.5]


def test_area_under_the_curve():
    scores = np.array([[0.9, 0.5, 0.7, 0.1], [0.2, 0.2, 0.2, 0.2]])
    assert areas_under_curve(scores, [[1, 2], [0]]).tolist() == [0.5, 0.5]


def test_copies_of_an_item_tie_in_the_area_too():
    # The plain float32 product gives column 998 of 999 other last bits than an equal column before it.
    random = np.random.default_rng(0)
    queries, items = (random.standard_normal((size, 512)).astype(np.float32) for size in (100, 999))
    items[998] = items[3]
    first, second = (rank(queries, items, [[item]] * 100).areas for item in (3, 998))
    assert first.tolist() == second.tolist()
    assert np.all(first * 998 % 1 == pytest.approx(0.5))


def test_chance():
    ranking = rank(np.ones((2, 1)), np.random.default_rng(0).uniform(1, 2, (20, 1)), [[0], list(range(11))])
    assert load_metric().summarize(ranking.chance)["R@10"] == pytest.approx(100 * (0.5 + 1.0) / 2)


def test_both_directions():
    audio_embeds = np.eye(3)
    text_embeds = np.array([[1, 0, 0], [0, 0.6, 0.8]])
    results = measure(text_embeds, audio_embeds, [[0], [1]])
    to_audio, to_text = results["text_to_audio"], results["audio_to_text"]
    assert (100 * to_audio.statistics["reciprocal_rank"]).tolist() == [100, 50]
    assert (100 * to_text.statistics["reciprocal_rank"]).tolist() == [100, 100]  # of the two tracks that are meant
    assert len(to_text.statistics) == 2 and to_text.pool == 2
    assert to_audio.summarize()["MedR"] == 1.5 and (100 * to_audio.statistics["hit@1"]).tolist() == [100, 0]


def test_differences_are_paired_over_queries():
    metric = load_metric()
    statistics, chance = metric.statistics_from_ranks(np.array([1.0, 2.0])), np.zeros(2, metric.STATISTICS_DTYPE)
    first = Ranking(statistics, np.array([0.9, 0.8]), chance, pool=9)
    second = Ranking(statistics, np.array([0.8, 0.7]), chance, pool=9)
    entry = describe(second, first)
    assert entry["interval"]["AUC"] == [70, 80]
    assert entry["first_less_this"]["AUC"] == [10, 10]
    assert entry["first_less_this"]["MRR"] == [0, 0]
    assert "first_less_this" not in describe(first, None)


def test_questions_of_the_held_out_tracks(tmp_path):
    for folder, rows in {
        "main/validation": [("a", "a waltz", "metadata", "")],
        "main/test": [("b", "a waltz", "metadata", "a ballroom"), ("c", "slow music", "pseudo", "")],
        "unseen/test": [("planetblupi-music-ogg", "opera", "metadata", "a ballroom; a soprano")],
    }.items():
        (tmp_path / folder).mkdir(parents=True)
        lines = [
            json.dumps(
                {"file_name": name, "captions": [caption], "caption_source": source, "queries": queries}
                | {"package": name, "path": "music/1.ogg"}
            )
            for name, caption, source, queries in rows
        ]
        (tmp_path / folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    tracks = read_tracks(tmp_path)
    assert [track["part"] for track in tracks] == ["seen", "seen", "seen", "unseen"]
    assert read_questions(tracks) == {
        "statements": {"a waltz": [0, 1], "opera": [3]},
        "queries": {"a ballroom": [1, 3], "a soprano": [3]},
        "styles": {"jazz rock": [3]},
        "pseudo": {"slow music": [2]},
    }


def test_queries_of_another_set(tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.held_out.SETS", tmp_path)
    (tmp_path / "third_set_tracks.csv").write_text("file_name,title\nmarch/1.ogg,One\nmarch/2.ogg,Two\nc.ogg,Three\n")
    (tmp_path / "third_set.csv").write_text('query,tracks\n"a march, brass",march/*\nslow,*/3.ogg; c*\n')
    tracks, questions = read_music(tmp_path, "third_set")
    assert [track["path"] for track in tracks] == [
        str(tmp_path / name) for name in ("march/1.ogg", "march/2.ogg", "c.ogg")
    ]
    assert questions == {"queries": {"a march, brass": [0, 1], "slow": [2]}}
    embeds = np.eye(3), {"queries": np.array([[0.8, 0.6, 0.0], [0.8, 0.0, 0.6]])}
    assert keep_queries(measure_all(embeds, tracks, questions))["queries/text_to_audio"] == {
        "ranks": [1, 2],
        "AUC": [100.0, 50.0],
    }
