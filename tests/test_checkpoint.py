# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Golden outputs beside the weights tell whether a checkpoint is what was published."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT, save_model
from huggingface_hub.utils import filter_repo_objects
from safetensors.torch import load_file, save_file

from muscall import checkpoint
from muscall.checkpoint import GOLDEN, check_golden, resolve, write_golden


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder = save_model(tmp_path_factory.mktemp("published"))
    write_golden(folder)
    return folder


def test_a_checkpoint_as_published(published):
    assert (published / GOLDEN).stat().st_size < 300_000
    result = subprocess.run(
        [sys.executable, "-m", "scripts.check_checkpoint", published], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert max(float(error) for error in re.findall(r"as published to (\S+?)(?:,|\n)", result.stdout)) < 1e-6


def change_weights(folder):
    state = load_file(folder / "model.safetensors")
    state["audio_model.pool.v_proj.weight"][0] += 1
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def change_json(name, change):
    def apply(folder):
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))

    return apply


def swap_words(tokenizer):
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["piano</w>"], vocabulary["samba</w>"] = vocabulary["samba</w>"], vocabulary["piano</w>"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_weights, "golden audio_embeds"),
        (change_json("config.json", lambda config: config["audio_config"].update(top_db=20)), "golden audio_embeds"),
        (
            change_json("processor_config.json", lambda config: config["feature_extractor"].update(windows="center")),
            "golden audio_embeds",
        ),
        (change_json("tokenizer.json", swap_words), "golden text_embeds"),
        (lambda folder: (folder / GOLDEN).unlink(), "has no golden.safetensors"),
    ],
    ids=["weights", "configuration", "processor", "tokenizer", "missing"],
)
def test_a_checkpoint_that_was_changed(published, tmp_path, change, message):
    folder = shutil.copytree(published, tmp_path / "changed")
    change(folder)
    with pytest.raises(ValueError, match=message):
        check_golden(folder)


@pytest.mark.parametrize("folder", [ROOT, ROOT / "fast"], ids=["root", "fast"])
def test_the_released_weights(folder):
    check_golden(folder)


@pytest.fixture
def repositories(tmp_path, monkeypatch):
    """A Hub of folders `owner/name`, from which `snapshot_download` copies what its patterns allow."""

    def snapshot_download(repo_id, **patterns):
        source, target = tmp_path / "hub" / repo_id, tmp_path / "cache" / repo_id
        names = [path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()]
        for name in filter_repo_objects(names, **patterns):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / name, target / name)
        return str(target)

    monkeypatch.setattr(checkpoint, "snapshot_download", snapshot_download)
    return tmp_path / "hub"


def test_of_a_hub_repository_a_model_is_downloaded_alone(repositories, published):
    repository = shutil.copytree(published, repositories / "owner" / "name")
    for name in ("README.md", "fast/model.safetensors", "corpus/captions.jsonl", "tests/helpers.py", "a.opus"):
        (repository / name).parent.mkdir(exist_ok=True)
        (repository / name).write_text("")
    folder = resolve("owner/name")
    assert {path.name for path in folder.iterdir()} == {path.name for path in published.iterdir()}
    assert max(check_golden(folder).values()) < 1e-6


def test_a_folder_of_this_checkout_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve("fast") == ROOT / "fast"
    (tmp_path / "fast").mkdir()
    assert resolve("fast") == Path("fast")  # the one that is here comes first
    for name in ("tests", "recipes", "../fast"):  # folders, but of no checkpoint
        with pytest.raises(ValueError, match="expected the folder of a checkpoint"):
            resolve(name)


def test_what_neither_is_a_folder_nor_an_id_is_refused(tmp_path):
    for name in ("nothing", str(tmp_path / "nothing"), "a/b/c", "owner/na me"):
        with pytest.raises(ValueError, match="expected the folder of a checkpoint, or the id of one on the Hub"):
            resolve(name)


def test_sentences_that_are_all_the_same_are_told(published, tmp_path):
    folder = shutil.copytree(published, tmp_path / "collapsed")
    state = load_file(folder / "model.safetensors")
    state["text_model.final_layer_norm.weight"].zero_()
    state["text_model.final_layer_norm.bias"].fill_(0.3)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    write_golden(folder)
    with pytest.raises(ValueError, match="gives unlike sentences nearly the same embedding, mean cosine 1.000"):
        check_golden(folder)
