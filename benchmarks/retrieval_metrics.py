# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
All retrieval metrics of both directions, against the matrix products that they need and against sorting every row.

    python -m benchmarks.retrieval_metrics [--size 100000] [--dim 512] [--sorted_rows 500]

Sorting is timed on some rows and counted up to all.
"""

import argparse
import resource
import time

import numpy as np
import torch

from metrics.cross_modal_retrieval.cross_modal_retrieval import metrics_from_embeds


def main():
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--size", type=int, default=100_000, help="tracks, and captions: one each")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--sorted_rows", type=int, default=500)
    args = parser.parse_args()
    random = np.random.default_rng(0)
    audio = random.standard_normal((args.size, args.dim), dtype=np.float32)
    text = audio + 4 * random.standard_normal((args.size, args.dim), dtype=np.float32)

    started = time.perf_counter()
    results = metrics_from_embeds(text, np.arange(args.size), audio)
    ours = time.perf_counter() - started
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

    chunk = max(1, 2**23 // args.size)
    started = time.perf_counter()
    for queries, items in ((text, audio), (audio, text)):
        for start in range(0, args.size, chunk):
            queries[start : start + chunk] @ items.T
    product = time.perf_counter() - started

    rows = text[: args.sorted_rows] @ audio.T
    started = time.perf_counter()
    order = np.argsort(-rows, axis=1)
    np.argwhere(order == np.arange(len(rows))[:, None])
    full_sort = product + (time.perf_counter() - started) * 2 * args.size / len(rows)

    print(f"{args.size} x {args.size} x {args.dim}, {torch.get_num_threads()} threads, both directions")
    print(f"all metrics        {ours:8.1f} s, peak memory of the process {memory:.2f} GiB")
    print(f"matrix products    {product:8.1f} s: the metrics take {ours / product:.2f} times as long")
    print(f"sorting every row  {full_sort:8.1f} s: {full_sort / ours:.1f} times as long as the metrics")
    print(f"text to audio R@10 {results['text_to_audio_R@10']:.2f} %")


if __name__ == "__main__":
    main()
