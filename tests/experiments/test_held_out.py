# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The figures of the held-out tracks, on tables made by hand."""

import json

import numpy as np
import pytest

from experiments.claims import flatten
from experiments.held_out import (
    best_ranks,
    chance,
    interval,
    measure,
    measure_all,
    read_music,
    read_questions,
    read_tracks,
)


def test_the_best_of_the_tracks_that_a_sentence_means():
    scores = np.array([[0.9, 0.5, 0.7, 0.1], [0.2, 0.2, 0.2, 0.2]])
    relevant = np.array([[False, True, True, False], [True, False, False, False]])
    ranks, areas = best_ranks(scores, relevant)
    assert ranks.tolist() == [2, 4]  # ties count against it
    assert areas.tolist() == [0.5, 0.5]


def test_chance():
    relevant = np.zeros((2, 20), dtype=bool)
    relevant[0, 0] = relevant[1, :11] = True
    assert chance(relevant) == pytest.approx((0.5 + 1.0) / 2)


def test_both_directions():
    audio_embeds = np.eye(3)
    text_embeds = np.array([[1, 0, 0], [0, 0.6, 0.8]])
    results = measure(text_embeds, audio_embeds, [[0], [1]])
    assert results["text_to_audio"]["values"]["MRR"].tolist() == [100, 50]
    assert results["audio_to_text"]["values"]["MRR"].tolist() == [100, 100]  # of the two tracks that are meant
    assert results["audio_to_text"]["queries"] == 2 and results["audio_to_text"]["pool"] == 2
    assert results["text_to_audio"]["MedR"] == 1.5 and results["text_to_audio"]["values"]["R@1"].tolist() == [100, 0]
    assert interval(np.array([1.0, 3.0]) - np.array([0.0, 2.0])) == [1, 1]


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


def test_queries_of_the_second_set(tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.held_out.SECOND_TRACKS", tmp_path / "tracks.csv")
    (tmp_path / "tracks.csv").write_text("file_name,title\nmarch/1.ogg,One\nmarch/2.ogg,Two\nc.ogg,Three\n")
    monkeypatch.setattr("experiments.held_out.SECOND_SET", tmp_path / "queries.csv")
    (tmp_path / "queries.csv").write_text('query,tracks\n"a march, brass",march/*\nslow,*/3.ogg; c*\n')
    tracks, questions = read_music(tmp_path)
    assert [track["path"] for track in tracks] == [
        str(tmp_path / name) for name in ("march/1.ogg", "march/2.ogg", "c.ogg")
    ]
    assert questions == {"queries": {"a march, brass": [0, 1], "slow": [2]}}
    embeds = np.eye(3), {"queries": np.array([[0.8, 0.6, 0.0], [0.8, 0.0, 0.6]])}
    assert flatten(measure_all(embeds, tracks, questions))["queries/text_to_audio"] == {
        "ranks": [1, 2],
        "AUC": [100.0, 50.0],
    }
