# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The systems of one table: checkpoints that hear the tracks, and a sentence model that reads about them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from datasets import Dataset
from tqdm import tqdm

from muscall.captions import CaptionEmbeddings
from muscall.data.tracks import check_readable, hash_track
from muscall.encoder import Encoder
from muscall.evaluation.embedding import embed_once


SENTENCE_LOGIT_SCALE = 20.0  # of the contrastive losses of Sentence-Transformers


@dataclass
class SystemEmbeds:
    """
    The embeddings of one system for the tracks and the texts.

    Args:
        audio (`dict[str, np.ndarray]`):
            For each split its tracks, of shape `(num_tracks, dim)`.
        text (`np.ndarray` of shape `(num_texts, dim)`, *optional*):
            The texts, where the task has any.
        logit_scale (`float`):
            What the system multiplies cosine similarities with.
    """

    audio: dict[str, np.ndarray]
    text: np.ndarray | None
    logit_scale: float


def name_systems(checkpoints: list[str]) -> dict[str, str]:
    """
    Return the checkpoints by the name that each has in the tables: that of its folder, where no other has the same.

    Raises:
        `ValueError`: if a checkpoint comes twice.
    """
    if len(set(checkpoints)) < len(checkpoints):
        raise ValueError(f"--model and --baselines must differ from each other, got {', '.join(checkpoints)}")
    names = [Path(item).resolve().name if Path(item).exists() else item for item in checkpoints]
    names = [name if names.count(name) == 1 else item for name, item in zip(names, checkpoints, strict=True)]
    return dict(zip(names, checkpoints, strict=True))


def hash_splits(splits: dict[str, Dataset], sampling_rate: int, accelerator: Accelerator) -> dict[str, list[str]]:
    """
    Return a hash of the content of each track, for each split. The first process reads the files for all.

    Raises:
        `ValueError`: if files cannot be read.
    """
    keys = {}
    if accelerator.is_main_process:
        for name, tracks in splits.items():
            check_readable(tracks, name, sampling_rate)
            keys[name] = [hash_track(track) for track in tqdm(tracks, f"hashing {name} tracks", leave=False)]
    (keys,) = broadcast_object_list([keys])
    return keys


def embed_system(
    encoder: Encoder,
    splits: dict[str, Dataset],
    keys: dict[str, list[str]],
    texts: list[str],
    accelerator: Accelerator,
    batch_size: int,
    num_workers: int,
) -> SystemEmbeds:
    """
    Embed all tracks and texts with a checkpoint, which is on the accelerator's device meanwhile and on the CPU after.

    Args:
        encoder ([`Encoder`]), accelerator (`Accelerator`), batch_size (`int`), num_workers (`int`):
            As in [`embed_once`].
        splits (`dict[str, Dataset]`), keys (`dict[str, list[str]]`):
            The tracks of each split, and what [`hash_splits`] returned.
        texts (`list[str]`):
            The sentences; there may be none.
    """
    encoder.model.to(accelerator.device)
    options = (accelerator, batch_size, num_workers)
    audio = {name: embed_once(encoder, "audio", tracks, keys[name], *options) for name, tracks in splits.items()}
    text = embed_once(encoder, "text", texts, texts, *options) if texts else None
    encoder.model.to("cpu")
    return SystemEmbeds(audio, text, encoder.logit_scale)


def embed_metadata(
    splits: dict[str, Dataset], texts: list[str], column: str, sentence_model_name_or_path: str
) -> SystemEmbeds:
    """
    Embed what is written about each track in place of its audio: the baseline that only reads.

    Args:
        splits (`dict[str, Dataset]`):
            The tracks of each split, with a column `metadata` of lists of strings.
        texts (`list[str]`):
            The sentences.
        column (`str`):
            What the user calls the column, for messages.
        sentence_model_name_or_path (`str`):
            A Sentence-Transformers model.

    Raises:
        `ValueError`: if nothing is written about a track.
    """
    metadata = {name: [". ".join(row) for row in tracks["metadata"]] for name, tracks in splits.items()}
    num_empty = sum(not text for rows in metadata.values() for text in rows)
    if num_empty:
        raise ValueError(f"{num_empty} tracks have nothing in `{column}`: no baseline can read it")
    all_texts = [text for rows in (*metadata.values(), texts) for text in rows]
    embeds = CaptionEmbeddings(all_texts, sentence_model_name_or_path)
    return SystemEmbeds({name: embeds[rows] for name, rows in metadata.items()}, embeds[texts], SENTENCE_LOGIT_SCALE)
