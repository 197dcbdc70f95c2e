# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Fingerprints of corpora: what is another corpus, and what is the same one elsewhere."""

import json
import shutil

import pytest
from datasets import Dataset

from muscall.data.fingerprint import describe_changes, fingerprint_corpus
from muscall.data.sources import load_corpus


@pytest.fixture
def folder(tmp_path):
    """Three splits of four files each, whose content is not read as audio."""
    for split in ("train", "validation", "test"):
        (tmp_path / "corpus" / split).mkdir(parents=True)
        write_metadata(tmp_path / "corpus" / split, {f"{number}.wav": f"tone {number}" for number in range(4)})
        for number in range(4):
            (tmp_path / "corpus" / split / f"{number}.wav").write_bytes(f"{split} {number}".encode())
    return tmp_path / "corpus"


def write_metadata(folder, captions):
    rows = [json.dumps({"file_name": name, "caption": caption}) + "\n" for name, caption in captions.items()]
    (folder / "metadata.jsonl").write_text("".join(rows))


def fingerprint(folder):
    return fingerprint_corpus(load_corpus(str(folder)))


def more_tracks(folder):
    (folder / "train" / "4.wav").write_bytes(b"another")
    write_metadata(folder / "train", {f"{number}.wav": f"tone {number}" for number in range(5)})


def other_captions(folder):
    write_metadata(folder / "validation", {f"{number}.wav": f"sound {number}" for number in range(4)})


def other_audio(folder):
    (folder / "test" / "2.wav").write_bytes(b"test 9")


def another_order(folder):
    write_metadata(folder / "train", {f"{number}.wav": f"tone {number}" for number in (1, 0, 2, 3)})


def missing_file(folder):
    (folder / "train" / "3.wav").unlink()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (more_tracks, "train had 4 tracks, now 5"),
        (other_captions, "captions of validation are others, or in another order"),
        (other_audio, "audio of test are others, or in another order"),
        (another_order, "captions and audio of train are others, or in another order"),
        (missing_file, "audio of train are others, or in another order"),
    ],
)
def test_another_corpus(folder, change, words):
    before = fingerprint(folder)
    assert fingerprint(folder) == before and describe_changes(before, before) == ""
    change(folder)
    assert describe_changes(before, fingerprint(folder)) == words


def test_a_corpus_that_was_moved_and_renamed_is_the_same(folder, tmp_path):
    before = fingerprint(folder)
    moved = shutil.move(folder, tmp_path / "elsewhere")
    for number in range(4):
        (moved / "train" / f"{number}.wav").rename(moved / "train" / f"song {number}.wav")
    write_metadata(moved / "train", {f"song {number}.wav": f"tone {number}" for number in range(4)})
    assert fingerprint(moved) == before


def test_audio_in_rows_counts_and_a_stream_does_not():
    rows = {"path": [None, None], "bytes": [b"one", b"two"], "captions": [["a"], ["b"]]}
    tracks = Dataset.from_dict(rows)
    other = Dataset.from_dict({**rows, "bytes": [b"one", b"six"]})
    saved = fingerprint_corpus({"train": tracks.to_iterable_dataset(), "test": tracks})
    assert saved.keys() == {"test"}
    assert (
        describe_changes(saved, fingerprint_corpus({"test": other})) == "audio of test are others, or in another order"
    )
