# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Export to ONNX: a module with several inputs and outputs, and the text tower of an encoder."""

import logging
import warnings
from copy import deepcopy
from pathlib import Path

import torch
from torch import nn

from muscall.encoder import Encoder


OPSET = 20  # its STFT is as exact as a matrix product with the Fourier basis, which would add 4 to 16 MiB


class TextGraph(nn.Module):
    """`input_ids` and `attention_mask` (batch, tokens) -> `text_embeds` and `sentence_embeds`, see [`Encoder`]."""

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.encoder, self.model = encoder, encoder.model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.encoder.text_and_sentence_features(input_ids=input_ids, attention_mask=attention_mask)


def export_text_graph(encoder: Encoder, path: Path, metadata: dict[str, str] | None = None):
    """
    Write the text tower as a graph, equal to the model to 1e-5.

    Args:
        encoder ([`Encoder`]): In float32. It stays as it is.
        path (`Path`): The file to write.
        metadata (`dict[str, str]`, *optional*): Texts that go into the file.
    """
    encoder = deepcopy(encoder)
    # The exporter cannot decompose T5's attention with PyTorch's own.
    encoder.model.to("cpu").text_model.set_attn_implementation("eager")
    batch = torch.export.Dim("batch")
    # A sentence has a begin and an end.
    tokens = torch.export.Dim("tokens", min=2, max=encoder.tokenizer.model_max_length)
    # The sizes of an example differ from 1 and from each other: equal ones would be taken for the same.
    input_ids = torch.randint(1, 9, (2, 7))
    export_graph(
        TextGraph(encoder),
        {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids)},
        {"input_ids": {0: batch, 1: tokens}, "attention_mask": {0: batch, 1: tokens}},
        ["text_embeds", "sentence_embeds"],
        path,
        metadata,
    )


def export_graph(
    graph: nn.Module,
    inputs: dict[str, torch.Tensor],
    dynamic_shapes: dict[str, dict],
    outputs: list[str],
    path: Path,
    metadata: dict[str, str] | None = None,
):
    """Write a module as a graph; `inputs` are examples, `dynamic_shapes` as `torch.export` takes them."""
    with warnings.catch_warnings():  # the exporter warns and logs about itself
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            program = torch.onnx.export(
                graph,
                kwargs=inputs,
                input_names=list(inputs),
                output_names=outputs,
                dynamic_shapes=dynamic_shapes,
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
        finally:
            logging.disable(logging.NOTSET)
    program.model.metadata_props.update(metadata or {})
    program.save(path)
