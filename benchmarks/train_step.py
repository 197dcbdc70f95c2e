# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Training steps of the default model: what padding, content weighting and reading cost, and what the device could do.

    python benchmarks/train_step.py
    python benchmarks/train_step.py --batch_size 2048 --chunk_size 256 --mixed_precision bf16      on a GPU

Forward, backward and optimizer; captions of the default corpus, windows of 20 s. First the sides in turns, on noise:
captions padded to the longest of the batch, padded to 77 tokens, and padded to the longest with content weighting.
Then the training loop with `--num_workers` reading 3-minute MP3 files: the share of its time that it waits for data.
Last the share of the ceiling: arithmetic of a step over its time, against that of a large matrix product.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from datasets import Dataset
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoTokenizer

from benchmarks.read_windows import write_track
from configuration_muscall import MusCALLConfig
from modeling_muscall import MusCALLModel
from muscall.data.windows import TrainingCollator, TrainingWindows
from muscall.training.objectives import ContrastiveObjective, backward


ROOT = Path(__file__).parents[1]


def synchronise(device: torch.device):
    if device.type == "cuda":
        torch.cuda.synchronize()


def matrix_ceiling(device: torch.device, mixed_precision: str) -> float:
    """Operations a second of a matrix product, the best of several."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(mixed_precision, torch.float32)
    size, seconds = (8192, []) if device.type == "cuda" else (2048, [])
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    for _ in range(8):
        synchronise(device)
        start = time.perf_counter()
        left @ right
        synchronise(device)
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--chunk_size", type=int)
    parser.add_argument("--mixed_precision", default="no", help="no, bf16 or fp16")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--steps", type=int, default=5, help="steps timed for each side, in turns")
    parser.add_argument("--num_workers", type=int, default=2)
    args = parser.parse_args()

    torch.manual_seed(0)
    accelerator = Accelerator(mixed_precision=args.mixed_precision)
    device = accelerator.device
    model = MusCALLModel(MusCALLConfig()).train()
    if args.compile:
        model.audio_model.compile()
        model.text_model.compile(dynamic=True)
    objective = ContrastiveObjective(model)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-4, fused=True)
    objective, optimizer = accelerator.prepare(objective, optimizer)
    tokenizer = AutoTokenizer.from_pretrained(ROOT, trust_remote_code=True)
    rows = [json.loads(line) for line in (ROOT / "corpus" / "captions.jsonl").read_text().splitlines()]
    captions = [caption for row in rows for caption in row["captions"]]
    waves = torch.randn(args.batch_size, 320000, device=device).mul_(0.1)
    caption_embeds = torch.randn(len(captions), 384) + 0.5

    def step(batch):
        backward(accelerator, objective, batch["inputs"], batch["targets"], args.chunk_size)
        optimizer.step()
        optimizer.zero_grad()
        synchronise(device)

    def make_batch(number, padding):
        chosen = [(number * args.batch_size + offset) % len(captions) for offset in range(args.batch_size)]
        texts = [captions[index] for index in chosen]
        text = tokenizer(texts, padding=padding, truncation=True, return_tensors="pt")
        targets = {"track_ids": torch.arange(args.batch_size), "caption_ids": torch.arange(args.batch_size)}
        targets["caption_embeds"] = caption_embeds[chosen]
        return send_to_device({"inputs": {**text, "input_values": waves}, "targets": targets}, device)

    sides = {"longest": ("longest", False), "max_length": ("max_length", False), "weighted": ("longest", True)}
    times = {side: [] for side in sides}
    for number in range(args.steps + 1):
        for side, (padding, weighted) in sides.items():
            batch = make_batch(number, padding)
            accelerator.unwrap_model(objective).content_weighting = weighted
            start = time.perf_counter()
            step(batch)
            if number > 0:  # the first step warms up
                times[side].append(time.perf_counter() - start)
    accelerator.unwrap_model(objective).content_weighting = False
    seconds = {side: min(values) for side, values in times.items()}
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    print(f"{device}{threads}, {args.mixed_precision}, batch {args.batch_size}, chunk {args.chunk_size}")
    for side in sides:
        print(f"{side}: {args.batch_size / seconds[side]:.1f} pairs/s")
    print(f"padded to the longest over padded to 77: ratio {seconds['max_length'] / seconds['longest']:.2f}")
    ratios = [weighted / plain for weighted, plain in zip(times["weighted"], times["longest"], strict=True)]
    print(f"content weighting costs {100 * (statistics.median(ratios) - 1):+.1f} % (median of {len(ratios)} steps)")

    with tempfile.TemporaryDirectory() as folder:
        write_track(Path(folder) / "0.mp3", 3, 44100, np.random.default_rng(0))
        paths = [f"{folder}/{number}.mp3" for number in range(args.batch_size * args.steps)]
        for path in paths[1:]:
            shutil.copy(paths[0], path)
        texts = [[captions[number % len(captions)]] for number in range(len(paths))]
        tracks = Dataset.from_dict({"path": paths, "bytes": [None] * len(paths), "captions": texts})
        loader = DataLoader(
            TrainingWindows(tracks, 16000, 320000, seed=0),
            args.batch_size,
            collate_fn=TrainingCollator(tokenizer),
            num_workers=args.num_workers,
        )
        waiting, batches, start = [], iter(loader), time.perf_counter()
        for _ in range(args.steps):
            before = time.perf_counter()
            batch = send_to_device(next(batches), device)
            waiting.append(time.perf_counter() - before)
            step(batch)
        total = time.perf_counter() - start - waiting[0]  # the first batch is read while nothing else goes on
        rate = args.batch_size * args.steps / total
        share = sum(waiting[1:]) / total
        print(f"{args.num_workers} workers reading MP3: {rate:.1f} pairs/s, {100 * share:.0f} % of the time waiting")

    with FlopCounterMode(display=False) as counter:
        step(make_batch(0, "longest"))
    ceiling = matrix_ceiling(device, args.mixed_precision)
    achieved = counter.get_total_flops() / seconds["longest"]
    print(
        f"{achieved / 1e12:.2f} of {ceiling / 1e12:.2f} Tflop/s of a matrix product: {100 * achieved / ceiling:.0f} %"
    )


if __name__ == "__main__":
    main()
