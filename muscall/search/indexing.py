# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Keeps an index in step with folders of music: new, changed, moved and deleted tracks, each file embedded once."""

import os
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from tqdm import tqdm

from muscall.checkpoint import hash_file
from muscall.encoder import CHUNK, Encoder
from muscall.search.files import file_state, find_audio, read_tags
from muscall.search.store import Store, with_facts


FLUSH_TRACKS, FLUSH_SECONDS = 64, 15  # written together; a kill loses no more
QUEUE = 8  # chunks that are read ahead


@dataclass
class Report:
    """
    What an index run did.

    Args:
        total (`int`): Tracks in the index now, in these folders and others.
        new, changed, moved, deleted (`int`): What was done to them.
        unreadable (`list[tuple[str, str]]`): Path and reason of files that could not be read.
        seconds (`float`): How long it took.
    """

    total: int = 0
    new: int = 0
    changed: int = 0
    moved: int = 0
    deleted: int = 0
    unreadable: list = field(default_factory=list)
    seconds: float = 0.0

    def counts(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in ("new", "changed", "moved", "deleted")}


@dataclass
class Plan:
    """
    What there is to do.

    Args:
        todo (`list[str]`): Paths of files to read: new ones, and ones whose state differs.
        known (`dict[str, dict[str, str]]`): The index: for each track, the hash of each state it has rows of.
        stale (`list[tuple[str, str]]`): Tracks and states of the index that are no longer in the folders.
        unreadable (`list[tuple[str, str]]`): Files that cannot even be looked at, and why.
    """

    todo: list
    known: dict
    stale: list
    unreadable: list

    def hashes(self) -> set[str]:
        return {digest for states in self.known.values() for digest in states.values()}


def make_plan(store: Store, folders: list[Path]) -> Plan:
    """
    Raises:
        `ValueError`: if a folder is none, or is empty although the index has tracks of it: its disk may be missing.
    """
    known, found, unreadable = store.tracks(), {}, []
    folders = [Path(os.path.abspath(folder)) for folder in folders]
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"{folder} is no folder: expected one with music in it")
        below = [track for track in known if Path(track).is_relative_to(folder)]
        if below and not any(folder.iterdir()):
            raise ValueError(
                f"{folder} is empty, but the index has {len(below)} tracks of it: is its disk mounted? Nothing was "
                "changed. To empty the index, delete it"
            )
        for path in find_audio(folder):
            try:
                str(path).encode()
                found[str(path)] = file_state(path)
            except UnicodeEncodeError:
                unreadable.append((repr(str(path)), "its name is not valid UTF-8: rename it"))
            except OSError as error:  # a dangling link, or gone since it was listed
                unreadable.append((str(path), error.strerror))
    todo = [path for path, state in found.items() if state not in known.get(path, {})]
    stale = [
        (track, state)
        for track, states in known.items()
        for state in states
        if found.get(track) != state and any(Path(track).is_relative_to(folder) for folder in folders)
    ]
    return Plan(todo, known, stale, unreadable)


def update_index(store_uri, folders: list[Path], embedder, accelerator: Accelerator) -> Report:
    """
    Brings an index up to date with folders; every process of the accelerator embeds its share. Rows are written every
    few seconds, so that a run that is killed goes on where it was, and outdated ones deleted at the end.

    Args:
        store_uri (`str` or `Path`): See [`Store`].
        folders (`list[Path]`): What lies elsewhere stays as it is in the index.
        embedder ([`Embedder`]): The model.
        accelerator (`Accelerator`): Shares the work over its processes.
    """
    begin = time.perf_counter()
    shared = [None]
    if accelerator.is_main_process:
        shared = [make_plan(Store.open_or_create(store_uri, embedder.encoder.describe()), folders)]
    broadcast_object_list(shared)
    plan, store = shared[0], Store.open(store_uri)
    share = plan.todo[accelerator.process_index :: accelerator.num_processes]
    outcomes = []
    bar = tqdm(total=len(share), unit=" tracks", disable=not accelerator.is_main_process or not share)
    with bar, closing(embedder.write(store, share, plan.hashes())) as written:
        for outcome in written:
            outcomes.append(outcome)
            bar.update()
    outcomes = gather_object(outcomes)
    report = finish(store, plan, outcomes) if accelerator.is_main_process else Report()
    report.seconds = time.perf_counter() - begin
    return report


def finish(store: Store, plan: Plan, outcomes: list[tuple[str, str, str]]) -> Report:
    """
    Deletes what is outdated, and counts.

    Args:
        outcomes (`list[tuple[str, str, str]]`): Path, hash and, where it could not be read, the reason, of each file.
    """
    store.delete(plan.stale)
    store.tidy()
    readable = [(path, digest) for path, digest, reason in outcomes if not reason]
    new = [digest for path, digest in readable if path not in plan.known]
    changed = sum(path in plan.known and digest not in plan.known[path].values() for path, digest in readable)
    gone = {track for track, _ in plan.stale} - {path for path, _, _ in outcomes}
    left = {digest for track in gone for digest in plan.known[track].values()}
    moved = sum(digest in left for digest in new)
    return Report(
        total=len(store.tracks()),
        new=len(new) - moved,
        changed=changed,
        moved=moved,
        deleted=max(0, len(gone) - moved),
        unreadable=sorted(plan.unreadable + [(path, reason) for path, _, reason in outcomes if reason]),
    )


def forget(store: Store, folder: Path) -> int:
    """Takes a folder out of the index, whether it is still there or not; returns how many tracks that were."""
    below = {
        track: states for track, states in store.tracks().items() if Path(track).is_relative_to(folder.absolute())
    }
    store.delete([(track, state) for track, states in below.items() for state in states])
    store.tidy()
    return len(below)


class Embedder:
    """
    Files to rows of the index. Threads read ahead while the model runs.

    Args:
        encoder ([`Encoder`]): The model.
        num_threads (`int`, *optional*, defaults to 2): Files that are read at the same time.
    """

    def __init__(self, encoder: Encoder, num_threads: int = 2):
        if num_threads < 1:
            raise ValueError(f"the number of threads is positive, got {num_threads}")
        self.encoder, self.num_threads = encoder, num_threads

    def write(self, store: Store, paths: list[str], known: set[str]) -> Iterator[tuple[str, str, str]]:
        """
        Writes the rows of all files.

        Args:
            known (`set[str]`): Hashes that the index has: their rows are copied.

        Yields:
            Path, hash and, where it could not be read, the reason, of each file.
        """
        tables, copies, reasons, flushed = [], [], {}, time.monotonic()

        def flush():
            nonlocal flushed
            if tables:
                store.add(pa.concat_tables(tables))
                tables.clear()
            flushed = time.monotonic()

        try:
            for facts, rows, reason in self.embed(paths, known):
                if reason:
                    reasons[facts["hash"]] = reason
                elif rows is None:
                    copies.append(facts)
                    continue
                else:
                    tables.append(rows)
                    if len(tables) >= FLUSH_TRACKS or time.monotonic() - flushed > FLUSH_SECONDS:
                        flush()
                yield facts["track"], facts["hash"], reason
        finally:  # also when somebody stops it
            flush()
        for first in range(0, len(copies), FLUSH_TRACKS):
            batch = copies[first : first + FLUSH_TRACKS]
            tables += store.copy_rows(batch)
            copied = {rows.column("track")[0].as_py() for rows in tables}
            flush()
            for facts in batch:
                reason = (
                    "" if facts["track"] in copied else reasons.get(facts["hash"], "its copy is gone: index again")
                )
                yield facts["track"], facts["hash"], reason

    def embed(self, paths: list[str], known: set[str]) -> Iterator[tuple[dict, pa.Table | None, str]]:
        """
        What is the same in all rows of each file, its rows, and the reason where it could not be read. There are no
        rows where the content is known or comes twice in `paths`.
        """
        parts: dict[str, list] = {}
        with ReadAhead(self.encoder.feature_extractor, paths, known, self.num_threads) as items:
            for facts, batch, reason in items:
                path = facts["track"]
                if batch is not None:
                    parts.setdefault(path, []).append((self.encoder.embed_windows(batch.pop("input_values")), batch))
                    continue
                chunks = parts.pop(path, [])
                yield facts, make_rows(facts, chunks) if chunks and not reason else None, reason


class ReadAhead:
    """
    Reads files in threads, a bounded number of windows ahead of whoever takes them. A context manager, whose value
    yields the facts about a file, either a few of its windows or `None` at its end, and the reason where it could not
    be read.
    """

    def __init__(self, feature_extractor, paths: list[str], known: set[str], num_threads: int):
        self.feature_extractor, self.num_files = feature_extractor, len(paths)
        self.todo, self.ready, self.stop = queue.SimpleQueue(), queue.Queue(QUEUE), threading.Event()
        self.claims, self.claimed = threading.Lock(), set(known)
        for path in paths:
            self.todo.put(path)
        self.threads = [threading.Thread(target=self._work, daemon=True) for _ in range(num_threads)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self._items()

    def __exit__(self, *exception):
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def _items(self):
        remaining = self.num_files
        while remaining:
            item = self.ready.get()
            if isinstance(item, BaseException):
                raise item
            remaining -= item[1] is None
            yield item

    def _work(self):
        try:
            while not self.stop.is_set():
                self._read(self.todo.get_nowait())
        except queue.Empty:
            pass
        except BaseException as error:  # of the program, not of a file: raised where the items are taken
            self._put(error)

    def _put(self, item):
        while not self.stop.is_set():
            try:
                return self.ready.put(item, timeout=0.1)
            except queue.Full:
                continue

    def _claim(self, digest: str) -> bool:
        """Whether this content is new, and so this thread's to read."""
        with self.claims:
            is_new = digest not in self.claimed
            self.claimed.add(digest)
        return is_new

    def _read(self, path: str):
        facts = {"track": path, "hash": ""}
        try:
            facts["state"] = file_state(Path(path))
            if facts["state"].startswith("0 "):
                raise ValueError("is empty: 0 bytes")
            facts["hash"] = hash_file(path)
            facts |= read_tags(Path(path))
            if self._claim(facts["hash"]):
                for batch in self.feature_extractor.iter_windows(path, windows="all", batch_size=CHUNK):
                    if self.stop.is_set():
                        return
                    self._put((facts, batch, ""))
            if file_state(Path(path)) != facts["state"]:
                raise ValueError("it changed while it was read: index again")
        except (OSError, ValueError) as error:
            self._put((facts, None, str(error).removeprefix(f"{path} ")))
        else:
            self._put((facts, None, ""))


def make_rows(facts: dict, chunks: list[tuple[np.ndarray, dict]]) -> pa.Table:
    """The rows of one track from the embeddings of its windows, chunk by chunk."""
    embeds = np.concatenate([embeds for embeds, _ in chunks])
    columns = {}
    for name in ("start", "end", "weight"):
        key = f"window_{name}s"
        columns[name] = pa.array(np.concatenate([batch[key] for _, batch in chunks]))
    columns["duration"] = pa.array(np.full(len(embeds), columns["end"][-1].as_py(), dtype=np.float32))
    columns["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(embeds.ravel()), embeds.shape[1])
    return with_facts(pa.table(columns), facts)
