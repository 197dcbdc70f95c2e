# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The fast audio tower: the large MobileNetV3 over a log-mel spectrogram."""

import pytest
import torch
import torchaudio
from small_models import MOBILENET, build_mobilenet, build_model, build_waves

from configuration_muscall import MusCALLMobileNetConfig
from modeling_muscall_mobilenet import MusCALLMobileNetModel


@pytest.fixture(scope="module")
def tower() -> MusCALLMobileNetModel:
    return build_mobilenet()


def test_log_mel_is_torchaudios(tower):
    mel = torchaudio.transforms.MelSpectrogram(16000, n_fft=512, hop_length=320, n_mels=32, f_min=0, f_max=8000)
    expected = (mel(build_waves()) + 1e-5).log() / 5 + 0.9
    torch.testing.assert_close(tower.log_mel(build_waves()), expected, atol=1e-5, rtol=0)


def test_the_defaults_are_the_released_tower():
    tower = MusCALLMobileNetModel(MusCALLMobileNetConfig())
    assert sum(parameter.numel() for parameter in tower.parameters()) == 2_154_936


def test_a_full_width_is_the_published_mobilenet():
    tower = MusCALLMobileNetModel(MusCALLMobileNetConfig(width=1, stem_width=1, trunk_channels=960, hidden_size=1))
    published, classifier = 5_483_032, 960 * 1280 + 1280 + 1280 * 1000 + 1000  # torchvision's mobilenet_v3_large
    expected = published - classifier - 2 * 16 * 9  # one channel comes in, not three
    assert sum(parameter.numel() for parameter in tower.parameters()) - 961 == expected


def test_a_window_does_not_depend_on_the_batch(tower):
    waves = build_waves()
    together = tower(waves).last_hidden_state
    torch.testing.assert_close(tower(waves[1:2]).last_hidden_state, together[1:2], atol=1e-5, rtol=1e-5)


def test_equal_columns_pool_to_the_feature_of_the_window(tower):
    outputs = tower(build_waves())
    assert outputs.last_hidden_state.shape == (3, tower.num_columns, tower.config.trunk_channels)
    weights = torch.full((1, tower.num_columns), 1 / tower.num_columns)
    pooled = tower.pool_columns(outputs.last_hidden_state, weights)
    torch.testing.assert_close(pooled[:, 0], outputs.pooler_output, atol=1e-5, rtol=1e-5)


def test_all_batch_norms_can_be_synchronised(tower):
    norms = [module for module in tower.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert [tower.get_submodule(name) for name in tower.synchronisable_norms()] == norms


def test_a_step_lowers_the_loss():
    model = build_model(audio_config={"model_type": "muscall_mobilenet_model", **MOBILENET}).train()
    inputs = {"input_ids": torch.tensor([[1, 49407], [2, 49407], [3, 49407]])}
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(20):
        loss = model(input_values=build_waves(), **inputs, return_loss=True).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("field", "value"), [("width", 0), ("stem_width", float("inf")), ("trunk_channels", 0), ("hop_length", 513)]
)
def test_a_value_out_of_its_range_is_an_error(field, value):
    with pytest.raises(ValueError, match=field):
        MusCALLMobileNetConfig(**{field: value})
