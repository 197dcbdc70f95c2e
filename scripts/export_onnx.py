# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
Export a checkpoint as ONNX graphs, for programs without PyTorch: waveform to embedding, tokens to embedding.

    python -m scripts.export_onnx runs/default runs/onnx

writes `audio_model.onnx`, `text_model.onnx`, the latter also in 8 bits, and what a caller needs beside them:
`tokenizer.json`, `tokenizer_config.json` and `processor_config.json`. scripts/onnx_example.py uses them. The text
graph has a second output, `sentence_embeds`, to compare texts with texts.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import nn
from transformers.utils.logging import disable_progress_bar

from configuration_muscall import MusCALLConfig
from modeling_muscall import MusCALLModel
from muscall.checkpoint import resolve
from muscall.encoder import Encoder, load_encoder
from muscall.onnx_export import export_graph, export_text_graph


COPIED = ("processor_config.json", "tokenizer.json", "tokenizer_config.json")


class AudioGraph(nn.Module):
    """`input_values` (batch, windows, samples), `window_weights` (batch, windows) -> `audio_embeds` (batch, dim)."""

    def __init__(self, model: MusCALLModel):
        super().__init__()
        self.audio_model, self.audio_projection = model.audio_model, model.audio_projection

    def forward(self, input_values: torch.Tensor, window_weights: torch.Tensor) -> torch.Tensor:
        pooled = self.audio_model(input_values.flatten(0, 1)).pooler_output
        window_embeds = F.normalize(self.audio_projection(pooled), dim=-1).unflatten(0, window_weights.shape)
        return F.normalize((window_embeds * window_weights[..., None]).sum(1), dim=-1)


def export_graphs(encoder: Encoder, folder: Path):
    """
    Write the graphs of both towers, and that of the text tower also with 8-bit weights.

    Args:
        encoder ([`Encoder`]): In float32.
        folder (`Path`): Where the graphs go.
    """
    batch, windows = torch.export.Dim("batch"), torch.export.Dim("windows")
    # The sizes of an example differ from 1 and from each other: equal ones would be taken for the same.
    input_values = torch.randn(2, 3, encoder.model.config.audio_config.window_samples)
    export_graph(
        AudioGraph(encoder.model),
        {"input_values": input_values, "window_weights": torch.ones(2, 3)},
        {"input_values": {0: batch, 1: windows}, "window_weights": {0: batch, 1: windows}},
        ["audio_embeds"],
        folder / "audio_model.onnx",
    )
    export_text_graph(encoder, folder / "text_model.onnx")
    # One scale for each column of a matrix: a pretrained encoder has a few large columns that one scale for all ruins.
    # In 7 bits: sums of products of 8 overflow on processors without VNNI.
    small = folder / "text_model_int8.onnx"
    quantize_dynamic(
        folder / "text_model.onnx", small, per_channel=True, reduce_range=True, weight_type=QuantType.QInt8
    )


def export_onnx(checkpoint: str | Path, folder: str | Path) -> list[Path]:
    """
    Export a checkpoint: its graphs, processor settings and tokenizer.

    Args:
        checkpoint (`str` or `Path`): The folder or Hub id of a checkpoint.
        folder (`str` or `Path`): Where the files go; it is made if it does not exist.

    Returns:
        `list[Path]`: The graphs.

    Raises:
        `ValueError`: if there is no MusCALL checkpoint.
    """
    source, target = resolve(str(checkpoint)), Path(folder)
    if missing := [name for name in ("config.json", *COPIED) if not (source / name).exists()]:
        raise ValueError(f"{source} is no MusCALL checkpoint: it lacks {', '.join(missing)}")
    if (kind := json.loads((source / "config.json").read_text()).get("model_type")) != MusCALLConfig.model_type:
        raise ValueError(f"{source} is no MusCALL checkpoint: expected the model_type 'muscall', got {kind!r}")
    encoder = load_encoder(source)
    target.mkdir(parents=True, exist_ok=True)
    export_graphs(encoder, target)
    for name in COPIED:
        shutil.copy(source / name, target)
    return sorted(target.glob("*.onnx"))


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit("usage: python -m scripts.export_onnx CHECKPOINT FOLDER")
    disable_progress_bar()
    try:
        paths = export_onnx(*sys.argv[1:])
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    for path in paths:
        print(f"{path}  {path.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
