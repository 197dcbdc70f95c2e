# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""train.py from the command line to the folder it leaves, on a corpus of tones that a tiny model learns in seconds."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
import yaml
from corpora import write_embeds
from forks import Fork, finish
from helpers import ROOT, SIZES, make_sentence_model, save_teacher
from huggingface_hub import ModelCard
from huggingface_hub.utils import filter_repo_objects
from safetensors.torch import load_file
from train_runs import TORCHRUN, arguments, read_log, start
from transformers import AutoTokenizer

import train
from configuration_muscall import MusCALLMusicnnConfig
from modeling_muscall import MusCALLModel
from muscall.training import tracking
from muscall.training.checkpointing import list_checkpoints, load_last_weights
from processing_muscall import MusCALLFeatureExtractor, MusCALLProcessor


# Of claims.yaml another program makes whole recipes.
RECIPES = sorted(path for path in (ROOT / "recipes").glob("*.yaml") if path.stem != "claims")
LOADING = """
import json, sys, torch
from transformers import AutoModel, AutoProcessor, AutoTokenizer

folder, *audio = sys.argv[1:]
kinds = (AutoModel, AutoProcessor, AutoTokenizer)
model, processor, tokenizer = (kind.from_pretrained(folder, trust_remote_code=True) for kind in kinds)
assert tokenizer("deep").input_ids == processor.tokenizer("deep").input_ids
with torch.no_grad():
    outputs = model.eval()(**processor(text=["a low pure tone", "a high pure tone"], audio=audio, return_tensors="pt"))
print(json.dumps(outputs.logits_per_audio.tolist()))
"""


def load_in_a_fresh_process(folder, *audio):
    """In one that knows nothing of this checkout."""
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "HF_HOME")}
    env["HF_HOME"] = str(folder.parent / "hf_home")
    command = [sys.executable, "-c", LOADING, folder, *audio]
    result = subprocess.run(command, cwd="/", env=env, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def load_in_a_fork(folder, *audio):
    return finish(Fork(run_loading, str(folder), *audio))


def run_loading(*arguments):
    sys.argv = ["", *arguments]
    exec(LOADING, {})


def check_folder(folder, corpus, load):
    """A folder that `Auto*` loads."""
    names = {"model.safetensors", "config.json", "modeling_muscall.py", "configuration_muscall.py", "results.json"}
    names |= {"processing_muscall.py", "processor_config.json", "tokenizer.json", "README.md", "log.jsonl"}
    assert names <= {path.name for path in folder.iterdir()} and not list(folder.glob("**/.partial"))
    assert list(folder.glob("tensorboard/muscall/*tfevents*"))
    output = load(folder, *(str(corpus / "test" / f"{number}.flac") for number in (0, 4)))
    (low_low, low_high), (high_low, high_high) = json.loads(output.splitlines()[-1])
    assert low_low > low_high and high_high > high_low

    card = ModelCard.load(folder / "README.md").data
    assert (card.library_name, card.license) == ("transformers", "apache-2.0")
    results = json.loads((folder / "results.json").read_text())
    assert results["num_tracks"] == SIZES and results["windows"] == "all"
    return results


@pytest.mark.slow
def test_a_run_learns_and_leaves_a_model(finished, corpus):
    results, log = check_folder(finished, corpus, load_in_a_fresh_process), read_log(finished)
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert len(losses) == 72 and np.mean(losses[-6:]) < 0.6 * np.mean(losses[:6])
    assert [entry["step"] for entry in log if "validation/mean_R@10" in entry] == [0, 24, 48, 72]
    assert results["test"]["mean_R@10"] > 2.5 * 1000 / SIZES["test"]  # chance is 21 %
    assert results["test"]["mean_R@10"] == next(entry["test/mean_R@10"] for entry in log if "test/mean_R@10" in entry)
    assert [path.name for path in list_checkpoints(finished / "checkpoints")] == ["step-0000048", "step-0000072"]
    last, best = load_last_weights(finished / "checkpoints"), load_file(finished / "model.safetensors")
    assert {name: tensor.shape for name, tensor in last.items()} == {name: best[name].shape for name in best}


@pytest.mark.slow
def test_two_processes_leave_the_same_kind_of_folder(corpus, recipe, tmp_path):
    process = start(arguments(recipe, corpus, tmp_path / "run", "--batch_size", 4, "--num_epochs", 8), TORCHRUN)
    psutil.Process(process.pid).cpu_affinity([0])  # on one core they met a deadlock of gloo at their end
    output = finish(process)
    assert "6 steps of 8 pairs" in output and output.count("step 0: validation") == 1
    results = check_folder(tmp_path / "run", corpus, load_in_a_fork)
    assert results["test"]["mean_R@10"] > 2 * 1000 / SIZES["test"] and results["arguments"]["num_processes"] == 2


def test_runs_that_cannot_start(run_main, corpus, recipe, tmp_path):
    with pytest.raises(ValueError, match=r"48 training tracks, fewer than the batch of 49 .*lower --batch_size"):
        run_main(arguments(recipe, corpus, tmp_path / "run", "--batch_size", 49))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="holds a run: --resume continues it, --output_dir names another"):
        run_main(arguments(recipe, corpus, tmp_path))
    with pytest.raises(
        ValueError, match="there is no checkpoint in .*/checkpoints yet: start again in another folder"
    ):
        run_main(arguments(recipe, corpus, tmp_path, "--resume"))
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_start_that_is_neither_here_nor_on_the_hub(run_main, tmp_path):
    for name in ("model", "audio_model", "text_model"):
        command_line = ["--config", str(ROOT / "recipes" / "scratch.yaml"), "--output_dir", str(tmp_path / "run")]
        command_line += [f"--{name}_name_or_path", "runs/missing"]
        with pytest.raises(OSError, match="There is no folder runs/missing, and the Hub gave nothing .*first lines"):
            run_main(command_line)


@pytest.mark.slow
def test_a_run_with_everything_on(run_main, corpus, recipe, tmp_path, monkeypatch):
    """Content-aware loss, self-supervision, chunks, towers that thaw, two datasets; published at the end."""
    sentences = make_sentence_model(tmp_path)
    published = []
    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", lambda self, *a, **k: published.append(("create", a, k)))
    monkeypatch.setattr("huggingface_hub.HfApi.upload_folder", lambda self, **k: published.append(("upload", k)))
    args = arguments(recipe, corpus, tmp_path / "run", "--num_epochs", 3, "--eval_every", 1, "--num_workers", 0)
    args += ["--content_weighting", "--sentence_model_name_or_path", str(sentences), "--ssl_weight", "0.3"]
    args += ["--chunk_size", "3", "--freeze_text_steps", "-1", "--freeze_audio_steps", "7", "--push_to_hub", "me/mine"]
    run_main([*args, "--audio_learning_rate", "0.001"])

    log = [entry for entry in read_log(tmp_path / "run") if "loss" in entry]
    parts = {"contrastive_loss", "ssl_loss", "logit_scale", "grad_norm", "audio_embedding_norm", "text_embedding_norm"}
    assert parts | {"learning_rate/audio_model", "learning_rate/other", "pairs_per_second"} <= log[-1].keys()
    assert log[3]["learning_rate/other"] == pytest.approx(3 * log[3]["learning_rate/audio_model"])
    steps = {
        path.name: load_file(path / "model.safetensors") for path in list_checkpoints(tmp_path / "run" / "checkpoints")
    }
    first, last = steps["step-0000012"], steps["step-0000018"]
    moved = {name for name in first if not torch.equal(first[name], last[name])}
    assert "ssl_projector.0.weight" in moved and "model.audio_model.stem.conv1.conv.weight" in moved
    assert "model.text_projection.weight" in moved and not any(n.startswith("model.text_model") for n in moved)
    assert not any("ssl" in name for name in load_file(tmp_path / "run" / "model.safetensors"))

    (create, (repo,), options), (upload, uploaded) = published
    assert (create, repo, options) == ("create", "me/mine", {"exist_ok": True})
    assert (upload, uploaded["repo_id"]) == ("upload", "me/mine")
    kept = set(filter_repo_objects(names_under(uploaded["folder_path"]), ignore_patterns=uploaded["ignore_patterns"]))
    assert {"model.safetensors", "modeling_muscall.py", "processor_config.json", "README.md", "results.json"} <= kept
    assert not any("checkpoints" in name or "events" in name or "log.jsonl" in name for name in kept)
    card = (tmp_path / "run" / "README.md").read_text()
    assert re.search(r"text to audio \| \d+\.\d \[\d+\.\d, \d+\.\d\]", card)
    assert (
        "accelerate launch" in card
        and "--ssl_weight 0.3" in card
        and "licences of all splits: not stated (132)" in card
    )


def names_under(folder):
    return [str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file()]


@pytest.mark.slow
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_start(run_main, corpus, tmp_path, monkeypatch, path):
    monkeypatch.setattr(train.StopRequest, "anywhere", lambda *_: True)
    args = arguments(path, corpus, tmp_path / "run", "--batch_size", 4, "--num_workers", 0, "--log_every", 1)
    args += ["--max_validation_tracks", "12", "--eval_batch_size", "4"]
    recipe = yaml.safe_load(path.read_text())
    sentences = str(make_sentence_model(tmp_path))
    if path.stem == "language":
        args += [
            "--dataset",
            str(write_embeds(tmp_path / "labels", 167)),
            "--text_model_name_or_path",
            str(tmp_path / "bert"),
        ]
    if "content_weighting" in recipe:
        args += ["--sentence_model_name_or_path", sentences]
    if path.stem in ("release", "distil"):  # what runs/tag_phrases and runs/taggers are
        tower = MusCALLMusicnnConfig(num_filters=2, num_middle_filters=4)
        model = MusCALLModel.from_text_pretrained(tmp_path / "bert", audio_config=tower, projection_hidden_size=8)
        model.save_pretrained(tmp_path / "start")
        processor = MusCALLProcessor(MusCALLFeatureExtractor(), AutoTokenizer.from_pretrained(tmp_path / "bert"))
        processor.save_pretrained(tmp_path / "start")
        args += ["--model_name_or_path", str(tmp_path / "start")]
    if "distillation_teacher" in recipe:
        teacher = save_teacher(tmp_path / "teacher", num_filters=2, num_middle_filters=4)
        args += ["--distillation_teacher", str(teacher)]
    if "dataset_weights" in recipe:  # of several datasets
        args += ["--dataset_weights", "1"]
    with pytest.raises(SystemExit, match="^130$"):
        run_main(args)
    assert np.isfinite(read_log(tmp_path / "run")[-1]["loss"])
    assert [path.name for path in list_checkpoints(tmp_path / "run" / "checkpoints")][-1] == "step-0000001"


@pytest.mark.slow
def test_sentences_learn_without_audio(run_main, recipe, tmp_path):
    corpus = write_embeds(tmp_path / "corpus", 4)
    args = arguments(recipe, corpus, tmp_path / "run", "--freeze_audio_steps", -1, "--num_workers", 0)
    settings = yaml.safe_load(Path(recipe).read_text())["model_config"] | {"projection_dim": 4}
    run_main([*args, "--model_config", json.dumps(settings), "--num_epochs", "20"])
    log = read_log(tmp_path / "run")
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert np.mean(losses[-3:]) < 0.5 * np.mean(losses[:3])
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["test"]["text_to_audio_MRR"] == pytest.approx(0.75)  # of two rows of a kind
    assert "stored embeddings in the place of audio" in (tmp_path / "run" / "README.md").read_text()
    steps = [load_file(path / "model.safetensors") for path in list_checkpoints(tmp_path / "run" / "checkpoints")]
    moved = {name.split(".")[1] for name in steps[0] if not torch.equal(steps[0][name], steps[1][name])}
    assert moved == {"text_model", "text_projection", "logit_scale"}


@pytest.mark.slow
def test_unreadable_files(run_main, corpus, recipe, tmp_path, caplog):
    broken = shutil.copytree(corpus, tmp_path / "corpus")
    (broken / "train" / "3.flac").write_bytes(b"fLaC and nothing else")
    (broken / "train" / "5.flac").unlink()
    args = arguments(recipe, broken, tmp_path / "run", "--num_epochs", 2, "--num_workers", 0)
    tracking.logger.propagate = True  # transformers' loggers do not, and caplog listens at the root
    with pytest.raises(ValueError, match="2 of 48 training tracks are unreadable .*max_unreadable_fraction=0.02"):
        run_main([*args, "--max_unreadable_fraction", "0.02"])  # rounded up to one track
    assert {"train/3.flac", "train/5.flac"} == set(re.findall(r"train/\d+\.flac", caplog.text))
    caplog.clear()
    shutil.rmtree(tmp_path / "run")
    run_main([*args, "--max_unreadable_fraction", "0.03"])
    assert sorted(re.findall(r"another track: .*?(train/\d+\.flac)", caplog.text)) == ["train/3.flac", "train/5.flac"]


@pytest.mark.slow
def test_a_pool_so_small_that_everybody_has_its_r10_keeps_a_trained_model(run_main, corpus, recipe, tmp_path):
    small = shutil.copytree(corpus, tmp_path / "corpus")
    metadata = small / "validation" / "metadata.jsonl"
    metadata.write_text("".join(metadata.read_text().splitlines(keepends=True)[:6]))
    run_main(arguments(recipe, small, tmp_path / "run", "--num_epochs", 8, "--num_workers", 0))
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["validation"]["mean_R@10"] == 100 and results["validation"]["step"] > 0


@pytest.mark.slow
def test_stopping_at_the_end_of_an_epoch_still_evaluates_it(run_main, corpus, recipe, tmp_path, monkeypatch):
    asked = iter([False, True])  # after the first and the second epoch, of one step each
    monkeypatch.setattr(train.StopRequest, "anywhere", lambda *_: next(asked))
    with pytest.raises(SystemExit, match="^130$"):
        run_main(arguments(recipe, corpus, tmp_path, "--batch_size", 48, "--num_workers", 0, "--eval_every", 2))
    assert [entry["step"] for entry in read_log(tmp_path) if "validation/mean_R@10" in entry] == [0, 2]
    assert list_checkpoints(tmp_path / "checkpoints")[-1].name == "step-0000002"
