# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""What splits are called, and which folders are of which."""

import pytest

from muscall.data.split_names import find_split, name_places, standard_names


@pytest.mark.parametrize(
    ("split", "names"),
    [
        ("train", ["training", "Train"]),
        ("validation", ["valid", "val", "dev", "Validation"]),
        ("test", ["testing", "eval", "evaluation", "TEST"]),
    ],
)
def test_synonyms_of_datasets(split, names):
    assert {standard_names([name], "corpus")[name] for name in names} == {split}


def test_a_split_keeps_its_name_where_another_has_the_standard_one():
    names = standard_names(["train", "test", "eval", "extra"], "corpus")
    assert names == {"train": "train", "test": "test", "eval": "eval", "extra": "extra"}


def test_two_synonyms_are_an_error():
    with pytest.raises(ValueError, match="corpus has more than one validation split: valid, dev"):
        standard_names(["train", "valid", "dev"], "corpus")


@pytest.mark.parametrize(
    ("name", "split"), [("train-clean", "train"), ("music_dev", "validation"), ("trainer", None), ("contest", None)]
)
def test_a_word_in_a_name(name, split):
    assert find_split(["data", name]) == split


def test_places_that_all_name_a_split():
    assert name_places([("data", "train-clean"), ("data", "test_other")]) == ["train", "test"]


def test_places_of_which_none_names_a_split():
    assert name_places([("Queen",), ("Test Pressing 2",), ()]) == ["train"] * 3


def test_places_beside_those_of_splits():
    places = [("data", "Train", "a"), ("data", "dev"), ("data", "extra", "b"), ("train_500",), ()]
    assert name_places(places) == ["train", "validation", "extra", "no folder", "no folder"]
