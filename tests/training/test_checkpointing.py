# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Checkpoints: whole or absent, and a run that goes on from one ends like a run that was never interrupted."""

import json
import os
import re
import shutil
import signal
from types import SimpleNamespace

import psutil
import pytest
import torch
from forks import finish
from safetensors.torch import load_file, save_file
from train_runs import TORCHRUN, arguments, fork, fork_two, start, stop_after, wait_for_step

import train
from muscall.training import checkpointing
from muscall.training.checkpointing import (
    TrainState,
    list_checkpoints,
    load_checkpoint,
    read_state,
    replace_files,
    writing_to,
)


@pytest.mark.slow
def test_a_run_that_was_interrupted_and_killed_ends_like_one_that_was_not(finished, corpus, recipe, tmp_path):
    folder = tmp_path / "run"
    args = arguments(recipe, corpus, folder)
    stop_after(process := fork(args), folder, 7, signal.SIGINT)
    stopped = int(re.search(r"Stopped at step (\d+) and saved", finish(process, 130))[1])
    assert 7 < stopped < 24
    assert list_checkpoints(folder / "checkpoints")[-1].name == f"step-{stopped:07d}"

    stop_after(process := fork([*args, "--resume"]), folder, 27, signal.SIGKILL)
    assert f"from step {stopped}" in finish(process, -signal.SIGKILL)
    assert "from step 24" in finish(fork([*args, "--resume"]))
    for name in ("step-0000048", "step-0000072"):
        ours, theirs = (load_file(run / "checkpoints" / name / "model.safetensors") for run in (folder, finished))
        assert [key for key in ours | theirs if not torch.equal(ours[key], theirs[key])] == []
    ours, theirs = (json.loads((run / "results.json").read_text()) for run in (folder, finished))
    assert ours["test"] == theirs["test"] and ours["validation"] == theirs["validation"]


@pytest.mark.slow
def test_two_processes_that_were_killed_end_like_two_that_were_not(corpus, recipe, tmp_path):
    more = ("--batch_size", 4, "--num_epochs", 4, "--eval_every", 2, "--batch_norm", "synchronised", "--chunk_size", 3)
    more += ("--freeze_audio_steps", 4, "--freeze_text_steps", -1)
    runs = [arguments(recipe, corpus, tmp_path / name, *more) for name in ("whole", "killed")]
    for rank in fork_two(runs[0]):
        finish(rank)
    wait_for_step((ranks := fork_two(runs[1]))[0], tmp_path / "killed", 14)
    for rank in ranks:
        os.killpg(rank.pid, signal.SIGKILL)
    for rank in ranks:
        finish(rank, -signal.SIGKILL)
    assert "from step 12" in [finish(rank) for rank in fork_two([*runs[1], "--resume"])][0]
    whole, killed = (tmp_path / "whole", tmp_path / "killed")
    for name in ("model.safetensors", "checkpoints/step-0000024/model.safetensors"):
        ours, theirs = load_file(killed / name), load_file(whole / name)
        assert [key for key in ours | theirs if not torch.equal(ours[key], theirs[key])] == []
    ours, theirs = (json.loads((run / "results.json").read_text()) for run in (killed, whole))
    assert ours["test"] == theirs["test"] and ours["validation"] == theirs["validation"]


@pytest.mark.slow
def test_sigterm_to_the_whole_group_saves(corpus, recipe, tmp_path):
    """As a cluster sends it: also to the workers of the loader, which the run still needs."""
    stop_after(process := fork(arguments(recipe, corpus, tmp_path / "run")), tmp_path / "run", 3, signal.SIGTERM)
    stopped = int(re.search(r"Stopped at step (\d+) and saved", finish(process, 130))[1])
    assert list_checkpoints(tmp_path / "run" / "checkpoints")[-1].name == f"step-{stopped:07d}"


@pytest.mark.slow
def test_a_signal_to_every_process_of_a_job_saves(corpus, recipe, tmp_path):
    """As schedulers send it; the launcher passes it on, so that each process gets it more than once."""
    args = arguments(recipe, corpus, tmp_path / "run", "--batch_size", 4)
    wait_for_step(process := start(args, TORCHRUN), tmp_path / "run", 3)
    for member in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
        member.send_signal(signal.SIGTERM)
    stopped = int(re.search(r"Stopped at step (\d+) and saved", process.communicate(timeout=300)[0])[1])
    assert list_checkpoints(tmp_path / "run" / "checkpoints")[-1].name == f"step-{stopped:07d}"


@pytest.mark.slow
def test_a_streamed_run_is_killed_and_goes_on_as_if_not(corpus, recipe, tmp_path):
    more = ("--streaming", "--steps_per_epoch", 5, "--num_epochs", 4, "--eval_every", 2, "--shuffle_buffer", 10)
    runs = [arguments(recipe, corpus, tmp_path / name, *more) for name in ("whole", "killed")]
    output = finish(fork(runs[0]))
    assert "a stream of train" in output and "4 epochs of 5 steps of 8 pairs" in output
    stop_after(process := fork(runs[1]), tmp_path / "killed", 2, signal.SIGKILL)  # before it evaluated again
    finish(process, -signal.SIGKILL)
    stop_after(process := fork([*runs[1], "--resume"]), tmp_path / "killed", 12, signal.SIGINT)
    assert "from step 0" in finish(process, 130)
    finish(fork([*runs[1], "--resume"]))
    ours, theirs = (load_file(tmp_path / name / "model.safetensors") for name in ("killed", "whole"))
    assert [key for key in ours | theirs if not torch.equal(ours[key], theirs[key])] == []
    ours, theirs = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("killed", "whole"))
    assert ours["test"] == theirs["test"] and ours["validation"] == theirs["validation"]


@pytest.mark.slow
def test_resuming_with_other_arguments_is_refused(run_main, finished, corpus, recipe):
    with pytest.raises(ValueError, match="with other arguments: learning_rate was 0.003, now 0.1, seed was 0, now 1$"):
        run_main(arguments(recipe, corpus, finished, "--resume", "--learning_rate", 0.1, "--seed", 1))


@pytest.mark.slow
def test_resuming_with_another_corpus_is_refused(run_main, corpus, recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(train.StopRequest, "anywhere", lambda *_: True)
    other = shutil.copytree(corpus, tmp_path / "corpus")
    args = arguments(recipe, other, tmp_path / "run", "--num_workers", 0)
    with pytest.raises(SystemExit, match="^130$"):
        run_main(args)
    metadata = other / "train" / "metadata.jsonl"
    metadata.write_text(metadata.read_text().replace("low", "lower"))
    with pytest.raises(ValueError, match="with another corpus: captions of train are others, or in another order"):
        run_main([*args, "--resume"])


CORPUS = {"train": {"tracks": 2, "captions": "a", "audio": "b"}}


@pytest.fixture
def resume(tmp_path):
    """Load a checkpoint that was made with a corpus `"here"`; return its state."""

    def load(saved, current, streaming=False, dataset="elsewhere"):
        folder = tmp_path / "step-0000012"
        folder.mkdir(exist_ok=True)
        made_with = {"dataset": ["here"], "streaming": streaming}
        values = {"step": 12, "arguments": made_with, "files": {}} | ({"corpus": saved} if saved else {})
        (folder / "trainer_state.json").write_text(json.dumps(values))
        accelerator = SimpleNamespace(load_state=lambda folder: None)
        return load_checkpoint(accelerator, tmp_path, {**made_with, "dataset": [dataset]}, current)

    return load


def test_a_corpus_may_be_moved(resume):
    assert resume(CORPUS, CORPUS).arguments["dataset"] == ["elsewhere"]


def test_of_another_corpus_and_of_a_stream_the_name_counts(resume):
    with pytest.raises(ValueError, match="dataset was .'here'., now .'elsewhere'."):
        resume({"train": {"tracks": 3}}, CORPUS)
    with pytest.raises(ValueError, match="dataset was .'here'., now .'elsewhere'."):
        resume(CORPUS, CORPUS, streaming=True)


def test_a_checkpoint_without_a_fingerprint_is_resumed_and_says_so(resume, caplog):
    checkpointing.logger.propagate = True  # transformers' loggers do not, and caplog listens at the root
    assert resume(None, CORPUS, dataset="here").corpus == CORPUS
    assert "does not say what corpus it was made with" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "model.safetensors").write_bytes(b"short"), "model.safetensors is not as it was"),
        (lambda folder: (folder / "optimizer.bin").unlink(), "optimizer.bin is missing"),
        (lambda folder: (folder / "trainer_state.json").write_text('{"step": 1'), "is not one of train.py, or torn"),
        (lambda folder: (folder / "trainer_state.json").write_text("[1]"), "is not one of train.py, or torn"),
    ],
    ids=["torn", "missing", "half a state", "foreign"],
)
def test_checkpoints_that_are_not_whole_are_refused(run_main, finished, corpus, recipe, tmp_path, damage, message):
    folder = shutil.copytree(finished, tmp_path / "run")
    damage(list_checkpoints(folder / "checkpoints")[-1])
    args = arguments(recipe, corpus, folder, "--resume")
    with pytest.raises(
        ValueError, match=f"--resume: .*step-0000072.*{message}.*Delete it to go on from the one before"
    ):
        run_main(args)


def test_replaced_files_are_whole(tmp_path):
    (tmp_path / "a").write_text("old")
    with pytest.raises(KeyboardInterrupt), replace_files(tmp_path) as folder:
        (folder / "a").write_text("half of a new")
        raise KeyboardInterrupt
    assert (tmp_path / "a").read_text() == "old"
    with replace_files(tmp_path) as folder:
        (folder / "a").write_text("new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "new"}


def test_a_disk_that_is_full_is_named(tmp_path, monkeypatch):
    with pytest.raises(OSError, match="cannot be written to: .*No such file"), writing_to(tmp_path):
        save_file({"a": torch.zeros(1)}, tmp_path / "missing" / "a.safetensors")
    with pytest.raises(RuntimeError, match="a fault of the program"), writing_to(tmp_path):
        raise RuntimeError("a fault of the program")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=0))
    with pytest.raises(OSError, match="the disk of .* is full: file write failed"), writing_to(tmp_path):
        raise RuntimeError("file write failed")


def test_the_state_of_an_earlier_version_is_read(tmp_path):
    """`trainer_state.json` as train.py has always written it."""
    best = {"step": 6, "mean_R@10": 25.0}
    values = {"step": 12, "best": best, "seconds": 3.5, "arguments": {"seed": 0}, "files": {}}
    (tmp_path / "trainer_state.json").write_text(json.dumps(values))
    assert read_state(tmp_path) == TrainState(step=12, best=best, seconds=3.5, arguments={"seed": 0})
