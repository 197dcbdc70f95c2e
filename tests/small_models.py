# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Small models with random weights as after training, and sounds for them."""

import numpy as np
import torch
from helpers import ROOT
from transformers import CLIPTokenizer

from configuration_muscall import (
    MusCALLConfig,
    MusCALLEnsembleConfig,
    MusCALLMobileNetConfig,
    MusCALLMusicnnConfig,
)
from modeling_muscall import MusCALLEnsembleModel, MusCALLMobileNetModel, MusCALLModel, MusCALLMusicnnModel
from processing_muscall import MusCALLFeatureExtractor, MusCALLProcessor


AUDIO = {"window_seconds": 1, "num_mel_bins": 32, "stem_width": 4, "depths": [1, 2, 1, 1], "hidden_size": 24}
MUSICNN = {"window_seconds": 4, "num_filters": 3, "num_middle_filters": 5, "feature_size": 7}
MOBILENET = {"window_seconds": 1, "num_mel_bins": 32, "width": 0.1, "stem_width": 0.1}
MOBILENET |= {"trunk_channels": 24, "hidden_size": 12}
ENSEMBLE = {"musicnn_config": MUSICNN, "mobilenet_config": MOBILENET | {"window_seconds": 4}}
TEXT = {"num_hidden_layers": 1, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
BERT = {"model_type": "bert", "num_hidden_layers": 1, "hidden_size": 32, "intermediate_size": 64}
BERT |= {"num_attention_heads": 4, "vocab_size": 99}


def as_trained(model):
    """Let every weight count and the statistics of the batch norms be other than 0 and 1, as after training."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 2)
            module.bias.data.normal_(std=0.1)
    return model.eval()


def build_model(**kwargs):
    torch.manual_seed(0)
    kwargs = {"audio_config": AUDIO, "text_config": TEXT, "projection_dim": 16} | kwargs
    return as_trained(MusCALLModel(MusCALLConfig(**kwargs)))


def build_waves(batch_size=3, seed=0):
    return torch.randn(batch_size, 16000, generator=torch.Generator().manual_seed(seed)) / 10


def build_processor():
    tokenizer = CLIPTokenizer.from_pretrained(ROOT / "clip_tokenizer")
    return MusCALLProcessor(MusCALLFeatureExtractor(window_seconds=1), tokenizer)


def build_musicnn(seed=0, **changes) -> MusCALLMusicnnModel:
    """A small tower with statistics and scales of either sign, as after training."""
    torch.manual_seed(seed)
    tower = MusCALLMusicnnModel(MusCALLMusicnnConfig(**(MUSICNN | changes)))
    for module in tower.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.weight.data = torch.rand_like(module.weight) * (-1.0) ** torch.arange(len(module.weight))
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    return tower.eval()


def build_mobilenet() -> MusCALLMobileNetModel:
    torch.manual_seed(0)
    return as_trained(MusCALLMobileNetModel(MusCALLMobileNetConfig(**MOBILENET)))


def build_ensemble() -> MusCALLEnsembleModel:
    torch.manual_seed(0)
    return as_trained(MusCALLEnsembleModel(MusCALLEnsembleConfig(**ENSEMBLE)))


def build_musicnn_model(**changes) -> MusCALLModel:
    torch.manual_seed(0)
    audio_config = {"model_type": "muscall_musicnn_model", **MUSICNN}
    config = MusCALLConfig(audio_config=audio_config, text_config=TEXT, projection_dim=16, **changes)
    return MusCALLModel(config)


def make_sound() -> np.ndarray:
    """10 s at 16 kHz: a falling scale over a beat, and noise that comes and goes; the fixture was made of it."""
    time = np.arange(160000) / 16000
    hertz = 880 * 2 ** (-(np.floor(2 * time) % 12) / 12)
    tone = sum(np.sin(2 * np.pi * overtone * hertz * time) / overtone for overtone in (1, 2, 3))
    beat = np.sin(2 * np.pi * 90 * time) * np.exp(-12 * (2 * time % 1))
    noise = np.random.default_rng(0).standard_normal(len(time)) * (time % 3 < 1)
    return (0.2 * tone + 0.4 * beat + 0.05 * noise).astype(np.float32)
