# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The converted taggers give the features and tags of the originals."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ROOT
from small_models import make_sound

from modeling_muscall import MusCALLMusicnnModel
from scripts.convert_musicnn import main, read_taggers


EXPECTED = Path(__file__).parent / "musicnn_features.npz"


@pytest.mark.slow
def test_the_taggers_features(wheel):
    """The expected features and tags are those of the taggers run patch by patch, by another implementation."""
    tower, layers = read_taggers(wheel)
    expected = np.load(EXPECTED)
    sound = torch.from_numpy(make_sound())
    tower.config.window_seconds = 10
    with torch.no_grad():
        features = tower(sound[None]).last_hidden_state[0]
    whole = len(expected["features"])  # the taggers leave out what does not fill a patch
    np.testing.assert_allclose(features[:whole], expected["features"], atol=1e-4)
    for number, (weight, bias, tags) in enumerate(layers):
        assert len(tags) == 50
        probabilities = torch.sigmoid(features[:, 200 * number : 200 * (number + 1)] @ weight + bias)
        np.testing.assert_allclose(
            probabilities[:whole], expected["tags"][:, 50 * number : 50 * (number + 1)], atol=1e-4
        )


@pytest.mark.slow
def test_command_line(wheel, tmp_path, monkeypatch, capsys):
    command = [sys.executable, "-m", "scripts.convert_musicnn", wheel, tmp_path / "tower"]
    assert subprocess.run(command, capture_output=True, cwd=ROOT).returncode == 0
    tower, expected = MusCALLMusicnnModel.from_pretrained(tmp_path / "tower"), read_taggers(wheel)[0]
    for name, tensor in expected.state_dict().items():
        assert torch.equal(tower.state_dict()[name], tensor), name
    monkeypatch.setattr(sys, "argv", ["convert_musicnn", str(tmp_path), str(tmp_path / "x")])
    with pytest.raises(SystemExit, match="^2$"):
        main()
    assert "is no unpacked musicnn wheel" in capsys.readouterr().err
