# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Files to rows of the index: threads read ahead while the model runs, and rows are written a few tracks at a time."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from muscall.encoder import Encoder
from muscall.folders import reason_of
from muscall.hashing import hash_file
from muscall.search.files import file_state
from muscall.search.plan import Outcome
from muscall.search.store import Store, with_facts
from muscall.search.tags import read_tags
from muscall.search.windows import iter_windows
from processing_muscall import MusCALLFeatureExtractor


FLUSH_TRACKS, FLUSH_SECONDS = 64, 15  # rows are written this often; a run that is killed loses no more
QUEUE = 8  # chunks of windows that are read ahead


@dataclass
class FilePart:
    """
    A few windows of a file, or its end.

    Args:
        facts (`dict`): What all rows of the file share: path, hash, state and tags, as far as they could be read.
        windows (`dict[str, np.ndarray]`, *optional*): See [`iter_windows`]; `None` at the end.
        reason (`str`): At the end of a file that could not be read: why. Empty otherwise.
    """

    facts: dict
    windows: dict[str, np.ndarray] | None = None
    reason: str = ""


@dataclass
class EmbeddedFile:
    """
    A file with the rows that it gets in the index.

    Args:
        facts (`dict`): As in [`FilePart`].
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
        num_threads (`int`, *optional*, defaults to 2): Files that are read at the same time.
    """

    def __init__(self, encoder: Encoder, num_threads: int = 2):
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
        chunks: dict[str, list] = {}
        with ReadAhead(self.encoder.feature_extractor, paths, known, windows, self.num_threads) as parts:
            for part in parts:
                path = part.facts["track"]
                if part.windows is not None:
                    embeds = self.encoder.embed_windows(part.windows.pop("input_values"))
                    chunks.setdefault(path, []).append((embeds, part.windows))
                    continue
                embedded = chunks.pop(path, [])
                rows = make_rows(part.facts, embedded) if embedded and not part.reason else None
                yield EmbeddedFile(part.facts, rows, part.reason)


def make_rows(facts: dict, chunks: list[tuple[np.ndarray, dict]]) -> pa.Table:
    """Return the rows of one track from the embeddings of its windows, chunk by chunk."""
    embeds = np.concatenate([embeds for embeds, _ in chunks])
    columns = {}
    for name in ("start", "end", "weight", "duration"):
        columns[name] = pa.array(np.concatenate([windows[name] for _, windows in chunks]))
    columns["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(embeds.ravel()), embeds.shape[1])
    return with_facts(pa.table(columns), facts)


class ReadAhead:
    """
    Threads that read files a bounded number of windows ahead of the model. As a context manager, it gives an iterator
    of each file's parts, which come in order; parts of several files are mixed.

    Args:
        feature_extractor (`MusCALLFeatureExtractor`): Cuts files into windows.
        paths (`list[str]`): The files.
        known (`set[str]`): Hashes of contents that are not read into windows. Of each other content, one file is.
        windows (`int` or `str`): See [`muscall.search.windows.place_windows`].
        num_threads (`int`): Files that are read at the same time.
    """

    def __init__(
        self,
        feature_extractor: MusCALLFeatureExtractor,
        paths: list[str],
        known: set[str],
        windows: int | str,
        num_threads: int,
    ):
        self.feature_extractor, self.windows, self.num_files = feature_extractor, windows, len(paths)
        self.todo, self.ready, self.stop = queue.SimpleQueue(), queue.Queue(QUEUE), threading.Event()
        self.claimed, self.claiming = set(known), threading.Lock()
        for path in paths:
            self.todo.put(path)
        self.threads = [threading.Thread(target=self._work, daemon=True) for _ in range(num_threads)]

    def __enter__(self) -> Iterator[FilePart]:
        for thread in self.threads:
            thread.start()
        return self._parts()

    def __exit__(self, *exception):
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def _parts(self) -> Iterator[FilePart]:
        remaining = self.num_files
        while remaining:
            part = self.ready.get()
            if isinstance(part, BaseException):
                raise part
            remaining -= part.windows is None
            yield part

    def _work(self):
        try:
            while not self.stop.is_set():
                path = self.todo.get_nowait()
                for part in read_file(path, self.feature_extractor, self.windows, self._claim):
                    if self.stop.is_set():
                        return
                    self._put(part)
        except queue.Empty:
            pass
        except BaseException as error:  # a fault of the program, not of a file: it is raised where parts are taken
            self._put(error)

    def _put(self, part: FilePart | BaseException):
        while not self.stop.is_set():
            try:
                return self.ready.put(part, timeout=0.1)
            except queue.Full:
                continue

    def _claim(self, digest: str) -> bool:
        """Return whether this content is new, and so to be read by the calling thread."""
        with self.claiming:
            is_new = digest not in self.claimed
            self.claimed.add(digest)
        return is_new


def read_file(
    path: str, feature_extractor: MusCALLFeatureExtractor, windows: int | str, is_new: Callable[[str], bool]
) -> Iterator[FilePart]:
    """
    Read a file part by part.

    Args:
        path (`str`): The file.
        feature_extractor (`MusCALLFeatureExtractor`): Says how long windows are, and at which rate.
        windows (`int` or `str`): See [`muscall.search.windows.place_windows`].
        is_new (`Callable[[str], bool]`): Called with the hash of the content: whether it is read into windows.
    """
    facts, reason = {"track": path, "hash": ""}, ""
    try:
        facts["state"] = file_state(path)
        facts["hash"] = hash_file(path)
        if facts["state"].startswith("0 "):
            raise ValueError("is empty: 0 bytes")
        facts |= read_tags(path)
        if is_new(facts["hash"]):
            for chunk in iter_windows(path, feature_extractor, windows):
                yield FilePart(facts, chunk)
        if file_state(path) != facts["state"]:
            raise ValueError("it changed while it was read: index again")
    except Exception as error:  # decoders raise whatever a damaged file leads them to: it is listed, the others go on
        reason = reason_of(error).removeprefix(f"{path} ")
    yield FilePart(facts, reason=reason)


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
