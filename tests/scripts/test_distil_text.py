# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The small text tower: its sentences, its vocabulary, its losses, and a run of some steps."""

import gzip
import json

import pytest
import torch
from helpers import ROOT
from small_models import AUDIO, build_model
from torch import nn
from transformers import AlbertModel, AutoModel, AutoProcessor, BertTokenizer

from muscall.checkpoint import check_golden
from processing_muscall import MusCALLFeatureExtractor, MusCALLProcessor
from scripts.distil.running import write_checkpoint
from scripts.distil.sentences import Sentences, Texts, read_texts, split_sentences, write_texts
from scripts.distil.text import (
    Batches,
    add_gradients,
    build_tower,
    choose_tokens,
    distil,
    learning_rate_factor,
    measure_losses,
    pool,
    prepare_validation,
    prune_tokenizer,
    put,
    rounded,
)
from scripts.distil.texts import read_dictionary, read_music, read_wordnet
from scripts.release import shorten


TEXTS = Texts(
    captions=["A slow waltz. The violin weeps; it is sad.", "Drums and bass."],
    aspects=[["slow waltz", "violin"], ["drums"]],
    phrases=["rock music"],
    passages=["a river that flows to the sea"],
    nouns=["river", "grand piano"],
    words=["the", "quick", "wistful"],
    validation_captions=["A fast polka on the accordion.", "Bells ring."],
    validation_phrases=["church bells", "polka"],
)
BERT = {"model_type": "bert", "num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 64}
BERT |= {"num_attention_heads": 4, "vocab_size": 30522}
BUCKETS = {8: 6, 16: 3}
SIZE = 300  # of the small vocabulary


@pytest.fixture(scope="module")
def large() -> BertTokenizer:
    return BertTokenizer.from_pretrained(ROOT)


@pytest.fixture(scope="module")
def kept(large) -> list[int]:
    return choose_tokens(large, ["actually", "notatoken"], Sentences(TEXTS, 0).draw(300), SIZE)


@pytest.fixture(scope="module")
def small(large, kept):
    return prune_tokenizer(large, kept)


@pytest.fixture(scope="module")
def model():
    model = build_model(text_config=BERT, text_pooling="mean", audio_config=AUDIO)
    with torch.no_grad():  # as unlike as trained ones
        model.text_model.embeddings.word_embeddings.weight.normal_()
    return model.requires_grad_(False)


@pytest.fixture
def tower(model, kept) -> AlbertModel:
    return build_tower(model.text_model, kept, embedding_size=16, intermediate_size=24, num_layers=2)


def test_templates_are_filled_and_sentences_depend_on_the_seed():
    drawn = Sentences(TEXTS, 0).draw(500)
    assert not any(sign in sentence for sentence in drawn for sign in "{}")
    assert Sentences(TEXTS, 0).draw(500) == drawn != Sentences(TEXTS, 1).draw(500)


def test_sentences_end_at_their_signs():
    assert split_sentences(TEXTS.captions[0]) == ["A slow waltz.", "The violin weeps;", "it is sad."]


def test_texts_are_read_as_they_were_written(tmp_path):
    write_texts(TEXTS, tmp_path / "texts.json.gz")
    assert read_texts(tmp_path / "texts.json.gz") == TEXTS


def test_wordnet_gives_nouns_of_several_words_definitions_and_examples(tmp_path):
    (tmp_path / "data.noun").write_text(
        "  1 This is the licence\n"
        '00001740 06 n 02 grand_piano 0 grand 0 001 @ 00001 n 0000 | a large piano; "she plays a grand"  \n'
    )
    assert read_wordnet(tmp_path) == (["grand", "grand piano"], ["a large piano", "she plays a grand"])


def test_a_dictionary_gives_sentences_without_headwords_and_sources(tmp_path):
    with gzip.open(tmp_path / "a.dict.dz", "wt") as file:
        file.write('Coagulate \\Co*ag"u*late\\, a.\n   To curdle into a\n   {clot}. --Shak.\n   [1913 Webster]\n')
        file.write("\n   The blood is thick. As it should be.\n")
    assert read_dictionary(tmp_path / "a.dict.dz") == ["The blood is thick.", "As it should be."]


def test_captions_for_validation_are_not_learnt_from(tmp_path):
    rows = [f"a,/m/04rlf,\"['common', 'aspect {number}']\",Caption {number}." for number in range(20)]
    captions = tmp_path / "captions.csv"
    captions.write_text("\n".join(["ytid,audioset_positive_labels,aspect_list,caption", *rows]))
    labels, ontology = tmp_path / "labels.csv", tmp_path / "ontology.json"
    labels.write_text('index,mid,display_name\n0,/m/04rlf,"Music"\n')
    nodes = [{"id": "/m/04rlf", "name": "Music", "description": "An art.", "child_ids": []}]
    nodes.append({"id": "/m/015lz1", "name": "Singing", "description": "", "child_ids": []})
    ontology.write_text(json.dumps(nodes))
    texts = read_music(captions, labels, ontology)
    assert texts.validation_captions == ["Caption 0.", "Caption 10."]
    assert texts.validation_phrases == ["aspect 0", "aspect 10"]
    assert "Caption 1." in texts.captions and "An art." in texts.captions
    assert not {"Caption 0.", "Caption 10."} & set(texts.captions)
    assert {"singing", "power chords at full speed"} <= set(texts.phrases)


def test_the_small_vocabulary_has_what_was_asked_for(large, kept, small):
    assert len(kept) == SIZE == len(small) and kept == sorted(kept)
    assert small.convert_ids_to_tokens(range(5)) == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert small.tokenize("actually wistful drums") == large.tokenize("actually wistful drums")


def test_a_word_without_its_token_is_spelled_and_never_unknown(large, small):
    assert large.tokenize("zucchini") == ["zu", "##cchi", "##ni"]
    assert "[UNK]" not in small.tokenize("zucchini, jazz & 1980s Øresund!")
    assert "".join(small.tokenize("zucchini")).replace("##", "") == "zucchini"


def test_ids_of_special_tokens_follow_the_small_vocabulary(small):
    ids = small("a violin")["input_ids"]
    assert small.convert_ids_to_tokens(ids) == ["[CLS]", "a", "violin", "[SEP]"]
    assert max(ids) < SIZE and small.model_max_length == 128


def test_a_tower_starts_from_the_words_of_the_large_one(model, kept):
    tower = build_tower(model.text_model, kept, embedding_size=32, intermediate_size=24, num_layers=2).eval()
    embeddings = model.text_model.embeddings
    constant = embeddings.token_type_embeddings.weight[0] + embeddings.position_embeddings.weight[:128].mean(0)
    words = embeddings.LayerNorm(embeddings.word_embeddings.weight[kept] + constant)
    ids = torch.arange(SIZE)[:, None]
    mapped = tower.encoder.embedding_hidden_mapping_in(tower.embeddings(ids))[:, 0]
    assert torch.cosine_similarity(mapped, words, dim=-1).mean() > 0.98


def test_rounding_is_that_of_the_release_and_is_undone(tower):
    before = {name: parameter.clone() for name, parameter in tower.named_parameters()}
    with rounded(tower):
        for name, parameter in tower.named_parameters():
            assert torch.equal(parameter, shorten(f"text_model.{name}", before[name], True).float()), name
    for name, parameter in tower.named_parameters():
        assert torch.equal(parameter, before[name]), name


def test_all_large_tables_of_the_small_tower_have_8_bits(tower):
    stored = {name: shorten(f"text_model.{name}", values, True) for name, values in tower.state_dict().items()}
    wide = {name for name, values in stored.items() if values.dim() > 1 and values.dtype == torch.float16}
    assert wide == {"embeddings.position_embeddings.weight", "embeddings.token_type_embeddings.weight"}


def test_batches_have_the_same_sentences_in_both_vocabularies(large, small):
    batches = next(iter(Batches(TEXTS, small, large, BUCKETS)))
    assert [tuple(batch.small.shape) for batch in batches] == [(6, 8), (3, 16)]
    for batch in batches:
        assert small.batch_decode(batch.small, skip_special_tokens=True) == large.batch_decode(
            batch.large, skip_special_tokens=True
        )


def test_padding_changes_no_vector(model):
    ids = torch.tensor([[101, 2000, 102]])
    padded = torch.nn.functional.pad(ids, (0, 5))
    torch.testing.assert_close(pool(model.text_model, padded), pool(model.text_model, ids), atol=1e-5, rtol=1e-5)


def test_losses_are_zero_for_equal_vectors_and_as_by_hand():
    torch.manual_seed(0)
    teacher, projection = torch.randn(5, 4), nn.Linear(4, 3, bias=False)
    for name, value in measure_losses(teacher, teacher, projection).items():
        assert value.item() == pytest.approx(0, abs=1e-6), name
    losses = measure_losses(-teacher, teacher, projection)
    assert losses["vector"].item() == pytest.approx(4)
    assert losses["output"].item() == pytest.approx(2)


def test_the_schedule_warms_up_and_falls_to_nothing():
    assert learning_rate_factor(0.0, 149) == pytest.approx(0.5)
    assert learning_rate_factor(0.5, 4000) == pytest.approx(0.5)
    assert learning_rate_factor(1.0, 4000) == pytest.approx(0)


def test_gradients_reach_the_small_tower_alone(model, tower, large, small):
    losses = add_gradients(tower, model, next(iter(Batches(TEXTS, small, large, BUCKETS))))
    assert set(losses) == {"vector", "output", "similarity"}
    assert all(parameter.grad is not None for parameter in tower.parameters())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_run_lowers_the_loss_and_its_checkpoint_loads(model, tower, large, small, tmp_path, monkeypatch):
    monkeypatch.setattr("scripts.distil.text.WARMUP_STEPS", 2)
    rows = []
    validation = prepare_validation(TEXTS, model, small, large)
    before = validation.measure(tower.eval())
    batches = iter(Batches(TEXTS, small, large, BUCKETS))
    lengths = {"steps": 30, "minutes": 9, "every": 15}
    distil(tower, model, batches, validation, learning_rate=1e-2, report=rows.append, **lengths)
    assert [row["step"] for row in rows] == [15, 30]
    assert rows[1]["captions_vector"] > before["captions_vector"] + 0.1

    other = build_model(text_config=BERT, text_pooling="mean", audio_config=AUDIO, projection_dim=8)
    processor = MusCALLProcessor(MusCALLFeatureExtractor(window_seconds=1, num_mel_bins=32), large)
    put(other, processor, tower, small)
    write_checkpoint(other, processor, tmp_path)
    check_golden(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path, trust_remote_code=True)
    assert loaded.config.text_config.model_type == "albert"
    inputs = AutoProcessor.from_pretrained(tmp_path, trust_remote_code=True)(text="a slow waltz", return_tensors="pt")
    torch.testing.assert_close(
        loaded.get_text_features(**inputs).pooler_output,
        nn.functional.normalize(other.text_projection(pool(tower, inputs["input_ids"])), dim=-1),
    )


def test_a_run_ends_with_its_minutes(model, tower, large, small):
    rows = []
    validation = prepare_validation(TEXTS, model, small, large)
    batches = iter(Batches(TEXTS, small, large, BUCKETS))
    distil(tower, model, batches, validation, steps=99, minutes=1e-9, learning_rate=1e-2, every=50, report=rows.append)
    assert [row["step"] for row in rows] == [1]
