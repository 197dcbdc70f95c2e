# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Windows of tracks and the processor."""

import json
import os
import resource
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
from forks import Fork, finish
from helpers import ROOT
from sounds import music, write
from transformers import CLIPTokenizer

from processing_muscall import MusCALLFeatureExtractor, MusCALLProcessor, read_audio, window_layout


A = np.zeros(16000, dtype=np.float32)


@pytest.fixture
def extractor():
    return MusCALLFeatureExtractor(window_seconds=2.0)


@pytest.fixture(scope="module")
def processor():
    return MusCALLProcessor(
        MusCALLFeatureExtractor(window_seconds=2.0), CLIPTokenizer.from_pretrained(ROOT / "clip_tokenizer")
    )


LAYOUTS = [  # samples of the track, windows, starts and weights, for windows of 10
    (3, "all", [0], [3]),
    (10, "all", [0], [10]),
    (11, "all", [0, 1], [10, 1]),
    (20, "all", [0, 10], [10, 10]),
    (25, "all", [0, 10, 15], [10, 10, 5]),
    (25, 1, [7], [10]),
    (25, 2, [0, 15], [10, 10]),
    (25, 3, [0, 10, 15], [10, 10, 5]),
    (25, 99, [0, 10, 15], [10, 10, 5]),
    (45, 3, [0, 17, 35], [10, 10, 10]),
    (3, 2, [0], [3]),
    (25, "center", [7], [10]),
    (3, "center", [0], [3]),
]


@pytest.mark.parametrize(("num_samples", "windows", "starts", "weights"), LAYOUTS)
def test_window_layout(num_samples, windows, starts, weights):
    got = window_layout(num_samples, 10, windows)
    assert [part.tolist() for part in got] == [starts, weights]


def test_windows_hold_the_track_and_weigh_its_seconds(extractor):
    track = np.random.default_rng(0).uniform(-1, 1, 16000 * 5).astype(np.float32)
    short = track[:3200]
    batch = extractor([track, short], sampling_rate=16000, return_window_starts=True, return_tensors="pt")
    assert batch["input_values"].shape == (2, 3, 32000) and batch["input_values"].dtype == torch.float32
    assert batch["window_weights"].tolist() == [[2, 2, 1], [pytest.approx(0.2), 0, 0]]
    assert batch["window_starts"].tolist() == [[0, 2, 3], [0, -1, -1]]
    assert np.array_equal(
        batch["input_values"][0, 2].numpy(), track[-32000:]
    )  # to the end, neither wrapped nor padded
    assert np.array_equal(batch["input_values"][1, 0, :3200].numpy(), short)
    assert not batch["input_values"][1, 0, 3200:].any() and not batch["input_values"][1, 1:].any()
    alone = extractor(short, sampling_rate=16000)
    assert isinstance(alone["input_values"], np.ndarray) and "window_starts" not in alone
    assert np.array_equal(alone["input_values"][0, 0], batch["input_values"][1, 0].numpy())


@pytest.mark.parametrize("batch_size", [1, 3, 16])
@pytest.mark.parametrize("seconds", [0.7, 2.0, 9.3, 14.0])
def test_windows_come_a_few_at_a_time_as_all_at_once(extractor, tmp_path, seconds, batch_size):
    path = write(tmp_path / "a.ogg", music(seconds, 44100, 2), 44100)
    whole = extractor(path, return_window_starts=True)
    parts = list(extractor.iter_windows(path, batch_size=batch_size))
    assert [len(part["input_values"]) for part in parts[:-1]] == [batch_size] * (len(parts) - 1)
    for key, name in (("input_values",) * 2, ("window_weights",) * 2, ("window_starts",) * 2):
        assert np.array_equal(np.concatenate([part[key] for part in parts]), whole[name][0])
    ends = np.concatenate([part["window_ends"] for part in parts])
    starts = whole["window_starts"][0]
    np.testing.assert_allclose(ends - starts, min(seconds, extractor.window_seconds), atol=1e-3)
    assert ends[-1] == pytest.approx(seconds, abs=1e-3)


@pytest.mark.parametrize("cut", [8, 7])  # seconds: where a window begins, and within one
def test_a_track_and_its_halves_agree_on_the_windows_that_they_share(extractor, cut):
    rate, seconds = extractor.sampling_rate, 15
    track = music(seconds, rate)[:, 0]
    whole = extractor(track, sampling_rate=rate, return_window_starts=True)
    expected = dict(zip(whole["window_starts"][0], whole["input_values"][0], strict=True))
    shared = 0
    for half, offset in ((track[: cut * rate], 0), (track[cut * rate :], cut)):
        windows = extractor(half, sampling_rate=rate, return_window_starts=True)
        for start, window in zip(windows["window_starts"][0] + offset, windows["input_values"][0], strict=True):
            if start in expected:
                shared += 1
                assert np.array_equal(window, expected[start])
    assert shared == (8 if cut == 8 else 4)


def test_bad_calls_are_refused(extractor, processor, tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.wav"):
        extractor(tmp_path / "gone.wav")
    with pytest.raises(IsADirectoryError, match=str(tmp_path)):
        extractor(tmp_path)
    cut = write(tmp_path / "cut.mp3", music(9, 44100), 44100)
    cut.write_bytes(cut.read_bytes()[:20000])
    for call, message in (
        (lambda: extractor([]), "empty list: expected at least one track"),
        (lambda: extractor([A, A], sampling_rate=[16000]), "got 1 sampling rates for 2 tracks"),
        (
            lambda: extractor(A, sampling_rate=16000, windows=0),
            'windows is "all", "center" or a positive integer, got 0',
        ),
        (lambda: extractor(A, sampling_rate=16000, windows=True), "got True"),
        (lambda: extractor(A, sampling_rate=16000, windows="first"), "got 'first'"),
        (lambda: extractor(cut), r"cut.mp3 is cut off: 3.00 s of the 9.04 s that it claims are there"),
        (lambda: MusCALLFeatureExtractor(window_seconds=0), "window_seconds is a positive number"),
        (lambda: MusCALLFeatureExtractor(sampling_rate=0), "positive whole number of Hz, got 0"),
        (
            lambda: read_audio(write(tmp_path / "a.wav", music(1, 8000), 8000), 16000, start=2.0),
            "cannot read from 32000",
        ),
        (lambda: processor(), "expected text, audio or both"),
        (lambda: processor(text=["jazz", " \n"]), r"text\[1\] is empty"),
        (lambda: processor(text=[]), "empty list: expected at least one caption"),
        (lambda: processor(text=["jazz", 3]), "text is a string or a list of strings"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_processor_keeps_text_arguments_from_the_audio(processor, tmp_path):
    path = write(tmp_path / "a.flac", music(5, 44100, 2), 44100)
    long = "a slow waltz for strings and harp " * 300
    both = processor(text=["jazz", long], audio=[path, A], sampling_rate=[None, 16000], return_tensors="pt")
    assert list(both) == ["input_ids", "attention_mask", "input_values", "window_weights"]
    assert set(both) <= set(processor.model_input_names)
    assert both["input_ids"].shape == (2, 77) and both["input_values"].shape == (2, 3, 32000)
    assert both["input_ids"][1, -1] == processor.tokenizer.eos_token_id
    assert processor(text=["jazz", "calm piano"], return_tensors="pt")["input_ids"].shape == (2, 4)  # the longest
    flat = {"padding": "max_length", "max_length": 20, "truncation": True, "return_attention_mask": True}
    got = processor(text=long, audio=A, sampling_rate=16000, windows="center", return_tensors="pt", **flat)
    assert got["input_ids"].shape == (1, 20) and got["input_values"].shape == (1, 1, 32000)
    nested = {"audio_kwargs": {"sampling_rate": 16000, "windows": "center"}, "text_kwargs": flat}
    nested = processor(text=long, audio=A, common_kwargs={"return_tensors": "pt"}, **nested)
    assert all(torch.equal(got[name], nested[name]) for name in got)
    assert processor.feature_extractor([A], sampling_rate=16000, **flat)["input_values"].shape == (1, 1, 32000)


def test_settings_of_an_earlier_release_load(extractor):
    """`return_attention_mask` was an argument, and is in the processor_config.json of every checkpoint."""
    settings = extractor.to_dict()
    assert settings["return_attention_mask"] is False
    assert MusCALLFeatureExtractor.from_dict(settings).to_dict() == settings


def run_python(code, directory, **environment):
    environment = {
        "PATH": os.environ["PATH"],
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(directory / "home"),
        **environment,
    }
    run = subprocess.run([sys.executable, "-c", code], cwd=directory, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_saved_processor_loads_in_a_fresh_process_and_is_the_same(processor, tmp_path):
    path = write(tmp_path / "a.ogg", music(5, 44100, 2), 44100)
    processor.save_pretrained(tmp_path / "first")
    expected = processor(text="calm piano", audio=path, return_tensors="pt")
    torch.save(dict(expected), tmp_path / "expected.pt")
    run_python(
        "import torch\n"
        "from transformers import AutoFeatureExtractor, AutoProcessor\n"
        "for _ in range(2):\n"  # load, save, load
        "    processor = AutoProcessor.from_pretrained('first', trust_remote_code=True)\n"
        "    got = processor(text='calm piano', audio='a.ogg', return_tensors='pt')\n"
        "    expected = torch.load('expected.pt')\n"
        "    assert list(got) == list(expected) and all(torch.equal(got[k], expected[k]) for k in got)\n"
        "    extractor = AutoFeatureExtractor.from_pretrained('first', trust_remote_code=True)\n"
        "    assert extractor.to_dict() == processor.feature_extractor.to_dict() and extractor.window_seconds == 2.0\n"
        "    processor.save_pretrained('second')\n"
        "    import os; os.rename('first', 'old' + str(_)); os.rename('second', 'first')\n",
        tmp_path,
    )


def measure_memory(path, windows):
    extractor = MusCALLFeatureExtractor()
    extractor([0.0] * 100, sampling_rate=8000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    batch = extractor(path, windows=windows, return_window_starts=True)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = [after - before, batch["input_values"].nbytes // 1024, batch["window_starts"][0, -1].item()]
    path.with_suffix(".json").write_text(json.dumps(result))


@pytest.mark.slow
def test_three_hours_need_the_memory_of_the_windows(tmp_path):
    with soundfile.SoundFile(tmp_path / "long.flac", "w", 8000, 1) as file:
        minute = np.round(music(60, 8000), 3)
        for _ in range(180):
            file.write(minute)
    for windows in (3, "all"):
        finish(Fork(measure_memory, tmp_path / "long.flac", windows))
        grown, returned, last = json.loads((tmp_path / "long.json").read_text())
        assert grown < returned + 20_000 and last == 180 * 60 - 20  # kilobytes


def test_an_array_of_tracks_is_a_batch_where_it_is_no_track(extractor):
    """Up to 16 rows may be the channels of one track: only two are, without a word."""
    tracks = np.random.default_rng(0).uniform(-1, 1, (17, 32000)).astype(np.float32)
    expected = extractor(list(tracks), sampling_rate=16000)["input_values"]
    for batch in (tracks, tracks[:, None], torch.from_numpy(tracks)):
        assert np.array_equal(extractor(batch, sampling_rate=16000)["input_values"], expected)
    assert np.array_equal(extractor(tracks[:4], sampling_rate=[16000] * 4)["input_values"], expected[:4])
    assert len(extractor(tracks[:2], sampling_rate=16000)["input_values"]) == 1
    assert len(extractor([tracks[:6]], sampling_rate=16000)["input_values"]) == 1
    with pytest.raises(ValueError, match=r"\(6, 32000\) is a track of 6 channels or a batch of tracks"):
        extractor(tracks[:6], sampling_rate=16000)
