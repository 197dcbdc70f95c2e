# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
What reads files ahead of a model: threads, as in search.py index, or the processes of a PyTorch data loader. Both read
the same MP3 files of four minutes for the same model in turn; the time in which processes start is printed apart.

    python -m benchmarks.read_files --model fast [--readers 2 8] [--tracks 48] [--windows all] [--device cuda]
"""

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path


os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in search.py, before torch is imported

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from transformers.utils.logging import disable_progress_bar

from benchmarks.index_library import write_tracks
from muscall.encoder import Encoder, load_encoder
from muscall.search.reading import FilePart, ReadAhead, read_file
from muscall.search.windows import AUTO, parse_windows


class FileParts(IterableDataset):
    """The parts of files; each worker of a data loader reads its share of the files."""

    def __init__(self, *arguments):
        self.arguments = arguments

    def __iter__(self) -> Iterator[FilePart]:
        worker, (feature_extractor, paths, windows) = get_worker_info(), self.arguments
        for path in paths[worker.id :: worker.num_workers]:
            yield from read_file(path, feature_extractor, windows, lambda digest: True)


def consume(encoder: Encoder, parts: Iterable[FilePart], begin: float) -> tuple[float, float]:
    """Embed all parts, and return the seconds to the first of them and from there to the end."""
    first = None
    for part in parts:
        first = first or time.perf_counter()
        if part.reason:
            raise ValueError(f"{part.facts['track']}: {part.reason}")
        if part.windows is not None:
            encoder.embed_windows(part.windows["input_values"])
    return first - begin, time.perf_counter() - first


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a checkpoint of this repository")
    parser.add_argument("--readers", type=int, nargs="+", default=[2], help="threads, and processes (default: 2)")
    parser.add_argument("--tracks", type=int, default=48, help="files (default: 48)")
    parser.add_argument("--windows", type=parse_windows, default=AUTO, help="see search.py (default: auto)")
    parser.add_argument("--device", default="cpu", help="of the model (default: cpu)")
    arguments = parser.parse_args()
    disable_progress_bar()
    encoder = load_encoder(arguments.model)
    encoder.model.to(torch.device(arguments.device))
    encoder.use_bfloat16()
    context = multiprocessing.get_context("forkserver")  # a fork of a process with torch's threads can hang
    context.set_forkserver_preload([read_file.__module__])
    with tempfile.TemporaryDirectory() as folder:
        write_tracks(Path(folder), arguments.tracks, minutes=4)
        paths = sorted(str(path) for path in Path(folder).iterdir())
        files = FileParts(encoder.feature_extractor, paths, arguments.windows)
        for count in arguments.readers:
            begin = time.perf_counter()
            with ReadAhead(encoder.feature_extractor, paths, set(), arguments.windows, count) as parts:
                start, threads = consume(encoder, parts, begin)
            print(f"{count} threads: {len(paths) / threads:.2f} tracks/s after {start:.1f} s", flush=True)
            begin = time.perf_counter()
            loader = DataLoader(files, None, num_workers=count, multiprocessing_context=context, in_order=False)
            start, workers = consume(encoder, loader, begin)
            print(f"{count} processes: {len(paths) / workers:.2f} tracks/s after {start:.1f} s", flush=True)
            print(f"  threads / processes: {workers / threads:.2f}", flush=True)


if __name__ == "__main__":
    main()
