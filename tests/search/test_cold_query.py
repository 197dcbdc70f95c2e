# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""A query in a fresh process: what it imports, and the graph of the text tower that it answers by."""

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT, make_clap, save_model


pytest.importorskip("muscall.search")

import muscall.search.text_graph
from muscall.encoder import load_encoder
from muscall.search.query import Library
from muscall.search.text_graph import TextGraph, graph_path, write_text_graph


SENTENCES = ["calm solo piano at night", "drums " * 2000, "日本語 🎵 песня"]


@pytest.fixture
def moved_cache(tmp_path, monkeypatch):
    """A cache without graphs."""
    monkeypatch.setattr(muscall.search.text_graph, "CACHE", tmp_path / "cache")


def test_a_query_imports_neither_torch_nor_transformers_nor_pandas(tagged):
    _, music = tagged
    program = (
        "import runpy, sys\nsys.argv = sys.argv[1:]; sys.path.insert(0, sys.argv[0][:-9])\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "print(sorted({'torch', 'transformers', 'pandas'}.intersection(sys.modules)))\n"
    )
    command = [sys.executable, "-c", program, str(ROOT / "search.py"), "query", "fast samba", "--json"]
    result = subprocess.run([*command, "--store", str(music.store.uri)], capture_output=True, text=True)
    answers, modules = result.stdout.splitlines()
    assert modules == "[]" and result.stderr == ""
    assert [answer["track"] for answer in json.loads(answers)] == [
        answer["track"] for answer in music.search("fast samba")
    ]


@pytest.mark.slow
def test_what_needs_the_checkpoint_works_after_quick_imports(tagged):
    folder, music = tagged
    command = [sys.executable, str(ROOT / "search.py"), "query", "--audio", str(folder / "3.opus"), "--json"]
    command += ["--filter", "bpm > 100", "--without", "drums", "--store", str(music.store.uri)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)[0]["track"] == str(folder / "3.opus")


@pytest.mark.slow
@pytest.mark.parametrize("make", [save_model, lambda folder: make_clap(folder, fused=False)], ids=["muscall", "clap"])
def test_the_graph_gives_what_the_model_gives(make, tmp_path, moved_cache):
    make(tmp_path / "model")
    encoder = load_encoder(tmp_path / "model")
    weights = encoder.describe()["weights"]
    write_text_graph(encoder, weights)
    for given, expected in zip(
        TextGraph(weights).embed_sentences(SENTENCES), encoder.embed_sentences(SENTENCES), strict=True
    ):
        np.testing.assert_allclose(given, expected, atol=1e-5)


def test_a_missing_graph_is_said_and_the_checkpoint_answers(tagged, moved_cache, caplog):
    _, music = tagged
    expected = music.search("fast samba")
    with caplog.at_level(logging.WARNING, logger="muscall"):
        answers = Library(music.store.uri).search("fast samba")
    assert "there is no graph of its text tower" in caplog.text and "search.py index writes the graph" in caplog.text
    assert [answer["track"] for answer in answers] == [answer["track"] for answer in expected]


def with_other_weights(path):
    import onnx

    graph = onnx.load(path)
    next(entry for entry in graph.metadata_props if entry.key == "weights").value = "0" * 64
    onnx.save(graph, path)


@pytest.mark.parametrize(
    "damage, message",
    [
        (with_other_weights, "is of other weights"),
        (lambda path: os.truncate(path, 5000), "is damaged"),
        (lambda path: path.write_text("no graph"), "is damaged"),
    ],
    ids=["other weights", "cut off", "no graph"],
)
def test_a_graph_of_another_checkpoint_or_a_damaged_one_is_not_used(
    damage, message, tagged, tmp_path, monkeypatch, caplog
):
    _, music = tagged
    graph = graph_path(music.store.model["weights"])
    monkeypatch.setattr(muscall.search.text_graph, "CACHE", tmp_path / "cache")
    graph_path("x").parent.mkdir(parents=True)
    damage(Path(shutil.copy(graph, graph_path(music.store.model["weights"]))))
    with caplog.at_level(logging.WARNING, logger="muscall"):
        assert Library(music.store.uri).search("fast samba")
    assert message in caplog.text


@pytest.mark.slow
def test_a_damaged_graph_is_written_again(encoder, moved_cache):
    weights = encoder.describe()["weights"]
    graph_path(weights).parent.mkdir(parents=True)
    graph_path(weights).write_text("no graph")
    write_text_graph(encoder, weights)
    assert TextGraph(weights).embed_sentences(["music"])[0].shape == (1, 32)


def test_a_full_disk_while_the_graph_is_written_leaves_the_index_whole(index, music, moved_cache, monkeypatch):
    def fill(encoder, path, metadata):
        path.write_bytes(b"half a graph")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("muscall.onnx_export.export_text_graph", fill)
    store, messages = index(music)
    assert "the graph of the text tower could not be written" in messages and "No space left" in messages
    assert list(graph_path(store.model["weights"]).parent.iterdir()) == []
    assert len(Library(store.uri).search("music")) == 5
