# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The text tower of an index as an ONNX graph: with it a query needs neither PyTorch nor transformers."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from muscall.cache import CACHE, replace_file


if TYPE_CHECKING:
    from muscall.encoder import Encoder


FORMAT = "2"  # of the file: what its metadata holds and its outputs are


class TextGraph:
    """
    A text tower without its checkpoint.

    Args:
        weights (`str`): The hash of the weights of the checkpoint, see [`muscall.checkpoint.hash_weights`].

    Raises:
        `ValueError`: if there is no graph of these weights, or its file is damaged or of other weights.
    """

    def __init__(self, weights: str):
        path = graph_path(weights)
        if not path.exists():
            raise ValueError(f"there is no graph of its text tower at {path}")
        options = onnxruntime.SessionOptions()
        # Its threads wait actively by default, and take the cores from the search that follows.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            settings = self.session.get_modelmeta().custom_metadata_map
            if (found := (settings.get("format"), settings.get("weights"))) != (FORMAT, weights):
                raise ValueError(f"the graph {path} is of other weights or of another version: {found[1]!s:.16}")
            self.tokenizer = Tokenizer.from_str(settings["tokenizer"])
        except Exception as error:  # onnxruntime has an exception for each of its status codes, and no common one
            if isinstance(error, ValueError):
                raise
            raise ValueError(f"the graph {path} is damaged: {error}") from error
        self.tokenizer.enable_padding(**json.loads(settings["padding"]))
        self.tokenizer.enable_truncation(int(settings["max_tokens"]))

    def embed_sentences(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Embed sentences twice, as [`muscall.encoder.Encoder.embed_sentences`] does."""
        encodings = self.tokenizer.encode_batch(texts)
        inputs = {
            "input_ids": np.array([encoding.ids for encoding in encodings], dtype=np.int64),
            "attention_mask": np.array([encoding.attention_mask for encoding in encodings], dtype=np.int64),
        }
        return tuple(self.session.run(["text_embeds", "sentence_embeds"], inputs))


def graph_path(weights: str) -> Path:
    """Return where the graph of a checkpoint with these weights lies: one file for all indexes that it made."""
    return CACHE / "text_graphs" / f"{weights}.onnx"


def write_text_graph(encoder: "Encoder", weights: str):
    """
    Write the graph of a text tower, if it is not there or not to be used.

    Raises:
        `OSError`: if it cannot be written. No part of it is left then.
    """
    from muscall.onnx_export import export_text_graph

    try:
        TextGraph(weights)
    except ValueError:
        tokenizer = encoder.tokenizer
        metadata = {
            "format": FORMAT,
            "weights": weights,
            "tokenizer": tokenizer.backend_tokenizer.to_str(),
            "padding": json.dumps({"pad_id": tokenizer.pad_token_id, "pad_token": tokenizer.pad_token}),
            "max_tokens": str(tokenizer.model_max_length),
        }
        with replace_file(graph_path(weights)) as partial:
            export_text_graph(encoder, partial, metadata)
