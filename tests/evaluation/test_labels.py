# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Sets of labels that cannot be told apart."""

import pytest

from muscall.evaluation.labels import choose_labels


class Rows(dict):
    column_names = ("labels",)


@pytest.mark.parametrize(
    ("labels", "phrases", "multi_label", "message"),
    [
        (["rock", "jazz", "rock"], {}, False, "labels must differ from each other, got more than once: rock"),
        (["rock", "jazz"], {"rock": "Jazz"}, False, "as a prompt words them must differ.*: jazz"),
        (["jazz", "folk"], {}, False, "labels that are not among those given: rock"),
        (["rock"], {}, False, "classification needs at least two labels|not among those given"),
    ],
)
def test_label_sets_that_cannot_be_told_apart(labels, phrases, multi_label, message):
    with pytest.raises(ValueError, match=message):
        choose_labels([Rows(labels=[["rock"], ["jazz"]])], labels, phrases, multi_label)
