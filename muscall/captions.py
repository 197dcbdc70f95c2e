# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Sentence embeddings of a corpus's captions, computed once and kept on disk."""

import hashlib
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from muscall.cache import cached_array
from muscall.hashing import hash_folder


class CaptionEmbeddings:
    """
    The embedding of each caption of a corpus by a Sentence-Transformers model, memory-mapped from a file in the
    Hugging Face cache. The file is found by a hash of the model and of the captions: the same captions are embedded
    once, and other captions, or another model of the same name, never get its rows.

    Args:
        captions (`list[str]`):
            All captions; those that occur twice are embedded once.
        model_name_or_path (`str`):
            A Sentence-Transformers model: an id on the Hub or a folder.
        device (`str`, *optional*):
            Where the model runs, if it must.
        show_progress (`bool`, *optional*, defaults to `True`):
            Whether to show a progress bar meanwhile.
    """

    def __init__(
        self, captions: list[str], model_name_or_path: str, device: str | None = None, show_progress: bool = True
    ):
        captions = sorted(set(captions))
        folder = Path(model_name_or_path)
        key = hashlib.sha256((hash_folder(folder) if folder.is_dir() else model_name_or_path).encode())
        for caption in captions:
            key.update(len(caption.encode()).to_bytes(8, "little") + caption.encode())
        self.rows = {caption: row for row, caption in enumerate(captions)}
        self.embeds = cached_array(
            f"captions-{key.hexdigest()[:32]}",
            partial(_embed, captions, model_name_or_path, device, show_progress),
        )

    def __getitem__(self, captions: list[str]) -> np.ndarray:
        """Return the embeddings of captions, float32 of shape `(len(captions), dim)`."""
        return np.asarray(self.embeds[[self.rows[caption] for caption in captions]], dtype=np.float32)


def _embed(captions: list[str], model_name_or_path: str, device: str | None, show_progress: bool, path: Path) -> None:
    from sentence_transformers import SentenceTransformer  # takes seconds to import

    model = SentenceTransformer(model_name_or_path, device=device)
    embeds = None
    for start in tqdm(range(0, len(captions), 1024), desc="embedding captions", disable=not show_progress):
        rows = model.encode(captions[start : start + 1024], normalize_embeddings=True, show_progress_bar=False)
        if embeds is None:
            embeds = np.lib.format.open_memmap(path, "w+", np.float32, (len(captions), rows.shape[1]))
        embeds[start : start + len(rows)] = rows
    embeds.flush()
