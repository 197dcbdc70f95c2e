# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""An index follows folders that change."""

import os
import resource
import shutil
import signal
import sys
import time
from functools import partialmethod
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from forks import Fork, finish
from helpers import PRODUCED, ROOT, make_clap, read_content, run_index


pytest.importorskip("muscall.search")

import muscall.search.embedding
from muscall.encoder import MusCALLEncoder, load_encoder
from muscall.search.files import find_audio
from muscall.search.indexing import forget
from muscall.search.query import Library
from muscall.search.snapshot import vectors
from muscall.search.store import Store, literal
from processing_muscall import MusCALLFeatureExtractor


def test_rows_are_the_windows_of_the_tracks(index, music, encoder):
    store, _ = index(music, windows="all")
    tracks = [Path(path) for path in find_audio(music).paths]
    assert len(tracks) == 5 == len(store.tracks())
    for track in tracks:
        inputs = encoder.processor(audio=track, return_tensors="pt", return_window_starts=True)
        rows = store.rows(f"track = {literal(str(track))}").sort_by("start")
        assert rows.column("start").to_pylist() == inputs["window_starts"][0].tolist()
        assert rows.column("weight").to_pylist() == inputs["window_weights"][0].tolist()
        duration = soundfile.info(track).duration
        assert rows.column("end").to_pylist()[-1] == pytest.approx(duration, abs=1e-3) == rows["duration"][0].as_py()
        starts = inputs.pop("window_starts")
        with torch.no_grad():
            windows = encoder.model.get_audio_features(inputs["input_values"][0]).pooler_output
            whole = encoder.model.get_audio_features(**inputs).pooler_output[0]
        assert len(rows) == starts.shape[1]
        np.testing.assert_allclose(vectors(rows), windows.numpy(), atol=1e-5)
        np.testing.assert_allclose(encoder.embed_track(track), whole.numpy(), atol=1e-5)


def test_index_follows_the_folder_and_embeds_each_content_once(index, music, tmp_path, monkeypatch):
    embedded = []
    embed_windows = MusCALLEncoder.embed_windows

    def count(self, input_values):
        embedded.append(len(input_values))
        return embed_windows(self, input_values)

    monkeypatch.setattr(MusCALLEncoder, "embed_windows", count)
    first, second, third, fourth, fifth = map(Path, find_audio(music).paths)
    shutil.copy(first, music / "copy.opus")
    store, output = index(music)
    assert "6 tracks (6 new)" in output
    before = read_content(store)
    assert sum(embedded) == len(before) - len(store.rows(f"track = {literal(str(first))}"))

    embedded.clear()
    store, output = index(music)
    assert "6 tracks (nothing new)" in output and read_content(store) == before

    os.utime(first)  # touched, the same
    (music / "sub").mkdir()
    second.rename(music / "sub" / "moved.opus")
    a, b = third.read_bytes(), fourth.read_bytes()
    third.write_bytes(b), fourth.write_bytes(a)  # changed places
    fifth.unlink()
    store, output = index(music)
    assert "5 tracks (2 changed, 1 moved, 1 deleted)" in output
    assert not embedded
    after = read_content(store)

    def of(rows, track):
        return [row["vector"] for (name, _), row in sorted(rows.items()) if name == str(track)]

    assert of(after, music / "sub" / "moved.opus") == of(before, second) and not of(after, second)
    assert of(after, third) == of(before, fourth) and of(after, fourth) == of(before, third)
    assert {track for track, _ in after} == set(find_audio(music).paths)

    shutil.copy(PRODUCED[-1], first)
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(PRODUCED[5], other)
    store, output = index(music, other)
    assert "6 tracks (1 new, 1 changed)" in output and sum(embedded) > 0
    shutil.rmtree(music / "sub")
    assert "6 tracks (nothing new)" in index(other)[1]  # what lies elsewhere stays
    assert "5 tracks (1 deleted)" in index(music)[1]


def test_a_folder_that_is_gone_is_forgotten_only_when_asked(index, music, tmp_path):
    store, _ = index(music)
    new = music.rename(tmp_path / "new place")
    store, output = index(new)
    assert "10 tracks (5 new)" in output
    answers = Library(store.uri).search("music")
    assert [answer["file"] for answer in answers] == ["there"] * 5  # not the copies that are gone
    assert all(Path(answer["track"]).is_relative_to(new) for answer in answers)
    assert forget(store.uri, music) == 5
    assert set(store.tracks()) == set(find_audio(new).paths)


def test_an_empty_folder_is_taken_for_a_missing_disk(index, music):
    before = read_content(index(music)[0])
    music.rename(music.with_name("away"))
    with pytest.raises(ValueError, match="is no folder"):
        index(music)
    music.mkdir()
    with pytest.raises(ValueError, match="is empty, but the index has 5 tracks of it: is its disk mounted"):
        index(music)
    music.rmdir()
    music.with_name("away").rename(music)
    store, output = index(music)
    assert "nothing new" in output and read_content(store).keys() == before.keys()


def test_unreadable_files_are_listed_and_others_indexed(index, music):
    whole = soundfile.read(PRODUCED[0])
    soundfile.write(music / "cut.flac", *whole)
    (music / "cut.flac").write_bytes((music / "cut.flac").read_bytes()[:50_000])
    (music / "empty.mp3").write_bytes(b"")
    (music / "text.mp3").write_text("no audio at all\n" * 500)
    (music / "protected.m4p").write_bytes(b"\0\0\0\x20ftypM4P " + os.urandom(5000))
    soundfile.write(music / "no samples.wav", np.zeros(0), 8000)
    soundfile.write(music / "nan.wav", np.full(8000, np.nan, dtype=np.float32), 8000, subtype="FLOAT")
    (music / "dangling.mp3").symlink_to(music / "nowhere")
    shutil.copy(music / "text.mp3", music / "text copy.mp3")
    undecodable = os.fsencode(music) + b"/\xff.mp3"
    Path(os.fsdecode(undecodable)).write_bytes(b"x")
    store, output = index(music)
    assert "5 tracks (5 new)" in output and "9 files could not be read" in output
    reasons = {
        "cut.flac": "is cut off",
        "empty.mp3": "is empty: 0 bytes",
        "text.mp3": "cannot be decoded",
        "text copy.mp3": "cannot be decoded",
        "protected.m4p": "cannot be decoded",
        "no samples.wav": "is empty",
        "nan.wav": "contains NaN",
        "dangling.mp3": "No such file",
        'udcff.mp3"': "its name is not valid UTF-8",
    }
    for name, reason in reasons.items():
        assert f"{name}: {reason}" in output
    # A track that can no longer be read is not what the index has of it.
    (music / "a b.opus").write_bytes(b"overwritten")
    store, output = index(music)
    assert "4 tracks" in output and str(music / "a b.opus") not in store.tracks()


def test_a_file_that_changes_while_it_is_read_is_not_indexed(index, music, monkeypatch):
    embed_windows = MusCALLEncoder.embed_windows

    def touch(self, input_values):
        os.utime(music / "a b.opus")
        time.sleep(0.05)
        return embed_windows(self, input_values)

    window_by_window = partialmethod(MusCALLFeatureExtractor.iter_windows, batch_size=1)
    with monkeypatch.context() as patch:
        patch.setattr(MusCALLFeatureExtractor, "iter_windows", window_by_window)
        patch.setattr(MusCALLEncoder, "embed_windows", touch)
        _, output = index(music)
    assert "a b.opus: it changed while it was read" in output
    assert "5 tracks" in index(music)[1]


def test_clap_indexes_and_answers_too(index, music, tmp_path):
    encoder = load_encoder(make_clap(tmp_path / "clap", False))
    store, output = index(music, encoder=encoder)
    assert "5 tracks (5 new)" in output and store.model["window_seconds"] == 10 and store.model["dim"] == 16
    track = music / "a b.opus"
    rows = store.rows(f"track = {literal(str(track))}")
    total = rows.column("weight").to_numpy() @ vectors(rows)
    np.testing.assert_allclose(total / np.linalg.norm(total), encoder.embed_track(track), atol=1e-5)
    answers = Library(store.uri).search("calm piano", k=1)
    best = (vectors(store.rows("start >= 0")) @ encoder.embed_texts(["calm piano"])[0]).max()
    assert answers[0]["score"] == pytest.approx(best, abs=1e-5)


def index_until_killed(*arguments):
    muscall.search.embedding.FLUSH_TRACKS, add, calls = 1, Store.add, []

    def kill_at_the_third(self, rows):
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        add(self, rows)

    Store.add = kill_at_the_third
    run_index(*arguments)


@pytest.mark.slow
def test_a_killed_run_goes_on(music, model, index, tmp_path):
    finish(Fork(index_until_killed, music, "--model", model, "--store", tmp_path / "store"), -signal.SIGKILL)
    store = Store.open(tmp_path / "store")
    done = read_content(store)
    assert len(store.tracks()) == 2
    store, output = index(music)
    assert "5 tracks (3 new)" in output
    resumed = read_content(store)
    assert all(resumed[key] == row for key, row in done.items())
    shutil.rmtree(tmp_path / "store")
    assert read_content(index(music)[0]) == resumed  # as if it had never been killed, to the bit


def index_on_a_full_disk(*arguments):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (15_000, 15_000))
    run_index(*arguments)


@pytest.mark.slow
def test_a_full_disk_loses_nothing(music, model, index, tmp_path):
    before = read_content(index(music)[0])
    shutil.copytree(ROOT / "corpus" / "produced", music / "more", ignore=lambda _, names: names[20:])
    output = finish(Fork(index_on_a_full_disk, music, "--model", model, "--store", tmp_path / "store"), 1)
    assert "cannot be written to" in output and "Traceback" not in output
    after = read_content(Store.open(tmp_path / "store"))
    assert all(after[key] == row for key, row in before.items())
    store, _ = index(music)
    assert len(store.tracks()) == len(find_audio(music).paths)


@pytest.mark.slow
def test_several_processes_write_the_same_rows(check_workers):
    check_workers([Path(sys.executable).with_name("torchrun"), "--nproc_per_node", "2"])
