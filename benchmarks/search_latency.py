# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
Latency of a query over 10,000, 100,000 and 1,000,000 windows: the index of search.py, exact and approximate, and a
NumPy matrix product over the same vectors held in memory; and the time from a cold start to the first answer.

    python -m benchmarks.search_latency --model runs/scratch [--sizes 10000 100000]
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from muscall.encoder import load_encoder
from muscall.search.indexing import APPROXIMATE_FROM, SENTENCES
from muscall.search.query import Library, recall
from muscall.search.store import COLUMNS, Store
from muscall.search.text_graph import write_text_graph


SEARCH = Path(__file__).resolve().parents[1] / "search.py"
NUM_QUERIES = 200
COLD_STARTS = 5
WINDOWS_PER_TRACK = 10
K = 10


def make_vectors(count: int, dim: int, random: np.random.Generator) -> np.ndarray:
    """
    Return windows of tracks of styles, L2-normalised `(count, dim)`: alike within a track, less so within a style, and
    all in one cone, as those of real music are.
    """
    cone, styles = 0.7 * random.standard_normal(dim), 0.5 * random.standard_normal((300, dim))
    tracks = count // WINDOWS_PER_TRACK
    means = cone + styles[random.integers(300, size=tracks)] + 0.4 * random.standard_normal((tracks, dim))
    embeds = np.repeat(means.astype(np.float32), WINDOWS_PER_TRACK, axis=0)
    embeds += 0.25 * random.standard_normal(embeds.shape, dtype=np.float32)
    return embeds / np.linalg.norm(embeds, axis=1, keepdims=True)


def make_queries(embeds: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return vectors near windows of the library, L2-normalised `(NUM_QUERIES, dim)`."""
    noise = random.standard_normal((NUM_QUERIES, embeds.shape[1]), dtype=np.float32)
    queries = embeds[random.integers(len(embeds), size=NUM_QUERIES)] + 0.6 * noise / np.sqrt(embeds.shape[1])
    return (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32)


def fill(store: Store, embeds: np.ndarray, first: int):
    """Write windows to the index; `first` is the number of windows that it has."""
    numbers = [(first + row) // WINDOWS_PER_TRACK for row in range(len(embeds))]
    tracks = pa.array([f"/music/{number}.mp3" for number in numbers])
    starts = (20 * (np.arange(len(embeds)) % WINDOWS_PER_TRACK)).astype(np.float32)
    columns = {name: pa.nulls(len(embeds), kind) for name, kind in COLUMNS.items()}
    columns |= {
        "track": tracks,
        "hash": pa.array(map(make_hash, numbers)),
        "start": pa.array(starts),
        "end": pa.array(starts + 20),
    }
    columns |= {"state": pa.array(["0 0 0"] * len(embeds))}
    columns["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(embeds.ravel()), embeds.shape[1])
    store.add(pa.table(columns))


def make_hash(number: int) -> str:
    """Return the hash of a track that is not there."""
    return hashlib.sha256(str(number).encode()).hexdigest()


def fill_words(store: Store, count: int, dim: int, random: np.random.Generator):
    """Write titles and artists of so many tracks to the index: words at random, and vectors of some styles."""
    words = np.array(["night", "blue", "love", "river", "dance", "in", "the", "a", "stone", "calm", "piano", "jazz"])
    names = words[random.integers(len(words), size=(count, 5))]
    embeds = make_vectors(count * WINDOWS_PER_TRACK, dim, random)[::WINDOWS_PER_TRACK].astype(np.float16)
    columns = {"track": [f"/music/{number}.mp3" for number in range(count)], "state": ["0 0 0"] * count}
    columns |= {"hash": list(map(make_hash, range(count))), "text": [" ".join(name) for name in names]}
    columns["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(embeds.ravel()), dim)
    store.add_words(pa.table(columns))
    store.tidy_words()


def nearest(embeds: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Return the numbers of the `K` windows nearest to a query, by a matrix product."""
    scores = embeds @ query
    best = np.argpartition(-scores, K)[:K]
    return best[np.argsort(-scores[best])]


def latency(function: Callable, queries: Iterable) -> tuple[float, float]:
    """Return median and 99th percentile of the time that a query takes, in milliseconds."""
    for query in queries[:5]:
        function(query)
    times = []
    for query in queries:
        begin = time.perf_counter()
        function(query)
        times.append(1000 * (time.perf_counter() - begin))
    return np.percentile(times, 50), np.percentile(times, 99)


def measure(count: int, description: dict, sentence_dim: int, folder: Path):
    """Time queries over `count` windows, and the cold start of a small index, and print what was measured."""
    random = np.random.default_rng(0)
    embeds = make_vectors(count, description["dim"], random)
    queries = make_queries(embeds, random)
    store = Store.open_or_create(folder / str(count), description)
    begin = time.perf_counter()
    for first in range(0, count, 100_000):
        fill(store, embeds[first : first + 100_000], first)
    print(f"\n{count} windows, written in {time.perf_counter() - begin:.1f} s")
    store.tidy()
    fill_words(store, count // WINDOWS_PER_TRACK, sentence_dim, random)
    store.tidy()
    library = Library(store.uri)
    search = partial(library.best_tracks, k=K)
    exact_queries = queries if count <= 100_000 else queries[:50]
    rows = [
        ("NumPy matrix product, in memory", latency(partial(nearest, embeds), queries), 1.0),
        ("search.py, exact", latency(search, exact_queries), 1.0),
    ]
    rows.append(("search.py, a sentence, exact, by sound and words", latency(library.search, SENTENCES), 1.0))
    if count < APPROXIMATE_FROM:  # as search.py leaves such an index
        cold_start(store.uri)
    begin = time.perf_counter()
    store.build_index()
    seconds = time.perf_counter() - begin
    approximate_recall = recall(store, queries[:50])
    rows.append((f"search.py, approximate (built in {seconds:.0f} s)", latency(search, queries), approximate_recall))
    both = latency(library.search, SENTENCES)
    rows.append(("search.py, a sentence, approximate, by sound and words", both, approximate_recall))
    reference = rows[0][1][0]
    for name, (median, worst), share in rows:
        print(
            f"  {name:55} p50 {median:8.1f} ms  p99 {worst:8.1f} ms  {median / reference:6.1f}x  recall@10 {share:.3f}"
        )


def fresh_process(*command: str) -> float:
    """Return the seconds that a new process takes, from its start to its end."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, capture_output=True)
    return time.perf_counter() - begin


def cold_start(store_uri: Path):
    """
    Time new processes from their start to their answer, which a person waits for, in turn with ones that only import
    PyTorch and transformers; then a further sentence in the same process.
    """
    program = [str(SEARCH), "query", "--store", str(store_uri)]
    queries, imports = [], []
    for _ in range(COLD_STARTS):
        queries.append(fresh_process(*program, "calm solo piano at night"))
        imports.append(fresh_process("-c", "import torch, transformers"))
    query, reference = np.median(queries), np.median(imports)
    print(f"  cold start to the first answer: {query:.2f} s (the fastest of {COLD_STARTS}: {min(queries):.2f} s)")
    print(f"  importing torch and transformers alone: {reference:.2f} s; ratio {query / reference:.2f}")
    process = subprocess.Popen(
        [sys.executable, *program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    times = []
    for sentence in ("calm solo piano", "fast samba", "rock with guitar and drums"):
        begin = time.perf_counter()
        process.stdin.write(f"{sentence}\n")
        process.stdin.flush()
        while not process.stdout.readline().startswith(f"{K:3}  "):
            pass
        times.append(time.perf_counter() - begin)
    process.stdin.close()
    process.wait()
    print(f"  a further sentence, embedded and answered: {1000 * min(times[1:]):.0f} ms")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a checkpoint, for its dimensions and the cold start")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    arguments = parser.parse_args()
    encoder = load_encoder(arguments.model)
    description = encoder.describe()
    sentence_dim = encoder.embed_sentences(["music"])[1].shape[1]
    write_text_graph(encoder, description["weights"])
    with tempfile.TemporaryDirectory() as folder:
        for count in arguments.sizes:
            measure(count, description, sentence_dim, Path(folder))


if __name__ == "__main__":
    main()
