# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""train.py from the command line to the folder it leaves, on a corpus of tones that a tiny model learns in seconds."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
import yaml
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from helpers import RATE, SIZES, make_sentence_model, save_teacher
from huggingface_hub import ModelCard
from huggingface_hub.utils import filter_repo_objects
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, CLIPTokenizer

import train
from configuration_muscall import MusCALLConfig, MusCALLMusicnnConfig
from modeling_muscall import MusCALLModel
from muscall.data.sources import load_corpus
from muscall.evaluation.embedding import embed_corpus
from muscall.training.checkpointing import list_checkpoints, load_last_weights, replace_files
from processing_muscall import MusCALLFeatureExtractor, MusCALLProcessor


ROOT = Path(__file__).parents[1]
ACCELERATE = ("accelerate.commands.launch", "--cpu", "--num_processes", "1")
TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc_per_node", "2")  # accelerate needs MPI for this on a CPU


def arguments(recipe, corpus, output_dir, *more):
    return ["--config", str(recipe), "--dataset", str(corpus), "--output_dir", str(output_dir), *map(str, more)]


def start(args, launcher=()):
    """train.py in a process group of its own, so that it gets signals as from a terminal, with its workers."""
    command = [sys.executable, *(["-m", *launcher] if launcher else []), str(ROOT / "train.py"), *args]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true"} if torch.accelerator.is_available() else None
    return subprocess.Popen(command, env=environment, **options)


def finish(process, returncode=0):
    output = process.communicate(timeout=300)[0]
    assert process.returncode == returncode, output
    return output


def read_log(folder):
    path = folder / "log.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture(scope="session")
def finished(corpus, recipe, tmp_path_factory):
    """The folder of a whole run."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert "12 epochs of 6 steps of 8 pairs, from step 0" in finish(
        start(arguments(recipe, corpus, folder), ACCELERATE)
    )
    return folder


def check_folder(folder, corpus):
    """A folder that `Auto*` loads in a fresh process that knows nothing of this checkout."""
    names = {"model.safetensors", "config.json", "modeling_muscall.py", "configuration_muscall.py", "results.json"}
    names |= {"processing_muscall.py", "processor_config.json", "tokenizer.json", "README.md", "log.jsonl"}
    assert names <= {path.name for path in folder.iterdir()} and not list(folder.glob("**/.partial"))
    assert list(folder.glob("tensorboard/muscall/*tfevents*"))
    script = f"""
import json, torch
from transformers import AutoModel, AutoProcessor, AutoTokenizer
kinds = (AutoModel, AutoProcessor, AutoTokenizer)
model, processor, tokenizer = (kind.from_pretrained({str(folder)!r}, trust_remote_code=True) for kind in kinds)
assert tokenizer("deep").input_ids == processor.tokenizer("deep").input_ids
texts = ["a low pure tone", "a high pure tone"]
audio = [f"{corpus}/test/{{number}}.flac" for number in (0, 4)]
with torch.no_grad():
    outputs = model.eval()(**processor(text=texts, audio=audio, return_tensors="pt"))
print(json.dumps(outputs.logits_per_audio.tolist()))
"""
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "HF_HOME")}
    env["HF_HOME"] = str(folder.parent / "hf_home")
    result = subprocess.run([sys.executable, "-c", script], cwd="/", env=env, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    (low_low, low_high), (high_low, high_high) = json.loads(result.stdout.splitlines()[-1])
    assert low_low > low_high and high_high > high_low

    card = ModelCard.load(folder / "README.md").data
    assert (card.library_name, card.license) == ("transformers", "apache-2.0")
    results = json.loads((folder / "results.json").read_text())
    assert results["num_tracks"] == SIZES and results["windows"] == "all"
    return results


@pytest.mark.slow
def test_a_run_learns_and_leaves_a_model(finished, corpus):
    results, log = check_folder(finished, corpus), read_log(finished)
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
    process = start(arguments(recipe, corpus, tmp_path / "run", "--batch_size", 4), TORCHRUN)
    psutil.Process(process.pid).cpu_affinity([0])  # on one core they met a deadlock of gloo at their end
    output = finish(process)
    assert "6 steps of 8 pairs" in output and output.count("step 0: validation") == 1
    results = check_folder(tmp_path / "run", corpus)
    assert results["test"]["mean_R@10"] > 2 * 1000 / SIZES["test"] and results["arguments"]["num_processes"] == 2


def stop_after(process, folder, step, number):
    while not any(entry["step"] > step and "loss" in entry for entry in read_log(folder)):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.005)
    if number == signal.SIGKILL:  # of a launcher, which has given its processes groups of their own
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
    os.killpg(process.pid, number)


@pytest.mark.slow
def test_a_run_that_was_interrupted_and_killed_ends_like_one_that_was_not(finished, corpus, recipe, tmp_path):
    folder = tmp_path / "run"
    args = arguments(recipe, corpus, folder)
    stop_after(process := start(args), folder, 7, signal.SIGINT)
    stopped = int(re.search(r"Stopped at step (\d+) and saved", finish(process, 130))[1])
    assert 7 < stopped < 24
    assert list_checkpoints(folder / "checkpoints")[-1].name == f"step-{stopped:07d}"

    stop_after(process := start([*args, "--resume"]), folder, 27, signal.SIGKILL)
    assert f"from step {stopped}" in finish(process, -signal.SIGKILL)
    assert "from step 24" in finish(start([*args, "--resume"]))
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
    finish(start(runs[0], TORCHRUN))
    stop_after(process := start(runs[1], TORCHRUN), tmp_path / "killed", 14, signal.SIGKILL)
    finish(process, -signal.SIGKILL)
    assert "from step 12" in finish(start([*runs[1], "--resume"], TORCHRUN))
    whole, killed = (tmp_path / "whole", tmp_path / "killed")
    for name in ("model.safetensors", "checkpoints/step-0000024/model.safetensors"):
        ours, theirs = load_file(killed / name), load_file(whole / name)
        assert [key for key in ours | theirs if not torch.equal(ours[key], theirs[key])] == []
    ours, theirs = (json.loads((run / "results.json").read_text()) for run in (killed, whole))
    assert ours["test"] == theirs["test"] and ours["validation"] == theirs["validation"]


@pytest.mark.slow
def test_sigterm_to_the_whole_group_saves(corpus, recipe, tmp_path):
    """As a cluster sends it: also to the workers of the loader, which the run still needs."""
    stop_after(process := start(arguments(recipe, corpus, tmp_path / "run")), tmp_path / "run", 3, signal.SIGTERM)
    stopped = int(re.search(r"Stopped at step (\d+) and saved", finish(process, 130))[1])
    assert list_checkpoints(tmp_path / "run" / "checkpoints")[-1].name == f"step-{stopped:07d}"


@pytest.fixture
def run_main(monkeypatch):
    """`train.main` in this process, for runs that end before they train long."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    yield train.main
    AcceleratorState._reset_state(reset_partial_state=True)
    for number, handler in handlers.items():
        signal.signal(number, handler)


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


@pytest.mark.slow
def test_resuming_with_other_arguments_is_refused(run_main, finished, corpus, recipe):
    with pytest.raises(ValueError, match="with other arguments: learning_rate was 0.003, now 0.1, seed was 0, now 1$"):
        run_main(arguments(recipe, corpus, finished, "--resume", "--learning_rate", 0.1, "--seed", 1))


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
    assert re.search(r"text to audio \| \d+\.\d\d \[\d+\.\d\d, \d+\.\d\d\]", card)
    assert (
        "accelerate launch" in card
        and "--ssl_weight 0.3" in card
        and "licences of all splits: not stated (132)" in card
    )


def names_under(folder):
    return [str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file()]


@pytest.mark.slow
def test_a_streamed_run_is_killed_and_goes_on_as_if_not(corpus, recipe, tmp_path):
    more = ("--streaming", "--steps_per_epoch", 5, "--num_epochs", 4, "--eval_every", 2, "--shuffle_buffer", 10)
    runs = [arguments(recipe, corpus, tmp_path / name, *more) for name in ("whole", "killed")]
    output = finish(start(runs[0]))
    assert "a stream of train" in output and "4 epochs of 5 steps of 8 pairs" in output
    stop_after(process := start(runs[1]), tmp_path / "killed", 2, signal.SIGKILL)  # before it evaluated again
    finish(process, -signal.SIGKILL)
    stop_after(process := start([*runs[1], "--resume"]), tmp_path / "killed", 12, signal.SIGINT)
    assert "from step 0" in finish(process, 130)
    finish(start([*runs[1], "--resume"]))
    ours, theirs = (load_file(tmp_path / name / "model.safetensors") for name in ("killed", "whole"))
    assert [key for key in ours | theirs if not torch.equal(ours[key], theirs[key])] == []
    ours, theirs = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("killed", "whole"))
    assert ours["test"] == theirs["test"] and ours["validation"] == theirs["validation"]


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_start(run_main, corpus, tmp_path, monkeypatch, path):
    monkeypatch.setattr(train.StopRequest, "anywhere", lambda *_: True)
    args = arguments(path, corpus, tmp_path / "run", "--batch_size", 4, "--num_workers", 0, "--log_every", 1)
    args += ["--max_validation_tracks", "12", "--eval_batch_size", "4"]
    args += ["--sentence_model_name_or_path", str(make_sentence_model(tmp_path))]
    if path.stem == "release":
        tower = MusCALLMusicnnConfig(window_seconds=4, num_filters=2, num_middle_filters=4, feature_size=8)
        model = MusCALLModel.from_text_pretrained(tmp_path / "bert", audio_config=tower, projection_hidden_size=8)
        model.save_pretrained(tmp_path / "start")
        processor = MusCALLProcessor(
            MusCALLFeatureExtractor(window_seconds=4), AutoTokenizer.from_pretrained(tmp_path / "bert")
        )
        processor.save_pretrained(tmp_path / "start")
        args += ["--model_name_or_path", str(tmp_path / "start")]
    if path.stem == "fast":
        args += ["--model_name_or_path", str(ROOT / "fast")]
    recipe = yaml.safe_load(path.read_text())
    if "distillation_teacher" in recipe:
        teacher = save_teacher(tmp_path / "teacher", num_filters=2, num_middle_filters=4)
        args += ["--distillation_teacher", str(teacher)]
    if "dataset_weights" in recipe:  # of several datasets
        args += ["--dataset_weights", "1"]
    with pytest.raises(SystemExit, match="^130$"):
        run_main(args)
    assert np.isfinite(read_log(tmp_path / "run")[-1]["loss"])
    assert [path.name for path in list_checkpoints(tmp_path / "run" / "checkpoints")][-1] == "step-0000001"


def test_arguments_that_cannot_be(recipe):
    for args, message in (
        (["--chunk_size", "0"], "chunk_size must be at least 1, got 0"),
        (["--ssl_weight", "1"], r"ssl_weight must be in \[0, 1\), got 1.0"),
        (["--batch_norm", "none"], "batch_norm must be local, synchronised or frozen, got 'none'"),
        (
            ["--report_to", "nothing"],
            "report_to: nothing is not installed or not known to accelerate; there is: .*tensor",
        ),
        (["--streaming"], "streaming needs steps_per_epoch"),
    ):
        with pytest.raises(ValueError, match=message):
            train.parse_arguments(["--config", str(recipe), *args])


@pytest.mark.slow
def test_unreadable_files(run_main, corpus, recipe, tmp_path, caplog):
    broken = shutil.copytree(corpus, tmp_path / "corpus")
    (broken / "train" / "3.flac").write_bytes(b"fLaC and nothing else")
    (broken / "train" / "5.flac").unlink()
    args = arguments(recipe, broken, tmp_path / "run", "--num_epochs", 2, "--num_workers", 0)
    train.logger.propagate = True  # transformers' loggers do not, and caplog listens at the root
    with pytest.raises(ValueError, match="2 of 48 training tracks are unreadable .*max_unreadable_fraction=0.03"):
        run_main([*args, "--max_unreadable_fraction", "0.03"])
    assert {"train/3.flac", "train/5.flac"} == set(re.findall(r"train/\d+\.flac", caplog.text))
    caplog.clear()
    shutil.rmtree(tmp_path / "run")
    run_main([*args, "--max_unreadable_fraction", "0.05"])
    assert sorted(re.findall(r"another track: .*?(train/\d+\.flac)", caplog.text)) == ["train/3.flac", "train/5.flac"]


@pytest.mark.slow
def test_a_pool_so_small_that_everybody_has_its_r10_keeps_a_trained_model(run_main, corpus, recipe, tmp_path):
    small = shutil.copytree(corpus, tmp_path / "corpus")
    metadata = small / "validation" / "metadata.jsonl"
    metadata.write_text("".join(metadata.read_text().splitlines(keepends=True)[:6]))
    run_main(arguments(recipe, small, tmp_path / "run", "--num_epochs", 8, "--num_workers", 0))
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["validation"]["mean_R@10"] == 100 and results["validation"]["step"] > 0


def test_pretrained_parts_replace_those_of_the_recipe(recipe):
    assert train.parse_arguments(["--config", str(recipe), "--model_name_or_path", "some/model"])[0].model_config == {}
    config = train.parse_arguments(["--config", str(recipe), "--text_model_name_or_path", "some/text"])[0].model_config
    assert set(config) == {"audio_config", "projection_dim"}
    config = train.parse_arguments(["--config", str(recipe), "--audio_model_name_or_path", "some/tower"])[
        0
    ].model_config
    assert set(config) == {"text_config", "projection_dim"}
    with pytest.raises(ValueError, match="audio_model_name_or_path brings its own audio_config"):
        train.ModelArguments(audio_model_name_or_path="some/tower", model_config={"audio_config": {}})
    with pytest.raises(ValueError, match="MusCALLMusicnnConfig has no field depths"):
        train.ModelArguments(model_config={"audio_config": {"model_type": "muscall_musicnn_model", "depths": 1}})
    with pytest.raises(ValueError, match="MusCALLConfig has no field projection_dims"):
        train.parse_arguments(["--config", str(recipe), "--model_config", '{"projection_dims": 8}'])
    with pytest.raises(ValueError, match="eval_every must be at least 1, got 0"):
        train.parse_arguments(["--config", str(recipe), "--eval_every", "0"])


@pytest.mark.slow
def test_stopping_at_the_end_of_an_epoch_still_evaluates_it(run_main, corpus, recipe, tmp_path, monkeypatch):
    asked = iter([False, True])  # after the first and the second epoch, of one step each
    monkeypatch.setattr(train.StopRequest, "anywhere", lambda *_: next(asked))
    with pytest.raises(SystemExit, match="^130$"):
        run_main(arguments(recipe, corpus, tmp_path, "--batch_size", 48, "--num_workers", 0, "--eval_every", 2))
    assert [entry["step"] for entry in read_log(tmp_path) if "validation/mean_R@10" in entry] == [0, 2]
    assert list_checkpoints(tmp_path / "checkpoints")[-1].name == "step-0000002"


def test_recipes(tmp_path):
    for path in (ROOT / "recipes").glob("*.yaml"):
        model_args, _, args = train.parse_arguments(["--config", str(path), "--num_epochs", "3"])
        assert args.num_epochs == 3 and isinstance(args.learning_rate, float)
        MusCALLConfig(**(model_args.model_config or {}))
    (tmp_path / "wrong.yaml").write_text("batchsize: 8\nseed: 1\n")
    with pytest.raises(ValueError, match=r"wrong.yaml: unknown arguments batchsize. Known are: .*batch_size"):
        train.parse_arguments(["--config", str(tmp_path / "wrong.yaml")])
    for name in ("model", "audio_model", "text_model"):
        command_line = ["--output_dir", str(tmp_path / "run"), f"--{name}_name_or_path", str(tmp_path / "missing")]
        with pytest.raises(OSError, match="There is no folder .*/missing, and the Hub gave nothing .*first lines"):
            train.main(command_line)


def test_replaced_files_are_whole(tmp_path):
    (tmp_path / "a").write_text("old")
    with pytest.raises(KeyboardInterrupt), replace_files(tmp_path) as folder:
        (folder / "a").write_text("half of a new")
        raise KeyboardInterrupt
    assert (tmp_path / "a").read_text() == "old"
    with replace_files(tmp_path) as folder:
        (folder / "a").write_text("new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "new"}


def build(corpus, recipe):
    torch.manual_seed(0)
    model = MusCALLModel(MusCALLConfig(**yaml.safe_load(recipe.read_text())["model_config"])).eval()
    extractor = MusCALLFeatureExtractor(sampling_rate=RATE, window_seconds=2)
    tracks = load_corpus(str(corpus))["test"].select(range(7))  # odd: the two processes have unequal shares
    return model, MusCALLProcessor(extractor, CLIPTokenizer.from_pretrained(ROOT / "clip_tokenizer")), tracks


def embed_in_a_process(rank, port, corpus, recipe, folder):
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_PORT": str(port)}
    os.environ["MASTER_ADDR"] = "127.0.0.1"
    accelerator = Accelerator(cpu=True)
    model, processor, tracks = build(corpus, recipe)
    results = {}
    if rank:  # statistics that a forward pass in training mode leaves behind differ between processes
        for buffer in model.buffers():
            buffer.add_(1)
    for size in (1, 3, 16):
        embeds = embed_corpus(model, processor, tracks, accelerator, size)
        results |= {f"{name}.{size}": value for name, value in zip(("text", "ids", "audio"), embeds, strict=True)}
    save_file({name: value.contiguous() for name, value in results.items()}, f"{folder}/{rank}.safetensors")
    accelerator.end_training()


@pytest.fixture(scope="module")
def two_processes(corpus, recipe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    torch.multiprocessing.spawn(embed_in_a_process, (port, corpus, recipe, folder), nprocs=2)
    return [load_file(folder / f"{rank}.safetensors") for rank in range(2)]


@torch.no_grad()
def test_embeddings_do_not_depend_on_processes_or_batch_size(two_processes, corpus, recipe):
    model, processor, tracks = build(corpus, recipe)
    audio = [processor(audio=path, windows="all", return_tensors="pt") for path in tracks["path"]]
    assert {len(track["input_values"][0]) for track in audio} == {2, 3}
    audio_embeds = torch.cat([model.get_audio_features(**track).pooler_output for track in audio])
    texts = processor(text=sum(tracks["captions"], []), return_tensors="pt")
    text_embeds = model.get_text_features(**texts).pooler_output
    for results in two_processes:
        for size in (1, 3, 16):  # tolerance: float32 convolutions of another batch size differ in the last bits
            torch.testing.assert_close(results[f"audio.{size}"], audio_embeds, rtol=0, atol=2e-6)
            torch.testing.assert_close(results[f"text.{size}"], text_embeds, rtol=0, atol=2e-6)
            assert results[f"ids.{size}"].tolist() == list(range(7))
