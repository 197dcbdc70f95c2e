# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The table of an index: who may open it, who may write to it, and conditions on it."""

import shutil

import numpy as np
import pyarrow as pa
import pytest
from helpers import read_content, save_model


pytest.importorskip("muscall.search")

import muscall.search.indexing
from muscall.encoder import load_encoder
from muscall.search.filters import parse_filter
from muscall.search.query import Library, recall
from muscall.search.store import COLUMNS, Store, lock


def test_a_folder_with_other_things_is_no_place_for_an_index(index, music, tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "thesis.tex").write_text("precious")
    with pytest.raises(ValueError, match="is no index: expected a new or empty folder"):
        index(music)
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["thesis.tex"]


def test_another_model_is_refused_with_the_reason(index, music, model, tmp_path):
    store, _ = index(music)
    other = save_model(tmp_path / "other", seed=1)
    with pytest.raises(ValueError, match="made by another model: its weights are"):
        index(music, encoder=load_encoder(other))
    with pytest.raises(ValueError, match="made by another model: its weights are"):
        Library(store.uri, str(other)).search("music")
    moved = shutil.copytree(model, tmp_path / "moved")
    assert Library(store.uri, str(moved)).search("music")


def test_one_indexer_at_a_time(index, music, tmp_path):
    before = read_content(index(music)[0])
    (music / "a b.opus").unlink()
    with lock(tmp_path / "store"), pytest.raises(ValueError, match="another search.py is indexing into"):
        index(music)
    assert read_content(Store.open(tmp_path / "store")) == before
    assert "1 deleted" in index(music)[1]


def test_parsed_filters_are_one_condition():
    assert parse_filter("genre = 'Jazz' -- and more") == "LOWER(genre) = 'jazz'"


def test_of_several_filters_each_is_one_condition():
    assert parse_filter(["bpm > 3 or year > 1 -- x", "year < 5"]) == "(bpm > 3 OR year > 1) AND (year < 5)"
    with pytest.raises(ValueError, match="year = 2"):
        parse_filter(["bpm > 3", "year = 1) or (year = 2"])


def test_texts_of_filters_are_compared_in_all_unicode_forms():
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    for form in ("CAF\u00c9", "Cafe\u0301"):
        equal = f"(LOWER(genre) = '{composed}' OR LOWER(genre) = '{decomposed}')"
        assert parse_filter(f"genre = '{form}' and bpm > 3") == f"{equal} AND bpm > 3"
        unequal = f"(LOWER(genre) <> '{composed}' AND LOWER(genre) <> '{decomposed}')"
        assert parse_filter(f"genre != '{form}'") == unequal
        assert parse_filter(f"not genre like '{form}%'").count("LIKE") == 2


def test_approximate_index(tmp_path, encoder, monkeypatch):
    """Built where there are enough windows, as good as it says, and right about what is added or deleted later."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((40, 32))

    def add(store, tracks):
        total = len(tracks) * 10
        embeds = centres[random.integers(40, size=total)] + 0.5 * random.standard_normal((total, 32))
        embeds = (embeds / np.linalg.norm(embeds, axis=1, keepdims=True)).astype(np.float32)
        columns = {name: pa.nulls(total, kind) for name, kind in COLUMNS.items()}
        columns["track"] = columns["hash"] = pa.array([track for track in tracks for _ in range(10)])
        columns["state"] = pa.array(["1 2 3"] * total)
        columns["start"] = pa.array(np.tile(np.arange(10, dtype=np.float32), len(tracks)))
        columns["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(embeds.ravel()), 32)
        store.add(pa.table(columns))
        return embeds

    store = Store.open_or_create(tmp_path / "store", encoder.describe())
    add(store, [f"t{number}" for number in range(1000)])
    messages = []
    muscall.search.indexing.approximate(store, encoder, messages.append)
    assert not store.is_approximate and not messages
    monkeypatch.setattr(muscall.search.indexing, "APPROXIMATE_FROM", 10_000)
    muscall.search.indexing.approximate(store, encoder, messages.append)
    output = "\n".join(messages)
    assert "approximate index of 10000 windows" in output and "by text" in output
    assert store.is_approximate and recall(store, store.sample(50)) > 0.95

    new = add(store, ["new"])
    assert store.search(new[3], 1)[0]["track"] == "new"
    store.delete([(f"t{number}", "1 2 3") for number in range(500)])
    store.tidy()
    assert store.table.count_rows() == 5010 and store.search(new[3], 1)[0]["track"] == "new"
    answers = Library(store.uri).best_tracks(new[0], 501)  # more than are near: all of them
    assert len(answers) == 501
