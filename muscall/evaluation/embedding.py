# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Embeddings of tracks and sentences, computed by all processes together and kept on disk."""

import hashlib

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.data_loader import prepare_data_loader
from accelerate.utils import broadcast, broadcast_object_list
from datasets import Dataset
from torch.utils.data import DataLoader
from tqdm import tqdm

from modeling_muscall import MusCALLModel
from muscall.cache import CACHE, replace_file
from muscall.data.tracks import list_captions
from muscall.encoder import Encoder, MusCALLEncoder


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
            Tracks, rows of `muscall.data.sources.load_corpus`; or sentences.
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
    encoder = MusCALLEncoder(model, processor)
    captions, audio_ids = list_captions(tracks)
    audio_embeds = embed(encoder, "audio", tracks, accelerator, batch_size, num_workers)
    text_embeds = embed(encoder, "text", captions, accelerator, batch_size)
    return text_embeds, audio_ids, audio_embeds


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
            with replace_file(path) as partial:
                np.save(partial, embeds)
    places = {row: place for place, row in enumerate(rows)}
    first = {}
    return embeds[[places[first.setdefault(key, row)] for row, key in enumerate(keys)]]
