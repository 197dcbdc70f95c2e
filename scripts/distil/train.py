# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
Teach the fast model on one GPU, all sounds in its memory, each window augmented anew and heard by the teachers live.

    python -m scripts.distil.train SOUNDS TEACHER OUTPUT [--device cuda] [--steps 2600] [--model runs/taggers]

SOUNDS is what `scripts/distil/music.py` writes, TEACHER the file that `muscall/training/audioset.py` names. OUTPUT is
a checkpoint: the model of the taggers with the student in their place, and `log.jsonl`.
"""

import argparse
import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.optim.swa_utils import AveragedModel
from transformers import AutoProcessor, ProcessorMixin

from configuration_muscall import MusCALLMobileNetConfig
from modeling_muscall import MusCALLModel
from modeling_muscall_mobilenet import MusCALLMobileNetModel
from muscall.checkpoint import resolve
from muscall.training.audioset import load_audioset_teacher
from muscall.training.building import build_feature_extractor
from scripts.distil.lessons import WEIGHTS, Lesson, Student, Teachers, measure_losses
from scripts.distil.running import make_adamw, reporting, write_checkpoint
from scripts.distil.sounds import RATE, Pool, augment, read_tracks


SECONDS = 10  # of a window
RENDERED = 0.2  # the share of rendered music in a batch
LEARNING_RATE, WARMUP_STEPS = 3e-3, 300
WEIGHT_DECAY, MAX_NORM = 0.02, 2.0
AVERAGE_DECAY = 0.9985
MEASURED_BATCHES = 12  # from which mean and spread of the AudioSet teacher's features are taken


@dataclass
class Sounds:
    """The pools of a run: `music` and their shares of a batch, speech if there is any, and windows for validation."""

    music: list[tuple[Pool, float]]
    speech: Pool | None
    validation: torch.Tensor

    def draw(self, batch_size: int) -> torch.Tensor:
        """Return a batch of augmented windows `(batch_size, samples)`."""
        counts = [round(batch_size * share) for _, share in self.music[1:]]
        counts.insert(0, batch_size - sum(counts))
        drawn = [pool.draw(count) for (pool, _), count in zip(self.music, counts, strict=True) if count]
        waves = torch.cat(drawn)
        return augment(waves[torch.randperm(batch_size, device=waves.device)], self.speech)


def load_sounds(folder: Path, device: str, seconds: float = SECONDS) -> Sounds:
    """
    Read the folders `recorded`, `rendered`, `speech` and `validation`, of which the second and third may be missing.

    Raises:
        `ValueError`: if there are no recordings, or none for validation.
    """
    window = round(seconds * RATE)
    names = ("recorded", "rendered", "speech", "validation")
    tracks = {name: read_tracks(folder / name, window + RATE // 2) for name in names}
    for name in ("recorded", "validation"):
        if not tracks[name]:
            raise ValueError(f"{folder / name} holds no track of more than {seconds} s: scripts/distil/music.py")
    pools = {name: Pool(tracks[name], window, device) for name in names if tracks[name]}
    for name, pool in pools.items():
        print(f"{name}: {len(tracks[name])} tracks, {pool.hours:.2f} h")
    rendered = [(pools["rendered"], RENDERED)] if "rendered" in pools else []
    music = [(pools["recorded"], 1 - RENDERED * len(rendered)), *rendered]
    return Sounds(music, pools.get("speech"), pools["validation"].cut())


def update_average(averaged: list[torch.Tensor], current: list[torch.Tensor], count: torch.Tensor) -> None:
    """Move averaged tensors towards the current ones, fast at first: about the last 700 steps count."""
    if averaged[0].is_floating_point():
        decay = min(AVERAGE_DECAY, (count.item() + 1) / (count.item() + 11))
        torch._foreach_lerp_(averaged, current, 1 - decay)
    else:
        torch._foreach_copy_(averaged, current)


def learning_rate_factor(step: int, steps: int) -> float:
    """Return the share of the learning rate at a step: a warm-up of an eighth of a short run, and half a cosine."""
    warmup = min(WARMUP_STEPS, steps / 8)
    return min(1, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * step / steps)) + 1e-6 / LEARNING_RATE


def make_optimizer(student: Student, steps: int) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
    """Return AdamW and its schedule."""
    optimizer = make_adamw(student, LEARNING_RATE, WEIGHT_DECAY)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_factor(step, steps))


@torch.no_grad()
def validate(student: Student, teachers: Teachers, lessons: list[Lesson]) -> dict[str, float]:
    """Return the mean losses of a student in evaluation mode."""
    losses = [measure_losses(student, teachers, lesson) for lesson in lessons]
    return {name: torch.cat([loss[name] for loss in losses]).mean().item() for name in WEIGHTS}


def distil(
    student: Student,
    teachers: Teachers,
    sounds: Sounds,
    steps: int,
    batch_size: int,
    every: int,
    report: Callable[[dict], None],
) -> Student:
    """
    Train a student.

    Args:
        student (`Student`), teachers (`Teachers`), sounds (`Sounds`): All on one device.
        steps (`int`), batch_size (`int`): How long, and windows in a step.
        every (`int`): Steps between two validations.
        report (`Callable`): Is called with the losses of training and validation at these steps and at the last one.

    Returns:
        `Student`: the average of the last steps, in evaluation mode.
    """
    teachers.measure([teachers(sounds.music[0][0].draw(batch_size)) for _ in range(MEASURED_BATCHES)])
    validation = [teachers(waves) for waves in sounds.validation.split(batch_size)]
    averaged = AveragedModel(student, multi_avg_fn=update_average, use_buffers=True).eval()
    optimizer, schedule = make_optimizer(student.train(), steps)
    start = time.perf_counter()
    for step in range(1, steps + 1):
        losses = measure_losses(student, teachers, teachers(sounds.draw(batch_size)))
        loss = sum(weight * losses[name].mean() for name, weight in WEIGHTS.items())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), MAX_NORM)
        optimizer.step()
        schedule.step()
        averaged.update_parameters(student)
        if step % every == 0 or step == steps:
            row = {"step": step, "seconds": time.perf_counter() - start, "loss": loss.item()}
            row |= {f"train_{name}": values.mean().item() for name, values in losses.items()}
            values = validate(averaged.module, teachers, validation)
            report(row | {f"validation_{name}": value for name, value in values.items()})
    return averaged.module


def save(model: MusCALLModel, processor: ProcessorMixin, tower: MusCALLMobileNetModel, folder: Path) -> None:
    """Write a checkpoint: the model with this tower, and windows as long as its own tower has."""
    config = copy.deepcopy(tower.config)
    config.window_seconds = model.config.audio_config.window_seconds
    model.config.audio_config, model.audio_model = config, MusCALLMobileNetModel(config)
    model.audio_model.load_state_dict(tower.state_dict())
    processor.feature_extractor = build_feature_extractor(model)
    write_checkpoint(model, processor, folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sounds", type=Path)
    parser.add_argument("teacher", type=Path, help="mn04_as_mAP_432.pt")
    parser.add_argument("output", type=Path)
    parser.add_argument("--model", default="runs/taggers", help="with the taggers; default: %(default)s")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, default=2600, help="default: %(default)s")
    parser.add_argument("--batch_size", type=int, default=192, help="windows of a step; default: %(default)s")
    parser.add_argument("--every", type=int, default=200, help="steps between validations; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
    folder = resolve(args.model)
    model = MusCALLModel.from_pretrained(folder, dtype=torch.float32)
    sounds = load_sounds(args.sounds, args.device)
    teachers = Teachers(model, load_audioset_teacher(args.teacher), SECONDS).to(args.device)
    size = model.config.audio_config.hidden_size
    student = Student(MusCALLMobileNetConfig(window_seconds=SECONDS, hidden_size=size), teachers)
    student.to(args.device, memory_format=torch.channels_last)
    with reporting(args.output) as report:
        student = distil(student, teachers, sounds, args.steps, args.batch_size, args.every, report)
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    save(model, processor, student.tower, args.output)


if __name__ == "__main__":
    main()
