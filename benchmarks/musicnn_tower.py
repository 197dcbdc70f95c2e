# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
The released models against their teacher and against transformers' CLAP: clips of 20 s per second (CLAP's have 10 s),
all in turns in one process; then size on disk and the memory that each takes in a process of its own.

    python benchmarks/musicnn_tower.py
    python benchmarks/musicnn_tower.py --training

The teacher is the two networks of musicnn run naively, layer after layer over all bands, on all patches of a clip, as
they were published, and on one patch at a time. CLAP's weights are random: time does not depend on them. `--training`
is a step of both networks forwards and back instead, with constant batch norms, against the same naive way.
"""

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import ClapConfig, ClapModel

from modeling_muscall import MusCALLModel


ROOT = Path(__file__).resolve().parents[1]

FOLDERS = {"released": ROOT, "fast": ROOT / "fast"}


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
def run_teacher(tower, clips, at_once):
    size, outputs = tower.config.patch_frames, []
    for clip in clips:
        spectrogram = tower.log_mel(clip[None])
        starts = tower.config.patch_starts
        patches = torch.cat([spectrogram[..., start : start + size] for start in starts])
        outputs += [[run_plainly(network, part) for network in tower.networks] for part in patches.split(at_once)]
    return outputs


def load(name):
    if name == "CLAP":
        return ClapModel(ClapConfig()).eval()
    return MusCALLModel.from_pretrained(FOLDERS[name], dtype=torch.float32).eval()


@torch.inference_mode()
def embed(name, model, clips):
    if name == "CLAP":  # from the spectrogram on: its own is made by NumPy
        return model.get_audio_features(torch.zeros(len(clips), 1, 1001, 64)).pooler_output
    return model.get_audio_features(clips).pooler_output


def compare_training(tower, clips, repeats):
    size = tower.config.patch_frames
    patches = torch.cat([part for part in tower.log_mel(clips).split(size, dim=2) if part.shape[2] == size])
    for network in tower.networks:
        network.input_norm.requires_grad_(False)  # as train.py --batch_norm frozen does
    ways, best = {"plainly": run_plainly, "here": lambda network, patches: network(patches)}, {}
    for _ in range(repeats + 1):
        for name, run in ways.items():
            start = time.perf_counter()
            sum(run(network, patches).square().sum() for network in tower.networks).backward()
            best[name] = min(best.get(name, float("inf")), time.perf_counter() - start)
    for name, seconds in best.items():
        ratio = best["plainly"] / seconds
        print(f"training, {name}: {len(patches) / seconds:.2f} patches of 3 s a second, {ratio:.1f} times plainly")


def peak_memory() -> int:
    """Of this process, in MiB; what `resource` knows is also that of the process that started it."""
    return int(re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--training", action="store_true")
    parser.add_argument("--memory_of", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.manual_seed(0)
    clips = torch.randn(args.batch_size, 320000) / 10
    if args.memory_of:
        before = peak_memory()
        embed(args.memory_of, load(args.memory_of), clips)
        print(f"{peak_memory()} MiB of memory at its peak, {before} of them Python and libraries")
        return
    if args.training:
        compare_training(load("released").audio_model, clips, args.repeats)
        return
    models = {name: load(name) for name in (*FOLDERS, "CLAP")}
    tower = models["released"].audio_model
    runs = {
        "the teacher, all patches of a clip": lambda: run_teacher(tower, clips, len(tower.config.patch_starts)),
        "the teacher, a patch at a time": lambda: run_teacher(tower, clips, 1),
        **{name: lambda name=name: embed(name, models[name], clips) for name in models},
    }
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(args.repeats + 1):  # in turns, so that load does not decide
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - start)
    teacher = best["the teacher, all patches of a clip"]
    for name, seconds in best.items():
        print(f"{name}: {args.batch_size / seconds:.1f} clips/s, {teacher / seconds:.1f} times the teacher")
    for name in models:
        size = FOLDERS[name] / "model.safetensors" if name in FOLDERS else None
        disk = f"{size.stat().st_size / 1e6:.1f} MB on disk, " if size else ""
        command = [sys.executable, __file__, "--memory_of", name, "--batch_size", str(args.batch_size)]
        print(f"{name}: {disk}{subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()}")


if __name__ == "__main__":
    main()
