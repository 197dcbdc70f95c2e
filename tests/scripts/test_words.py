# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The words of the release: a mean of two text towers, and the classes in closed form."""

import torch
from datasets import Dataset
from small_models import build_model

from scripts.language import PARTS
from scripts.words import average_towers, list_sentences, solve_ridge


def test_a_ridge_of_nothing_is_least_squares():
    inputs, weight = torch.randn(50, 4), torch.randn(4, 3)
    torch.testing.assert_close(solve_ridge(inputs, inputs @ weight, 0.0), weight, atol=1e-4, rtol=1e-4)


def test_a_mean_of_two_towers():
    tower, other = build_model().text_model, build_model().text_model
    for parameter in other.parameters():
        parameter.data += 2
    before = {name: tensor.clone() for name, tensor in tower.state_dict().items()}
    average_towers(tower, other)
    for name, tensor in tower.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, before[name] + 1)
        else:
            assert torch.equal(tensor, before[name])


def test_parts_are_left_out_and_a_class_counts_once():
    rows = [
        {"captions": ["a caption", "first", "aspects", *["a part"] * 2 * PARTS], "audio_embeds": [0.5, -0.5, -1.0]}
    ]
    rows += [{"captions": ["reggae", "a reggae track", "reggae sounds"], "audio_embeds": [0.0, 2.0, 0.0]}] * 5
    sentences, targets = list_sentences(Dataset.from_list(rows))
    assert sentences == ["a caption", "first", "aspects", "reggae", "a reggae track", "reggae sounds"]
    assert targets.tolist() == [[0.5, -0.5, -1]] * 3 + [[0, 2, 0]] * 3
