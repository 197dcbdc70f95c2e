# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Duplicates: files of the same recording."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers import PRODUCED


pytest.importorskip("muscall.search")

from muscall.search import duplicates
from muscall.search.duplicates import batches, find_candidates, find_duplicates
from muscall.search.fingerprint import agreement, fingerprint


def names(found):
    paths = [[path for content in group for path in (content["track"], *content["copies"])] for group in found.groups]
    return [sorted(Path(path).name for path in group) for group in paths]


def read(place, count=1):
    """Return produced clips joined, each of 20.2 s at 16 kHz."""
    return np.concatenate([soundfile.read(path)[0] for path in PRODUCED[place:][:count]])


def write(path, samples, rate=16000):
    """Write a file and return its fingerprint."""
    soundfile.write(path, samples, rate)
    return fingerprint(str(path))


@pytest.fixture
def copies(tmp_path):
    """Two recordings with copies, another passage of the first, and one that is alone."""
    folder = tmp_path / "music"
    folder.mkdir()
    for number, source in (("a", PRODUCED[0]), ("b", PRODUCED[30]), ("a other", PRODUCED[1]), ("c", PRODUCED[60])):
        samples, rate = soundfile.read(source)
        soundfile.write(folder / f"{number}.flac", samples, rate)
        if number in "ab":
            soundfile.write(folder / f"{number} low.mp3", samples, rate, compression_level=0.8)
            soundfile.write(folder / f"{number} trimmed.ogg", 0.7 * samples[int(1.5 * rate) :], rate)
    shutil.copy(folder / "b.flac", folder / "b again.flac")
    shutil.copy(folder / "c.flac", folder / "c again.flac")
    return folder


def test_same_contents_and_same_sounds_are_found(copies, index):
    found = find_duplicates(index(copies)[0])
    assert names(found) == [
        ["a low.mp3", "a trimmed.ogg", "a.flac"],
        ["b again.flac", "b low.mp3", "b trimmed.ogg", "b.flac"],
        ["c again.flac", "c.flac"],
    ]
    assert found.unreadable == {}
    first = found.groups[0][0]  # the largest file
    assert Path(first["track"]).name == "a.flac" and first["agreement"] > 0.5 and first["file"] == "there"
    assert "agreement" not in found.groups[2][0] and len(found.groups[2]) == 1


def test_files_that_are_gone_are_named_and_not_compared(copies, index):
    store, _ = index(copies)
    for path in copies.glob("a *"):
        path.unlink()
    found = find_duplicates(store)
    assert names(found)[0][0].startswith("b") and len(found.groups) == 2
    assert {Path(path).name for path in found.unreadable} >= {"a low.mp3", "a trimmed.ogg"}


def test_candidates_are_the_nearest_of_about_the_same_length(monkeypatch):
    random = np.random.default_rng(0)
    embeds = random.standard_normal((300, 8)).astype(np.float32)
    embeds = np.concatenate([embeds, embeds[:100] + 0.02 * random.standard_normal((100, 8)).astype(np.float32)])
    embeds /= np.linalg.norm(embeds, axis=1, keepdims=True)
    durations = np.concatenate([random.uniform(60, 120, 300), np.zeros(100)])
    durations[300:] = durations[:100] + random.uniform(-14, 14, 100)
    order = np.argsort(durations)
    original = np.concatenate([np.arange(300), np.arange(100)])[order]
    monkeypatch.setattr(duplicates, "BLOCK", (64, 32))
    pairs = set(find_candidates(durations[order], embeds[order]))
    copies = {
        (first, second) for first in range(400) for second in range(first) if original[first] == original[second]
    }
    near = {(second, first) for first, second in copies if abs(np.diff(durations[order][[first, second]])) <= 10}
    assert len(near) > 50 and near <= pairs
    assert all(0 <= durations[order][second] - durations[order][first] <= 10 for first, second in pairs)
    monkeypatch.setattr(duplicates, "BLOCK", (1000, 1000))
    assert set(find_candidates(durations[order], embeds[order])) == pairs


def test_candidates_are_also_those_of_almost_the_same_length_whatever_the_embeddings():
    embeds = np.eye(4, dtype=np.float32)
    assert list(find_candidates(np.array([100.0, 100.05, 101.0, 200.0]), embeds)) == [(0, 1)]


def test_the_number_of_candidates_that_are_looked_at_does_not_grow_with_the_library(monkeypatch):
    monkeypatch.setattr(duplicates, "NEXT", 3)
    embeds = np.ones((50, 1), np.float32)
    pairs = list(find_candidates(np.full(50, 100.0) + 0.15 * np.arange(50), embeds))
    assert max(second - first for first, second in pairs) == 3 and len(pairs) == 47 * 3 + 2 + 1


def test_full_length_copies_are_found_and_an_edit_is_not(index, tmp_path):
    folder = tmp_path / "music"
    folder.mkdir()
    song = read(0, 6)  # two minutes, of which the index has three windows
    soundfile.write(folder / "a.flac", song, 16000)
    soundfile.write(folder / "quiet.flac", 0.05 * song, 16000)
    soundfile.write(folder / "trimmed.opus", 0.5 * song[6 * 16000 :], 16000, "OPUS", format="OGG")
    soundfile.write(folder / "silence.flac", np.pad(song, (2 * 16000, 0)), 16000)
    soundfile.write(folder / "end.mp3", song[: -4 * 16000], 16000, compression_level=0.8)
    soundfile.write(folder / "other edit.flac", np.delete(song, np.s_[60 * 16000 : 64 * 16000]), 16000)
    assert names(find_duplicates(index(folder)[0])) == [
        ["a.flac", "end.mp3", "quiet.flac", "silence.flac", "trimmed.opus"]
    ]


def test_batches_have_all_pairs_of_few_recordings(monkeypatch):
    monkeypatch.setattr(duplicates, "RECORDINGS", 5)
    pairs = [(first, first + step) for first in range(20) for step in (1, 2, 3)]
    cut = list(batches(pairs))
    assert sum(cut, []) == pairs and all(len({*sum(batch, ())}) <= 5 for batch in cut)


@pytest.mark.parametrize("shift", [1.0, 1.512, 5.0])
def test_a_fingerprint_bears_a_shift_and_a_level_and_no_other_music(shift, tmp_path):
    samples = read(0)
    first = fingerprint(str(PRODUCED[0]))
    assert agreement(first, first) == pytest.approx(1)
    assert agreement(first, write(tmp_path / "shifted.wav", 0.1 * samples[int(shift * 16000) :])) > 0.6
    late = write(tmp_path / "late.wav", np.pad(samples, (int(shift * 16000), 0)))
    assert agreement(first, late) > 0.6 and agreement(late, first) == pytest.approx(agreement(first, late))
    assert agreement(first, fingerprint(str(PRODUCED[30]))) < 0.2


def test_a_fingerprint_bears_encoders_and_low_rates(tmp_path):
    first = fingerprint(str(PRODUCED[0]))
    samples, encoded = read(0), tmp_path / "low.mp3"
    soundfile.write(encoded, samples[::2], 8000, compression_level=0.9)
    assert agreement(first, fingerprint(str(encoded))) > 0.5
    soundfile.write(tmp_path / "low.opus", samples, 16000, "OPUS", format="OGG", compression_level=0.9)
    assert agreement(first, fingerprint(str(tmp_path / "low.opus"))) > 0.6


def test_silence_and_what_is_too_short_is_like_nothing(tmp_path):
    for samples in (np.zeros(5 * 16000), np.random.default_rng(0).uniform(-1, 1, 1600)):
        passages = write(tmp_path / "nothing.wav", samples)
        assert agreement(passages, passages) == 0


def test_a_quiet_noise_that_one_file_has_and_the_other_not_is_silence(tmp_path):
    samples = np.concatenate([read(0), np.zeros(10 * 16000), read(1)])
    noise = 3e-5 * np.random.default_rng(0).standard_normal(len(samples))
    first, second = write(tmp_path / "a.wav", samples), write(tmp_path / "b.wav", samples + noise)
    assert agreement(first, second) > 0.9


def test_a_version_that_is_the_same_in_the_middle_is_another_recording(tmp_path):
    first, other = read(0, 4), read(40, 4)
    version = first.copy()
    version[: 20 * 16000] = other[: 20 * 16000]
    signs = [write(tmp_path / "a.wav", first), write(tmp_path / "b.ogg", 0.5 * first[2 * 16000 :])]
    signs.append(write(tmp_path / "c.wav", version))
    assert agreement(signs[0], signs[1]) > 0.6
    assert agreement(signs[0], signs[2]) < 0.2 and agreement(signs[0][:1], signs[2][:1]) == pytest.approx(1)


def test_a_cut_in_the_middle_makes_another_recording(tmp_path):
    first = read(0, 5)
    edit = np.delete(first, np.s_[45 * 16000 : 48 * 16000])
    assert agreement(write(tmp_path / "a.wav", first), write(tmp_path / "b.wav", edit)) < 0.2


def test_a_mix_and_its_voice_alone_are_not_one(tmp_path):
    voice, band = read(0, 4), read(40, 4)
    pauses = np.arange(len(voice)) // (6 * 16000) % 2 == 1  # every other six seconds
    voice[pauses] = 0
    mix = voice + 0.1 * band * np.sqrt(np.mean(voice**2) / np.mean(band**2))
    parts = write(tmp_path / "mix.wav", mix), write(tmp_path / "voice.wav", voice)
    assert agreement(*parts) < 0.3


def test_a_transfer_that_is_a_little_faster_is_the_same(tmp_path):
    import soxr

    first = read(0, 5)
    faster = [write(tmp_path / "a.wav", soxr.resample(first, 16000 * speed, 16000)) for speed in (1.001, 1.01)]
    own = write(tmp_path / "b.wav", first)
    assert agreement(own, faster[0]) > 0.4 and agreement(own, faster[1]) < 0.2
