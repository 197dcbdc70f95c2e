# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
Compare the released models with their teacher and with transformers' CLAP: clips of 20 s a second (CLAP's have 10 s),
all in turns in one process; then size on disk and the memory that each takes in a process of its own.

    python -m benchmarks.musicnn_tower
    python -m benchmarks.musicnn_tower --training

The teacher is the two networks of musicnn run naively, layer after layer over all bands, on all patches of a clip, as
they were published, and on one patch at a time. CLAP's weights are random: time does not depend on them. `--training`
measures a step of both networks forwards and back instead, with constant batch norms, against the same naive way.
"""

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from transformers import ClapConfig, ClapModel, PreTrainedModel

from modeling_muscall import MusCALLModel, MusCALLMusicnnModel
from modeling_muscall_musicnn import MusCALLMusicnnNetwork


ROOT = Path(__file__).resolve().parents[1]

FOLDERS = {"released": ROOT, "fast": ROOT / "fast"}


def run_plainly(network: MusCALLMusicnnNetwork, patches: torch.Tensor) -> torch.Tensor:
    """Run a network as the tagger was published: every layer over all bands of the patches, then the maximum."""
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
def run_teacher(tower: MusCALLMusicnnModel, clips: torch.Tensor, at_once: int) -> None:
    size, starts = tower.config.patch_frames, tower.config.patch_starts
    for clip in clips:
        spectrogram = tower.log_mel(clip[None])
        patches = torch.cat([spectrogram[..., start : start + size] for start in starts])
        for part in patches.split(at_once):
            for network in tower.networks:
                run_plainly(network, part)


def load(name: str) -> PreTrainedModel:
    if name == "CLAP":
        return ClapModel(ClapConfig()).eval()
    return MusCALLModel.from_pretrained(FOLDERS[name], dtype=torch.float32).eval()


@torch.inference_mode()
def embed(model: PreTrainedModel, clips: torch.Tensor) -> torch.Tensor:
    if isinstance(model, ClapModel):  # from the spectrogram on: its own is made by NumPy
        return model.get_audio_features(torch.zeros(len(clips), 1, 1001, 64)).pooler_output
    return model.get_audio_features(clips).pooler_output


def time_in_turns(functions: dict[str, Callable], repeats: int) -> dict[str, float]:
    """Return the fewest seconds that each takes. They run in turns, so that other load of the machine is shared."""
    best = dict.fromkeys(functions, float("inf"))
    for _ in range(repeats + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def step(run: Callable, tower: MusCALLMusicnnModel, patches: torch.Tensor) -> None:
    sum(run(network, patches).square().sum() for network in tower.networks).backward()


def compare_training(tower: MusCALLMusicnnModel, clips: torch.Tensor, repeats: int) -> None:
    size = tower.config.patch_frames
    patches = torch.cat([part for part in tower.log_mel(clips).split(size, dim=2) if part.shape[2] == size])
    tower.train()  # as train.py --batch_norm frozen does
    for module in tower.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.eval()
    for parameter in tower.constant_norm_parameters():
        parameter.requires_grad_(False)
    runs = {"plainly": run_plainly, "here": MusCALLMusicnnNetwork.__call__}
    best = time_in_turns({name: partial(step, run, tower, patches) for name, run in runs.items()}, repeats)
    for name, seconds in best.items():
        ratio = best["plainly"] / seconds
        print(f"training, {name}: {len(patches) / seconds:.2f} patches of 3 s a second, {ratio:.1f} times plainly")


def peak_memory() -> int:
    """Return that of this process in MiB. What `resource` gives includes that of the process that started it."""
    return int(re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024


def main() -> None:
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
        embed(load(args.memory_of), clips)
        print(f"{peak_memory()} MiB of memory at its peak, {before} of them Python and libraries")
        return
    if args.training:
        compare_training(load("released").audio_model.musicnn, clips, args.repeats)
        return
    models = {name: load(name) for name in (*FOLDERS, "CLAP")}
    tower = models["released"].audio_model.musicnn
    runs = {
        "the teacher, all patches of a clip": partial(run_teacher, tower, clips, len(tower.config.patch_starts)),
        "the teacher, a patch at a time": partial(run_teacher, tower, clips, 1),
        **{name: partial(embed, model, clips) for name, model in models.items()},
    }
    best = time_in_turns(runs, args.repeats)
    teacher = best["the teacher, all patches of a clip"]
    for name, seconds in best.items():
        print(f"{name}: {args.batch_size / seconds:.1f} clips/s, {teacher / seconds:.1f} times the teacher")
    for name in models:
        size = FOLDERS[name] / "model.safetensors" if name in FOLDERS else None
        disk = f"{size.stat().st_size / 1e6:.1f} MB on disk, " if size else ""
        command = [sys.executable, "-m", "benchmarks.musicnn_tower", "--memory_of", name]
        command += ["--batch_size", str(args.batch_size)]
        memory = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout.strip()
        print(f"{name}: {disk}{memory}")


if __name__ == "__main__":
    main()
