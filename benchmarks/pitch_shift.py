# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Pitch shifting a batch: ours against torch-audiomentations, each waveform by an interval of its own.

pip install torch-audiomentations
python -m benchmarks.pitch_shift
"""

import argparse
import statistics
import time

import torch
from torch_audiomentations import PitchShift

from muscall.training.augmentation import pitch_shift


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=5, help="calls timed for each side, in turns")
    args = parser.parse_args()

    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rate = 16000
    waveforms = torch.randn(args.batch_size, round(args.seconds * rate), device=device) / 10
    theirs = PitchShift(-4, 4, p=1.0, sample_rate=rate, mode="per_example", output_type="tensor").to(device)
    sides = {
        "ours": lambda: pitch_shift(waveforms, torch.empty(len(waveforms), device=device).uniform_(-4, 4)),
        "torch-audiomentations": lambda: theirs(waveforms[:, None]),
    }
    times = {side: [] for side in sides}
    for number in range(args.rounds + 1):
        for side, shift in sides.items():
            start = time.perf_counter()
            shift()
            if device == "cuda":
                torch.cuda.synchronize()
            if number > 0:  # the first call warms up
                times[side].append(time.perf_counter() - start)
    print(f"{device}, {torch.get_num_threads()} threads, {args.batch_size} waveforms of {args.seconds} s")
    for side, values in times.items():
        print(f"{side}: {statistics.median(values):.2f} s")
    ratios = [theirs / ours for ours, theirs in zip(*times.values(), strict=True)]
    print(f"ratio {statistics.median(ratios):.1f}")


if __name__ == "__main__":
    main()
