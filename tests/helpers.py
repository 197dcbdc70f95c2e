# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Tiny models and their settings, for all tests."""

import json
import shutil
import sys
from functools import cache
from pathlib import Path


ROOT = Path(__file__).resolve().parents[1]
PRODUCED = sorted((ROOT / "corpus" / "produced").glob("*.opus"))
# A tag from somebody who means harm.
HOSTILE = "'; DROP TABLE windows; -- \" \\ <script>alert(1)</script> \n\x1b[2J 日本語 🎵 ' OR 1=1"
RATE = 4000
SIZES = {"train": 48, "validation": 36, "test": 48}
PITCHES = {"low": 130, "deep": 200, "middle": 310, "bright": 480, "high": 740, "very high": 1150}  # hertz
HARMONICS = {"pure": 1, "rich": 6}
WORDINGS = ("a {} {} tone", "{} and {}", "the sound is {}, it is {} too")
# Settings of a tiny musicnn tower; its windows have 63 frames.
TEACHER = {"sampling_rate": RATE, "window_seconds": 2, "hop_length": 128, "n_fft": 256, "f_max": 2000}
TEACHER |= {"patch_frames": 16, "num_filters": 2, "num_middle_filters": 4, "feature_size": 16}
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


def copy_music(folder):
    """Copy five clips under names that real folders have, one into the trash, and a picture."""
    names = (
        "a b.opus",
        'it\'s "quoted".opus',
        "new\nline.opus",
        "日本語/песня.opus",
        "deep/er/c.opus",
        ".Trash-1000/files/c.opus",
    )
    for source, name in zip(PRODUCED[::9], names, strict=False):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, folder / name)
    (folder / "cover.jpg").write_bytes(b"not audio")
    return folder


def nest_chapters(depth):
    """An ID3 tag of chapters within chapters: from 1000 on, deeper than mutagen's parser can go."""
    frame = b""
    for _ in range(depth):
        content = bytes(17) + frame
        frame = b"CHAP" + bytes(len(content) >> shift & 127 for shift in (21, 14, 7, 0)) + b"\0\0" + content
    return b"ID3\4\0\0" + bytes(len(frame) >> shift & 127 for shift in (21, 14, 7, 0)) + frame


def run_index(*arguments):
    """`search.py index` for a fork: it sets `sys.argv`."""
    import search

    sys.argv = ["search.py", "index", *map(str, arguments)]
    search.main()


def read_content(store):
    """Return each row of an index by its track and start."""
    from muscall.search.snapshot import vectors

    rows = store.table.to_arrow()
    return {
        (row["track"], row["start"]): row | {"vector": vector.tolist()}
        for row, vector in zip(rows.drop_columns("vector").to_pylist(), vectors(rows), strict=True)
    }


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


@cache  # its vocabulary takes half a second to read
def tokenizer_to_save():
    """One that nobody calls, which would set how it pads."""
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(ROOT / "clip_tokenizer")


def save_model(folder, seed=0):
    """A checkpoint of the tiny model with random weights."""
    import torch
    import yaml

    from configuration_muscall import MusCALLConfig
    from modeling_muscall import MusCALLModel
    from processing_muscall import MusCALLFeatureExtractor, MusCALLProcessor

    torch.manual_seed(seed)
    model = MusCALLModel(MusCALLConfig(**yaml.safe_load(RECIPE)["model_config"]))
    model.save_pretrained(folder)
    extractor = MusCALLFeatureExtractor(sampling_rate=RATE, window_seconds=2)
    MusCALLProcessor(extractor, tokenizer_to_save()).save_pretrained(folder)
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


def make_clap(folder, fused):
    """A checkpoint of a tiny CLAP with random weights; `fused`: one whose feature extractor fuses long tracks."""
    import torch
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, ClapProcessor

    sizes = {"patch_embeds_hidden_size": 8, "hidden_size": 64, "depths": [1] * 4, "num_attention_heads": [1, 1, 2, 2]}
    text = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    text |= {"vocab_size": 49408, "max_position_embeddings": 90}
    config = ClapConfig(text_config=text, audio_config={**sizes, "enable_fusion": fused}, projection_dim=16)
    torch.manual_seed(0)
    ClapModel(config).save_pretrained(folder)
    extractor = ClapFeatureExtractor(truncation="fusion" if fused else "rand_trunc")
    ClapProcessor(extractor, tokenizer_to_save()).save_pretrained(folder)
    return folder


# The tasks of the Hub that concern audio, text or both. Another name as `pipeline_tag` hides a model from its search.
# https://github.com/huggingface/huggingface.js/blob/0057f40/packages/tasks/src/pipelines.ts
HUB_TASKS = {
    "audio-classification",
    "audio-text-to-text",
    "audio-to-audio",
    "any-to-any",
    "automatic-speech-recognition",
    "feature-extraction",
    "sentence-similarity",
    "text-classification",
    "text-generation",
    "text-ranking",
    "text-to-audio",
    "text-to-speech",
    "voice-activity-detection",
    "zero-shot-classification",
}
