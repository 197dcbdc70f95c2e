# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Retrieval among pools of random tracks."""

import numpy as np
import pytest

from muscall.evaluation.retrieval import pool_metrics, retrieval_metrics


def test_pools_are_seeded_and_have_all_captions_of_their_tracks():
    random = np.random.default_rng(0)
    audio, ids = random.normal(size=(40, 4)), np.repeat(np.arange(40), 2)
    text = np.repeat(audio, 2, axis=0) + random.normal(size=(80, 4))
    found = pool_metrics(text, ids, audio, 10, 3)
    values = []
    for seed in range(3):
        tracks = np.sort(np.random.default_rng(seed).choice(40, 10, replace=False))
        captions = np.concatenate([[2 * track, 2 * track + 1] for track in tracks])
        metrics = retrieval_metrics(text[captions], np.repeat(np.arange(10), 2), audio[tracks])
        values.append(metrics["text_to_audio_R@1"])
    assert found["text_to_audio_R@1"] == pytest.approx((np.mean(values), np.std(values, ddof=1)))
