# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
What smaller forms of a checkpoint cost: the text tower in 8 bits, embeddings cut to fewer dimensions or to 8 bits,
each by the retrieval of the default corpus' test split; and onnxruntime against PyTorch, both in this process.

    python benchmarks/deployment.py --model runs/default
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from transformers.utils.logging import disable_progress_bar


ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from evaluation.data import Tracks  # noqa: E402
from evaluation.embedding import list_captions  # noqa: E402
from evaluation.retrieval import retrieval_metrics  # noqa: E402
from export_onnx import main as export  # noqa: E402
from library.model import Encoder  # noqa: E402
from training.data import audio_source  # noqa: E402


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


def median_ms(function, rounds: int = 30) -> float:
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        function()
        times.append(1000 * (time.perf_counter() - begin))
    return float(np.median(times[3:]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a checkpoint")
    arguments = parser.parse_args()
    disable_progress_bar()
    encoder = Encoder.load(arguments.model)
    tracks = Tracks("captions", "default")["test"]
    captions, audio_ids = list_captions(tracks)
    audio_ids = audio_ids.numpy()
    audio = np.stack([encoder.embed_track(audio_source(track)) for track in tracks])
    text = np.concatenate([encoder.embed_texts([caption]) for caption in captions])
    print(f"{len(tracks)} tracks, {len(captions)} captions; float32: {recalls(text, audio_ids, audio)}")

    with tempfile.TemporaryDirectory() as folder:
        export(arguments.model, folder)
        names = ("audio_model", "text_model", "text_model_int8")
        sessions = {name: onnxruntime.InferenceSession(Path(folder, f"{name}.onnx")) for name in names}

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
    with torch.inference_mode():
        rows = {
            "a sentence": (
                lambda: encoder.model.get_text_features(**torch_inputs),
                {
                    name: lambda name=name: sessions[name].run(None, inputs)
                    for name in ("text_model", "text_model_int8")
                },
            ),
            "a window": (
                lambda: encoder.model.get_audio_features(torch_window[:, 0]),
                {"audio_model": lambda: sessions["audio_model"].run(None, audio_inputs)},
            ),
        }
        print()
        for name, (with_torch, others) in rows.items():
            reference = median_ms(with_torch)
            for session, with_onnx in others.items():
                milliseconds = median_ms(with_onnx)
                print(
                    f"{name}: PyTorch {reference:.1f} ms, onnxruntime {session} {milliseconds:.1f} ms, "
                    f"{reference / milliseconds:.1f}x"
                )


if __name__ == "__main__":
    main()
