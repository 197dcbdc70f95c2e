# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Classes of sounds and the words for them join a model, and what it knew stays."""

import pytest
import torch
import torch.nn.functional as F
from small_models import MOBILENET, MUSICNN, build_model, build_waves

from scripts.bridge import (
    check_text_towers,
    hear_features,
    join,
    join_projection,
    join_towers,
    map_features,
    order_dimensions,
)


def build():
    config = {"model_type": "muscall_mobilenet_model", **MOBILENET}
    return build_model(audio_config=config, projection_hidden_size=20)


def test_features_give_the_standardised_logits():
    torch.manual_seed(0)
    features = torch.randn(100_000, 4) * torch.tensor([1, 10, 0.1, 3]) + 5
    logits = features @ torch.randn(4, 2) - 7
    weight, bias = map_features(features, logits)
    expected = (logits - logits.mean(0)) / logits.std(0)
    torch.testing.assert_close(F.linear(features, weight, bias), expected, atol=0.1, rtol=0)


def test_a_joined_projection_keeps_the_old_one_and_is_linear_in_the_new_dimensions():
    projection, weight = build().audio_projection, torch.randn(5, 15)
    inputs = torch.randn(4, 15)
    with torch.no_grad():
        outputs = join_projection(projection, 15, weight)(inputs)
        torch.testing.assert_close(outputs[:, :16], projection(inputs[:, :12]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(outputs[:, 16:], inputs @ weight.T, atol=1e-4, rtol=1e-4)


def test_a_joined_model_compares_both_parts(tmp_path):
    model, before = build(), build()
    text_weight, audio_weight, audio_bias = torch.randn(32, 3), torch.randn(3, 24), torch.randn(3)
    features = model.audio_model(build_waves(8)).last_hidden_state.mean(1).detach()
    join(model, text_weight, audio_weight, audio_bias, torch.randn(8, 32), features)
    model.save_pretrained(tmp_path)
    model = type(model).from_pretrained(tmp_path).eval()
    with torch.no_grad():
        old, new = before.audio_model(build_waves()), model.audio_model(build_waves())
        old_embeds = before.audio_projection(old.pooler_output)
        embeds = model.audio_projection(new.pooler_output)
    torch.testing.assert_close(embeds[:, :16], old_embeds, atol=1e-5, rtol=1e-5)
    classes = F.linear(new.last_hidden_state.mean(1), audio_weight, audio_bias)
    torch.testing.assert_close(F.normalize(embeds[:, 16:]), F.normalize(classes), atol=1e-4, rtol=1e-4)


def build_pair():
    """A model with taggers, and one with a student of theirs."""
    musicnn = {"model_type": "muscall_musicnn_model", **MUSICNN}
    mobilenet = {"model_type": "muscall_mobilenet_model", **MOBILENET, "window_seconds": 4, "hidden_size": 14}
    return [build_model(audio_config=config, projection_hidden_size=20) for config in (musicnn, mobilenet)]


@torch.no_grad()
def test_a_student_beside_its_taggers_counts_as_much_as_they_do():
    taggers, student = build_pair()
    windows = torch.randn(2, 64000) / 10
    mean = (taggers.audio_model(windows).pooler_output + student.audio_model(windows).pooler_output) / 2
    expected = taggers.audio_projection(mean)
    joined = join_towers(taggers, student)
    embeds = joined.audio_projection(joined.audio_model(windows).pooler_output)
    torch.testing.assert_close(embeds, expected, atol=1e-5, rtol=1e-5)


def test_a_student_with_other_features_is_refused():
    taggers, student = build_pair()[0], build()
    with pytest.raises(ValueError, match="the student must have the features of the taggers, 14, got 12"):
        join_towers(taggers, student)


@torch.no_grad()
def test_both_towers_say_what_the_classes_are(tmp_path):
    model = join_towers(*build_pair())
    windows = torch.randn(8, 64000) / 10
    before = model.audio_projection(model.audio_model(windows).pooler_output)
    features = hear_features(model.audio_model, windows)
    text_weight, audio_weight, audio_bias = torch.randn(32, 3), torch.randn(3, 14 + 24), torch.randn(3)
    join(model, text_weight, audio_weight, audio_bias, torch.randn(8, 32), features)
    model.save_pretrained(tmp_path)
    model = type(model).from_pretrained(tmp_path).eval()
    embeds = model.audio_projection(model.audio_model(windows).pooler_output)
    torch.testing.assert_close(embeds[:, :16], before, atol=1e-5, rtol=1e-5)
    classes = F.linear(features, audio_weight, audio_bias)
    torch.testing.assert_close(F.normalize(embeds[:, 16:]), F.normalize(classes), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_turned_space_keeps_similarities_and_begins_with_what_says_most():
    model, windows, sentences = build(), build_waves(8), torch.randn(8, 32)
    features = hear_features(model.audio_model, windows)

    def embed():
        pooled = model.audio_model(windows).pooler_output
        return F.normalize(model.audio_projection(pooled), dim=1), F.normalize(model.text_projection(sentences), dim=1)

    before = embed()
    order_dimensions(model, sentences, features)
    after = embed()
    torch.testing.assert_close(after[0] @ after[1].T, before[0] @ before[1].T, atol=1e-5, rtol=0)
    energy = sum(part.square().mean(0) for part in after)
    assert (energy.diff() < 1e-6).all()


def test_all_models_have_one_text_tower():
    first, second = build(), build()
    check_text_towers({"runs/words": first, "runs/distil": second})
    second.text_model.half().float()
    check_text_towers({"runs/words": first, "runs/distil": second})
    next(second.text_model.parameters()).data += 1
    with pytest.raises(ValueError, match="runs/distil must have the text tower of runs/words"):
        check_text_towers({"runs/words": first, "runs/distil": second})
