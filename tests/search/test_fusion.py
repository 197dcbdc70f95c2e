# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The rule that makes one ranking of sound, meaning and words."""

import numpy as np

from muscall.search.fusion import Fusion


RANDOM = np.random.default_rng(0)
SOUND, MEANING = RANDOM.normal(0.2, 0.1, 1000), RANDOM.normal(0.1, 0.05, 1000)
FUSION = Fusion.of(SOUND, MEANING)


def total(sound, meaning=None, is_named=False):
    """The evidence for a track whose scores are so many standard deviations above the mean."""
    meaning = None if meaning is None else 0.1 + 0.05 * meaning
    return sum(FUSION.weigh(0.2 + 0.1 * sound, meaning, is_named).values())


def test_without_words_the_order_is_that_of_sound():
    totals = [total(sound) for sound in np.linspace(-5, 5, 100)]
    assert (np.diff(totals) > 0).all()


def test_scores_on_other_scales_count_the_same():
    other = Fusion.of(100 * SOUND + 7, MEANING)
    assert np.isclose(
        other.weigh(100 * 0.5 + 7, None, False)["sound"], FUSION.weigh(0.5, None, False)["sound"], rtol=1e-4
    )


def test_an_ordinary_title_takes_nothing_away():
    assert total(3, -3) > total(2.5, 1) > total(1, 1)
    assert abs(total(3, -3) - total(3)) < 0.01


def test_what_stands_out_in_two_ways_comes_first():
    assert total(3, 3) > total(4, 0) and total(3, 3) > total(0, 4)


def test_all_words_of_a_sentence_count_as_a_score_that_stands_out():
    assert np.isclose(total(0, None, True), total(0, 4), atol=0.1)
    assert total(0, None, True) > total(3) > total(0)


def test_without_descriptions_the_meaning_counts_for_nothing():
    fusion = Fusion.of(SOUND, np.empty(0, np.float32))
    assert fusion.weigh(0.5, None, False)["meaning"] == 0
