# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Towers that do not learn: each window runs through one once, in all runs together."""

import pytest
import torch
from helpers import RATE, TEACHER, save_teacher

from modeling_muscall import MusCALLMusicnnModel
from muscall.training import frozen
from muscall.training.frozen import FrozenTower, WindowCache


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return save_teacher(tmp_path_factory.mktemp("teacher"), **TEACHER)


def test_a_frozen_tower_is_asked_once_and_in_a_later_run_not_at_all(teacher, tmp_path, monkeypatch):
    monkeypatch.setattr(frozen, "CACHE", tmp_path)
    calls, windows = [], torch.randn(3, 2 * RATE)

    def make():
        tower = MusCALLMusicnnModel.from_pretrained(teacher).eval()
        tower.log_mel.register_forward_hook(lambda *_: calls.append(1))
        return FrozenTower(tower, WindowCache())

    first = make()
    outputs, expected = first(windows), first.tower(windows)
    torch.testing.assert_close(outputs.to_tuple(), expected.to_tuple())
    first(windows[1:])  # the first window does not come back: it is not worth keeping
    first.cache.save()
    first.cache.save()  # nothing new
    assert len(list(tmp_path.glob("windows-*/*.safetensors"))) == 1

    later, before = make(), len(calls)
    assert torch.equal(later(windows[1:]).pooler_output, outputs.pooler_output[1:]) and len(calls) == before
    assert torch.equal(later(windows[:1])[0], outputs[0][:1]) and len(calls) == before + 1
    later.tower(windows)
    assert len(calls) == before + 2
    changed = make()
    changed.tower.networks[0].dense.bias.data += 1
    assert not torch.equal(changed(windows[1:]).pooler_output, outputs.pooler_output[1:])
