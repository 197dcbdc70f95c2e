# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Embeddings of a corpus: the same for any number of processes and any batch size."""

import os

import pytest
import torch
import yaml
from accelerate import Accelerator
from forks import finish, fork_ranks
from helpers import RATE, ROOT
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

from configuration_muscall import MusCALLConfig
from modeling_muscall import MusCALLModel
from muscall.data.sources import load_corpus
from muscall.evaluation.embedding import embed_corpus
from processing_muscall import MusCALLFeatureExtractor, MusCALLProcessor


def build(corpus, recipe):
    torch.manual_seed(0)
    model = MusCALLModel(MusCALLConfig(**yaml.safe_load(recipe.read_text())["model_config"])).eval()
    extractor = MusCALLFeatureExtractor(sampling_rate=RATE, window_seconds=2)
    tracks = load_corpus(str(corpus))["test"].select(range(7))  # odd: the two processes have unequal shares
    return model, MusCALLProcessor(extractor, CLIPTokenizer.from_pretrained(ROOT / "clip_tokenizer")), tracks


def embed_in_a_process(corpus, recipe, folder):
    rank = int(os.environ["RANK"])
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    model, processor, tracks = build(corpus, recipe)
    results = {}
    if rank:  # statistics that a forward pass in training mode leaves behind differ between processes
        for buffer in model.buffers():
            buffer.add_(1)
    for size in (1, 3, 16):
        embeds = embed_corpus(model, processor, tracks, accelerator, size)
        results |= {f"{name}.{size}": value for name, value in zip(("text", "ids", "audio"), embeds, strict=True)}
    save_file({name: value.contiguous() for name, value in results.items()}, f"{folder}/{rank}.safetensors")
    accelerator.end_training()


@pytest.fixture(scope="module")
def two_processes(corpus, recipe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    for rank in fork_ranks(2, embed_in_a_process, corpus, recipe, folder):
        finish(rank)
    return [load_file(folder / f"{rank}.safetensors") for rank in range(2)]


@torch.no_grad()
def test_embeddings_do_not_depend_on_processes_or_batch_size(two_processes, corpus, recipe):
    model, processor, tracks = build(corpus, recipe)
    audio = [processor(audio=path, windows="all", return_tensors="pt") for path in tracks["path"]]
    assert {len(track["input_values"][0]) for track in audio} == {2, 3}
    audio_embeds = torch.cat([model.get_audio_features(**track).pooler_output for track in audio])
    texts = processor(text=sum(tracks["captions"], []), return_tensors="pt")
    text_embeds = model.get_text_features(**texts).pooler_output
    for results in two_processes:
        for size in (1, 3, 16):  # tolerance: float32 convolutions of another batch size differ in the last bits
            torch.testing.assert_close(results[f"audio.{size}"], audio_embeds, rtol=0, atol=2e-6)
            torch.testing.assert_close(results[f"text.{size}"], text_embeds, rtol=0, atol=2e-6)
            assert results[f"ids.{size}"].tolist() == list(range(7))
