# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Training steps of the default model: what padding, content weighting and reading cost, and what the device could do.

    python -m benchmarks.train_step
    python -m benchmarks.train_step --batch_size 2048 --chunk_size 256 --mixed_precision bf16      on a GPU

Forward, backward and optimizer; captions of the default corpus, windows of 20 s. First the sides in turns, on noise:
captions padded to the longest of the batch, padded to 77 tokens, and padded to the longest with content weighting.
Then the training loop with `--num_workers` reading 3-minute MP3 files: the share of its time that it waits for data.
Last the share of the ceiling: arithmetic of a step over its time, against that of a large matrix product.
"""

import argparse
import json
import os
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
from transformers import CLIPTokenizer

from benchmarks.read_windows import write_track
from configuration_muscall import MusCALLConfig
from modeling_muscall import MusCALLModel
from muscall.data.windows import TrainingCollator, TrainingWindows
from muscall.training.gradient_cache import backward
from muscall.training.objectives import ContrastiveTask, Objective


ROOT = Path(__file__).resolve().parents[1]
SIDES = {  # padding of the captions, and whether pairs are weighted
    "longest": ("longest", False),
    "max_length": ("max_length", False),
    "weighted": ("longest", True),
}


class Trainer:
    """
    The default model with an optimizer.

    Args:
        chunk_size (`int`, *optional*), mixed_precision (`str`), compile (`bool`):
            As in train.py.
    """

    def __init__(self, chunk_size: int | None, mixed_precision: str, compile: bool):
        self.accelerator, self.chunk_size = Accelerator(mixed_precision=mixed_precision), chunk_size
        model = MusCALLModel(MusCALLConfig()).train()
        if compile:
            model.audio_model.compile()
            model.text_model.compile(dynamic=True)
        self.task = ContrastiveTask(model)
        objective = Objective(model, [self.task])
        optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-4, fused=True)
        self.objective, self.optimizer = self.accelerator.prepare(objective, optimizer)

    @property
    def device(self) -> torch.device:
        return self.accelerator.device

    def step(self, batch: dict) -> float:
        """Learn from a batch on the device; return the time in seconds."""
        start = time.perf_counter()
        backward(self.accelerator, self.objective, batch["inputs"], batch["targets"], self.chunk_size)
        self.optimizer.step()
        self.optimizer.zero_grad()
        synchronise(self.device)
        return time.perf_counter() - start


class Batches:
    """
    Batches of noise with captions of the default corpus.

    Args:
        batch_size (`int`):
            Pairs in a batch.
        device (`torch.device`):
            Where they are.
    """

    def __init__(self, batch_size: int, device: torch.device):
        self.batch_size, self.device = batch_size, device
        self.tokenizer = CLIPTokenizer.from_pretrained(ROOT / "clip_tokenizer")
        rows = [json.loads(line) for line in (ROOT / "corpus" / "captions.jsonl").read_text().splitlines()]
        self.captions = [caption for row in rows for caption in row["captions"]]
        self.windows = torch.randn(batch_size, 320000, device=device).mul_(0.1)
        self.caption_embeds = torch.randn(len(self.captions), 384) + 0.5

    def make(self, number: int, padding: str) -> dict:
        """Return a batch, each `number` with other captions, padded to the longest or to `"max_length"`."""
        chosen = [(number * self.batch_size + offset) % len(self.captions) for offset in range(self.batch_size)]
        texts = [self.captions[index] for index in chosen]
        text = self.tokenizer(texts, padding=padding, truncation=True, return_tensors="pt")
        targets = {"track_ids": torch.arange(self.batch_size), "caption_ids": torch.arange(self.batch_size)}
        targets["caption_embeds"] = self.caption_embeds[chosen]
        return send_to_device({"inputs": {**text, "input_values": self.windows}, "targets": targets}, self.device)


def synchronise(device: torch.device) -> None:
    """Wait until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def matrix_ceiling(device: torch.device, mixed_precision: str) -> float:
    """Return the operations a second of a large matrix product, the best of several."""
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


def time_sides(trainer: Trainer, batches: Batches, steps: int) -> dict[str, list[float]]:
    """Return the seconds of each step of each side, in turns."""
    times = {side: [] for side in SIDES}
    for number in range(steps + 1):
        for side, (padding, is_weighted) in SIDES.items():
            batch = batches.make(number, padding)
            trainer.task.content_weighting = is_weighted
            seconds = trainer.step(batch)
            if number > 0:  # the first step warms up
                times[side].append(seconds)
    trainer.task.content_weighting = False
    return times


def time_loop(trainer: Trainer, batches: Batches, steps: int, num_workers: int) -> tuple[float, float]:
    """Return pairs a second of a training loop over MP3 files, and the share of its time that it waits for data."""
    with tempfile.TemporaryDirectory() as folder:
        write_track(Path(folder) / "0.mp3", 3, 44100, np.random.default_rng(0))
        paths = [f"{folder}/{number}.mp3" for number in range(batches.batch_size * steps)]
        for path in paths[1:]:
            os.link(paths[0], path)  # thousands of copies would fill the disk
        captions = batches.captions
        texts = [[captions[number % len(captions)]] for number in range(len(paths))]
        tracks = Dataset.from_dict({"path": paths, "bytes": [None] * len(paths), "captions": texts})
        loader = DataLoader(
            TrainingWindows(tracks, 16000, 320000, seed=0),
            batches.batch_size,
            collate_fn=TrainingCollator(batches.tokenizer),
            num_workers=num_workers,
        )
        waiting, items, start = [], iter(loader), time.perf_counter()
        for _ in range(steps):
            before = time.perf_counter()
            batch = send_to_device(next(items), trainer.device)
            waiting.append(time.perf_counter() - before)
            trainer.step(batch)
        total = time.perf_counter() - start - waiting[0]  # the first batch is read while nothing else goes on
    return batches.batch_size * steps / total, sum(waiting[1:]) / total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--chunk_size", type=int)
    parser.add_argument("--mixed_precision", default="no", help="no, bf16 or fp16")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--steps", type=int, default=5, help="steps timed for each side, in turns")
    parser.add_argument("--num_workers", type=int, default=2)
    args = parser.parse_args()

    torch.manual_seed(0)
    trainer = Trainer(args.chunk_size, args.mixed_precision, args.compile)
    device = trainer.device
    batches = Batches(args.batch_size, device)
    times = time_sides(trainer, batches, args.steps)
    seconds = {side: min(values) for side, values in times.items()}
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    print(f"{device}{threads}, {args.mixed_precision}, batch {args.batch_size}, chunk {args.chunk_size}")
    for side in SIDES:
        print(f"{side}: {args.batch_size / seconds[side]:.1f} pairs/s")
    print(f"padded to the longest over padded to 77: ratio {seconds['max_length'] / seconds['longest']:.2f}")
    ratios = [weighted / plain for weighted, plain in zip(times["weighted"], times["longest"], strict=True)]
    print(f"content weighting costs {100 * (statistics.median(ratios) - 1):+.1f} % (median of {len(ratios)} steps)")

    rate, share = time_loop(trainer, batches, args.steps, args.num_workers)
    print(f"{args.num_workers} workers reading MP3: {rate:.1f} pairs/s, {100 * share:.0f} % of the time waiting")

    with FlopCounterMode(display=False) as counter:
        trainer.step(batches.make(0, "longest"))
    ceiling = matrix_ceiling(device, args.mixed_precision)
    achieved = counter.get_total_flops() / seconds["longest"]
    print(
        f"{achieved / 1e12:.2f} of {ceiling / 1e12:.2f} Tflop/s of a matrix product: {100 * achieved / ceiling:.0f} %"
    )


if __name__ == "__main__":
    main()
