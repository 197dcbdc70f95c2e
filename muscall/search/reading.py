# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
Files of music to their windows, read by threads while the model runs. The decoders let other threads run meanwhile,
so that processes would gain little: benchmarks/README.md has both.
"""

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from muscall.folders import reason_of
from muscall.hashing import hash_file
from muscall.search.files import file_state
from muscall.search.tags import read_tags
from muscall.search.windows import placement
from processing_muscall import MusCALLFeatureExtractor


QUEUE = 8  # batches of windows that are read ahead


@dataclass
class FilePart:
    """
    A few windows of a file, or its end.

    Args:
        facts (`dict`): What all rows of the file share: path, hash, state and tags, as far as they could be read.
        windows (`dict[str, np.ndarray]`, *optional*):
            See [`MusCALLFeatureExtractor.iter_windows`]; `None` at the end.
        reason (`str`): At the end of a file that could not be read: why. Empty otherwise.
    """

    facts: dict
    windows: dict[str, np.ndarray] | None = None
    reason: str = ""


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
            for batch in feature_extractor.iter_windows(path, windows=placement(feature_extractor, windows)):
                yield FilePart(facts, dict(batch))
        if file_state(path) != facts["state"]:
            raise ValueError("it changed while it was read: index again")
    except Exception as error:  # decoders raise whatever a damaged file leads them to: it is listed, the others go on
        reason = reason_of(error).removeprefix(f"{path} ")
    yield FilePart(facts, reason=reason)
