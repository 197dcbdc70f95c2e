# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Measure audio clips per second, waveform to embedding: MusCALL against transformers' CLAP.

    python -m benchmarks.audio_features

Random weights and default configurations on both sides; each model's own feature extractor is part of its time, and
each gets clips of the length it was made for: 20 s at 16 kHz and 10 s at 48 kHz.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, PreTrainedModel, SequenceFeatureExtractor

from configuration_muscall import MusCALLConfig
from modeling_muscall import MusCALLModel
from processing_muscall import MusCALLFeatureExtractor


def seconds(function: Callable[[], object], repeats: int) -> float:
    """Return the time of the fastest of `repeats` runs, after one that does not count."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def embed(
    model: PreTrainedModel, extractor: SequenceFeatureExtractor, clips: list[np.ndarray], sampling_rate: int
) -> None:
    model.get_audio_features(**extractor(clips, sampling_rate=sampling_rate, return_tensors="pt"))


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()

    torch.manual_seed(0)
    random = np.random.default_rng(0)
    ours, our_extractor = MusCALLModel(MusCALLConfig()).eval(), MusCALLFeatureExtractor()
    clap, clap_extractor = ClapModel(ClapConfig()).eval(), ClapFeatureExtractor(truncation="rand_trunc")
    print(f"{torch.get_num_threads()} threads")
    for batch_size in (1, 16):
        our_clips = [random.normal(size=320000).astype(np.float32) / 10 for _ in range(batch_size)]
        clap_clips = [random.normal(size=480000).astype(np.float32) / 10 for _ in range(batch_size)]
        our_rate = batch_size / seconds(partial(embed, ours, our_extractor, our_clips, 16000), args.repeats)
        clap_rate = batch_size / seconds(partial(embed, clap, clap_extractor, clap_clips, 48000), args.repeats)
        print(
            f"batch {batch_size}: MusCALL {our_rate:.1f} clips/s of 20 s, CLAP {clap_rate:.1f} clips/s of 10 s, "
            f"ratio {our_rate / clap_rate:.2f} in clips, {2 * our_rate / clap_rate:.2f} in seconds of audio"
        )


if __name__ == "__main__":
    main()
