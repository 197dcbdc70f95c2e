# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""A tiny objective and a batch for it, for tests of the training step."""

from functools import cache

import torch
import yaml
from helpers import RATE, RECIPE, ROOT
from torch import nn
from transformers import CLIPTokenizer

from configuration_muscall import MusCALLConfig
from modeling_muscall import MusCALLConvNorm, MusCALLModel
from muscall.training.objectives import ContrastiveTask, Objective, SelfSupervisionTask


SIZE = 12  # pairs of the global batch
CAPTIONS = [*"abcdefgh", "a b", "the sound of one low and very rich tone", "b", "c d e"]  # "b" comes twice
TRACKS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 3]  # and so does track 3
LOSSES = ("plain", "content", "ssl", "content and ssl")


class TwoViews(nn.Module):
    """An augmentation that draws nothing: the first view is softer, the second one is later."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, waveforms):
        self.calls += 1
        return 0.5 * waveforms if self.calls % 2 else waveforms.roll(RATE // 2, 1)


def make_objective(loss="plain", dropout=0.0):
    torch.manual_seed(0)
    config = yaml.safe_load(RECIPE)["model_config"]
    config["text_config"]["attention_dropout"] = dropout
    model = MusCALLModel(MusCALLConfig(**config))
    for module in model.modules():
        if isinstance(module, MusCALLConvNorm):  # as after some training, also those that start as zero
            module.norm.weight.data.uniform_(0.5, 1.5)
            module.norm.running_mean.uniform_(-1, 1)
            module.norm.running_var.uniform_(0.5, 2)
    tasks = [ContrastiveTask(model, content_weighting="content" in loss)]
    if "ssl" in loss:
        tasks.append(SelfSupervisionTask(model.config.audio_config.hidden_size, weight=0.3))
        tasks[-1].augmentation = TwoViews()
    return Objective(model, tasks)


@cache  # its vocabulary takes half a second to read
def load_tokenizer():
    return CLIPTokenizer.from_pretrained(ROOT / "clip_tokenizer")


def make_batch(first=0, last=SIZE):
    generator = torch.Generator().manual_seed(1)
    waves = torch.randn(SIZE, 2 * RATE, generator=generator) * torch.linspace(0.01, 0.5, SIZE)[:, None]
    caption_embeds = torch.randn(SIZE, 8, generator=generator) + 0.5
    text = load_tokenizer()(CAPTIONS[first:last], padding=True, return_tensors="pt")
    targets = {
        "track_ids": torch.tensor(TRACKS[first:last]),
        "caption_ids": torch.tensor([CAPTIONS.index(caption) for caption in CAPTIONS[first:last]]),
        "caption_embeds": caption_embeds[first:last],
    }
    return {"input_values": waves[first:last], **text}, targets


def gradients_of(objective):
    return {name: parameter.grad for name, parameter in objective.named_parameters()}
