# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The linear probe on clusters of points."""

import numpy as np
import pytest

from muscall.evaluation.probe import linear_probe


@pytest.fixture
def splits():
    """Three clusters of points in six dimensions, in three splits."""
    random = np.random.default_rng(0)
    centres = 3 * random.normal(size=(3, 6))
    references = {name: random.integers(3, size=60) for name in ("train", "validation", "reported")}
    return {name: (centres[truth] + random.normal(size=(60, 6)), truth) for name, truth in references.items()}


def test_probe_chooses_its_penalty_on_the_validation_split_alone(splits):
    probe = linear_probe(splits, ["a", "b", "c"], 10)
    assert probe["metrics"]["accuracy"] > 90
    other = {**splits, "reported": (splits["reported"][0], (splits["reported"][1] + 1) % 3)}
    assert linear_probe(other, ["a", "b", "c"], 10)["c"] == probe["c"]


def test_probe_of_tags_leaves_out_what_nobody_knows(splits):
    tags = {
        name: (rows, np.stack([truth == 0, truth == 1], axis=1).astype(int)) for name, (rows, truth) in splits.items()
    }
    tags["train"][1][:5, 0] = -1
    assert linear_probe(tags, ["a", "b"], 0)["metrics"]["roc_auc"] > 0.95
