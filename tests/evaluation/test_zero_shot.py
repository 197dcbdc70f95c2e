# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Thresholds by hand, and labels from prompts."""

import numpy as np
import pytest

from muscall.evaluation.zero_shot import abstention, label_embeds, tag_thresholds


SCORES = np.array([[0.9, 0.1], [0.8, 0.2], [0.45, 0.55], [0.48, 0.52]])
TAG_SCORES = np.array([[0.9], [0.8], [0.3], [0.2]])
TAGS = np.array([[1], [0], [1], [0]])


def test_abstention_by_hand():
    result = abstention(SCORES, np.array([0, 0, 0, 1]), SCORES, np.array([0, 1, 0, 1]), 1.0)
    # Right, right, wrong, right by falling confidence: two answers gain as much as all four; the first best is taken.
    assert result["answered"] == 50
    assert result["accuracy_of_answers"] == 50
    assert result["accuracy_of_all"] == 50


def test_no_answer_where_none_gained():
    result = abstention(SCORES[:1], np.array([1]), SCORES, np.array([0, 1, 0, 1]), 1.0)
    assert result["answered"] == 0
    assert result["accuracy_of_answers"] is None


def test_threshold_of_a_tag_by_hand():
    result = tag_thresholds(TAG_SCORES, TAGS, TAG_SCORES, TAGS, ["a"])
    assert result["thresholds"] == {"a": 0.3}
    assert result["f1"]["a"] == pytest.approx(0.8)
    assert result["tracks_without_tag"] == 25


def test_a_tag_without_example_is_named():
    result = tag_thresholds(TAG_SCORES, 0 * TAGS, TAG_SCORES, TAGS, ["a"])
    assert result["without_example"] == ["a"]
    assert result["macro_f1"] is None


def test_labels_are_the_mean_of_their_prompts():
    prompts = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    np.testing.assert_allclose(label_embeds(prompts), [[0.5**0.5, 0.5**0.5]])
