# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
Clips of 20 s per second through the musicnn tower, against the same networks run plainly, layer after layer on one
patch at a time and on all patches of a clip, against the paper's ResNet tower, and against the audio tower of
transformers' CLAP on clips of 10 s.

    python benchmarks/musicnn_tower.py

Weights are random: time does not depend on them.
"""

import argparse
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import ClapAudioConfig, ClapAudioModel


sys.path.insert(0, str(Path(__file__).parents[1]))

from configuration_muscall import MusCALLAudioConfig, MusCALLMusicnnConfig  # noqa: E402, found through the path above
from modeling_muscall import MusCALLAudioModel, MusCALLMusicnnModel  # noqa: E402


def run_plainly(network, patches):
    """As the tagger was published: every layer over all bands of the patches, then the maximum."""
    spectrogram = network.input_norm(patches[:, None])
    hidden_states = torch.cat(
        [
            filters.norm(F.relu(filters.conv(F.pad(spectrogram, filters.padding)))).amax(2)
            for filters in network.filters
        ],
        dim=1,
    )
    parts = [hidden_states]
    for layer, (conv, norm) in enumerate(zip(network.convs, network.norms, strict=True)):
        hidden_states = norm(F.relu(conv(hidden_states))) + (hidden_states if layer else 0)
        parts.append(hidden_states)
    sequence = torch.cat(parts, dim=1)
    pooled = torch.stack([sequence.amax(2), sequence.mean(2)], dim=2).flatten(1)
    return network.dense_norm(F.relu(network.dense(network.pool_norm(pooled))))


@torch.inference_mode()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    torch.manual_seed(0)
    clips = torch.randn(args.batch_size, 320000) / 10
    musicnn = MusCALLMusicnnModel(MusCALLMusicnnConfig()).eval()
    resnet = MusCALLAudioModel(MusCALLAudioConfig()).eval()
    clap, clap_features = ClapAudioModel(ClapAudioConfig()).eval(), torch.randn(args.batch_size, 1, 1001, 64)

    def plainly(at_once):
        size, outputs = musicnn.config.patch_frames, []
        for clip in clips:
            spectrogram = musicnn.log_mel(clip[None])
            starts = [min(size * n, spectrogram.shape[2] - size) for n in range(musicnn.config.num_patches)]
            patches = torch.cat([spectrogram[..., start : start + size] for start in starts])
            outputs += [
                [run_plainly(network, part) for network in musicnn.networks] for part in patches.split(at_once)
            ]
        return outputs

    runs = {
        "musicnn, plainly": lambda: plainly(1),
        "the same, all patches of a clip": lambda: plainly(musicnn.config.num_patches),
        "musicnn tower": lambda: musicnn(clips),
        "ResNet tower": lambda: resnet(clips),
        "CLAP's tower, 10 s": lambda: clap(clap_features),
    }
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(args.repeats + 1):  # in turns, so that load does not decide
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - start)
    for name, seconds in best.items():
        print(
            f"{name}: {args.batch_size / seconds:.1f} clips/s, {best['musicnn, plainly'] / seconds:.1f} times plainly"
        )


if __name__ == "__main__":
    main()
