# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Embeds the tracks and captions of a corpus and measures retrieval in both directions."""

from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.data_loader import prepare_data_loader
from accelerate.utils import broadcast
from datasets import Dataset
from torch.utils.data import DataLoader
from tqdm import tqdm

from training.data import audio_source


METRIC = Path(__file__).resolve().parents[1] / "metrics" / "cross_modal_retrieval"


@torch.no_grad()
def embed_corpus(
    model, processor, tracks: Dataset, accelerator: Accelerator, batch_size: int, num_workers: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """
    Args:
        model (`MusCALLModel`):
            The unwrapped model; it is left in evaluation mode.
        processor (`MusCALLProcessor`):
            Its `windows` setting decides which windows of a track are read.
        tracks (`Dataset`):
            A split of `training.data.load_corpus`.
        accelerator (`Accelerator`):
            Shares the work over its processes.
        batch_size (`int`):
            Tracks, or captions, in a batch on each process.
        num_workers (`int`, *optional*, defaults to 0):
            Processes that read audio.

    Returns:
        Float32 tensors on the CPU, whole on every process: `text_embeds` of shape `(num_captions, projection_dim)`,
        `audio_ids` of shape `(num_captions,)`, the row of each caption's track, and `audio_embeds` of shape
        `(num_tracks, projection_dim)`.
    """
    model.eval()
    for buffer in model.buffers():  # in training each process has batch-norm statistics of its own; the first's count
        broadcast(buffer)

    def embed(items, collate, num_workers, features, description):
        loader = DataLoader(
            items,
            batch_size,
            collate_fn=partial(collate, processor),
            num_workers=num_workers,
            generator=torch.Generator(),  # of its own: to evaluate leaves the random state of a training as it is
        )
        # Not accelerator.prepare, which would keep every loader, and so its items, for the rest of the run.
        loader = prepare_data_loader(
            loader, accelerator.device, accelerator.num_processes, accelerator.process_index, put_on_device=True
        )
        embeds = []
        progress = tqdm(loader, desc=description, leave=False, disable=not accelerator.is_main_process)
        for batch in progress:
            with accelerator.autocast():
                embeds.append(accelerator.gather_for_metrics(features(**batch).pooler_output.float()).cpu())
        return torch.cat(embeds)

    captions = [caption for row in tracks["captions"] for caption in row]
    audio_ids = torch.tensor([index for index, row in enumerate(tracks["captions"]) for _ in row])
    audio_embeds = embed(tracks, _collate_audio, num_workers, model.get_audio_features, "embedding audio")
    text_embeds = embed(captions, _collate_text, 0, model.get_text_features, "embedding captions")
    return text_embeds, audio_ids, audio_embeds


def _collate_audio(processor, rows):
    return processor(audio=[audio_source(row) for row in rows], return_tensors="pt")


def _collate_text(processor, captions):
    return processor(text=list(captions), return_tensors="pt")


def retrieval_metrics(text_embeds, audio_ids, audio_embeds, num_resamples: int = 0) -> dict[str, float]:
    """Both directions through the `evaluate` module `metrics/cross_modal_retrieval`; arguments as there."""
    import evaluate  # takes seconds to import

    metric = evaluate.load(str(METRIC))
    return metric.compute(
        text_embeds=text_embeds, audio_ids=audio_ids, audio_embeds=audio_embeds, num_resamples=num_resamples
    )


def chance_metrics(audio_ids) -> dict[str, float]:
    """What a random ranking would score on average; `audio_ids` as in [`embed_corpus`]."""
    return retrieval_metrics(torch.ones(len(audio_ids), 1), audio_ids, torch.ones(int(audio_ids.max()) + 1, 1))
