# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Tracks for evaluation: what a dataset is called in messages and results."""

import pytest
from corpora import write_table

from muscall.evaluation.tracks import Tracks


def test_a_dataset_is_called_by_its_folder(corpus):
    assert Tracks("captions", str(corpus)).name == corpus.name


def test_a_dataset_is_called_as_it_was_asked_for(corpus):
    tracks = Tracks("captions", str(corpus), display_name="default")
    assert tracks.name == "default" and len(tracks["test"]) == 48


@pytest.mark.parametrize("cells", [["['rock', 'pop']", "['jazz']"], ['["rock", "pop"]', "jazz"]])
def test_cells_that_spell_lists_are_several_labels(tmp_path, cells):
    rows = []
    for number, cell in enumerate(cells):
        (tmp_path / f"{number}.wav").write_bytes(b"")
        rows.append({"file_name": f"{number}.wav", "genre": cell})
    tracks = Tracks("labels", str(write_table(tmp_path / "metadata.csv", rows)))
    assert tracks["train"]["labels"][:] == [["rock", "pop"], ["jazz"]] and tracks.multi_label


def test_cells_that_spell_no_list_are_named(tmp_path):
    rows = [{"file_name": "0.wav", "genre": "['rock' 'pop']"}]
    with pytest.raises(ValueError, match=r"row 0: `genre` must name what the track is, got a list without commas"):
        Tracks("labels", str(write_table(tmp_path / "metadata.csv", rows)))["train"]
