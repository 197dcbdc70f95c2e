# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Tracks for evaluation: what a dataset is called in messages and results."""

from muscall.evaluation.tracks import Tracks


def test_a_dataset_is_called_by_its_folder(corpus):
    assert Tracks("captions", str(corpus)).name == corpus.name


def test_a_dataset_is_called_as_it_was_asked_for(corpus):
    tracks = Tracks("captions", str(corpus), display_name="default")
    assert tracks.name == "default" and len(tracks["test"]) == 48
