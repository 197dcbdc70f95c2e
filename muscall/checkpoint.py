# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""A checkpoint folder: where it lies, what tells it from others, and the golden outputs beside its weights."""

import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile
import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from transformers import AutoModel, AutoProcessor

from modeling_muscall import mean_cosine


CHECKOUT = Path(__file__).resolve().parents[1]
GOLDEN = "golden.safetensors"
SENTENCES = ["calm solo piano at night", "a fast samba with brass and percussion", "loud distorted guitars", "strings"]
RATE = 8000  # Hz; not the model's, so that resampling is checked too
TOLERANCE = 1e-4  # of float32 on another machine
COLLAPSED = 0.99  # mean cosine of unlike sentences
# What a model needs of a repository on the Hub: configuration, weights, processor, tokenizer, code and golden outputs,
# none of which lie in its folders.
MODEL_FILES = ["*.json", "*.model", "*.py", "*.safetensors", "*.txt", "pytorch_model*.bin"]


def resolve(model_name_or_path: str) -> Path:
    """
    Return the folder of a checkpoint: the one given, one of this checkout, such as `fast`, or a snapshot of what a
    model needs of a Hub repository.

    Raises:
        `ValueError`: if the name is neither that of a folder nor that of a repository.
    """
    if Path(model_name_or_path).is_dir():
        return Path(model_name_or_path)
    in_checkout = CHECKOUT / model_name_or_path
    if ".." not in in_checkout.parts and (in_checkout / "config.json").is_file():
        return in_checkout
    if Path(model_name_or_path).exists() or not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", model_name_or_path):
        raise ValueError(f"{model_name_or_path}: expected the folder of a checkpoint, or the id of one on the Hub")
    return Path(snapshot_download(model_name_or_path, allow_patterns=MODEL_FILES, ignore_patterns=["*/*"]))


@contextmanager
def damaged_weights_in_words(name: str | Path | None) -> Iterator[None]:
    """Raise a `ValueError` that names the checkpoint where safetensors cannot read its weights, which does not."""
    try:
        yield
    except SafetensorError as error:
        raise ValueError(f"the weights of {name} are damaged: {error}") from error


def make_audio(seconds: float) -> bytes:
    """Return a FLAC file of a falling scale over a beat, 8 bits a sample."""
    time = np.arange(round(seconds * RATE)) / RATE
    step = np.floor(2 * time) % 12
    tone = sum(np.sin(2 * np.pi * overtone * 880 * 2 ** (-step / 12) * time) / overtone for overtone in (1, 2, 3))
    beat = np.sin(2 * np.pi * 90 * time) * np.exp(-12 * (2 * time % 1))
    buffer = io.BytesIO()
    soundfile.write(buffer, 0.2 * tone + 0.4 * beat, RATE, format="FLAC", subtype="PCM_S8")
    return buffer.getvalue()


@torch.no_grad()
def embed(folder: Path, audio: bytes, sentences: list[str]) -> dict[str, torch.Tensor]:
    """Embed as a user does who loads the checkpoint with the code that is in its folder."""
    model = AutoModel.from_pretrained(folder, trust_remote_code=True, dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    outputs = model(**processor(text=sentences, audio=audio, return_tensors="pt"))
    return {"audio_embeds": outputs.audio_embeds, "text_embeds": outputs.text_embeds}


def write_golden(folder: Path) -> None:
    """Embed the golden inputs, one track of one window and a quarter and four sentences, and write all of them."""
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    audio = make_audio(1.25 * processor.feature_extractor.window_seconds)
    tensors = embed(folder, audio, SENTENCES) | {"audio": torch.frombuffer(bytearray(audio), dtype=torch.uint8)}
    save_file(tensors, folder / GOLDEN, metadata={"sentences": json.dumps(SENTENCES)})


def check_golden(folder: Path) -> dict[str, float]:
    """
    Compare a checkpoint with its golden outputs.

    Returns:
        `dict[str, float]`: the largest difference of each kind of embedding.

    Raises:
        `ValueError`: if there are no golden outputs, they are not met, or all sentences are the same to the model.
    """
    if not (folder / GOLDEN).exists():
        raise ValueError(f"{folder} has no {GOLDEN}: expected a checkpoint as train.py writes it")
    with safe_open(folder / GOLDEN, "pt") as file:
        expected = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it cannot be iterated
        sentences = json.loads(file.metadata()["sentences"])
    embeds = embed(folder, expected.pop("audio").numpy().tobytes(), sentences)
    differences = {name: (embeds[name] - expected[name]).abs().max().item() for name in expected}
    for name, difference in differences.items():
        if not difference <= TOLERANCE:
            raise ValueError(
                f"{folder} does not give its golden {name}: they differ by {difference:.1e}, expected at most "
                f"{TOLERANCE:.0e}. Weights, code, processor or tokenizer are not those it was published with"
            )
    if (mean := mean_cosine(embeds["text_embeds"])) > COLLAPSED:
        raise ValueError(f"{folder} gives unlike sentences nearly the same embedding, mean cosine {mean:.3f}")
    return differences
