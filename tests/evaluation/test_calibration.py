# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Calibration by hand: what is close to every track moves away, and the tracks stay in order."""

import numpy as np
import pytest

from muscall.evaluation.calibration import calibrate, log_priors
from muscall.evaluation.retrieval import retrieval_metrics


TEXTS = np.eye(2, dtype=np.float32)
TRACKS = np.array([[np.log(3), 0], [0, 0]], np.float32)  # the first text has probability 3/4 and 1/2


def random_space(num_texts=30, num_tracks=40):
    """Directions that share a component, so that some texts are close to all tracks."""
    random = np.random.default_rng(0)
    rows = random.normal(size=(num_texts + num_tracks, 8)) + 0.7
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return rows[:num_texts], rows[num_texts:]


def test_priors_by_hand():
    np.testing.assert_allclose(log_priors(TEXTS, TRACKS, 1.0), [np.log(5 / 4), np.log(3 / 4)], rtol=1e-6)


def test_a_pool_that_is_alike_to_all_texts_changes_nothing():
    np.testing.assert_allclose(log_priors(TEXTS, np.zeros((3, 2)), 10.0), [0, 0], atol=1e-12)


def test_the_products_of_the_calibrated_space_are_scores_less_priors():
    texts, tracks = random_space()
    expected = texts @ tracks.T - log_priors(texts, tracks, 10.0)[:, None]
    calibrated_texts, calibrated_tracks = calibrate(texts, tracks, 10.0)
    np.testing.assert_allclose(calibrated_texts @ calibrated_tracks.T, expected, atol=1e-6)


def test_at_a_small_scale_it_is_centring():
    texts, tracks = random_space()
    centred = texts @ (tracks - tracks.mean(axis=0)).T
    calibrated_texts, calibrated_tracks = calibrate(texts, tracks, 1e-4)
    shift = (calibrated_texts @ calibrated_tracks.T - centred).astype(np.float64)
    np.testing.assert_allclose(shift, np.full_like(shift, shift.mean()), atol=1e-4)


def test_tracks_keep_their_order_for_a_text_and_texts_change_theirs():
    texts, tracks = random_space(num_texts=40)
    raw = retrieval_metrics(texts, range(40), tracks)
    calibrated_texts, calibrated_tracks = calibrate(texts, tracks, 10.0)
    calibrated = retrieval_metrics(calibrated_texts, range(40), calibrated_tracks)
    assert calibrated["text_to_audio_MRR"] == raw["text_to_audio_MRR"]
    assert calibrated["audio_to_text_MRR"] != raw["audio_to_text_MRR"]


def test_a_text_that_is_near_to_every_track_no_longer_wins_everywhere():
    texts = np.eye(2, dtype=np.float32)
    tracks = np.array([[0.8, 0.6], [0.75, 0.66], [0.72, 0.69]], np.float32)
    assert (tracks @ texts.T).argmax(axis=1).tolist() == [0, 0, 0]
    calibrated_texts, calibrated_tracks = calibrate(texts, tracks, 1.0)
    assert (calibrated_tracks @ calibrated_texts.T).argmax(axis=1).tolist() == [0, 1, 1]


@pytest.mark.parametrize("copies", [2, 7])
def test_copies_of_a_text_count_as_one_and_tie_exactly(copies):
    texts, tracks = random_space()
    repeated = np.concatenate([np.repeat(texts[:1], copies, axis=0), texts[1:]])
    priors = log_priors(repeated, tracks, 10.0)
    np.testing.assert_array_equal(priors[:copies], priors[0])
    np.testing.assert_allclose(priors[copies - 1 :], log_priors(texts, tracks, 10.0), rtol=1e-12)
