# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
Cost of smaller forms of a checkpoint: the text tower in 8 bits, embeddings cut to fewer dimensions or to 8 bits,
each by the retrieval of the default corpus' test split; and onnxruntime against PyTorch, both in this process.

    python -m benchmarks.deployment --model runs/scratch
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from transformers.utils.logging import disable_progress_bar

from corpus.build import resolve_dataset
from muscall.data.tracks import audio_source, list_captions
from muscall.encoder import Encoder, load_encoder
from muscall.evaluation.retrieval import retrieval_metrics
from muscall.evaluation.tracks import Tracks
from scripts.export_onnx import export_onnx


GRAPHS = ("audio_model", "text_model", "text_model_int8")


def recalls(text_embeds: np.ndarray, audio_ids: np.ndarray, audio_embeds: np.ndarray) -> str:
    """Return R@10 in both directions, as text."""
    metrics = retrieval_metrics(text_embeds, audio_ids, audio_embeds)
    return f"R@10 {metrics['text_to_audio_R@10']:.1f} text to audio, {metrics['audio_to_text_R@10']:.1f} audio to text"


def normalise(embeds: np.ndarray) -> np.ndarray:
    """Return rows of length 1."""
    return embeds / np.linalg.norm(embeds, axis=1, keepdims=True)


def to_int8(embeds: np.ndarray) -> np.ndarray:
    """Return embeddings in 8 bits, all by one scale: products of the integers rank as those of the vectors do."""
    return np.round(embeds * (127 / np.abs(embeds).max())).astype(np.int8)


def overlap(scores: np.ndarray, others: np.ndarray, k: int = 10) -> float:
    """Return the share of the first `k` of each row that two matrices of scores have in common."""
    pairs = zip(np.argsort(-scores)[:, :k], np.argsort(-others)[:, :k], strict=True)
    return float(np.mean([len(set(first) & set(second)) / k for first, second in pairs]))


def medians_ms(functions: dict[str, Callable], rounds: int = 50) -> dict[str, float]:
    """Return the median milliseconds of functions that are called in turns: what else runs slows all of them."""
    times = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            begin = time.perf_counter()
            function()
            times[name].append(1000 * (time.perf_counter() - begin))
    return {name: float(np.median(spent[3:])) for name, spent in times.items()}


def open_graphs(checkpoint: str) -> dict[str, onnxruntime.InferenceSession]:
    """Export a checkpoint, and return a session of one thread for each graph."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        for path in export_onnx(checkpoint, folder):
            print(f"{path}  {path.stat().st_size / 2**20:.1f} MiB")
        return {name: onnxruntime.InferenceSession(Path(folder, f"{name}.onnx"), options) for name in GRAPHS}


def tokens(encoder: Encoder, sentence: str) -> dict[str, np.ndarray]:
    """Return the inputs of the text graphs."""
    inputs = encoder.processor(text=sentence, return_tensors="np")
    return {name: inputs[name] for name in ("input_ids", "attention_mask")}


def compare_embeddings(text: np.ndarray, small: np.ndarray, audio_ids: np.ndarray, audio: np.ndarray):
    """
    Print the retrieval of smaller forms.

    Args:
        text (`np.ndarray` of shape `(captions, dim)`): In float32.
        small (`np.ndarray` of shape `(captions, dim)`): By the text tower in int8.
        audio_ids (`np.ndarray` of shape `(captions,)`): The track of each caption.
        audio (`np.ndarray` of shape `(tracks, dim)`): In float32.
    """
    cosines = (small * text).sum(1)
    print(f"\ntext tower in int8: {recalls(small, audio_ids, audio)}")
    print(f"  cosine to float32: mean {cosines.mean():.5f}, worst {cosines.min():.5f}")
    dim = text.shape[1]
    print(f"\nthe first dimensions of {dim}, normalised again:")
    for size in [dim // 2**halvings for halvings in range(4)]:
        print(f"  {size:4}: {recalls(normalise(text[:, :size]), audio_ids, normalise(audio[:, :size]))}")
    print("\nembeddings in int8:")
    whole, rounded = text @ audio.T, to_int8(text).astype(int) @ to_int8(audio).astype(int).T
    print(
        f"  both sides: {recalls(to_int8(text), audio_ids, to_int8(audio))}, overlap@10 {overlap(whole, rounded):.3f}"
    )


def compare_speed(encoder: Encoder, graphs: dict[str, onnxruntime.InferenceSession], sentence: str):
    """Print the time of a sentence and of a window in PyTorch and in onnxruntime."""
    samples = encoder.feature_extractor.window_samples
    window = 0.1 * np.random.default_rng(0).standard_normal((1, 1, samples)).astype(np.float32)
    inputs = tokens(encoder, sentence)
    torch_inputs = {name: torch.from_numpy(value) for name, value in inputs.items()}
    audio_inputs = {"input_values": window, "window_weights": np.ones((1, 1), np.float32)}
    rows = {
        "a sentence": {
            "PyTorch": partial(encoder.model.get_text_features, **torch_inputs),
            "onnxruntime": partial(graphs["text_model"].run, None, inputs),
            "onnxruntime in int8": partial(graphs["text_model_int8"].run, None, inputs),
        },
        "a window": {
            "PyTorch": partial(encoder.model.get_audio_features, torch.from_numpy(window)[:, 0]),
            "onnxruntime": partial(graphs["audio_model"].run, None, audio_inputs),
        },
    }
    print("\none thread each, in turns:")
    torch.set_num_threads(1)
    for name, functions in rows.items():
        with torch.inference_mode():
            medians = medians_ms(functions)
        for side, milliseconds in medians.items():
            ratio = medians["PyTorch"] / milliseconds
            print(f"  {name}, {side}: {milliseconds:.1f} ms, {ratio:.1f} times as fast as PyTorch")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a checkpoint")
    arguments = parser.parse_args()
    disable_progress_bar()
    encoder = load_encoder(arguments.model)
    tracks = Tracks("captions", resolve_dataset("default"))["test"]
    captions, audio_ids = list_captions(tracks)
    audio_ids = audio_ids.numpy()
    audio = np.stack([encoder.embed_track(audio_source(track)) for track in tracks])
    text = np.concatenate([encoder.embed_texts([caption]) for caption in captions])
    print(f"{len(tracks)} tracks, {len(captions)} captions; float32: {recalls(text, audio_ids, audio)}")
    graphs = open_graphs(arguments.model)
    small = [graphs["text_model_int8"].run(None, tokens(encoder, caption))[0] for caption in captions]
    compare_embeddings(text, np.concatenate(small), audio_ids, audio)
    compare_speed(encoder, graphs, captions[0])


if __name__ == "__main__":
    main()
