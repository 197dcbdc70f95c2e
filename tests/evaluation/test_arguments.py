# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The options of eval.py: one that would have no effect is refused."""

import pytest

from muscall.evaluation.arguments import Arguments


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_separator": ","}, "--label_separator is not for --task retrieval"),
        ({"validation_split": "validation"}, "--validation_split is not for --task retrieval"),
        ({"task": "zeroshot", "train_split": "other"}, "--train_split is not for --task zeroshot"),
        ({"seeds": 3}, "--seeds would have no effect without --pool"),
        ({"sentence_model_name_or_path": "a/b"}, "--sentence_model_name_or_path .* without --metadata_column"),
        ({"preset": "gtzan_filtered", "text_column": "genre"}, "--preset gtzan_filtered knows .* --text_column would"),
        ({"model": None, "compare": ["a", "b"], "pool": 3}, "--compare reads two result files: --pool would have no"),
    ],
)
def test_an_option_without_effect_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Arguments(**{"model": "runs/default", **options})


def test_options_that_have_what_they_need():
    assert Arguments(model="runs/default", pool=20, seeds=3).task == "retrieval"
    assert Arguments(compare=["a", "b"], num_resamples=50).num_resamples == 50
