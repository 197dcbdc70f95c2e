# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Measure audio clips per second, waveform to embedding: MusCALL against transformers' CLAP.

    python -m benchmarks.audio_features
    ONEDNN_MAX_CPU_ISA=AVX512_CORE_VNNI python -m benchmarks.audio_features  # as on a processor without AMX

The released model in float32 and in bf16 (which is fast where the processor has products of matrices in it, as AMX
has), and a model of the default configuration. That one and CLAP have random weights, on which time does not depend.
Each model's own feature extractor is part of its time, and each gets clips of the length it was made for: 20 s at
16 kHz and 10 s at 48 kHz. All run in turns, and the fastest run of each counts.
"""

import argparse
import os
from functools import partial
from pathlib import Path

import numpy as np
import torch
from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, PreTrainedModel, SequenceFeatureExtractor

from benchmarks.musicnn_tower import ROOT, time_in_turns
from configuration_muscall import MusCALLConfig
from modeling_muscall import MusCALLModel
from processing_muscall import MusCALLFeatureExtractor


def embed(model: PreTrainedModel, extractor: SequenceFeatureExtractor, clips: list[np.ndarray]) -> None:
    features = extractor(clips, sampling_rate=extractor.sampling_rate, return_tensors="pt")
    model.get_audio_features(**features)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[1, 16])
    args = parser.parse_args()

    torch.manual_seed(0)
    random = np.random.default_rng(0)
    ours, released = MusCALLFeatureExtractor(), MusCALLFeatureExtractor.from_pretrained(ROOT)
    sides = {
        "CLAP": (ClapModel(ClapConfig()), ClapFeatureExtractor(truncation="rand_trunc"), 10),
        "default configuration": (MusCALLModel(MusCALLConfig()), ours, 20),
        "released, float32": (MusCALLModel.from_pretrained(ROOT, dtype=torch.float32), released, 20),
        "released, bfloat16": (MusCALLModel.from_pretrained(ROOT, dtype=torch.bfloat16), released, 20),
    }
    # The variable keeps oneDNN from instructions that the processor has, such as AMX.
    amx = "amx_bf16" in Path("/proc/cpuinfo").read_text() and "ONEDNN_MAX_CPU_ISA" not in os.environ
    print(f"{torch.get_num_threads()} threads, {'with' if amx else 'without'} AMX")
    for batch_size in args.batch_sizes:
        runs = {}
        for name, (model, extractor, seconds) in sides.items():
            samples = (batch_size, seconds * extractor.sampling_rate)
            clips = [*(random.normal(size=samples).astype(np.float32) / 10)]
            runs[name] = partial(embed, model.eval(), extractor, clips)
        for name, best in (times := time_in_turns(runs, args.repeats)).items():
            seconds = sides[name][2]
            ratio = seconds / best / (sides["CLAP"][2] / times["CLAP"])
            print(
                f"batch {batch_size}, {name}: {batch_size / best:.1f} clips/s of {seconds} s, "
                f"{ratio:.2f} times CLAP in seconds of audio"
            )


if __name__ == "__main__":
    main()
