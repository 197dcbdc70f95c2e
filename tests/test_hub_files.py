# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The repository as the Hub sees it: what was released loads from the checkout itself. And the paper's tokenizer."""

from pathlib import Path

import pytest
import torch
from helpers import HUB_TASKS
from huggingface_hub import ModelCard
from transformers import AutoConfig, AutoModel, AutoProcessor, CLIPTokenizer

from configuration_muscall import MusCALLConfig
from modeling_muscall import find_weight_problems


ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def tokenizer():
    return CLIPTokenizer.from_pretrained(ROOT / "clip_tokenizer")


@pytest.mark.parametrize("subfolder", ["", "fast"])
def test_a_release_loads_in_float32(subfolder):
    model = AutoModel.from_pretrained(ROOT, subfolder=subfolder, trust_remote_code=True)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32} and not find_weight_problems(model)


@pytest.mark.parametrize("subfolder", ["", "fast"])
def test_the_processor_of_a_release_fits_its_config(subfolder):
    processor = AutoProcessor.from_pretrained(ROOT, subfolder=subfolder, trust_remote_code=True)
    config = AutoConfig.from_pretrained(ROOT, subfolder=subfolder, trust_remote_code=True)
    assert config.architectures == ["MusCALLModel"]
    assert processor.feature_extractor.sampling_rate == config.audio_config.sampling_rate
    assert processor.feature_extractor.window_samples == config.audio_config.window_samples
    assert len(processor.tokenizer) == config.text_config.vocab_size
    assert processor.tokenizer.model_max_length <= config.text_config.max_position_embeddings


def test_the_card_names_a_task_of_the_hub():
    assert ModelCard.load(ROOT / "README.md").data.pipeline_tag in HUB_TASKS


def test_a_subfolder_has_the_code_of_the_root():
    """Whoever names it by its path gets it all from there. After a change: `cp *_muscall*.py fast/`."""
    root, fast = ({path.name: path.read_text() for path in folder.glob("*.py")} for folder in (ROOT, ROOT / "fast"))
    assert fast == {name: code for name, code in root.items() if "_muscall" in name}


def test_the_releases_are_small():
    root, fast = ((ROOT / folder / "model.safetensors").stat().st_size for folder in ("", "fast"))
    assert root < 60e6 and fast < 10e6


@pytest.mark.parametrize("subfolder", ["", "fast"])
def test_a_release_finds_the_tracks_of_the_readme(subfolder):
    tracks = [f"{ROOT}/corpus/produced/produced-{number}.opus" for number in ("0075-a", "0054-a", "0053-b", "0045-a")]
    sentences = ["brutal metal", "classical flute and piano", "synthesizers and a steady beat", "a jazz band"]
    model = AutoModel.from_pretrained(ROOT, subfolder=subfolder, trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(ROOT, subfolder=subfolder, trust_remote_code=True)
    with torch.inference_mode():
        outputs = model(**processor(text=sentences, audio=tracks, return_tensors="pt"))
    assert outputs.logits_per_text.argmax(1).tolist() == [0, 1, 2, 3]


def test_the_papers_tokenizer_fits_the_default_config(tokenizer):
    text_config = MusCALLConfig().text_config
    assert len(tokenizer) == text_config.vocab_size
    assert tokenizer.model_max_length == text_config.max_position_embeddings
    special = (text_config.bos_token_id, text_config.eos_token_id, text_config.pad_token_id)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == special


# From `SimpleTokenizer` of openai/CLIP, as packaged by clip-anytorch 2.6.0, between its two special tokens.
@pytest.mark.parametrize(
    ("caption", "ids"),
    [
        ("A fast samba with brass, 132 bpm.", [320, 1953, 37190, 593, 11655, 267, 272, 274, 273, 40338, 269]),
        ("Calm SOLO  piano at night!", [7011, 5797, 7894, 536, 930, 256]),
        ("8-bit chiptune 🎵 für Elise", [279, 268, 2010, 19271, 3300, 14946, 69, 6522, 337, 27124]),
        ("日本の音楽", [39121, 44353, 21575, 165, 253, 111, 162, 98, 377]),
    ],
)
def test_tokens_are_clips(tokenizer, caption, ids):
    assert tokenizer(caption)["input_ids"] == [49406, *ids, 49407]


def test_truncation_keeps_the_end_of_text(tokenizer):
    ids = tokenizer("word " * 10000, truncation=True)["input_ids"]
    assert len(ids) == 77 and ids[0] == 49406 and ids[-1] == 49407


def test_padding_to_the_longest(tokenizer):
    batch = tokenizer(["piano", "a slow waltz"], padding=True, return_tensors="pt")
    assert batch.input_ids.shape == (2, 5)
    assert batch.attention_mask.tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
