# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Bootstrap resamples of a result's queries."""

import numpy as np

from muscall.evaluation.compare import read_statistics, resample


def test_resamples_of_classes():
    correct = np.random.default_rng(0).integers(2, size=30)
    draws = np.random.default_rng(4)
    expected = [100 * correct[draws.integers(30, size=30)].mean() for _ in range(9)]
    np.testing.assert_allclose(resample({"correct": correct.tolist()}, 9, 4)["accuracy"], expected)


def test_resamples_of_tags_leave_out_those_that_are_undefined():
    scores, truth = np.random.default_rng(1).normal(size=(40, 2)), np.zeros((40, 2), int)
    truth[:15, 0] = 1  # the second label is undefined
    samples = resample({"scores": scores.tolist(), "references": truth.tolist()}, 5, 0)
    assert samples["roc_auc"].shape == (5,)
    assert np.isfinite(samples["roc_auc"]).all()


def test_statistics_have_named_columns():
    row = [2.5, 0.4, 0.5, 1.0, 1.0, 0.45]
    statistics = read_statistics({"audio_ids": [0], "text_to_audio": [row], "audio_to_text": [row]})
    assert list(statistics) == ["text_to_audio", "audio_to_text"]
    assert statistics["text_to_audio"]["rank"].tolist() == [2.5]
    assert statistics["audio_to_text"]["hit@10"].tolist() == [1.0]
