# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Peak memory and speed of a training step of the default model, with and without gradient caching.

    python -m benchmarks.gradient_cache

Each row is a process of its own. The windows of the whole batch are in memory in any case: 1.22 MiB for 20 s.
"""

import argparse
import multiprocessing
import resource
import time

import torch
from accelerate import Accelerator

from configuration_muscall import MusCALLConfig
from modeling_muscall import MusCALLModel
from muscall.training.gradient_cache import backward
from muscall.training.objectives import ContrastiveTask, Objective


def measure(batch_size: int, chunk_size: int | None, mixed_precision: str) -> tuple[float, float]:
    """Return the peak memory in GiB and pairs/s of the second of two steps; on a CPU the memory of the process."""
    torch.manual_seed(0)
    accelerator = Accelerator(mixed_precision=mixed_precision)
    device = accelerator.device
    model = MusCALLModel(MusCALLConfig())
    objective = accelerator.prepare(Objective(model, [ContrastiveTask(model)]).train())
    ids = torch.arange(batch_size, device=device)
    tokens = torch.randint(1000, 40000, (batch_size, 16), device=device)
    inputs = {"input_values": torch.randn(batch_size, 320000, device=device).mul_(0.1), "input_ids": tokens}
    inputs["attention_mask"] = torch.ones_like(tokens)
    for _ in range(2):
        start = time.perf_counter()
        loss, _ = backward(accelerator, objective, inputs, {"track_ids": ids, "caption_ids": ids}, chunk_size)
        loss.item()
    rate = batch_size / (time.perf_counter() - start)
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30, rate
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--chunk_sizes", type=int, nargs="+", default=[16])
    parser.add_argument("--whole", type=int, nargs="*", default=[16, 64], help="batches to run without chunks too")
    parser.add_argument("--mixed_precision", default="no", help="no, bf16 or fp16")
    args = parser.parse_args()

    cases = [(batch_size, None) for batch_size in args.whole]
    cases += [(batch_size, chunk) for chunk in args.chunk_sizes for batch_size in args.batch_sizes]
    print("| batch | chunk | peak memory | pairs/s |\n| --- | --- | --- | --- |")
    context = multiprocessing.get_context("spawn")
    for batch_size, chunk_size in cases:
        with context.Pool(1) as pool:
            memory, rate = pool.apply(measure, (batch_size, chunk_size, args.mixed_precision))
        print(f"| {batch_size:,} | {chunk_size or 'none'} | {memory:.1f} GiB | {rate:.1f} |", flush=True)


if __name__ == "__main__":
    main()
