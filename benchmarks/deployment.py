# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
What smaller forms of a checkpoint cost: the text tower in 8 bits, embeddings cut to fewer dimensions or to 8 bits,
each by the retrieval of the default corpus' test split; and onnxruntime against PyTorch, both in this process.

    python benchmarks/deployment.py --model runs/default
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from transformers.utils.logging import disable_progress_bar

from corpus.build import build_corpus
from muscall.data.tracks import audio_source, list_captions
from muscall.encoder import load_encoder
from muscall.evaluation.retrieval import retrieval_metrics
from muscall.evaluation.tracks import Tracks
from scripts.export_onnx import main as export


ROOT = Path(__file__).parents[1]


def recalls(text_embeds, audio_ids, audio_embeds) -> str:
    metrics = retrieval_metrics(text_embeds, audio_ids, audio_embeds)
    return f"R@10 {metrics['text_to_audio_R@10']:.1f} text to audio, {metrics['audio_to_text_R@10']:.1f} audio to text"


def normalise(embeds: np.ndarray) -> np.ndarray:
    return embeds / np.linalg.norm(embeds, axis=1, keepdims=True)


def to_int8(embeds: np.ndarray) -> np.ndarray:
    """One scale for all: products of the integers rank as those of the vectors do."""
    return np.round(embeds * (127 / np.abs(embeds).max())).astype(np.int8)


def overlap(scores: np.ndarray, others: np.ndarray, k: int = 10) -> float:
    pairs = zip(np.argsort(-scores)[:, :k], np.argsort(-others)[:, :k], strict=True)
    return float(np.mean([len(set(first) & set(second)) / k for first, second in pairs]))


def medians_ms(functions: dict, rounds: int = 50) -> dict[str, float]:
    """In turns, so that what else runs on the machine slows all of them."""
    times = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            begin = time.perf_counter()
            function()
            times[name].append(1000 * (time.perf_counter() - begin))
    return {name: float(np.median(spent[3:])) for name, spent in times.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a checkpoint")
    arguments = parser.parse_args()
    disable_progress_bar()
    encoder = load_encoder(arguments.model)
    tracks = Tracks("captions", str(build_corpus()))["test"]
    captions, audio_ids = list_captions(tracks)
    audio_ids = audio_ids.numpy()
    audio = np.stack([encoder.embed_track(audio_source(track)) for track in tracks])
    text = np.concatenate([encoder.embed_texts([caption]) for caption in captions])
    print(f"{len(tracks)} tracks, {len(captions)} captions; float32: {recalls(text, audio_ids, audio)}")

    with tempfile.TemporaryDirectory() as folder:
        export(arguments.model, folder)
        names = ("audio_model", "text_model", "text_model_int8")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        sessions = {name: onnxruntime.InferenceSession(Path(folder, f"{name}.onnx"), options) for name in names}

    def tokens(sentence):
        inputs = encoder.processor(text=sentence, return_tensors="np")
        return {name: inputs[name] for name in ("input_ids", "attention_mask")}

    small = np.concatenate([sessions["text_model_int8"].run(None, tokens(caption))[0] for caption in captions])
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

    window = np.random.default_rng(0).standard_normal((1, 1, encoder.processor.feature_extractor.window_samples))
    window, sentence = 0.1 * window.astype(np.float32), captions[0]
    weights, inputs = np.ones((1, 1), np.float32), tokens(sentence)
    torch_inputs = {name: torch.from_numpy(value) for name, value in inputs.items()}
    torch_window = torch.from_numpy(window)
    audio_inputs = {"input_values": window, "window_weights": weights}
    rows = {
        "a sentence": {
            "PyTorch": lambda: encoder.model.get_text_features(**torch_inputs),
            "onnxruntime": lambda: sessions["text_model"].run(None, inputs),
            "onnxruntime in int8": lambda: sessions["text_model_int8"].run(None, inputs),
        },
        "a window": {
            "PyTorch": lambda: encoder.model.get_audio_features(torch_window[:, 0]),
            "onnxruntime": lambda: sessions["audio_model"].run(None, audio_inputs),
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


if __name__ == "__main__":
    main()
