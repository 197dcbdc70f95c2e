# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The plugin of beets on real libraries of beets."""

import io
import logging
import os
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import yaml
from accelerate.state import AcceleratorState
from helpers import PRODUCED, ROOT, save_model


pytest.importorskip("muscall.search")
pytest.importorskip("beets", reason='beets not installed: pip install -e ".[beets]"')

import beets.library
import beets.plugins
import beets.ui
import mutagen

from muscall.search.query import Library
from muscall.search.store import Store


ARTISTS = ("Anna", "Béla", "Cem", "Anna", "Béla")


def run_beet(home, *arguments):
    """Run a command of beets in this process, and return its exit code and what it wrote to its two outputs."""
    beets.config.clear()
    beets.plugins._instances.clear()
    beets.plugins.BeetsPlugin.listeners.clear()
    logging.getLogger("beets").handlers.clear()
    out, err, code = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setenv("BEETSDIR", str(home))
        patch.setattr(sys, "path", list(sys.path))
        try:
            beets.ui.main(list(arguments))
        except SystemExit as end:
            code = end.code
        finally:
            AcceleratorState._reset_state(reset_partial_state=True)
    logging.getLogger("beets").handlers.clear()
    return code, out.buffer.getvalue().decode(), err.getvalue()


class Beets:
    """A folder with a configuration of beets and its library."""

    def __init__(self, folder, model):
        self.home, self.music, self.incoming = folder / "home", folder / "Müsic", folder / "incoming"
        for new in (self.home, self.music):
            new.mkdir(parents=True)
        settings = {"directory": str(self.music), "library": str(self.home / "library.db"), "format_item": "$title"}
        settings |= {"plugins": "muscall", "pluginpath": [str(ROOT / "beetsplug")], "muscall": {"model": str(model)}}
        self.configure(**settings)

    def configure(self, **settings):
        path = self.home / "config.yaml"
        settings = (yaml.safe_load(path.read_text()) if path.exists() else {}) | settings
        path.write_text(yaml.safe_dump(settings))

    def write_songs(self):
        """Write five tracks of three artists, an album of each."""
        for number, (source, artist) in enumerate(zip(PRODUCED[::9], ARTISTS, strict=False)):
            path = self.incoming / artist / f"{number}.opus"
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, path)
            file = mutagen.File(path)
            file.delete()
            file["title"], file["artist"], file["album"] = f"song {number}", artist, f"album of {artist}"
            file.save()

    def __call__(self, *arguments):
        """Return the lines that a command prints."""
        code, out, err = run_beet(self.home, *arguments)
        assert code == 0, err
        return out.splitlines()

    def error(self, *arguments):
        """Return what a command that fails says."""
        code, out, err = run_beet(self.home, *arguments)
        assert (code, out) == (1, "")
        return err

    @property
    def store(self):
        return self.home / "muscall"

    def paths(self):
        return set(self("ls", "-p"))


@pytest.fixture
def empty(model, tmp_path):
    """A library without tracks."""
    return Beets(tmp_path, model)


@pytest.fixture
def imported(empty):
    """A library of five tracks without an index."""
    empty.write_songs()
    empty("import", "-A", "-q", str(empty.incoming))
    return empty


@pytest.fixture
def beet(imported):
    """A library of five tracks with an index."""
    assert "5 tracks (5 new)" in imported("muscall-index")[0]
    return imported


@pytest.fixture(scope="module")
def kept(model, tmp_path_factory):
    """The same for tests that change nothing."""
    kept = Beets(tmp_path_factory.mktemp("kept"), model)
    kept.write_songs()
    kept("import", "-A", "-q", str(kept.incoming))
    kept("muscall-index")
    return kept


def rank(beet, sentence="calm piano"):
    """Return titles, paths, and scores with starts, as the search of this repository ranks them."""
    answers = Library(beet.store).search(sentence)
    titles = [mutagen.File(answer["track"])["title"][0] for answer in answers]
    fits = [f"{answer['score']:.3f} from {answer['start']:.0f} s" for answer in answers]
    return titles, [answer["track"] for answer in answers], fits


def test_items_are_printed_in_the_order_of_the_search(kept):
    titles, paths, fits = rank(kept)
    assert len(titles) == 5
    assert kept("muscall", "calm piano") == titles
    assert kept("muscall", "-p", "calm piano") == paths
    assert kept("muscall", "-f", "$muscall_score from $muscall_start s", "calm piano") == fits


def test_the_best_items_of_a_query_are_printed(kept):
    titles, _, _ = rank(kept)
    of_anna = [title for title in titles if title in ("song 0", "song 3")]
    assert kept("muscall", "calm piano", "artist:Anna") == of_anna
    assert kept("muscall", "-l", "1", "calm piano", "artist:Anna") == of_anna[:1]
    assert kept("muscall", "-l", "2", "calm piano") == titles[:2]
    assert kept("muscall", "calm piano", "artist:nobody") == []


def test_a_sentence_is_part_of_any_query(beet):
    titles, _, _ = rank(beet)
    beet.configure(muscall={"count": 2})
    best = set(titles[:2])
    assert set(beet("ls", "muscall:calm piano")) == best
    assert set(beet("ls", "^muscall:calm piano")) == set(titles[2:])
    assert set(beet("ls", "muscall:calm piano", "artist:Anna")) == best & {"song 0", "song 3"}
    assert set(beet("ls", "muscall:calm piano", ",", "title:song 4")) == best | {"song 4"}
    albums = {f"album of {ARTISTS[int(title[-1])]}" for title in best}
    assert set(beet("ls", "-a", "-f", "$album", "muscall:calm piano")) == albums


def test_only_files_of_the_library_are_indexed(imported):
    shutil.copy(PRODUCED[1], imported.music / "stray.opus")
    imported("muscall-index")
    assert set(Store.open(imported.store).tracks()) == imported.paths()


def test_the_index_follows_the_library(beet, tmp_path):
    beet("rm", "-f", "title:song 2")
    assert "4 tracks (1 deleted)" in beet("muscall-index")[0]
    beet("modify", "-y", "title:song 1", "title=renamed")  # beets moves the file, and writes its tags
    assert "4 tracks (1 new, 1 deleted)" in beet("muscall-index")[0]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(PRODUCED[1], elsewhere / "left there.opus")
    beet("import", "-A", "-q", "-C", str(elsewhere))
    assert "5 tracks (1 new)" in beet("muscall-index")[0]
    assert set(Store.open(beet.store).tracks()) == beet.paths()
    assert "5 tracks (nothing new)" in beet("muscall-index")[0]


def test_an_item_whose_file_is_gone_is_said_to_be(beet):
    path = Path(next(path for path in beet.paths() if "song 2" in path))
    path.unlink()
    report = "\n".join(beet("muscall-index"))
    assert "5 tracks (nothing new)" in report and f"{path}: No such file or directory" in report
    code, out, err = run_beet(beet.home, "muscall", "calm piano")
    assert code == 0 and len(out.splitlines()) == 5 and f"{path} is gone: 'beet update'" in err


def test_a_missing_disk_loses_nothing(beet):
    before = Store.open(beet.store).tracks()
    away = beet.music.rename(beet.music.with_name("away"))
    assert "is no folder" in beet.error("muscall-index")
    beet.music.mkdir()
    assert "is its disk mounted?" in beet.error("muscall-index")
    beet.music.rmdir()
    away.rename(beet.music)
    assert Store.open(beet.store).tracks() == before


def test_a_name_that_is_not_utf8_is_listed_and_stops_nothing(beet, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(PRODUCED[1], os.fsencode(tmp_path / "elsewhere") + b"/\xff.opus")
    beet("import", "-A", "-q", "-C", str(tmp_path / "elsewhere"))
    report = "\n".join(beet("muscall-index"))
    assert "5 tracks (nothing new)" in report and "its name is not valid UTF-8: rename it" in report
    assert len(beet("muscall", "calm piano")) == 5


def test_a_library_that_is_now_named_by_a_link_finds_its_tracks(beet, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(beet.music)
    beet.configure(directory=str(link))
    found = beet("muscall", "-p", "calm piano")
    assert len(found) == 5 and all(path.startswith(str(link)) for path in found)
    assert "5 tracks (nothing new)" in beet("muscall-index")[0]


def test_an_item_that_is_not_yet_in_the_library_matches_no_sentence(kept):
    from beetsplug.muscall import SoundQuery

    assert not SoundQuery("muscall", "calm piano").match(beets.library.Item(title="imported just now"))


def test_what_is_missing_is_said(empty, imported, tmp_path, model):
    assert "run 'beet muscall-index' first" in imported.error("muscall", "calm piano")
    assert "run 'beet muscall-index' first" in imported.error("ls", "muscall:calm piano")
    assert "give a sentence" in imported.error("muscall")
    assert "give a sentence" in imported.error("ls", "muscall:")
    assert "expected no query" in imported.error("muscall-index", "artist:Anna")
    without = Beets(tmp_path / "without", model)
    assert "a library with tracks" in without.error("muscall-index")


def test_an_index_without_tracks_is_said_to_be(imported):
    for path in imported.paths():
        Path(path).write_bytes(b"no audio")
    assert "5 files could not be read" in "\n".join(imported("muscall-index"))
    assert "run 'beet muscall-index' first" in imported.error("muscall", "calm piano")


def test_a_damaged_index_is_said_to_be(beet):
    for file in (beet.store / "windows.lance" / "data").iterdir():
        file.write_bytes(file.read_bytes()[:100])
    assert f"the index is damaged, delete {beet.store} and index again" in beet.error("muscall", "calm piano")


def test_another_model_is_refused(beet, tmp_path):
    beet.configure(muscall={"model": str(save_model(tmp_path / "other", seed=1))})
    assert "was made by another model" in beet.error("muscall-index")
    assert "was made by another model" in beet.error("muscall", "calm piano")
    beet.configure(muscall={"model": str(tmp_path / "nowhere")})
    assert "nowhere" in beet.error("muscall", "calm piano")


@pytest.mark.slow
def test_pluginpath_is_all_that_beets_needs(imported, tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*arguments):
        command = [sys.executable, "-m", "beets", *arguments]
        environment["BEETSDIR"] = str(imported.home)
        result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
        assert result.returncode == 0, result.stderr
        return result

    assert "5 tracks (5 new)" in run("muscall-index").stdout
    result = run("muscall", "-l", "3", "calm piano")
    assert result.stdout.splitlines() == rank(imported)[0][:3]
    assert "Loading weights" not in result.stderr
