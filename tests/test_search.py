# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""search.py as a person types it."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState
from helpers import HOSTILE, ROOT, copy_music, save_model


pytest.importorskip("muscall.search")

import mutagen

import search
from muscall.search.query import Library
from muscall.search.store import Store, literal


SEARCH = [sys.executable, str(ROOT / "search.py")]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def music(tmp_path):
    return copy_music(tmp_path / "My Müsic 'live'")


@pytest.fixture
def store(model, music, tmp_path, capfd, monkeypatch):
    """An index that `search.py index` has made, in this process."""
    uri = str(tmp_path / "store")
    monkeypatch.setattr(sys, "argv", ["search.py", "index", str(music), "--model", str(model), "--store", uri])
    try:
        search.main()
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
    assert "5 tracks (5 new)" in capfd.readouterr().out
    return uri


def test_forget(store, music, tmp_path, capfd):
    music.rename(tmp_path / "new place")
    search.run_forget(search.parse_arguments(["forget", str(music), "--store", store]))
    assert "5 tracks taken out" in capfd.readouterr().out
    assert not Store.open(store).tracks()
    with pytest.raises(ValueError, match="is no track of the index"):
        search.run_forget(search.parse_arguments(["forget", str(music), "--store", store]))


def test_a_refused_sentence_of_a_pipe_stops_no_other(store, capfd, monkeypatch):
    lines = b"\xef\xbb\xbfcalm piano\ncaf\xe9 music\n\n\0s\0a\0m\0b\0a\nfast samba\r\n"
    query = search.parse_arguments(["query", "--store", store, "--json", "--k", "2"])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines), encoding="utf-8"))
    with pytest.raises(ValueError, match="2 of 4 sentences were refused"):
        search.run_query(query)
    screen = capfd.readouterr()
    answers = [json.loads(line) for line in screen.out.splitlines()]
    library = Library(store)
    assert answers == [library.search("calm piano", k=2), library.search("fast samba", k=2)]
    assert screen.err.count("error: the sentence") == 2 and "expected text in UTF-8" in screen.err


def test_nothing_is_no_path_and_no_sentence(store, capfd, monkeypatch):
    """As from an unset variable of a shell, and from a service without standard input."""
    for arguments in (["forget", "", "--store", store], ["index", "", "--store", store]):
        with pytest.raises(SystemExit, match="2"):
            search.parse_arguments(arguments)
        assert "expected a path, got an empty text" in capfd.readouterr().err
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(ValueError, match="standard input is closed"):
        search.run_query(search.parse_arguments(["query", "--store", store]))


def test_hostile_tags_are_printed_as_text(model, music, store, capfd):
    track = music / "a b.opus"
    file = mutagen.File(track)
    file["title"] = HOSTILE
    file.save()
    try:
        search.run_index(search.parse_arguments(["index", str(music), "--model", str(model), "--store", store]))
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
    answers = Library(store).search("music", where=f"title = {literal(HOSTILE)}")
    capfd.readouterr()
    search.print_answers(answers, as_json=False)
    assert "\x1b" not in (screen := capfd.readouterr().out) and "\\x1b[2J" in screen
    search.print_answers(answers, as_json=True)
    assert json.loads(capfd.readouterr().out)[0]["title"] == HOSTILE


def test_missing_packages_are_named():
    """Not installed, as Python sees it: `None` in the place of a module."""
    program = (
        "import runpy, sys; sys.modules |= {'lancedb': None, 'mutagen': None}\n"
        "sys.argv = sys.argv[1:]; sys.path.insert(0, sys.argv[0][:-9])\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    command = [sys.executable, "-c", program, SEARCH[1], "query", "calm piano"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr == 'error: lancedb, mutagen not installed: pip install -e ".[search]"\n'


@pytest.mark.slow
def test_sentences_from_a_pipe(store):
    query = [*SEARCH, "query", "--store", store]
    result = subprocess.run(query, input="calm piano\n\nfast samba\n", capture_output=True, text=True)
    assert result.returncode == 0 and result.stdout.count("  1  ") == 2, result.stderr


def test_command_line(store, capfd, monkeypatch):
    """In this process: an answer as JSON, and mistakes."""

    def query(*arguments):
        monkeypatch.setattr(sys, "argv", ["search.py", "query", "--store", store, *arguments])
        search.main()

    query("calm piano", "--json", "--k", "2")
    answers = json.loads(capfd.readouterr().out)
    assert len(answers) == 2 and {"track", "score", "start", "end", "copies", "file"} <= answers[0].keys()
    with pytest.raises(SystemExit, match="^error: the filter"):
        query("x", "--filter", "gender = 1")
    for path in Path(store, "windows.lance", "data").iterdir():
        os.truncate(path, 100)
    with pytest.raises(SystemExit, match="^error: .*is damaged, delete it and index again"):
        query("calm piano")


@pytest.fixture
def type_command(store, capfd, monkeypatch):
    """Run `search.py` with arguments in this process; returns what it printed, and its errors."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["search.py", *map(str, arguments), "--store", store])
        search.main()
        return capfd.readouterr()

    return run


def test_a_playlist_as_text_as_json_and_as_a_file(type_command, tmp_path):
    screen = type_command("playlist", "calm piano", "--minutes", "30", "--json", "--m3u", tmp_path / "new" / "x.m3u8")
    tracks = [track["track"] for track in json.loads(screen.out)]
    assert len(tracks) == 5 and "the playlist has 1.7 of 30.0 minutes: nothing else answers" in screen.err
    lines = (tmp_path / "new" / "x.m3u8").read_text().splitlines()
    paths = [os.path.normpath(tmp_path / "new" / line) for line in lines[2::2]]
    assert lines[0] == "#EXTM3U" and paths == [track for track in tracks if "\n" not in track]
    assert "new\\nline.opus has a line break in its path" in screen.err
    screen = type_command("playlist", "calm piano", "--minutes", "1")
    assert screen.out.startswith("  1  ") and screen.err == ""


def test_a_path_from_one_track_to_another(type_command, music):
    screen = type_command("path", music / "a b.opus", music / "deep" / "er" / "c.opus", "--json")
    answers = json.loads(screen.out)
    assert [answers[place]["track"] for place in (0, -1)] == [str(music / "a b.opus"), str(music / "deep/er/c.opus")]
    assert screen.err == "the path has 5 of 12 tracks: the library has no more\n"
    with pytest.raises(SystemExit, match="^error: .*none.opus is not in the index"):
        type_command("path", music / "a b.opus", music / "none.opus")


def test_duplicates_and_figures(type_command):
    assert type_command("duplicates").out == "no recording is there twice\n"
    assert json.loads(type_command("duplicates", "--json").out) == []
    assert type_command("stats").out.startswith("5 tracks (5 there), 5 different ones, 0.0 hours\n")
    assert json.loads(type_command("stats", "--json").out)["runs"][0]["left_out"]


def test_passages_and_several_seeds(type_command, music):
    seeds = ["--like", music / "a b.opus", "--like", music / "deep/er/c.opus", "--unlike", music / "日本語/песня.opus"]
    answers = json.loads(type_command("query", *seeds, "--segments", "--k", "15", "--json").out)
    assert len(answers) == 6 and len({answer["track"] for answer in answers}) == 2  # three passages each


def test_a_playlist_file_is_checked_before_the_search(type_command, music, tmp_path):
    with pytest.raises(SystemExit, match="^error: .*a b.opus is no name of a playlist"):
        type_command("query", "calm piano", "--m3u", music / "a b.opus")
    with pytest.raises(SystemExit, match="^error: --m3u is for one request"):
        type_command("query", "--m3u", tmp_path / "x.m3u8")


def test_a_number_of_windows_that_is_none_is_refused_at_once(music, tmp_path):
    for windows in ("0", "-3", "many", "2.5"):
        arguments = ["index", str(music), f"--windows={windows}", "--store", str(tmp_path / "store")]
        with pytest.raises(ValueError, match="--windows is auto, all or a positive whole number"):
            search.run_index(search.parse_arguments(arguments))
    assert not (tmp_path / "store").exists()
