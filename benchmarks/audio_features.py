# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Measure audio clips per second, waveform to embedding: MusCALL against transformers' CLAP.

    python -m benchmarks.audio_features

Random weights and default configurations on both sides; each model's own feature extractor is part of its time, and
each gets clips of the length it was made for: 20 s at 16 kHz and 10 s at 48 kHz.
"""

import argparse
import time

import numpy as np
import torch
from transformers import ClapConfig, ClapFeatureExtractor, ClapModel

from configuration_muscall import MusCALLConfig
from modeling_muscall import MusCALLModel
from processing_muscall import MusCALLFeatureExtractor


def seconds(function, repeats):
    """The fastest of `repeats` runs after one that does not count."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


@torch.inference_mode()
def main():
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

        def run_ours(clips=our_clips):
            inputs = our_extractor(clips, sampling_rate=16000, return_tensors="pt")
            ours.get_audio_features(**inputs)

        def run_clap(clips=clap_clips):
            inputs = clap_extractor(clips, sampling_rate=48000, return_tensors="pt")
            clap.get_audio_features(**inputs)

        our_rate = batch_size / seconds(run_ours, args.repeats)
        clap_rate = batch_size / seconds(run_clap, args.repeats)
        print(
            f"batch {batch_size}: MusCALL {our_rate:.1f} clips/s of 20 s, CLAP {clap_rate:.1f} clips/s of 10 s, "
            f"ratio {our_rate / clap_rate:.2f} in clips, {2 * our_rate / clap_rate:.2f} in seconds of audio"
        )


if __name__ == "__main__":
    main()
