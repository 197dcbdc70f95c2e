# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Windows and captions that training takes of tracks: random, repeatable, and shared out over processes."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from corpora import RATE, OnePass, numbers_in, write_stream
from helpers import ROOT
from torch.utils.data import DataLoader
from transformers import CLIPTokenizer

from muscall.data.sources import load_corpus
from muscall.data.windows import TrainingCollator, TrainingStream, TrainingWindows


def test_windows_are_slices_of_their_files(tracks):
    windows, starts = TrainingWindows(tracks, RATE, RATE, seed=3), set()
    for epoch in range(4):
        windows.set_epoch(epoch)
        for index in range(6):
            values, samples = windows[index]["input_values"], soundfile.read(tracks[index]["path"], dtype="float32")[0]
            assert values.shape == (RATE,) and values.dtype == np.float32
            start = int(np.argmin(np.abs(samples - values[0])))
            starts.add((index, start))
            part = samples[start : start + RATE]
            np.testing.assert_array_equal(values[: len(part)], part)
            assert not values[len(part) :].any() and (len(part) == RATE or start == 0)
    assert len(starts) == 3 + 3 * 4  # short files have one window, long ones another each epoch


def test_choices_depend_on_seed_epoch_and_index(tracks):
    def draw(seed, epoch):
        windows = TrainingWindows(tracks.select(range(6)), RATE, RATE, seed)
        windows.set_epoch(epoch)
        return [(item["caption"], item["input_values"].tobytes()) for item in (windows[index] for index in range(6))]

    assert draw(0, 1) == draw(0, 1)
    assert draw(0, 1) != draw(0, 2) and draw(0, 1) != draw(1, 1)
    captions = {caption for epoch in range(20) for caption, _ in draw(0, epoch)}
    assert len(captions) == 18


@pytest.mark.parametrize("content", [False, True])
def test_unreadable_files_are_replaced_and_named(tracks, content):
    if content:
        tracks = tracks.select(range(9))
        tracks = tracks.remove_columns("bytes").add_column("bytes", [Path(p).read_bytes() for p in tracks["path"]])
    windows = TrainingWindows(tracks, RATE, RATE, seed=0)
    for index in range(6, len(tracks)):
        item = windows[index]
        assert item["unreadable"][0][0] == index and tracks[index]["path"] in item["unreadable"][0][1]
        replacement = int(item["caption"].split()[1])
        assert replacement < 6 and int(item["input_values"][0] / 0.05 + 1e-3) == replacement + 1
    with pytest.raises(ValueError, match="100 random tracks in a row are unreadable.*6.wav"):
        TrainingWindows(tracks.select([6]), RATE, RATE, seed=0)[0]


def test_collator_pads_to_the_longest_and_keeps_the_end_of_text():
    tokenizer = CLIPTokenizer.from_pretrained(ROOT / "clip_tokenizer")
    window = {"input_values": np.zeros(RATE, np.float32), "track_id": 5, "unreadable": [(3, "3.wav: gone")]}
    batch = TrainingCollator(tokenizer)([{**window, "caption": text} for text in ("piano", "calm solo piano")])
    inputs = batch["inputs"]
    assert inputs["input_ids"].shape == (2, 5) and inputs["attention_mask"].sum(1).tolist() == [3, 5]
    assert inputs["input_values"].shape == (2, RATE) and batch["unreadable"] == [(3, "3.wav: gone")] * 2
    inputs = TrainingCollator(tokenizer)([{**window, "caption": "piano " * 2000}])["inputs"]
    assert inputs["input_ids"].shape == (1, 77) and inputs["input_ids"][0, -1] == tokenizer.eos_token_id


def test_workers_know_the_epoch(tracks):
    windows = TrainingWindows(tracks, RATE, RATE, seed=0)
    collate = TrainingCollator(CLIPTokenizer.from_pretrained(ROOT / "clip_tokenizer"))
    epochs = {}
    for num_workers in (0, 2):
        loader = DataLoader(windows, 5, collate_fn=collate, num_workers=num_workers)
        for epoch in (0, 1):
            windows.set_epoch(epoch)
            epochs[num_workers, epoch] = list(loader)
    for epoch in (0, 1):
        for alone, worker in zip(epochs[0, epoch], epochs[2, epoch], strict=True):
            assert alone["unreadable"] == worker["unreadable"]
            for part in ("inputs", "targets"):
                torch.testing.assert_close(dict(alone[part]), dict(worker[part]), rtol=0, atol=0)
    assert not torch.equal(epochs[2, 0][0]["inputs"]["input_values"], epochs[2, 1][0]["inputs"]["input_values"])


@pytest.mark.parametrize("num_processes", [1, 2, 3])  # four shards: three processes share the rows instead
@pytest.mark.parametrize("num_workers", [0, 2])
def test_processes_and_workers_share_a_stream_without_overlap_or_loss(tmp_path, num_processes, num_workers):
    tracks = load_corpus(write_stream(tmp_path, "parquet"), streaming=True)["train"]
    numbers = []
    for process in range(num_processes):
        stream = OnePass(tracks, RATE, RATE // 2, 0, process, num_processes)
        loader = DataLoader(stream, None, num_workers=num_workers)
        numbers += numbers_in(loader)
    assert sorted(numbers) == list(range(8))


def test_a_stream_has_no_end_and_names_what_it_cannot_read(tmp_path):
    tracks = load_corpus(write_stream(tmp_path, "metadata"), streaming=True)["train"]
    (tmp_path / "train" / "clips" / "3.wav").write_bytes(b"RIFF")
    stream = iter(TrainingStream(tracks, RATE, RATE // 2, seed=0))
    items = [next(stream) for _ in range(28)]
    counts = np.bincount([int(item["caption"].split()[-1]) for item in items], minlength=8)
    assert counts.tolist() == [4, 4, 4, 0, 4, 4, 4, 4]
    unreadable = [failure for item in items for failure in item["unreadable"]]
    assert 3 <= len(unreadable) <= 5 and all("3.wav" in path and "3.wav" in reason for path, reason in unreadable)
