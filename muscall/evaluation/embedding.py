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
from muscall.data.tracks import EMBEDS_COLUMN, has_embeds, list_captions
from muscall.encoder import Encoder, MusCALLEncoder
from processing_muscall import MusCALLProcessor


@torch.no_grad()
def embed(
    encoder: Encoder,
    kind: str,
    items: Dataset | list[str],
    accelerator: Accelerator,
    batch_size: int,
    num_workers: int = 0,
) -> torch.Tensor:
    """
    Embed tracks or sentences, shared over all processes.

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
        generator=torch.Generator(),  # its own, so that an evaluation does not change the random state of a training
    )
    # accelerator.prepare would keep every loader, and with it the items, for the rest of the run.
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
    model: MusCALLModel,
    processor: MusCALLProcessor,
    tracks: Dataset,
    accelerator: Accelerator,
    batch_size: int,
    num_workers: int = 0,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """
    Embed all tracks of a corpus and all their captions with a model in training; arguments as in [`embed`]. Stored
    embeddings of a corpus without audio are taken as they are.

    Returns:
        `text_embeds` of shape `(num_captions, projection_dim)`, `audio_ids` of shape `(num_captions,)`, the row of
        each caption's track, and `audio_embeds` of shape `(num_tracks, projection_dim)`.
    """
    # In training each process has its own batch-norm statistics; those of the first one count.
    for buffer in model.buffers():
        broadcast(buffer)
    encoder = MusCALLEncoder(model, processor)
    captions, audio_ids = list_captions(tracks)
    if has_embeds(tracks):
        audio_embeds = torch.tensor(tracks[EMBEDS_COLUMN])
    else:
        audio_embeds = embed(encoder, "audio", tracks, accelerator, batch_size, num_workers)
    text_embeds = embed(encoder, "text", captions, accelerator, batch_size)
    return text_embeds, audio_ids, audio_embeds


def embed_once(
    encoder: Encoder,
    kind: str,
    items: Dataset | list[str],
    keys: list[str],
    accelerator: Accelerator,
    batch_size: int,
    num_workers: int = 0,
) -> np.ndarray:
    """
    Return embeddings from the Hugging Face cache, or embed as [`embed`] does and keep them there. Items of one key,
    which are the same audio or the same sentence, get one embedding: bitwise equal, so that the metrics see a tie.

    Args:
        keys (`list[str]`): A hash of each item's content.

    Returns:
        `np.ndarray` of shape `(len(items), dim)`: float32, on every process.

    Raises:
        `ValueError`: if an embedding is not finite.
    """
    rows = {key: row for row, key in reversed(list(enumerate(keys)))}  # the first item of each key
    distinct_keys = sorted(rows)
    cached = [None]
    if accelerator.is_main_process:
        digest = hashlib.sha256(f"{kind} {encoder.identity()} {' '.join(distinct_keys)}".encode()).hexdigest()
        path = CACHE / f"embeds-{kind}-{digest[:32]}.npy"
        cached = [(path, path.exists())]
    (path, is_cached), *_ = broadcast_object_list(cached)
    if is_cached:
        embeds = np.load(path)
    else:
        embeds = _embed_rows(
            encoder, kind, items, [rows[key] for key in distinct_keys], accelerator, batch_size, num_workers
        )
        if accelerator.is_main_process:
            with replace_file(path) as partial:
                np.save(partial, embeds)
    places = {key: place for place, key in enumerate(distinct_keys)}
    return embeds[[places[key] for key in keys]]


def _embed_rows(
    encoder: Encoder,
    kind: str,
    items: Dataset | list[str],
    rows: list[int],
    accelerator: Accelerator,
    batch_size: int,
    num_workers: int,
) -> np.ndarray:
    chosen = items.select(rows) if isinstance(items, Dataset) else [items[row] for row in rows]
    embeds = embed(encoder, kind, chosen, accelerator, batch_size, num_workers).numpy()
    if not np.isfinite(embeds).all():
        finite = np.isfinite(embeds).all(axis=1)
        row = rows[int(finite.argmin())]
        name = items[row] if kind == "text" else items[row]["path"] or f"track {row}"
        raise ValueError(
            f"the checkpoint embeds {(~finite).sum()} of {len(rows)} items as NaN or Inf, the first {name!r}"
        )
    return embeds
