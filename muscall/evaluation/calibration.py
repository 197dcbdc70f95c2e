# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Calibration: texts that are close to every track of a pool are moved away, by the pool's embeddings alone."""

import numpy as np
from scipy.special import softmax


MIN_TRACKS = 20  # about where the gain of a random pool spreads as widely as it is large, see experiments/LOG.md
MAX_SCORES = 2**23  # held at a time


def log_priors(text_embeds: np.ndarray, audio_embeds: np.ndarray, logit_scale: float) -> np.ndarray:
    """
    Return how much likelier each text is over the pool than if all were equally likely, as a logarithm. The prior of a
    text is the mean over the tracks of its probability among the texts. Nothing but embeddings goes into it: no label,
    and not which text belongs to which track.

    Args:
        text_embeds (`np.ndarray` of shape `(num_texts, dim)`), audio_embeds (`np.ndarray` of shape
        `(num_tracks, dim)`):
            L2-normalised.
        logit_scale (`float`):
            The model's, which makes probabilities of cosines.

    Returns:
        `np.ndarray` of shape `(num_texts,)`: float64, in units of cosine similarity. Equal texts count as one and get
        the same value to the bit.
    """
    distinct, places = np.unique(text_embeds, axis=0, return_inverse=True)
    total, chunk = np.zeros(len(distinct)), max(1, MAX_SCORES // len(distinct))
    for start in range(0, len(audio_embeds), chunk):
        scores = audio_embeds[start : start + chunk].astype(np.float64) @ distinct.T
        total += softmax(logit_scale * scores, axis=1).sum(axis=0)
    return np.log(total / len(audio_embeds) * len(distinct))[places.reshape(-1)] / logit_scale


def calibrate(text_embeds: np.ndarray, audio_embeds: np.ndarray, logit_scale: float) -> tuple[np.ndarray, np.ndarray]:
    """
    Return texts and tracks whose inner products are the cosines less [`log_priors`]. It changes which text is the best
    of a track, and never the order of the tracks for a text. Arguments as in [`log_priors`].

    Returns:
        `tuple[np.ndarray, np.ndarray]` of shapes `(num_texts, dim + 2)` and `(num_tracks, dim + 2)`: float32. All
        texts have one norm, and so have all tracks, so that cosines order them as inner products do.
    """
    priors = log_priors(text_embeds, audio_embeds, logit_scale)
    padding = np.sqrt(np.square(priors).max() - np.square(priors))
    ones, zeros = np.ones(len(audio_embeds)), np.zeros(len(audio_embeds))
    texts, tracks = np.column_stack((text_embeds, -priors, padding)), np.column_stack((audio_embeds, ones, zeros))
    return texts.astype(np.float32), tracks.astype(np.float32)
