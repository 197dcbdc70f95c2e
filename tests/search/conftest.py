# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Real files in a folder, and their index."""

import os
import shutil
import subprocess

import numpy as np
import pytest
from accelerate.state import AcceleratorState
from helpers import PRODUCED, ROOT, copy_music, read_content, save_model


def index_in_this_process(store_uri, folders, encoder, windows=None):
    """Return what was shown."""
    from muscall.launch import start_accelerator
    from muscall.search.indexing import index_folders

    messages = []
    try:
        index_folders(store_uri, folders, encoder, start_accelerator(), messages.append, windows=windows)
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
    return "\n".join(messages)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def encoder(model):
    from muscall.encoder import load_encoder

    return load_encoder(str(model))


@pytest.fixture
def music(tmp_path):
    return copy_music(tmp_path / "My Müsic 'live'")


@pytest.fixture
def index(encoder, tmp_path):
    """Index folders; returns the open index and what was shown."""
    from muscall.search.store import Store

    def run(*folders, encoder=encoder, windows=None):
        messages = index_in_this_process(tmp_path / "store", folders, encoder, windows)
        return Store.open(tmp_path / "store"), messages

    return run


@pytest.fixture(scope="module")
def tagged(encoder, tmp_path_factory):
    """A folder of six clips with tags, and its library."""
    import mutagen

    from muscall.search.query import Library

    folder = tmp_path_factory.mktemp("tagged")
    for number, source in enumerate(PRODUCED[::20][:6]):
        shutil.copy(source, folder / f"{number}.opus")
        file = mutagen.File(folder / f"{number}.opus")
        file["genre"], file["bpm"] = ("Jazz", "rock", "JAZZ")[number % 3], str(100 + 10 * number)
        file.save()
    store = folder / "store" / "music"
    index_in_this_process(store, [folder], encoder, "all")
    return folder, Library(store)


@pytest.fixture(scope="module")
def titled(encoder, tmp_path_factory):
    """The library of six clips: five with titles, and one of which only the folder says something."""
    import mutagen

    from muscall.search.query import Library

    folder = tmp_path_factory.mktemp("titled")
    titles = ["Blue Train", "夜に駆ける", "Песня о друге", "Café del Mar", "The Who Sell Out", "Track 06"]
    for number, (source, title) in enumerate(zip(PRODUCED[::9], titles, strict=False)):
        path = folder / "music" / ("Miles Davis" if number == 5 else "various") / f"{number}.opus"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, path)
        file = mutagen.File(path)
        file["title"] = title
        if number == 0:
            file["comment"] = "recorded at Rudy's"
        file.save()
    index_in_this_process(folder / "store", [folder / "music"], encoder)
    return Library(folder / "store")


@pytest.fixture
def check_workers(music, model, index, tmp_path):
    """Index with a command that starts several workers; they write the rows that this process writes alone."""
    from muscall.search.store import Store

    def check(launcher, *options):
        shutil.copy(PRODUCED[0], music / "copy.opus")
        for name in ("text.mp3", "text copy.mp3"):
            (music / name).write_text("no audio")
        (music / "disk.mp3").symlink_to("/proc/self/mem")  # reading it fails in the worker
        expected = read_content(index(music)[0])
        command = [*launcher, ROOT / "search.py", "index", music, "--model", model, "--store", tmp_path / "second"]
        environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0"}
        result = subprocess.run([*command, *options], capture_output=True, text=True, env=environment, timeout=300)
        assert result.returncode == 0, result.stderr
        assert "6 tracks (6 new)" in result.stdout and "3 files could not be read" in result.stdout
        for name in ("text.mp3", "text copy.mp3"):
            assert f"{name}: cannot be decoded" in result.stdout
        assert "disk.mp3: Input/output error" in result.stdout
        rows = read_content(Store.open(tmp_path / "second"))
        assert rows.keys() == expected.keys()
        for key, row in rows.items():
            np.testing.assert_allclose(row.pop("vector"), expected[key].pop("vector"), atol=1e-5)
            assert row == expected[key]

    return check
