# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Encoders of audio and text, ours and transformers' CLAP, behind one interface; their embeddings, kept on disk."""

import hashlib
import importlib
import inspect
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from accelerate import Accelerator
from accelerate.data_loader import prepare_data_loader
from accelerate.utils import broadcast, broadcast_object_list
from datasets import Dataset
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import AutoProcessor, ClapModel, PreTrainedConfig

from modeling_muscall import MusCALLModel
from processing_muscall import MusCALLFeatureExtractor
from training.captions import CACHE
from training.data import audio_source
from training.hashing import hash_file, hash_folder, with_code


@dataclass
class Encoder:
    """
    Two towers and what they read. The collators do not hold the model: workers of a loader get them.

    Args:
        model (`PreTrainedModel`): The dual encoder.
        processor (`ProcessorMixin`): Its processor.
        feature_extractor (`MusCALLFeatureExtractor`): Cuts tracks into windows, at the model's rate and length.
        collate_audio (`Callable`): Tracks, rows of `training.data.load_corpus` -> inputs of `audio_features`.
        collate_text (`Callable`): Sentences -> inputs of `text_features`.
        audio_features (`Callable`), text_features (`Callable`): Inputs -> L2-normalised `(batch, dim)`.
        logit_scale (`float`): What the model multiplies cosines with.
    """

    model: torch.nn.Module
    processor: transformers.ProcessorMixin
    feature_extractor: MusCALLFeatureExtractor
    collate_audio: Callable
    collate_text: Callable
    audio_features: Callable
    text_features: Callable
    logit_scale: float

    def protocol(self) -> dict:
        """What decides which audio is heard."""
        extractor = self.feature_extractor
        names = ("windows", "window_seconds", "sampling_rate")
        return {name: getattr(extractor, name) for name in names}

    def identity(self) -> str:
        """A hash of all that the embeddings depend on: weights, code, processor, window policy, versions, device."""
        digest = hashlib.sha256(f"{self.protocol()} {self.model.config.to_json_string(use_diff=False)}".encode())
        for name, tensor in self.model.state_dict().items():
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        digest.update(f"{torch.__version__} {transformers.__version__} {self.model.device.type}".encode())
        for module in {type(self.model).__module__, MusCALLFeatureExtractor.__module__, __name__}:
            digest.update(Path(inspect.getfile(importlib.import_module(module))).read_bytes())
        with tempfile.TemporaryDirectory() as folder:
            self.processor.save_pretrained(folder)
            digest.update(hash_folder(Path(folder)).encode())
        return digest.hexdigest()


def muscall_encoder(model: MusCALLModel, processor) -> Encoder:
    return Encoder(
        model=model,
        processor=processor,
        feature_extractor=processor.feature_extractor,
        collate_audio=partial(_collate_windows, processor.feature_extractor),
        collate_text=partial(_collate_text, processor),
        audio_features=lambda **inputs: model.get_audio_features(**inputs).pooler_output,
        text_features=lambda **inputs: model.get_text_features(**inputs).pooler_output,
        logit_scale=model.scale_similarity(torch.ones(())).item(),
    )


def clap_encoder(model: ClapModel, processor) -> Encoder:
    """CLAP with the windows of this repository: its own feature extractor would take a random part of a long track."""
    clap_extractor = processor.feature_extractor
    feature_extractor = MusCALLFeatureExtractor(
        sampling_rate=clap_extractor.sampling_rate, window_seconds=clap_extractor.max_length_s
    )

    def audio_features(input_features, is_longer, window_weights):
        real = window_weights > 0
        outputs = model.get_audio_features(input_features, is_longer=is_longer).pooler_output
        windows = F.normalize(outputs, dim=-1) * window_weights[real][:, None]
        tracks = real.nonzero()[:, 0]
        return F.normalize(windows.new_zeros(len(real), windows.shape[1]).index_add(0, tracks, windows), dim=-1)

    return Encoder(
        model=model,
        processor=processor,
        feature_extractor=feature_extractor,
        collate_audio=partial(_collate_clap, clap_extractor, feature_extractor),
        collate_text=partial(_collate_text, partial(processor.tokenizer, padding=True, truncation=True)),
        audio_features=audio_features,
        text_features=lambda **inputs: F.normalize(model.get_text_features(**inputs).pooler_output, dim=-1),
        logit_scale=model.logit_scale_a.exp().item(),
    )


def load_encoder(folder: Path, windows: str | int | None = None) -> Encoder:
    """
    Args:
        folder (`Path`):
            A checkpoint of this repository, or one of transformers' CLAP.
        windows (`str` or `int`, *optional*, defaults to the checkpoint's own setting; `"all"` for CLAP):
            Which windows of a track are read, see [`MusCALLFeatureExtractor`].

    Raises:
        `ValueError`: if the folder holds neither.
    """
    model_type = PreTrainedConfig.get_config_dict(folder)[0].get("model_type")
    if model_type == "muscall":
        model = MusCALLModel.from_pretrained(folder, dtype=torch.float32)
        encoder = muscall_encoder(model, AutoProcessor.from_pretrained(**with_code(folder), trust_remote_code=True))
    elif model_type == "clap":
        model = ClapModel.from_pretrained(folder, dtype=torch.float32)
        encoder = clap_encoder(model, AutoProcessor.from_pretrained(folder))
    else:
        raise ValueError(
            f"{folder} holds a {model_type!r} model: expected a dual encoder of audio and text, 'muscall' or 'clap'"
        )
    model.eval()
    if windows is not None:
        settings = {"sampling_rate": encoder.feature_extractor.sampling_rate, "windows": windows}
        settings["window_seconds"] = encoder.feature_extractor.window_seconds
        encoder.feature_extractor.windows = MusCALLFeatureExtractor(**settings).windows  # which checks it
    return encoder


def _collate_windows(feature_extractor, tracks: list[dict]) -> dict:
    return dict(feature_extractor([audio_source(track) for track in tracks], return_tensors="pt"))


def _collate_clap(clap_extractor, feature_extractor, tracks: list[dict]) -> dict:
    inputs = _collate_windows(feature_extractor, tracks)
    real = inputs["window_weights"] > 0
    windows = list(inputs["input_values"][real].numpy())
    features = clap_extractor(windows, sampling_rate=feature_extractor.sampling_rate, return_tensors="pt")
    # No window is longer than CLAP's own length; where none is, a fusing feature extractor calls a random one longer.
    is_longer = torch.zeros(len(windows), 1, dtype=torch.bool)
    return {
        "input_features": features["input_features"],
        "is_longer": is_longer,
        "window_weights": inputs["window_weights"],
    }


def _collate_text(tokenize, texts: list[str]) -> dict:
    inputs = tokenize(text=list(texts), return_tensors="pt")
    return {name: inputs[name] for name in ("input_ids", "attention_mask")}


@torch.no_grad()
def embed(
    encoder: Encoder, kind: str, items, accelerator: Accelerator, batch_size: int, num_workers: int = 0
) -> torch.Tensor:
    """
    Args:
        encoder ([`Encoder`]):
            Its model is left in evaluation mode, on the accelerator's device.
        kind (`str`):
            `"audio"` or `"text"`.
        items (`Dataset` or `list[str]`):
            Tracks, rows of `training.data.load_corpus`; or sentences.
        accelerator (`Accelerator`):
            Shares the work over its processes.
        batch_size (`int`):
            Items in a batch on each process.
        num_workers (`int`, *optional*, defaults to 0):
            Processes that read audio.

    Returns:
        `torch.Tensor` of shape `(len(items), dim)`: float32, on the CPU, whole on every process.
    """
    encoder.model.eval()
    loader = DataLoader(
        items,
        batch_size,
        collate_fn=encoder.collate_audio if kind == "audio" else encoder.collate_text,
        num_workers=num_workers if kind == "audio" else 0,
        generator=torch.Generator(),  # of its own: to evaluate leaves the random state of a training as it is
    )
    # Not accelerator.prepare, which would keep every loader, and so its items, for the rest of the run.
    place = (accelerator.device, accelerator.num_processes, accelerator.process_index)
    loader = prepare_data_loader(loader, *place, put_on_device=True)
    features = encoder.audio_features if kind == "audio" else encoder.text_features
    embeds = []
    for batch in tqdm(loader, f"embedding {kind}", leave=False, disable=not accelerator.is_main_process):
        with accelerator.autocast():
            rows = features(**batch).float()
        embeds.append(accelerator.gather_for_metrics(rows).cpu())
    return torch.cat(embeds)


def embed_corpus(
    model: MusCALLModel, processor, tracks: Dataset, accelerator: Accelerator, batch_size: int, num_workers: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """
    All tracks of a corpus and all their captions, by a model in training; arguments as in [`embed`].

    Returns:
        `text_embeds` of shape `(num_captions, projection_dim)`, `audio_ids` of shape `(num_captions,)`, the row of
        each caption's track, and `audio_embeds` of shape `(num_tracks, projection_dim)`.
    """
    for buffer in model.buffers():  # in training each process has batch-norm statistics of its own; the first's count
        broadcast(buffer)
    encoder = muscall_encoder(model, processor)
    captions, audio_ids = list_captions(tracks)
    audio_embeds = embed(encoder, "audio", tracks, accelerator, batch_size, num_workers)
    text_embeds = embed(encoder, "text", captions, accelerator, batch_size)
    return text_embeds, audio_ids, audio_embeds


def list_captions(tracks: Dataset) -> tuple[list[str], torch.Tensor]:
    """All captions, and the row of each one's track."""
    rows = tracks["captions"]
    captions = [caption for row in rows for caption in row]
    return captions, torch.tensor([index for index, row in enumerate(rows) for _ in row])


def hash_track(track: dict) -> str:
    """The SHA-256 of all the bytes of a track, which tells one content from another wherever it lies."""
    if track["bytes"] is not None:
        return hashlib.sha256(track["bytes"]).hexdigest()
    return f"{hash_file(track['path'])} {track['sampling_rate']}"


def embed_once(
    encoder: Encoder,
    kind: str,
    items,
    keys: list[str],
    accelerator: Accelerator,
    batch_size: int,
    num_workers: int = 0,
) -> np.ndarray:
    """
    As [`embed`], but what was embedded before comes from the Hugging Face cache, and items of one key, which are the
    same audio or the same sentence, get one embedding: bitwise equal, so that the metrics see a tie.

    Args:
        keys (`list[str]`): A hash of each item's content.

    Raises:
        `ValueError`: if an embedding is not finite.
    """
    plan = [None]
    if accelerator.is_main_process:
        first = {key: row for row, key in reversed(list(enumerate(keys)))}
        order = sorted(first)
        digest = hashlib.sha256(f"{kind} {encoder.identity()} {' '.join(order)}".encode()).hexdigest()
        path = CACHE / f"embeds-{kind}-{digest[:32]}.npy"
        plan = [(path, [first[key] for key in order], path.exists())]
    broadcast_object_list(plan)
    path, rows, is_cached = plan[0]
    if is_cached:
        embeds = np.load(path)
    else:
        distinct = items.select(rows) if isinstance(items, Dataset) else [items[row] for row in rows]
        embeds = embed(encoder, kind, distinct, accelerator, batch_size, num_workers).numpy()
        if not np.isfinite(embeds).all():
            finite = np.isfinite(embeds).all(axis=1)
            row = rows[int(finite.argmin())]
            name = items[row] if kind == "text" else items[row]["path"] or f"track {row}"
            raise ValueError(
                f"the checkpoint embeds {(~finite).sum()} of {len(rows)} items as NaN or Inf, the first {name!r}"
            )
        if accelerator.is_main_process:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial_path = path.with_name(f"{path.stem}.{os.getpid()}.part.npy")
            np.save(partial_path, embeds)
            os.replace(partial_path, path)
    places = {row: place for place, row in enumerate(rows)}
    first = {}
    return embeds[[places[first.setdefault(key, row)] for row, key in enumerate(keys)]]
