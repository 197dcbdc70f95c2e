# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The baseline of tags: a model whose space is that of the names of tags."""

import numpy as np
import pytest
import soundfile
import torch
import torch.nn.functional as F
from small_models import make_sound
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from scripts.convert_musicnn import read_taggers
from scripts.open_mix.captions import phrases_of, tag_clips
from scripts.open_mix.tag_baseline import USUAL, build_tag_baseline, embed_sentences


@pytest.mark.slow
def test_the_tag_baseline(wheel, tmp_path):
    """Sentences pass as the encoder has them, tracks are the sum of their unusual tags."""
    folder = tmp_path / "train"
    folder.mkdir()
    for number, pitch in enumerate((0.5, 1, 1.5, 2)):
        samples = make_sound()[: 4 * 16000] * pitch * np.sin(np.arange(4 * 16000) * pitch / 9)
        soundfile.write(folder / f"{number}.flac", 0.3 * samples, 16000)
    clips = sorted(folder.glob("*.flac"))
    tags = tag_clips(clips, wheel)
    bert = BertConfig(vocab_size=30, hidden_size=64, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
    torch.manual_seed(0)
    BertModel(bert).save_pretrained(tmp_path / "bert")
    words = Tokenizer(
        models.WordLevel({"[PAD]": 0, "[UNK]": 1, "music": 2, "rock": 3, "slow": 4, "piano": 5}, "[UNK]")
    )
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]")
    words.save_pretrained(tmp_path / "bert")
    model, processor = build_tag_baseline(tmp_path, wheel, str(tmp_path / "bert"))
    with torch.no_grad():
        names = F.normalize(
            embed_sentences(model, words, [f"{name.partition(':')[2]} music" for name in tags]), dim=-1
        )
        hidden = embed_sentences(model, words, ["slow piano music", "rock", "rock piano"])
        length = embed_sentences(model, words, ["music", "a piano", "a song about rain"]).norm(dim=-1).mean()
        inputs = processor(text=["slow piano music", "rock", "rock piano"], return_tensors="pt")
        texts = model.get_text_features(**inputs).pooler_output
        torch.testing.assert_close(texts, F.normalize(hidden / length - names.mean(0), dim=-1), atol=1e-5, rtol=0)

        logits = torch.tensor(np.stack(list(tags.values()), 1), dtype=torch.float32).clamp(1e-4, 1 - 1e-4).logit()
        tower, layers = read_taggers(wheel)
        inputs = processor(audio=[str(clips[1])], return_tensors="pt")
        parts = tower(inputs["input_values"].flatten(0, -2)).pooler_output[0].split(200)
        heard = torch.cat([part @ weight + bias for part, (weight, bias, _) in zip(parts, layers, strict=True)])
        unusual = F.gelu((heard - logits.mean(0)) / logits.std(0) - USUAL)
        expected = F.normalize(unusual @ (names - names.mean(0)), dim=-1)
        torch.testing.assert_close(model.get_audio_features(**inputs).pooler_output[0], expected, atol=1e-4, rtol=0)

        # With phrases half of a tag is what people call such music; a tag of which nothing is known stays as it was.
        phrased, _ = build_tag_baseline(tmp_path, wheel, str(tmp_path / "bert"), phrases=True)
        columns = phrased.audio_projection[2].weight.T
        known, unknown = (list(tags).index(tag) for tag in ("MSD:rock", "MSD:beautiful"))
        called = F.normalize(embed_sentences(model, words, phrases_of("MSD:rock")), dim=-1).mean(0)
        expected = F.normalize(names[known] + F.normalize(called, dim=0), dim=0) - names[unknown]
        torch.testing.assert_close(columns[known] - columns[unknown], expected, atol=1e-5, rtol=0)
