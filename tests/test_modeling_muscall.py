# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The model: windows and their weights, text pooling, outputs and the loss."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_models import AUDIO, BERT, build_model, build_processor, build_waves

import modeling_muscall
from modeling_muscall import contrastive_loss


CAPTIONS = ["calm solo piano at night", "a fast samba with brass and plenty of percussion"]


@pytest.fixture(scope="module")
def model():
    return build_model()


def test_every_parameter_has_a_gradient():
    """An unused parameter would stop training with DistributedDataParallel: BERT's pooler is one."""
    for kwargs in (
        {},
        {"audio_config": AUDIO | {"pooling": "average"}},
        {"text_config": BERT, "text_pooling": "mean"},
    ):
        model = build_model(**kwargs).train()
        ids = torch.tensor([[5, 6, 49407], [7, 49407, 49407]]) % model.config.text_config.vocab_size
        model(ids, build_waves(2), return_loss=True).loss.backward()
        assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_gradient_checkpointing():
    gradients = []
    for checkpointing in (False, True):
        model = build_model().train()
        if checkpointing:
            model.activation_checkpointing_enable()
        model(torch.tensor([[5, 49407], [6, 49407]]), build_waves(2), return_loss=True).loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(checkpointed, plain, atol=1e-6, rtol=1e-5)


@pytest.mark.slow
def test_compiles_without_graph_breaks(model):
    ids, waves = torch.tensor([[5, 49407], [6, 49407]]), build_waves(2)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        torch.testing.assert_close(
            compiled(ids, waves).logits_per_audio, model(ids, waves).logits_per_audio, atol=1e-4, rtol=1e-4
        )
    windows, weights = build_waves(4).unflatten(0, (2, 2)), torch.tensor([[1.0, 0.0], [1.0, 0.5]])
    features = torch.compile(model.get_audio_features, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        actual, expected = (run(windows, weights).pooler_output for run in (features, model.get_audio_features))
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)
    training = build_model().train()
    torch.compile(training, fullgraph=True, backend="aot_eager")(ids, waves, return_loss=True).loss.backward()


@pytest.mark.parametrize("shape", [(2, 15999), (16000,), (2, 3, 8000), (2, 1, 1, 16000)])
def test_audio_of_another_shape(model, shape):
    with pytest.raises(ValueError, match="windows of 1 s at 16000 Hz|must have shape"):
        model.get_audio_features(torch.zeros(shape))


@torch.no_grad()
def test_windows_are_pooled_by_weight(model):
    waves = build_waves(4)
    each = model.get_audio_features(waves).pooler_output
    weights = torch.tensor([[1.0, 0.25], [1.0, 1.0]])
    pooled = model.get_audio_features(waves.unflatten(0, (2, 2)), weights).pooler_output
    torch.testing.assert_close(pooled[0], F.normalize(each[0] + 0.25 * each[1], dim=0), atol=1e-5, rtol=0)
    torch.testing.assert_close(pooled[1], F.normalize(each[2] + each[3], dim=0), atol=1e-5, rtol=0)
    equal = model.get_audio_features(waves.unflatten(0, (2, 2))).pooler_output
    torch.testing.assert_close(equal[1], pooled[1], atol=1e-5, rtol=0)


@torch.no_grad()
def test_padding_windows_are_not_run(model):
    waves = build_waves(4).unflatten(0, (2, 2)).clone()
    waves[0, 1] = float("nan")
    outputs = model.get_audio_features(waves, torch.tensor([[20.0, 0.0], [20.0, 5.0]]))
    assert outputs.last_hidden_state.shape[0] == 3
    torch.testing.assert_close(
        outputs.pooler_output[0], model.get_audio_features(waves[:1, 0]).pooler_output[0], atol=1e-5, rtol=0
    )


@torch.no_grad()
def test_embedding_does_not_depend_on_batch_or_order(model):
    waves = build_waves(7)
    together = model.get_audio_features(waves).pooler_output
    alone = torch.cat([model.get_audio_features(wave[None]).pooler_output for wave in waves])
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        model.get_audio_features(waves.flip(0)).pooler_output.flip(0), together, atol=1e-5, rtol=0
    )


def test_many_windows_run_a_few_at_a_time_without_gradients(model, monkeypatch):
    waves = build_waves(11).unflatten(0, (1, 11))
    weights = torch.linspace(0, 1, 11)[None]
    together = model.get_audio_features(waves, weights)
    monkeypatch.setattr(modeling_muscall, "WINDOWS_AT_ONCE", 3)
    sizes = []
    handle = model.audio_model.register_forward_hook(lambda module, inputs, outputs: sizes.append(len(inputs[0])))
    with torch.no_grad():
        apart = model.get_audio_features(waves, weights)
    handle.remove()
    assert sizes == [3, 3, 3, 1]
    torch.testing.assert_close(apart.pooler_output, together.pooler_output, atol=1e-5, rtol=0)
    torch.testing.assert_close(apart.last_hidden_state, together.last_hidden_state, atol=1e-4, rtol=1e-4)


def test_best_segments(model):
    processor = build_processor()
    wave = build_waves(3).flatten()[:40000].numpy()
    segments = model.best_segments("calm piano", wave, processor, sampling_rate=16000, num_segments=9)
    assert sorted((segment["start"], segment["end"]) for segment in segments) == [(0, 1), (1, 2), (1.5, 2.5)]
    scores = [segment["score"] for segment in segments]
    assert scores == sorted(scores, reverse=True)
    inputs = processor(text="calm piano", audio=wave[-16000:], sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        last = (model(**inputs).text_embeds * model(**inputs).audio_embeds).sum().item()
    assert next(segment["score"] for segment in segments if segment["start"] == 1.5) == pytest.approx(last, abs=1e-5)
    assert model.best_segments("calm piano", wave, processor, sampling_rate=16000) == segments[:1]
    short = model.best_segments("calm piano", wave[:4000], processor, sampling_rate=16000)
    assert [(segment["start"], segment["end"]) for segment in short] == [(0, 0.25)]
    with pytest.raises(ValueError, match="one sentence"):
        model.best_segments(["calm piano"], wave, processor, sampling_rate=16000)


def test_weights_without_windows(model):
    with pytest.raises(ValueError, match="window_weights"):
        model.get_audio_features(build_waves(2), torch.ones(2, 1))


@pytest.mark.parametrize("pooling", ["eos", "cls", "mean"])
@torch.no_grad()
def test_text_pooling(pooling):
    """Padding never changes an embedding, and each pooling takes the tokens it names."""
    kwargs = {"text_pooling": pooling} if pooling == "eos" else {"text_pooling": pooling, "text_config": BERT}
    model = build_model(**kwargs)
    end = model.config.text_config.eos_token_id if pooling == "eos" else 9
    ids = torch.tensor([[3, 5, 6, end]])
    embeds = model.get_text_features(ids, torch.ones_like(ids)).pooler_output
    padded = model.get_text_features(F.pad(ids, (0, 3), value=end), F.pad(torch.ones_like(ids), (0, 3))).pooler_output
    torch.testing.assert_close(padded, embeds, atol=1e-5, rtol=0)

    hidden_states = model.text_model(ids, torch.ones_like(ids)).last_hidden_state[0]
    expected = {"eos": hidden_states[3], "cls": hidden_states[0], "mean": hidden_states.mean(0)}[pooling]
    torch.testing.assert_close(embeds[0], F.normalize(model.text_projection(expected), dim=0), atol=1e-5, rtol=0)


@torch.no_grad()
def test_outputs(model):
    audio = [np.sin(np.arange(40000) / 10), np.random.default_rng(0).normal(size=9000) / 10]
    inputs = build_processor()(text=CAPTIONS, audio=audio, sampling_rate=16000, return_tensors="pt")
    outputs = model(**inputs, return_loss=True)
    audio_embeds = model.get_audio_features(inputs.input_values, inputs.window_weights).pooler_output
    text_embeds = model.get_text_features(inputs.input_ids, inputs.attention_mask).pooler_output
    assert torch.equal(outputs.audio_embeds, audio_embeds) and torch.equal(outputs.text_embeds, text_embeds)
    torch.testing.assert_close(audio_embeds.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(outputs.logits_per_audio, audio_embeds @ text_embeds.t() / 0.07)
    assert torch.equal(outputs.logits_per_text, outputs.logits_per_audio.t())
    assert model(**inputs, return_dict=False)[0].shape == (2, 2)
    with pytest.raises(ValueError, match="one text per audio, got 1 texts and 2 audio"):
        model(inputs.input_ids[:1], inputs.input_values, window_weights=inputs.window_weights, return_loss=True)


def test_contrastive_loss_counts_both_directions():
    logits = torch.randn(5, 5, generator=torch.Generator().manual_seed(0))
    rows = [-math.log(logits[i, i].exp() / logits[i].exp().sum()) for i in range(5)]
    columns = [-math.log(logits[i, i].exp() / logits[:, i].exp().sum()) for i in range(5)]
    assert contrastive_loss(logits).item() == pytest.approx((sum(rows) + sum(columns)) / 10, rel=1e-5)
    assert contrastive_loss(torch.zeros(5, 5)).item() == pytest.approx(math.log(5))


def test_logit_scale_is_clamped():
    model = build_model()
    model.logit_scale.data.fill_(10)
    assert model.scale_similarity(torch.ones(())).item() == pytest.approx(100)


def test_t5_encoder():
    """Of an encoder-decoder only the encoder becomes the text tower."""
    t5 = {"model_type": "t5", "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 1, "num_heads": 4, "vocab_size": 99}
    model = build_model(text_config=t5, text_pooling="mean")
    assert model.get_text_features(torch.tensor([[5, 6, 1]])).pooler_output.shape == (1, 16)
