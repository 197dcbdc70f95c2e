# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Golden outputs beside the weights tell whether a checkpoint is what was published."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import save_model
from safetensors.torch import load_file, save_file

from muscall.checkpoint import GOLDEN, check_golden, write_golden


ROOT = Path(__file__).parents[1]


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
