# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The `zero_shot_tagging` metric in both configurations, as users load it."""

from pathlib import Path

import evaluate
import pytest


METRIC = Path(__file__).parents[2] / "metrics" / "zero_shot_tagging"


@pytest.fixture(scope="module")
def tagging_metric(tmp_path_factory):
    return evaluate.load(str(METRIC), cache_dir=str(tmp_path_factory.mktemp("metrics")))


@pytest.fixture(scope="module")
def classification_metric(tmp_path_factory):
    return evaluate.load(str(METRIC), "single_label", cache_dir=str(tmp_path_factory.mktemp("metrics")))
