# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Names of the systems in a table."""

import pytest

from muscall.evaluation.systems import name_systems


def test_systems_are_named_after_their_folders(tmp_path):
    for name in ("a/same", "b/same", "b/other"):
        (tmp_path / name).mkdir(parents=True)
    paths = [str(tmp_path / name) for name in ("a/same", "b/same", "b/other")]
    assert name_systems([*paths, "hub/id"]) == {
        paths[0]: paths[0],
        paths[1]: paths[1],
        "other": paths[2],
        "hub/id": "hub/id",
    }


def test_a_system_comes_once():
    with pytest.raises(ValueError, match="--model and --baselines must differ from each other, got a, a"):
        name_systems(["a", "a"])
