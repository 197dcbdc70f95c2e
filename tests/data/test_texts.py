# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Captions in every form that a row may have them in."""

import pytest

from muscall.data.texts import check_captions


@pytest.mark.parametrize("cell", ["['calm', 'piano']", '["calm", "piano"]', "('calm', 'piano')", ["calm", "piano"]])
def test_two_captions(cell):
    assert check_captions(cell, "captions", "row 0") == ["calm", "piano"]


@pytest.mark.parametrize("cell", ["calm", " calm ", "[live]", "[live] calm", "('80s synth)", "1980", "{'a': 1}"])
def test_one_caption(cell):
    assert check_captions(cell, "captions", "row 0") == [cell]


@pytest.mark.parametrize(
    "cell",
    [
        *(1980, 3.5, True, None, {"a": "calm"}, "", " ", [], ["calm", ""], ["calm", None], [["calm"]], [1980]),
        *("[]", "[1980]", "['calm', '']", "['calm', None]", "[['calm']]", "['calm', piano]", '["calm", 1]'),
    ],
)
def test_no_caption(cell):
    with pytest.raises(ValueError, match="row 7: `words` must be a caption or a list of captions, none of them empty"):
        check_captions(cell, "words", "row 7")


def test_a_list_as_numpy_prints_it_is_not_run_together():
    with pytest.raises(ValueError, match="a list without commas, as numpy prints it"):
        check_captions("['calm' 'piano']", "captions", "row 0")
