# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Which windows of a track an index has."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers import read_content


pytest.importorskip("muscall.search")

import muscall.search.store
from muscall.search.query import Library
from muscall.search.recordings import read_recordings
from muscall.search.stats import library_stats
from muscall.search.store import Store, literal
from muscall.search.windows import AUTO_WINDOWS, parse_windows, place_windows, placement
from processing_muscall import MusCALLFeatureExtractor, read_audio, window_layout


RATE = 44100  # hertz
SECONDS = {"long": 130.0, "middle": 61.3, "short": 7.5}


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    """MP3 files with a beat, tones and a noise that changes."""
    folder, random = tmp_path_factory.mktemp("songs"), np.random.default_rng(0)
    for name, length in SECONDS.items():
        time = np.arange(round(length * RATE)) / RATE
        sound = 0.2 * np.sin(2 * np.pi * (220 + time) * time) + 0.1 * random.standard_normal(len(time)) * (time % 1)
        soundfile.write(folder / f"{name}.mp3", np.stack([sound, np.roll(sound, 99)], axis=1), RATE, format="MP3")
    return folder


@pytest.mark.parametrize("windows", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("num_samples", [3, 20, 21, 41, 61, 100, 101, 1003])
def test_windows_are_the_middles_of_equal_parts(num_samples, windows):
    starts, weights = place_windows(num_samples, 20, 1, windows)
    assert weights.sum() == num_samples
    if windows * 20 >= num_samples:
        expected = window_layout(num_samples, 20, "all")
        assert starts.tolist() == expected[0].tolist() and weights.tolist() == expected[1].tolist()
    else:
        middles = (np.arange(windows) + 0.5) * num_samples / windows
        assert len(starts) == windows and np.abs(starts + 10 - middles).max() < 2  # samples, for whole numbers
        assert starts[0] >= 0 and starts[-1] + 20 <= num_samples and np.diff(starts).min(initial=20) >= 20
    assert (starts * 2 < weights).tolist() == [True] + [False] * (len(starts) - 1)  # what Store.tracks asks for


def test_auto_is_a_few_of_a_song_and_all_of_a_long_recording():
    assert len(place_windows(900, 20, 1, "auto")[0]) == AUTO_WINDOWS
    assert len(place_windows(901, 20, 1, "auto")[0]) == 46 == len(place_windows(901, 20, 1, "all")[0])
    assert len(place_windows(901, 20, 1, 3)[0]) == 3


@pytest.mark.parametrize("windows", ["0", 0, "-1", "some", "", "1.5", "²", True, 2.0])
def test_what_is_no_number_of_windows_is_refused(windows):
    with pytest.raises(ValueError, match="--windows is auto, all or a positive whole number, got"):
        parse_windows(windows)


@pytest.mark.parametrize("name", ["mp3", "flac", "ogg", "opus", "wav"])
def test_windows_are_those_of_the_whole_file(songs, tmp_path, name):
    path = tmp_path / f"song.{name}"
    if name == "mp3":
        shutil.copy(songs / "long.mp3", path)
    else:
        sound = soundfile.read(songs / "long.mp3")[0]
        rate, kind = (48000, {"format": "OGG", "subtype": "OPUS"}) if name == "opus" else (RATE, {})
        with soundfile.SoundFile(path, "w", rate, 2, **kind) as file:
            for first in range(0, len(sound), rate):  # libsndfile crashes at a minute of Vorbis at once
                file.write(sound[first : first + rate])
    extractor = MusCALLFeatureExtractor()
    whole = read_audio(str(path), extractor.sampling_rate)
    (batch,) = extractor.iter_windows(str(path), windows=placement(extractor, 4))
    for window, start in zip(batch["input_values"], batch["window_starts"], strict=True):
        first = round(float(start) * extractor.sampling_rate)
        np.testing.assert_allclose(window, whole[first : first + len(window)], atol=2e-6)


@pytest.mark.parametrize("windows", [1, 4])
def test_rows_of_a_few_windows(index, songs, encoder, windows):
    store, output = index(songs, windows=windows)
    assert "3 tracks (3 new)" in output and store.windows == windows
    stats = library_stats(store)
    assert stats["tracks"] == 3 and stats["hours"] == pytest.approx(sum(SECONDS.values()) / 3600, rel=1e-3)
    for name, length in SECONDS.items():
        path = songs / f"{name}.mp3"
        rows = store.rows(f"track = {literal(str(path))}").sort_by("start")
        size = encoder.feature_extractor.window_seconds
        assert len(rows) == min(windows, -(-length // size))
        assert rows["duration"].to_pylist() == pytest.approx([length] * len(rows), abs=1e-3)
        assert sum(rows["weight"].to_pylist()) == pytest.approx(length, abs=1e-3)
        lengths = np.subtract(rows["end"].to_pylist(), rows["start"].to_pylist())
        np.testing.assert_allclose(lengths, min(size, length), atol=1e-3)
        digest = rows["hash"][0].as_py()
        whole = read_recordings(store, [digest])[digest].embed
        heard = encoder.embed_track(str(path), placement(encoder.feature_extractor, windows))
        np.testing.assert_allclose(heard, whole, atol=1e-5)
        # A file that is asked for is heard as the index hears it.
        np.testing.assert_allclose(Library(store.uri).embed_audio(str(path)), whole, atol=1e-5)


def test_an_index_keeps_its_windows(index, songs, tmp_path):
    store, _ = index(songs, windows="2")
    before = read_content(store)
    for other in ("all", "auto", "3"):
        with pytest.raises(ValueError, match=f"was made with --windows 2, which cannot be changed to {other}"):
            index(songs, windows=other)
    shutil.copy(songs / "middle.mp3", tmp_path / "copy.mp3")
    soundfile.write(tmp_path / "new.wav", soundfile.read(songs / "long.mp3")[0][: 50 * RATE], RATE)
    store, output = index(songs, tmp_path)
    assert "5 tracks (2 new)" in output and store.windows == 2
    after = read_content(store)
    assert all(after[key] == row for key, row in before.items())
    assert len([track for track, _ in after if Path(track).name == "new.wav"]) == 2
    assert "5 tracks (nothing new)" in index(songs, tmp_path, windows=2)[1]


def test_an_older_index_goes_on_with_all_windows(index, songs, encoder, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(muscall.search.store, "FORMAT", 2)
        Store.open_or_create(tmp_path / "store", encoder.describe())
    store, _ = index(songs)
    size = encoder.feature_extractor.window_seconds
    assert store.windows == "all" and store.table.count_rows() == sum(
        -(-length // size) for length in SECONDS.values()
    )
    with pytest.raises(ValueError, match="was made with --windows all, which cannot be changed to 4"):
        index(songs, windows=4)
