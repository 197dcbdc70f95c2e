# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""One ranking of three: by sound, by the meaning of what is written, and by the words that stand there."""

import math
from dataclasses import dataclass

import numpy as np


ORDINARY = 2.0  # standard deviations above the mean of a library; a score counts from about here on
NAMED = 4.0  # a text with all words of a sentence counts as one that stands out so far


@dataclass(frozen=True)
class Fusion:
    """
    A rule that adds up evidence. Each score is standardised by the mean and the standard deviation of such scores over
    the library, and `log(1 + exp(z - 2))` of it is evidence: next to nothing for a score such as most tracks have, and
    more and more for one that stands out. So whatever says nothing about a track, an odd title or a sound that fits
    any, takes nothing away either; what stands out in two ways comes first; and tracks of which nothing is written
    keep the order of their sound. There is nothing to tune. The rule was chosen among others on the validation part
    of the open mix (experiments/LOG.md).

    Args:
        sound, meaning (`tuple[float, float]`): Mean and standard deviation of scores over the library.
        has_sound (`bool`): Whether sound counts.
    """

    sound: tuple[float, float]
    meaning: tuple[float, float]
    has_sound: bool = True

    @classmethod
    def of(cls, sound: np.ndarray, meaning: np.ndarray, has_sound: bool = True) -> "Fusion":
        """Return the rule for a query, from its scores over a sample of windows and of descriptions."""
        return cls(_mean_and_spread(sound), _mean_and_spread(meaning), has_sound)

    def weigh(self, sound: float, meaning: float | None, is_named: bool) -> dict[str, float]:
        """
        Return the evidence for a track, which adds up.

        Args:
            sound (`float`): The score of its best window.
            meaning (`float`, *optional*): The score of its description, if it has one.
            is_named (`bool`): Whether all words of the sentence stand in its text.
        """
        return {
            "sound": _evidence(sound, *self.sound) if self.has_sound else 0.0,
            "meaning": 0.0 if meaning is None else _evidence(meaning, *self.meaning),
            "words": float(np.logaddexp(0, NAMED - ORDINARY)) if is_named else 0.0,
        }


def _mean_and_spread(scores: np.ndarray) -> tuple[float, float]:
    return (float(scores.mean()), float(scores.std()) + 1e-6) if len(scores) else (0.0, math.inf)


def _evidence(score: float, mean: float, spread: float) -> float:
    return float(np.logaddexp(0, (score - mean) / spread - ORDINARY))
