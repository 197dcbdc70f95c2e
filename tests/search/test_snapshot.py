# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Vectors in memory give the answers of a comparison with all rows, and those of an approximate index's table."""

import numpy as np
import pyarrow as pa
import pytest

from muscall.search.store import COLUMNS, Store


DIM, NUM_TRACKS, NUM_WINDOWS = 32, 60, 7
CONDITIONS = [None, "start > 2", "bpm > 100 and start < 5", "track = 't3'", "bpm > 1000"]


@pytest.fixture
def store(tmp_path, encoder):
    store = Store.open_or_create(tmp_path / "store", encoder.describe())
    add(store, range(NUM_TRACKS))
    store.tidy()
    return store


def add(store, numbers):
    """Write tracks of random windows; every tenth has the content of the one before it."""
    for number in numbers:
        random = np.random.default_rng(number - 1 if number % 10 == 9 else number)
        embeds = random.standard_normal((NUM_WINDOWS, DIM)).astype(np.float32)
        embeds /= np.linalg.norm(embeds, axis=1, keepdims=True)
        columns = {name: pa.nulls(NUM_WINDOWS, kind) for name, kind in COLUMNS.items()}
        columns["track"] = pa.array([f"t{number}"] * NUM_WINDOWS)
        columns["hash"] = pa.array([f"h{number - 1 if number % 10 == 9 else number}"] * NUM_WINDOWS)
        columns["state"] = pa.array(["1 2 3"] * NUM_WINDOWS)
        columns["start"] = pa.array(np.arange(NUM_WINDOWS, dtype=np.float32))
        columns["bpm"] = pa.array(np.full(NUM_WINDOWS, 80 + number, dtype=np.float32))
        columns["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(embeds.ravel()), DIM)
        store.add(pa.table(columns))


def query(seed=1000):
    vector = np.random.default_rng(seed).standard_normal(DIM).astype(np.float32)
    return vector / np.linalg.norm(vector)


def places(rows):
    return [(row["track"], row["start"]) for row in rows]


@pytest.mark.parametrize("among", [None, ["h3", "h8", "h11", "unknown"], []])
@pytest.mark.parametrize("condition", CONDITIONS)
def test_answers_are_those_of_a_comparison_with_all(store, condition, among):
    rows = store.rows(condition or "true").to_pylist()
    rows = [row for row in rows if among is None or row["hash"] in among]
    scores = {(row["track"], row["start"]): float(np.dot(row["vector"], query())) for row in rows}
    found = store.search(query(), 20, condition, among=among)
    assert [row["score"] for row in found] == pytest.approx(sorted(scores.values(), reverse=True)[:20], abs=1e-6)
    for row in found:
        assert row["score"] == pytest.approx(scores[row["track"], row["start"]], abs=1e-6)
        assert row["hash"] in (f"h{row['track'][1:]}", f"h{int(row['track'][1:]) - 1}")


@pytest.mark.parametrize("among", [None, [f"h{number}" for number in range(NUM_TRACKS)]])
@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_table_on_the_disk_has_the_same_answers(store, condition, among, monkeypatch):
    """A table that is approximate is searched on the disk, in conditions on a few contents each."""
    monkeypatch.setattr("muscall.search.store.IN_LIST", 7)
    in_memory = store.search(query(), 25, condition, among=among, exact=True)
    store.build_index()
    assert store.is_approximate
    on_disk = store.search(query(), 25, condition, among=among, exact=True)
    assert sorted(places(on_disk)) == sorted(places(in_memory))
    assert [row["score"] for row in on_disk] == pytest.approx([row["score"] for row in in_memory], abs=1e-6)


def test_a_part_of_the_library_has_the_scores_of_the_whole(store):
    """To the last digit, so that ties stay ties."""
    whole = {(row["track"], row["start"]): row["score"] for row in store.search(query())}
    assert len(whole) == NUM_TRACKS * NUM_WINDOWS
    for row in store.search(query(), among=["h3", "h7"]):
        assert row["score"] == whole[row["track"], row["start"]]


def test_what_others_write_is_seen(store):
    """Also after other rows have taken the numbers that rows had."""
    assert store.search(query(), 1)[0]["track"] != "t100"
    other = Store.open(store.uri)
    add(other, [100])
    vector = np.array(other.rows("track = 't100'").column("vector")[3].as_py(), dtype=np.float32)
    assert places(store.search(vector, 1)) == [("t100", 3)]
    other.delete([(f"t{number}", "1 2 3") for number in range(0, NUM_TRACKS, 2)])
    other.tidy()
    assert places(store.search(vector, 1)) == [("t100", 3)]
    assert {row["track"] for row in store.search(query())} == {"t100", *(f"t{n}" for n in range(1, NUM_TRACKS, 2))}
