# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The paper's audio tower: its spectrogram is torchaudio's, its pool is multi-head attention."""

import math

import pytest
import torch
import torch.nn.functional as F
import torchaudio
from small_models import AUDIO, build_model, build_waves

from configuration_muscall import MusCALLAudioConfig
from modeling_muscall_resnet import MusCALLAttentionPool, MusCALLAudioModel


@pytest.fixture(scope="module")
def model():
    return build_model()


def test_log_mel_is_torchaudios():
    waves = build_waves() * torch.tensor([1, 1e-3, 1])[:, None]
    waves[2, 4000:] = 0
    expected = torchaudio.transforms.MelSpectrogram(
        16000, n_fft=1024, hop_length=512, n_mels=128, f_min=0, f_max=8000, normalized=True
    )(waves)
    expected = torchaudio.transforms.AmplitudeToDB(top_db=100)(expected[:, None])[:, 0]
    actual = MusCALLAudioModel(MusCALLAudioConfig(window_seconds=1)).log_mel(waves)
    assert (actual - expected).abs().max() < 1e-4  # dB


def test_log_mel_does_not_depend_on_the_batch(model):
    tone = torch.sin(torch.arange(16000) / 10)[None] / 2
    tone[:, 8000:] = 0
    alone = model.audio_model.log_mel(tone)
    assert alone.max() > 0 and alone.min() == alone.max() - 100  # silence is clamped by the tone, not by a louder clip
    assert torch.equal(model.audio_model.log_mel(torch.cat([build_waves(1) * 100, tone]))[1:], alone)


def test_log_mel_stays_float32(model):
    waves = build_waves()
    expected = model.audio_model.log_mel(waves)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(model.audio_model.log_mel(waves), expected)
    for dtype in (torch.bfloat16, torch.float16):
        assert torch.equal(build_model().to(dtype).audio_model.log_mel(waves), expected)


def test_attention_pool_is_multi_head_attention():
    torch.manual_seed(0)
    config = MusCALLAudioConfig(**AUDIO)
    pool = MusCALLAttentionPool(config)
    torch.nn.init.normal_(pool.position_embedding)
    cells = torch.randn(3, math.prod(config.grid_size), config.trunk_channels)
    tokens = (torch.cat([cells.mean(1, keepdim=True), cells], 1) + pool.position_embedding).transpose(0, 1)
    expected, _ = F.multi_head_attention_forward(
        *(tokens, tokens, tokens, config.trunk_channels, pool.num_heads),
        in_proj_weight=None,
        in_proj_bias=torch.cat([pool.q_proj.bias, pool.k_proj.bias, pool.v_proj.bias]),
        bias_k=None,
        bias_v=None,
        add_zero_attn=False,
        dropout_p=0,
        out_proj_weight=pool.out_proj.weight,
        out_proj_bias=pool.out_proj.bias,
        use_separate_proj_weight=True,
        q_proj_weight=pool.q_proj.weight,
        k_proj_weight=pool.k_proj.weight,
        v_proj_weight=pool.v_proj.weight,
    )
    torch.testing.assert_close(pool(cells), expected[0], atol=1e-5, rtol=1e-5)


def test_folded_batch_norm(model):
    hidden_states = torch.randn(2, 1, 32, 32)
    conv = model.audio_model.stem.conv1
    torch.testing.assert_close(conv(hidden_states), conv.norm(conv.conv(hidden_states)), atol=1e-5, rtol=1e-5)


def test_equal_columns_pool_to_the_feature_of_the_window():
    tower = build_model(audio_config=AUDIO | {"pooling": "average"}).audio_model
    outputs = tower(build_waves())
    weights = torch.full((1, tower.num_columns), 1 / tower.num_columns)
    pooled = tower.pool_columns(outputs.last_hidden_state, weights)
    torch.testing.assert_close(pooled[:, 0], outputs.pooler_output, atol=1e-5, rtol=1e-5)


def test_an_attention_pool_has_no_columns(model):
    assert model.audio_model.num_columns == 0


def test_all_batch_norms_can_be_synchronised(model):
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert [model.audio_model.get_submodule(name) for name in model.audio_model.synchronisable_norms()] == norms
