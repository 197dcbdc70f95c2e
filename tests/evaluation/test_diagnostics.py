# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Diagnostics of joint spaces whose numbers are known."""

import numpy as np
import pytest

from muscall.evaluation.diagnostics import diagnose


def test_perfect_space():
    audio = np.eye(4, dtype=np.float32)
    perfect = diagnose(audio, np.arange(4), audio, ["a"] * 4, np.ones(4))
    assert perfect["audio_similarity"] == perfect["unmatched_similarity"] == 0
    assert perfect["modality_gap"] == 0
    assert perfect["matched_similarity"] == 1
    assert perfect["R@10_by_length"] == {"1-5": {"R@10": 100, "captions": 4}}


def test_collapsed_space():
    collapsed = diagnose(np.ones((3, 1)), np.arange(3), -np.ones((3, 1)), ["a b c d e f"] * 3, np.zeros(3))
    assert collapsed["text_similarity"] == 1
    assert collapsed["modality_gap"] == 2
    assert collapsed["R@10_by_length"] == {"6-10": {"R@10": 0, "captions": 3}}


def test_hubs():
    angles = np.concatenate([[0], np.linspace(1, 5, 199)])
    space = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    captions = np.tile([1.0, 0.0], (50, 1))  # all find the same ten tracks
    hubs = diagnose(captions, np.zeros(50, int), space, ["a"] * 50, np.ones(50))
    assert hubs["hubness"] == pytest.approx(20)  # 2 of the 10, where 2 is 1 %
    assert hubs["hubness_of_chance"] == 1
