# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Caption embeddings: those of the sentence model, computed once, never those of other captions or another model."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import make_sentence_model
from sentence_transformers import SentenceTransformer

import muscall.captions
from muscall.captions import CaptionEmbeddings


CAPTIONS = ["calm solo piano", "fast samba with brass", "calm solo piano", "samba"]


@pytest.fixture(scope="module")
def sentence_model(tmp_path_factory):
    return make_sentence_model(tmp_path_factory.mktemp("sentence"))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("muscall.cache.CACHE", tmp_path / "cache")
    return tmp_path / "cache"


def test_embeddings_are_those_of_the_model_and_are_computed_once(sentence_model, cache, monkeypatch):
    embeds = CaptionEmbeddings(CAPTIONS, str(sentence_model), device="cpu")
    expected = SentenceTransformer(str(sentence_model), device="cpu").encode(CAPTIONS, normalize_embeddings=True)
    np.testing.assert_allclose(embeds[CAPTIONS], expected, atol=1e-6)
    assert isinstance(embeds.embeds, np.memmap) and embeds.embeds.shape == (3, 16)
    (file,) = cache.iterdir()
    assert file.suffix == ".npy"

    monkeypatch.setattr(muscall.captions, "_embed", pytest.fail)  # nothing is computed a second time
    again = CaptionEmbeddings(list(reversed(CAPTIONS)), str(sentence_model))
    np.testing.assert_array_equal(again[CAPTIONS], embeds[CAPTIONS])
    moved = shutil.copytree(sentence_model, cache.parent / "moved")
    assert Path(CaptionEmbeddings(CAPTIONS, str(moved)).embeds.filename) == file
    assert list(cache.iterdir()) == [file]


def test_other_captions_and_other_weights_are_computed_anew(sentence_model, tmp_path):
    files = {CaptionEmbeddings(CAPTIONS, str(sentence_model)).embeds.filename}
    files.add(CaptionEmbeddings([*CAPTIONS, "brass"], str(sentence_model)).embeds.filename)
    other = shutil.copytree(sentence_model, tmp_path / "other")
    weights = next(other.rglob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-2] ^= 1
    weights.write_bytes(content)
    files.add(CaptionEmbeddings(CAPTIONS, str(other)).embeds.filename)
    assert len(files) == 3


def test_an_interrupted_computation_leaves_nothing_that_is_taken_for_whole(sentence_model, cache, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            CaptionEmbeddings(CAPTIONS, str(sentence_model))
    assert list(cache.iterdir()) == []
    embeds = CaptionEmbeddings(CAPTIONS, str(sentence_model))
    assert np.isfinite(embeds[CAPTIONS]).all() and Path(embeds.embeds.filename).exists()
