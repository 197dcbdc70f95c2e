# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""What a launcher is told is followed or refused, and errors end a program in words."""

import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState
from helpers import ROOT

from muscall.launch import errors_in_words, start_accelerator
from muscall.training.arguments import TrainingArguments
from muscall.training.building import build_accelerator


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4", "STEPS=4, which is not followed: .*--chunk_size"),
        ("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR", "BACKEND=INDUCTOR, which is not followed: train.py has --compile"),
        ("ACCELERATE_USE_FSDP", "true", "FSDP=true, which is not followed"),
        ("ACCELERATE_USE_DEEPSPEED", "true", "DEEPSPEED=true, which is not followed"),
        (
            "ACCELERATE_MIXED_PRECISION",
            "bf16",
            "given --mixed_precision bf16, but this program computes with --mixed_precision no",
        ),
    ],
)
def test_what_the_launcher_is_told_and_nobody_does_is_refused(monkeypatch, name, value, message):
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        start_accelerator()


@pytest.fixture
def accelerator_state(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def test_training_follows_the_precision_of_the_launcher(monkeypatch, tmp_path, accelerator_state):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    args = TrainingArguments(output_dir=str(tmp_path))
    assert build_accelerator(args).mixed_precision == "bf16" and args.mixed_precision == "bf16"
    with pytest.raises(
        ValueError, match="given --mixed_precision bf16, but this program computes with --mixed_precision no"
    ):
        build_accelerator(TrainingArguments(output_dir=str(tmp_path), mixed_precision="no"))


def test_the_defaults_of_the_launcher_change_nothing(monkeypatch, accelerator_state):
    for name, value in (("GRADIENT_ACCUMULATION_STEPS", "1"), ("DYNAMO_BACKEND", "NO"), ("MIXED_PRECISION", "no")):
        monkeypatch.setenv(f"ACCELERATE_{name}", value)
    assert start_accelerator().mixed_precision == "no"


def test_what_is_wrong_with_the_arguments_is_said_without_a_traceback():
    result = subprocess.run(
        [sys.executable, "train.py", "--batch_size", "0"], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 1 and result.stderr.splitlines()[-1] == "error: batch_size must be at least 1, got 0."
    assert "Traceback" not in result.stderr


def test_errors_of_files_end_a_program_and_faults_keep_their_traceback(monkeypatch):
    with pytest.raises(SystemExit, match="^error: .*No such file or directory: 'missing'"), errors_in_words():
        Path("missing").read_text()
    monkeypatch.setenv("RANK", "3")
    with pytest.raises(SystemExit, match="^error on process 3: unreadable$"), errors_in_words():
        raise ValueError("unreadable")
    with pytest.raises(KeyError), errors_in_words():
        raise KeyError("a fault")
