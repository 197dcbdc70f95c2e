# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The interface that every audio tower keeps."""

import pytest
import torch
from small_models import AUDIO, ENSEMBLE, MOBILENET, MUSICNN

from modeling_muscall import AUDIO_MODELS


@pytest.fixture(scope="module", params=AUDIO_MODELS)
def tower(request):
    torch.manual_seed(0)
    tower_class = AUDIO_MODELS[request.param]
    fields = {"muscall_audio_model": AUDIO, "muscall_musicnn_model": MUSICNN, "muscall_mobilenet_model": MOBILENET}
    fields["muscall_ensemble_model"] = ENSEMBLE
    return tower_class(tower_class.config_class(**fields[request.param])).eval()


@torch.no_grad()
def test_windows_become_features_of_parts_and_one_of_the_whole(tower):
    outputs = tower(torch.randn(2, tower.config.window_samples))
    assert outputs.last_hidden_state.ndim == 3 and len(outputs.last_hidden_state) == 2
    assert outputs.pooler_output.shape == (2, tower.config.hidden_size)


@pytest.mark.parametrize("missing", [1, -1])
def test_windows_of_another_length_are_refused(tower, missing):
    config = tower.config
    message = rf"shape \(batch_size, {config.window_samples}\): windows of {config.window_seconds} s at 16000 Hz"
    with pytest.raises(ValueError, match=message):
        tower(torch.zeros(2, config.window_samples - missing))


def test_windows_of_several_tracks_are_refused(tower):
    with pytest.raises(ValueError, match=r"got \(1, 2, "):
        tower(torch.zeros(1, 2, tower.config.window_samples))
