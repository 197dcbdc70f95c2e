# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Before anything is imported: no network and a Hugging Face cache of this test run alone. And a corpus of tones."""

import json
import os
import signal
import tempfile

import numpy as np
import pytest
import soundfile
from filelock import FileLock
from helpers import HARMONICS, PITCHES, RATE, RECIPE, SIZES, WORDINGS


HF_HOME = tempfile.TemporaryDirectory(prefix="muscall-tests-")
os.environ |= {"HF_HOME": HF_HOME.name, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the models are tiny; several processes train at once
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait leave the cores to those that work


@pytest.fixture(scope="session", autouse=True)
def remove_cache():
    yield
    HF_HOME.cleanup()


@pytest.fixture(scope="session")
def shared(tmp_path_factory, worker_id):
    """A folder that all processes of this test run share, for what takes long to make."""
    folder = tmp_path_factory.getbasetemp()
    return folder if worker_id == "master" else folder.parent


@pytest.fixture(scope="session")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="session")
def corpus(shared):
    """Tones of six pitches, pure or rich, each with a caption that says so; 2.5 to 5 s long, so 2 or 3 windows."""
    folder = shared / "corpus"
    with FileLock(shared / "corpus.lock"):
        if not folder.exists():
            write_corpus(folder)
    return folder


def write_corpus(folder):
    random = np.random.default_rng(0)
    for split, size in SIZES.items():
        (folder / split).mkdir(parents=True)
        rows = []
        for number in range(size):
            pitch, wave = list(PITCHES)[number % 6], list(HARMONICS)[number // 6 % 2]
            time = np.arange(round(random.uniform(2.5, 5) * RATE)) / RATE
            frequencies = PITCHES[pitch] * random.uniform(0.97, 1.03) * np.arange(1, HARMONICS[wave] + 1)
            tone = sum(np.sin(2 * np.pi * hertz * time) for hertz in frequencies if hertz < RATE / 2)
            soundfile.write(folder / split / f"{number}.flac", 0.15 * tone + random.normal(0, 0.02, len(time)), RATE)
            caption = random.choice(WORDINGS).format(pitch, wave)
            rows.append(json.dumps({"file_name": f"{number}.flac", "caption": caption}) + "\n")
        (folder / split / "metadata.jsonl").write_text("".join(rows))


@pytest.fixture(scope="session")
def finished(corpus, recipe, shared):
    """The folder of a whole run of train.py."""
    from forks import finish
    from train_runs import ACCELERATE, arguments, start

    folder = shared / "finished"
    with FileLock(shared / "finished.lock"):
        if not folder.exists():
            output = finish(start(arguments(recipe, corpus, folder), ACCELERATE))
            assert "12 epochs of 6 steps of 8 pairs, from step 0" in output
    return folder


@pytest.fixture
def run_main(monkeypatch):
    """`train.main` in this process, for runs that end before they train long."""
    from accelerate.state import AcceleratorState

    import train

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    yield train.main
    AcceleratorState._reset_state(reset_partial_state=True)
    for number, handler in handlers.items():
        signal.signal(number, handler)
