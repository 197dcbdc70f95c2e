# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The language corpus: which sentences mean which classes."""

import json

import numpy as np
import pytest

from scripts import language
from scripts.language import Caption, build, choose_classes, phrase_rows, read_captions, read_classes


NODES = [
    {"id": "/m/04rlf", "description": "Organised sound.", "child_ids": ["/m/reggae"]},
    {"id": "/m/reggae", "description": "Music of Jamaica.", "child_ids": []},
    {"id": "/m/015lz1", "description": "Words and tones.", "child_ids": []},
    {"id": "/m/train", "description": "A train passes.", "child_ids": []},
]
LABELS = 'index,mid,display_name\n0,/m/reggae,"Reggae"\n1,/m/train,"Train"\n2,/m/04rlf,"Music"\n'


@pytest.fixture
def classes(tmp_path):
    (tmp_path / "ontology.json").write_text(json.dumps(NODES))
    (tmp_path / "labels.csv").write_text(LABELS)
    return read_classes(tmp_path / "labels.csv", tmp_path / "ontology.json")


def test_classes_below_music_are_found(classes):
    assert classes.names == ["reggae", "train", "music"]
    assert classes.descriptions[0] == "Music of Jamaica."
    assert classes.concern_music.tolist() == [True, False, True]


def test_another_class_is_learnt_where_enough_captions_have_it(classes):
    captions = [Caption("A train passes by.", ["train"], ["/m/train", "/m/unknown"])] * 15
    assert choose_classes(classes, captions[:14])[0].tolist() == [0, 2]
    chosen, labels = choose_classes(classes, captions)
    assert chosen.tolist() == [0, 1, 2]
    assert labels[0].tolist() == [0, 1, 0]


def test_captions_are_read_from_a_table(tmp_path):
    (tmp_path / "captions.csv").write_text(
        "ytid,audioset_positive_labels,aspect_list,caption\nx,\"/m/a,/m/b\",\"['sad', 'slow']\",A sad song.\n"
    )
    assert read_captions(tmp_path / "captions.csv") == [Caption("A sad song.", ["sad", "slow"], ["/m/a", "/m/b"])]


def test_a_recording_is_known_by_its_labels(classes, monkeypatch):
    monkeypatch.setattr(language, "phrase_rows", lambda names: [(["a song for the beach"], [0])])
    captions = [Caption("A reggae song. It is slow.", ["reggae", "slow"], ["/m/reggae", "/m/04rlf"])] * 10
    captions += [Caption("A song. It has no beat.", ["quiet"], ["/m/04rlf"])] * 10
    rows, chosen = build(classes, captions)
    assert chosen.tolist() == [0, 2]  # reggae and music
    assert [len(rows[split]) for split in ("validation", "test")] == [2, 2]
    assert rows["test"][0]["captions"] == ["A reggae song. It is slow.", "reggae, slow"]
    reggae, other = rows["test"][0]["audio_embeds"], rows["test"][1]["audio_embeds"]
    np.testing.assert_allclose(reggae, [0.5 / 0.5**0.5, 0], atol=1e-6)  # half have it; all are music
    np.testing.assert_allclose(other, [-0.5 / 0.5**0.5, 0], atol=1e-6)
    said = {caption for row in rows["train"][:8] for caption in row["captions"]}
    assert {"A reggae song.", "slow", "It is slow. A reggae song."} <= said
    names = [row for row in rows["train"] if "a reggae track" in row["captions"]]
    assert len(names) == 5 and "Music of Jamaica." in names[0]["captions"]
    np.testing.assert_allclose(names[0]["audio_embeds"], [0.5**-0.5, 0], atol=1e-6)
    assert rows["train"][-1]["captions"] == ["a song for the beach"]
    assert build(classes, captions)[0]["train"][3]["captions"] == rows["train"][3]["captions"]  # no chance in it


def test_phrases_name_the_classes_of_their_words():
    rows = list(phrase_rows(["rock music", "piano"]))
    meant = {tuple(numbers) for _, numbers in rows}
    assert meant == {(0,), (1,)}
    assert any("punk rock" in phrases for phrases, numbers in rows if numbers == [0])
