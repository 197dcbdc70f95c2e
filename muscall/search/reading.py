# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Files of music to their windows, read by processes of their own while the model runs."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from muscall.folders import reason_of
from muscall.hashing import hash_file
from muscall.search.files import file_state
from muscall.search.tags import read_tags
from muscall.search.windows import placement
from processing_muscall import MusCALLFeatureExtractor


# Processes take some seconds to start: for fewer files than this, reading them in this process is as fast.
MANY_FILES = 60


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


class FileParts(IterableDataset):
    """
    The parts of files, file by file. Each worker of a data loader reads its share of the files.

    Args:
        paths (`list[str]`): The files.
        known (`set[str]`): Hashes of contents that are not read into windows. Each process reads another one once.
        feature_extractor (`MusCALLFeatureExtractor`): Cuts files into windows.
        windows (`int` or `str`): See [`muscall.search.windows.place_windows`].
    """

    def __init__(
        self, paths: list[str], known: set[str], feature_extractor: MusCALLFeatureExtractor, windows: int | str
    ):
        self.paths, self.known = paths, known
        self.feature_extractor, self.windows = feature_extractor, windows

    def __iter__(self) -> Iterator[FilePart]:
        worker, known = get_worker_info(), set(self.known)
        for path in self.paths if worker is None else self.paths[worker.id :: worker.num_workers]:
            for part in self.read_file(path, known):
                yield part
            known.add(part.facts["hash"])

    def read_file(self, path: str, known: set[str]) -> Iterator[FilePart]:
        """Read a file part by part: nothing but its end if its content is known, or it cannot be read."""
        facts, reason = {"track": path, "hash": ""}, ""
        try:
            facts["state"] = file_state(path)
            facts["hash"] = hash_file(path)
            if facts["state"].startswith("0 "):
                raise ValueError("is empty: 0 bytes")
            facts |= read_tags(path)
            if facts["hash"] not in known:
                windows = placement(self.feature_extractor, self.windows)
                for batch in self.feature_extractor.iter_windows(path, windows=windows):
                    yield FilePart(facts, dict(batch))
            if file_state(path) != facts["state"]:
                raise ValueError("it changed while it was read: index again")
        except Exception as error:  # decoders raise whatever a damaged file leads them to: it is listed, others go on
            reason = reason_of(error).removeprefix(f"{path} ")
        yield FilePart(facts, reason=reason)


def read_parts(files: FileParts, num_workers: int) -> Iterator[FilePart]:
    """
    Yield the parts of files, each file's in order; those of several files are mixed. Contents that two processes read
    at the same time come twice.

    Args:
        files ([`FileParts`]): The files.
        num_workers (`int`): Processes that read `MANY_FILES` or more; fewer are read in this process.
    """
    if num_workers == 0 or len(files.paths) < MANY_FILES:
        yield from _read_ahead(iter(files))
        return
    # A fork of this process, whose model and index have threads, could hang. All workers are forks of one process
    # that has nothing but what reading needs.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    yield from DataLoader(
        files, batch_size=None, num_workers=num_workers, multiprocessing_context=context, in_order=False
    )


def _read_ahead(parts: Iterator[FilePart]) -> Iterator[FilePart]:
    """Yield parts; a thread reads the next one meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(next, parts, None)
        while (part := following.result()) is not None:
            following = pool.submit(next, parts, None)
            yield part
