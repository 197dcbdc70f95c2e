# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Files to rows of the index, which are written a few tracks at a time."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from muscall.encoder import Encoder
from muscall.search.plan import Outcome
from muscall.search.reading import ReadAhead
from muscall.search.store import Store, with_facts


FLUSH_TRACKS, FLUSH_SECONDS = 64, 15  # rows are written this often; a run that is killed loses no more
MAX_THREADS = 8  # more read no faster, not even for a GPU


@dataclass
class EmbeddedFile:
    """
    A file with the rows that it gets in the index.

    Args:
        facts (`dict`): As in [`muscall.search.reading.FilePart`].
        rows (`pa.Table`, *optional*): `None` where the content is known, comes twice, or could not be read.
        reason (`str`): Why it could not be read, empty otherwise.
    """

    facts: dict
    rows: pa.Table | None
    reason: str


class Embedder:
    """
    A model with threads that read files for it.

    Args:
        encoder ([`Encoder`]): The model.
        num_threads (`int`, *optional*):
            Files that are read at the same time. By default as many as PyTorch has threads, between 2 and 8.
    """

    def __init__(self, encoder: Encoder, num_threads: int | None = None):
        if num_threads is None:
            num_threads = min(max(2, torch.get_num_threads()), MAX_THREADS)
        if num_threads < 1:
            raise ValueError(f"the number of threads is positive, got {num_threads}")
        self.encoder, self.num_threads = encoder, num_threads

    def embed(self, paths: list[str], known: set[str], windows: int | str) -> Iterator[EmbeddedFile]:
        """
        Embed files, in the order in which they are read to their ends.

        Args:
            known (`set[str]`): Hashes of contents that need no rows, because the index has them.
            windows (`int` or `str`): See [`muscall.search.windows.place_windows`].
        """
        batches: dict[str, list] = {}
        with ReadAhead(self.encoder.feature_extractor, paths, known, windows, self.num_threads) as parts:
            for part in parts:
                path = part.facts["track"]
                if part.windows is not None:
                    # All windows of a call are of one track, so that no other track can change its embedding.
                    embeds = self.encoder.embed_windows(part.windows.pop("input_values"))
                    batches.setdefault(path, []).append((embeds, part.windows))
                    continue
                embedded = batches.pop(path, [])
                rows = make_rows(part.facts, embedded) if embedded and not part.reason else None
                yield EmbeddedFile(part.facts, rows, part.reason)


def make_rows(facts: dict, batches: list[tuple[np.ndarray, dict]]) -> pa.Table:
    """Return the rows of one track from the embeddings of its windows, batch by batch."""
    embeds = np.concatenate([embeds for embeds, _ in batches])
    starts, ends, weights = (
        np.concatenate([windows[name] for _, windows in batches])
        for name in ("window_starts", "window_ends", "window_weights")
    )
    duration = np.full(len(weights), weights.sum(dtype=float), np.float32)
    vector = pa.FixedSizeListArray.from_arrays(pa.array(embeds.ravel()), embeds.shape[1])
    columns = {"start": starts, "end": ends, "weight": weights, "duration": duration, "vector": vector}
    return with_facts(pa.table(columns), facts)


class RowWriter:
    """
    Rows on their way to the index. As a context manager, it writes what is left at the end, also when it is stopped.

    Args:
        store ([`Store`]): The index.
    """

    def __init__(self, store: Store):
        self.store, self.tables, self.last_write = store, [], time.monotonic()

    def __enter__(self) -> "RowWriter":
        return self

    def __exit__(self, *exception):
        self.write()

    def add(self, rows: pa.Table):
        """Keep the rows of a track, and write all that are kept if there are many or the last time is long ago."""
        self.tables.append(rows)
        if len(self.tables) >= FLUSH_TRACKS or time.monotonic() - self.last_write > FLUSH_SECONDS:
            self.write()

    def write(self):
        """Write all rows that are kept."""
        if self.tables:
            self.store.add(pa.concat_tables(self.tables))
            self.tables = []
        self.last_write = time.monotonic()


def write_files(store: Store, embedder: Embedder, paths: list[str], known: set[str]) -> Iterator[Outcome]:
    """
    Embed files and write their rows to the index; contents that the index has already are copied.

    Args:
        known (`set[str]`): Hashes of contents that the index has.
    """
    copies, reasons = [], {}
    with RowWriter(store) as writer:
        for file in embedder.embed(paths, known, store.windows):
            if file.reason:
                reasons[file.facts["hash"]] = file.reason
            elif file.rows is None:
                copies.append(file.facts)
                continue
            else:
                writer.add(file.rows)
            yield Outcome(file.facts["track"], file.facts["hash"], file.reason)
    for first in range(0, len(copies), FLUSH_TRACKS):
        yield from write_copies(store, copies[first : first + FLUSH_TRACKS], reasons)


def write_copies(store: Store, copies: list[dict], reasons: dict[str, str]) -> list[Outcome]:
    """
    Write the rows of files whose content the index has under another path.

    Args:
        copies (`list[dict]`): The facts of each file.
        reasons (`dict[str, str]`): Hashes of contents that could not be read, and why.
    """
    tables = store.copy_rows(copies)
    if tables:
        store.add(pa.concat_tables(tables))
    copied = {rows.column("track")[0].as_py() for rows in tables}
    outcomes = []
    for facts in copies:
        reason = reasons.get(facts["hash"], "its copy is gone: index again")
        outcomes.append(Outcome(facts["track"], facts["hash"], "" if facts["track"] in copied else reason))
    return outcomes
