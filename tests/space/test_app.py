# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The program of the demo, from the checkout and as a Space starts it."""

import re
import runpy
import shutil
import subprocess
import sys

import pytest
import yaml
from forks import Fork, finish
from helpers import ROOT, save_model

import space.app


pytest.importorskip("muscall.search")
gradio = pytest.importorskip("gradio", reason='the page needs: pip install -e ".[demo]"')


@pytest.fixture
def uploaded(tmp_path):
    """The folder of a Space: the checkout, with files of `space/` at its root."""
    folder = tmp_path / "uploaded"
    folder.mkdir()
    for path in ROOT.iterdir():
        if path.name not in ("README.md", "requirements.txt"):
            (folder / path.name).symlink_to(path)
    for name in ("app.py", "README.md", "requirements.txt"):
        shutil.copy(ROOT / "space" / name, folder)
    return folder


def start(folder, *arguments):
    command = [sys.executable, *arguments]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=folder)


@pytest.mark.slow
def test_a_wrong_start_says_why(tmp_path):
    (tmp_path / "no model").mkdir()
    output = finish(Fork(run_app, tmp_path, "--model", tmp_path / "no model", "--store", tmp_path / "store"), 1)
    assert "Traceback" not in output
    assert re.search("^error: .*holds no weights: name a checkpoint with --model", output, re.MULTILINE), output


def run_app(*arguments):
    sys.argv = ["app.py", *map(str, arguments)]
    runpy.run_module("space.app", run_name="__main__")


@pytest.mark.slow
def test_a_space_starts_from_its_root(uploaded, tmp_path):
    model = save_model(tmp_path / "model")
    result = start(uploaded, "app.py", tmp_path / "none", "--model", model, "--store", tmp_path / "store")
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert re.search("^error: .*none is no folder: expected one with music in it", result.stderr, re.MULTILINE)


def test_the_default_model_is_that_of_the_checkout(uploaded):
    assert space.app.parse_arguments([]).model == str(ROOT)
    # The Space of this test links to the checkout.
    result = start(uploaded, "-c", "from app import parse_arguments; print(parse_arguments([]).model)")
    assert result.stdout.strip() == str(ROOT), result.stderr


def test_the_space_is_described_as_it_is(uploaded):
    """The header that the Hub reads, and what it installs."""
    text = (uploaded / "README.md").read_text()
    header = yaml.safe_load(text.split("---")[1])
    assert header["sdk"] == "gradio" and header["license"] == "apache-2.0"
    assert (uploaded / header["app_file"]).is_file()
    for name in (header["app_file"], "README.md", "requirements.txt"):
        assert f"hf upload $space space/{name} {name} --repo-type space" in text
    pin = re.search(r"^gradio==(.*)\.\*$", (uploaded / "requirements.txt").read_text(), re.MULTILINE).group(1)
    assert header["sdk_version"].startswith(f"{pin}.") and gradio.__version__.startswith(f"{pin}.")


@pytest.mark.slow
def test_a_start_without_anything_new_loads_no_model(tmp_path, capsys):
    model, store, music = str(save_model(tmp_path / "model")), str(tmp_path / "store"), tmp_path / "music"
    music.mkdir()
    for number in (1, 2):
        shutil.copy(ROOT / "corpus" / "produced" / f"produced-000{number}-a.opus", music)
        first = space.app.open_library(music, model, store)
        assert "Loading the model" in capsys.readouterr().out  # one track is new
    second = space.app.open_library(music, model, store)
    assert "Loading the model" not in capsys.readouterr().out
    assert second.search("calm piano", k=2) == first.search("calm piano", k=2)
    other = str(save_model(tmp_path / "other", seed=1))
    with pytest.raises(ValueError, match="another model"):
        space.app.open_library(music, other, store)


@pytest.mark.slow
def test_the_page_imports_nothing_of_the_model():
    code = "import sys, space.app, space.page; print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    assert start(ROOT, "-c", code).stdout == "[]\n"
