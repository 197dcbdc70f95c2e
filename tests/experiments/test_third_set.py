# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
import csv
import hashlib

import numpy as np
import pytest
import soundfile

from experiments import held_out, third_set
from scripts.files import read_csv


def write_package(folder):
    folder.mkdir()
    tone = 0.1 * np.sin(np.arange(8000 * 100) / 5)
    soundfile.write(folder / "song.wav", np.stack([tone, tone], 1), 8000)
    return hashlib.sha256((folder / "song.wav").read_bytes()).hexdigest()


def write_table(path, sha256):
    rows = [["file_name", "registry", "package", "version", "path", "sha256"]]
    rows += [["a/song.ogg", "debian", "a", "1:2", "song.wav", sha256]]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def test_middle_of_a_recording(tmp_path, monkeypatch):
    write_table(tmp_path / "tracks.csv", write_package(tmp_path / "a-1.2"))
    monkeypatch.setattr(third_set, "TRACKS", tmp_path / "tracks.csv")
    third_set.build(tmp_path / "out", tmp_path)
    samples, rate = soundfile.read(tmp_path / "out" / "a" / "song.ogg")
    assert (rate, samples.shape) == (16000, (90 * 16000,))


def test_another_file_than_the_table_names(tmp_path, monkeypatch):
    write_package(tmp_path / "a-1.2")
    write_table(tmp_path / "tracks.csv", "0" * 64)
    monkeypatch.setattr(third_set, "TRACKS", tmp_path / "tracks.csv")
    with pytest.raises(ValueError, match="song.wav of a is not the file that tracks.csv names"):
        third_set.build(tmp_path / "out", tmp_path)


def test_every_query_means_a_track(tmp_path):
    tracks, questions = held_out.read_music(tmp_path, "third_set")
    assert len(tracks) == len(read_csv(third_set.TRACKS)) == len({track["file_name"] for track in tracks})
    assert [query for query, meant in questions["queries"].items() if not meant] == []
