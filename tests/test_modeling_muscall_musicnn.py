# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The musicnn tower against itself written plainly, and inside a full model."""

import json

import pytest
import torch
import torch.nn.functional as F
import torchaudio
from forks import Fork, finish
from small_models import build_musicnn, build_musicnn_model, make_sound
from transformers import AutoModel

from modeling_muscall_musicnn import MusCALLMusicnnFilters, _HalfTimbralFilters, _TimbralFilters


def test_filters_whose_maximum_comes_first_are_those_whose_maximum_comes_last():
    tower = build_musicnn(num_filters=17).train()  # timbral shapes then have 68, more than are run at once
    spectrogram = torch.randn(3, 1, 96, 187)
    for filters in tower.networks[0].filters:
        filters.norm.eval()  # as in training with --batch_norm frozen
        assert (filters.norm.weight < 0).any() and (filters.norm.weight > 0).any()
        padded = F.pad(spectrogram, filters.padding)
        plain = filters.norm(F.relu(filters.conv(padded))).amax(2)
        assert plain.shape[2] == 187
        outputs = filters(spectrogram)
        torch.testing.assert_close(outputs, plain, atol=1e-5, rtol=1e-5)
        gradients = [torch.autograd.grad(some.square().sum(), [*filters.parameters()]) for some in (outputs, plain)]
        torch.testing.assert_close(*gradients, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("bands", [96, 41])
def test_gradients_reach_a_spectrogram_of_any_number_of_bands(bands):
    spectrogram = torch.randn(2, 1, bands, 40, requires_grad=True)
    for shape in ((5, 38, 7), (5, 1, 32)):
        filters = MusCALLMusicnnFilters(*shape).eval()
        plain = filters.norm(F.relu(filters.conv(F.pad(spectrogram, filters.padding)))).amax(2)
        outputs = filters(spectrogram)
        torch.testing.assert_close(outputs, plain, atol=1e-5, rtol=1e-5)
        gradients = [torch.autograd.grad(some.square().sum(), spectrogram)[0] for some in (outputs, plain)]
        torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("height", [38, 67])
def test_both_ways_to_the_timbral_filters_are_a_convolution(height):
    weight, spectrogram = torch.randn(5, 1, height, 7), torch.randn(2, 96, 40)
    expected = F.conv2d(spectrogram[:, None], weight).amax(2)
    for filters in (_TimbralFilters, _HalfTimbralFilters):
        torch.testing.assert_close(filters(weight, 96)(spectrogram)[0], expected, atol=1e-4, rtol=1e-5)


@torch.no_grad()
def test_bfloat16_is_close_to_float32():
    tower, windows = build_musicnn(), torch.from_numpy(make_sound())[: 2 * 64000].view(2, -1)
    expected = tower(windows).pooler_output
    outputs = tower.to(torch.bfloat16)(windows).pooler_output.float()
    assert F.cosine_similarity(outputs, expected).min() > 0.999


def test_patches_cover_the_window_and_the_last_ends_with_it():
    tower = build_musicnn()
    windows = torch.randn(3, tower.config.window_samples)
    with torch.no_grad():
        outputs = tower(windows)
        assert outputs.last_hidden_state.shape == (3, 2, 14) and outputs.pooler_output.shape == (3, 14)
        frames = tower.config.window_frames
        spectrogram = tower.log_mel(windows)
        for patch, start in ((0, 0), (1, frames - 187)):
            networks = [network(spectrogram[..., start : start + 187]) for network in tower.networks]
            torch.testing.assert_close(outputs.last_hidden_state[:, patch], torch.cat(networks, dim=1))
        share = 187 / frames
        mean = share * outputs.last_hidden_state[:, 0] + (1 - share) * outputs.last_hidden_state[:, 1]
        torch.testing.assert_close(outputs.pooler_output, mean)
        torch.testing.assert_close(tower(windows[1:2]).pooler_output, outputs.pooler_output[1:2])


def test_log_mel_is_that_of_torchaudio():
    sound = torch.from_numpy(make_sound())[None]
    mel = torchaudio.transforms.MelSpectrogram(
        16000, 512, hop_length=256, n_mels=96, pad_mode="constant", norm="slaney", mel_scale="slaney"
    )
    torch.testing.assert_close(
        build_musicnn(window_seconds=10).log_mel(sound), torch.log10(1 + 1e4 * mel(sound)), atol=1e-5, rtol=1e-5
    )


def test_log_mel_is_in_float32_whatever_the_precision():
    tower, windows = build_musicnn(), torch.randn(2, 64000)
    expected = tower.log_mel(windows)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(tower.log_mel(windows), expected)
    assert torch.equal(tower.to(torch.bfloat16).log_mel(windows), expected)
    assert tower(windows).pooler_output.dtype == torch.bfloat16


def test_gradient_checkpointing():
    gradients = []
    for checkpointing in (False, True):
        tower = build_musicnn().train()
        if checkpointing:
            tower.activation_checkpointing_enable()
        tower(torch.from_numpy(make_sound())[: 2 * 64000].view(2, -1)).pooler_output.square().sum().backward()
        gradients.append([parameter.grad for parameter in tower.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(checkpointed, plain, atol=1e-6, rtol=1e-5)


def test_constant_norms_leave_the_input_norm_without_use():
    tower = build_musicnn()
    names = [name for name, _ in tower.named_parameters() if "input_norm" in name]
    assert names and [id(parameter) for parameter in tower.constant_norm_parameters()] == [
        id(tower.get_parameter(name)) for name in names
    ]


def test_norms_that_follow_other_layers_cannot_be_synchronised():
    assert build_musicnn().synchronisable_norms() == []


@pytest.mark.slow
@pytest.mark.parametrize("projection_hidden_size", [None, 24])
@pytest.mark.parametrize("frozen", [True, False])
def test_training_lowers_the_loss(frozen, projection_hidden_size):
    model = build_musicnn_model(projection_hidden_size=projection_hidden_size)
    model.audio_model = build_musicnn().requires_grad_(not frozen)
    hertz = torch.tensor([100, 220, 500, 1100, 2500, 5500])
    input_values = torch.sin(2 * torch.pi * hertz[:, None] * torch.arange(64000) / 16000)
    input_ids = torch.randint(1, 99, (6, 5))
    input_ids[:, -1] = model.config.text_config.eos_token_id
    before = {name: tensor.clone() for name, tensor in model.audio_model.named_parameters()}
    optimizer, losses = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 3e-3), []
    for _ in range(30 if frozen else 6):
        model.train()
        model.audio_model.train(not frozen)
        loss = model(input_ids=input_ids, input_values=input_values, return_loss=True).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    changed = {name for name, tensor in model.audio_model.named_parameters() if not torch.equal(tensor, before[name])}
    assert not changed if frozen else len(changed) == len(before)


@pytest.mark.slow
@torch.no_grad()
def test_compiles_without_graph_breaks():
    model, windows = build_musicnn_model().eval(), torch.randn(3, 2, 64000)
    model.audio_model = build_musicnn()
    expected = model.get_audio_features(windows).pooler_output
    compiled = torch.compile(model.get_audio_features, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(windows).pooler_output, expected, atol=1e-5, rtol=0)


def embed_sound(folder):
    model = AutoModel.from_pretrained(folder, trust_remote_code=True)
    with torch.no_grad():
        outputs = model.get_audio_features(torch.load(folder / "sound.pt"))
    torch.save(outputs.pooler_output, folder / "embeds.pt")


@pytest.mark.slow
def test_fresh_process(tmp_path):
    """The saved folder, tower and hidden projection layers and all, gives the same through AutoModel elsewhere."""
    model = build_musicnn_model(projection_hidden_size=24).eval()
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["audio_config"]["model_type"] == "muscall_musicnn_model"
    torch.save(torch.randn(2, 64000), tmp_path / "sound.pt")
    finish(Fork(embed_sound, tmp_path))
    with torch.no_grad():
        expected = model.get_audio_features(torch.load(tmp_path / "sound.pt")).pooler_output
    torch.testing.assert_close(torch.load(tmp_path / "embeds.pt"), expected)
