# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""One interface over checkpoints: what CLAP hears, and what tells embeddings of one encoder from others."""

import numpy as np
import pytest
import soundfile
import torch
from helpers import make_clap, save_model
from small_models import build_model, build_musicnn_model, build_processor

import muscall.encoder
from muscall.encoder import MusCALLEncoder, load_encoder
from processing_muscall import read_audio


@torch.no_grad()
@pytest.mark.parametrize("fused", [False, True])
def test_clap_hears_whole_tracks_and_always_the_same(tmp_path, fused):
    """Its own feature extractor takes a random part of a long track, and fuses a random item of a batch."""
    encoder = load_encoder(make_clap(tmp_path / "clap", fused))
    path = tmp_path / "noise.wav"
    noise = np.random.default_rng(0).normal(0, 0.1, 25 * 16000)
    soundfile.write(path, noise, 16000)
    tracks = [{"path": str(path), "bytes": None, "sampling_rate": None}] * 2
    first, second = (encoder.audio_features(**encoder.collate_audio(tracks)) for _ in range(2))
    assert torch.equal(first, second) and torch.allclose(first[0], first[1], atol=1e-6)
    samples = read_audio(str(path), 48000)
    windows = [samples[:480000], samples[480000:960000], samples[-480000:]]
    parts = []
    for window in windows:
        features = encoder.processor.feature_extractor(window, sampling_rate=48000, return_tensors="pt")
        features["is_longer"] = torch.zeros(1, 1, dtype=torch.bool)
        parts.append(encoder.model.get_audio_features(**features).pooler_output)
    mean = torch.nn.functional.normalize(10 * parts[0] + 10 * parts[1] + 5 * parts[2], dim=-1)
    torch.testing.assert_close(first[:1], mean, atol=1e-5, rtol=0)


def test_identity_is_that_of_all_that_embeddings_depend_on(tmp_path):
    folder, other = save_model(tmp_path / "a"), save_model(tmp_path / "b", seed=1)
    identity = load_encoder(folder).identity()
    assert load_encoder(folder).identity() == identity
    assert load_encoder(folder, windows=1).identity() != identity
    assert load_encoder(other).identity() != identity


def test_identity_reads_code_in_one_order():
    """A set of names would be read in another order by each process."""
    names = [path.name for path in muscall.encoder._code_files()]
    assert names[:-1] == sorted(names[:-1])
    expected = {"modeling_muscall.py", "modeling_muscall_musicnn.py", "processing_muscall.py", "audio_muscall.py"}
    assert expected | {"encoder.py"} <= set(names)


@pytest.mark.parametrize("build, changes", [(build_musicnn_model, True), (build_model, False)])
def test_bfloat16_is_for_the_audio_of_taggers(monkeypatch, build, changes):
    encoder = MusCALLEncoder(build(), build_processor())
    size = encoder.model.config.audio_config.window_seconds * 16000
    windows = np.random.default_rng(0).normal(0, 0.1, (2, size)).astype(np.float32)
    before, text = encoder.embed_windows(windows), encoder.embed_texts(["drums"])
    for is_fast in (False, True):
        monkeypatch.setattr(muscall.encoder, "multiplies_bfloat16", lambda device, is_fast=is_fast: is_fast)
        encoder.use_bfloat16()
        after = encoder.embed_windows(windows)
        assert np.array_equal(after, before) != (changes and is_fast)
        assert after.dtype == np.float32 and (after * before).sum(axis=1).min() > 0.99
        np.testing.assert_allclose(np.linalg.norm(after, axis=1), 1, atol=1e-6)
        assert np.array_equal(encoder.embed_texts(["drums"]), text)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no weights: name a checkpoint with --model, for instance runs/default"),
        ({"config.json": '{"model_type": "muscall"}'}, "holds no weights: name a checkpoint"),
        ({"config.json": '{"model_type": "bert"}'}, "holds a 'bert' model: expected a dual encoder"),
        ({"model.safetensors": ""}, "holds a None model: expected a dual encoder"),
    ],
)
def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path, files, message):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        load_encoder(tmp_path)
