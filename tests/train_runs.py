# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Runs of train.py in processes of their own, for tests: started by a launcher, or as forks, which is sooner."""

import json
import os
import subprocess
import sys
import time

import torch
from forks import Fork, fork_ranks
from helpers import ROOT

import train


ACCELERATE = ("accelerate.commands.launch", "--cpu", "--num_processes", "1")
TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc_per_node", "2")  # accelerate needs MPI for this on a CPU
CPU = {"ACCELERATE_USE_CPU": "true"} if torch.accelerator.is_available() else {}


def arguments(recipe, corpus, output_dir, *more):
    return ["--config", str(recipe), "--dataset", str(corpus), "--output_dir", str(output_dir), *map(str, more)]


def start(args, launcher):
    """Start train.py in a process group of its own, so that it gets signals as from a terminal, with its workers."""
    command = [sys.executable, "-m", *launcher, str(ROOT / "train.py"), *args]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
    return subprocess.Popen(command, env=os.environ | CPU, **options)


def fork(args):
    return Fork(train.main, args, **CPU)


def fork_two(args):
    return fork_ranks(2, train.main, args, **CPU)


def read_log(folder):
    path = folder / "log.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_for_step(process, folder, step):
    while not any(entry["step"] > step and "loss" in entry for entry in read_log(folder)):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.005)


def stop_after(process, folder, step, number):
    wait_for_step(process, folder, step)
    os.killpg(process.pid, number)
