# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Embeddings that are computed once."""

import numpy as np
import pytest
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from helpers import save_model

import muscall.evaluation.embedding
from muscall.encoder import load_encoder
from muscall.evaluation.embedding import embed_once


SENTENCES = ["low and pure", "high and rich", "low and pure"]


@pytest.fixture
def accelerator():
    yield Accelerator(cpu=True)
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(muscall.evaluation.embedding, "CACHE", tmp_path / "cache")
    return tmp_path / "cache"


def test_equal_items_get_one_embedding(tmp_path, cache, accelerator):
    encoder = load_encoder(save_model(tmp_path / "model"))
    embeds = embed_once(encoder, "text", SENTENCES, SENTENCES, accelerator, batch_size=1)
    np.testing.assert_array_equal(embeds[0], embeds[2])
    np.testing.assert_allclose(embeds, encoder.embed_texts(SENTENCES), atol=1e-6)


def test_the_cache_holds_one_row_for_each_key(tmp_path, cache, accelerator):
    encoder = load_encoder(save_model(tmp_path / "model"))
    embeds = embed_once(encoder, "text", SENTENCES, SENTENCES, accelerator, batch_size=2)
    (path,) = cache.iterdir()
    np.testing.assert_array_equal(np.load(path), embeds[[1, 0]])  # by the order of the keys
