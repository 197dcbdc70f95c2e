# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Before anything is imported: no network and a Hugging Face cache of this test run alone. And a corpus of tones."""

import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import soundfile


HF_HOME = tempfile.TemporaryDirectory(prefix="muscall-tests-")
os.environ |= {"HF_HOME": HF_HOME.name, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the models are tiny; several processes train at once
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait leave the cores to those that work

RATE = 4000
SIZES = {"train": 48, "validation": 36, "test": 48}
PITCHES = {"low": 130, "deep": 200, "middle": 310, "bright": 480, "high": 740, "very high": 1150}  # hertz
HARMONICS = {"pure": 1, "rich": 6}
WORDINGS = ("a {} {} tone", "{} and {}", "the sound is {}, it is {} too")
# Dropout, so that a resumed run must have the random state too.
RECIPE = """
model_config:
  audio_config: {sampling_rate: 4000, window_seconds: 2, n_fft: 256, hop_length: 128, num_mel_bins: 32, f_max: 2000,
                 stem_width: 4, depths: [1, 1, 1, 1], hidden_size: 32, num_attention_heads: 4}
  text_config: {num_hidden_layers: 1, hidden_size: 32, intermediate_size: 64, num_attention_heads: 2,
                attention_dropout: 0.1}
  projection_dim: 32
batch_size: 8
num_epochs: 12
learning_rate: 0.003
num_workers: 1
eval_every: 4
log_every: 1
"""


@pytest.fixture(scope="session", autouse=True)
def remove_cache():
    yield
    HF_HOME.cleanup()


@pytest.fixture(scope="session")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """Tones of six pitches, pure or rich, each with a caption that says so; 2.5 to 5 s long, so 2 or 3 windows."""
    folder, random = tmp_path_factory.mktemp("corpus"), np.random.default_rng(0)
    for split, size in SIZES.items():
        (folder / split).mkdir()
        rows = []
        for number in range(size):
            pitch, wave = list(PITCHES)[number % 6], list(HARMONICS)[number // 6 % 2]
            time = np.arange(round(random.uniform(2.5, 5) * RATE)) / RATE
            frequencies = PITCHES[pitch] * random.uniform(0.97, 1.03) * np.arange(1, HARMONICS[wave] + 1)
            tone = sum(np.sin(2 * np.pi * hertz * time) for hertz in frequencies if hertz < RATE / 2)
            soundfile.write(folder / split / f"{number}.flac", 0.15 * tone + random.normal(0, 0.02, len(time)), RATE)
            caption = random.choice(WORDINGS).format(pitch, wave)
            rows.append(json.dumps({"file_name": f"{number}.flac", "caption": caption}) + "\n")
        (folder / split / "metadata.jsonl").write_text("".join(rows))
    return folder


def make_sentence_model(folder):
    """A Sentence-Transformers folder with random weights and few words."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "calm", "solo", "piano", "fast", "samba", "with", "brass", *PITCHES, *HARMONICS]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(words), **sizes)).save_pretrained(folder / "bert")
    tokenizer.save_pretrained(folder / "bert")
    modules = [Transformer(str(folder / "bert")), Pooling(16)]
    SentenceTransformer(modules=modules, device="cpu").save(str(folder / "sentence_model"))
    return folder / "sentence_model"


def save_model(folder, seed=0):
    """A checkpoint of the tiny model with random weights."""
    import torch
    import yaml
    from transformers import CLIPTokenizer

    from configuration_muscall import MusCALLConfig
    from modeling_muscall import MusCALLModel
    from processing_muscall import MusCALLFeatureExtractor, MusCALLProcessor

    torch.manual_seed(seed)
    model = MusCALLModel(MusCALLConfig(**yaml.safe_load(RECIPE)["model_config"]))
    tokenizer = CLIPTokenizer.from_pretrained(Path(__file__).parents[1] / "clip_tokenizer")
    model.save_pretrained(folder)
    MusCALLProcessor(MusCALLFeatureExtractor(sampling_rate=RATE, window_seconds=2), tokenizer).save_pretrained(folder)
    return folder


def save_teacher(folder, **config):
    """As convert_musicnn.py writes it, with random weights and 5 tags."""
    import torch
    from safetensors.torch import save_file

    from configuration_muscall import MusCALLMusicnnConfig
    from modeling_muscall import MusCALLMusicnnModel

    torch.manual_seed(1)
    tower = MusCALLMusicnnModel(MusCALLMusicnnConfig(**config))
    for network in tower.networks:  # outputs that differ from sound to sound
        network.dense_norm.running_var.fill_(0.05)
        network.dense_norm.weight.data.uniform_(-2, 2)
    tower.save_pretrained(folder)
    tensors = {"weight": torch.randn(tower.config.hidden_size, 5), "bias": torch.randn(5)}
    save_file(tensors, folder / "tags.safetensors", metadata={"tags": json.dumps(list("abcde"))})
    return folder
