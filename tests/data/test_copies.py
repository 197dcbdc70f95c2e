# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""No recording is in two splits, whatever its name."""

import random

import pytest
from corpora import write_table

from muscall.data.sources import load_corpus, mix_corpora
from muscall.data.tracks import hash_content


NAMES = {"train": ("train", "Training"), "validation": ("val", "dev"), "test": ("test", "eval")}


def write_corpus(folder, splits, layout="folders"):
    """Files whose content is the number of a recording; `splits` lists these numbers, a track each."""
    count = 0
    for split, recordings in splits.items():
        rows = []
        for recording in recordings:
            content = f"recording {recording}".encode() * 9000  # longer than what `track_id` reads of it
            name, count = f"{count}.wav", count + 1
            if layout == "parquet":
                rows.append({"audio": {"bytes": content, "path": "audio.wav"}, "caption": f"{recording} {name}"})
            else:
                (folder / split).mkdir(parents=True, exist_ok=True)
                (folder / split / name).write_bytes(content)
                rows.append({"file_name": name, "caption": f"{recording} {name}"})
        if layout == "parquet":
            write_table(folder / f"{split}-00000-of-00001.parquet", rows)
        else:
            write_table(folder / split / "metadata.jsonl", rows)
    return str(folder)


def recordings_of(corpus):
    """Of each split, the recordings as the captions say them and as the bytes do."""
    said = {split: {text.split()[0] for row in rows["captions"] for text in row} for split, rows in corpus.items()}
    read = {
        split: {hash_content(row["path"] if row["bytes"] is None else row["bytes"]) for row in rows}
        for split, rows in corpus.items()
    }
    assert {split: len(part) for split, part in said.items()} == {split: len(part) for split, part in read.items()}
    return said


def check_disjoint(corpus):
    said = recordings_of(corpus)
    assert sum(map(len, said.values())) == len(set().union(*said.values()))
    return said


def test_a_hold_out_keeps_copies_together(tmp_path):
    corpus = load_corpus(write_corpus(tmp_path, {"train": [number % 10 for number in range(40)]}))
    check_disjoint(corpus)
    assert [len(rows) for rows in corpus.values()] == [32, 4, 4]


def test_too_few_recordings_to_hold_out(tmp_path):
    with pytest.raises(ValueError, match="has 20 tracks of 2 recordings: too few to hold out 1 as the test split"):
        load_corpus(write_corpus(tmp_path, {"train": [0, 1] * 10}))


def test_given_splits_that_overlap_are_reported(tmp_path, caplog):
    splits = {"train": [*range(10), 3], "dev": [8, 9, 10, 11], "test": [3, 10, 12]}
    corpus = load_corpus(write_corpus(tmp_path, splits))
    assert check_disjoint(corpus)["test"] == {"3", "10", "12"}
    assert [len(rows) for rows in corpus.values()] == [7, 3, 3]
    assert "2 of the 11 train tracks are left out, because the test split has the same recordings" in caplog.text
    assert "2 of the 11 train tracks are left out, because the validation split has" in caplog.text
    assert "1 of the 4 validation tracks are left out, because the test split has the same recordings" in caplog.text
    assert "dev/13.wav is" in caplog.text


def test_a_split_of_which_nothing_is_left(tmp_path):
    with pytest.raises(ValueError, match="every train track is in another split too"):
        load_corpus(write_corpus(tmp_path, {"train": [0, 1], "test": [0, 1, 2]}))


def test_corpora_of_a_mixture_share_no_recording(tmp_path):
    first = load_corpus(write_corpus(tmp_path / "first", {"train": range(8), "dev": [8], "test": [9]}))
    second = load_corpus(write_corpus(tmp_path / "second", {"train": [9, 8, 20, 21], "dev": [0], "test": [22, 1]}))
    for weights in (None, [1, 2]):
        said = check_disjoint(mix_corpora([first, second], weights, seed=0))
        assert said == {"train": {*"234567", "20", "21"}, "validation": {"8", "0"}, "test": {"9", "22", "1"}}


def test_a_stream_is_not_searched_and_says_so(tmp_path, caplog):
    splits = {"train": range(4), "dev": [3, 5], "test": [5, 6]}
    corpus = load_corpus(write_corpus(tmp_path, splits), streaming=True)
    assert [len(corpus[split]) for split in ("validation", "test")] == [1, 2]
    assert "a stream is not searched for recordings that are also in the other splits" in caplog.text


def test_files_that_are_missing_are_left_to_the_training(tmp_path):
    folder = write_corpus(tmp_path, {"train": range(10)})
    (tmp_path / "train" / "3.wav").unlink()
    assert sum(len(rows) for rows in load_corpus(folder).values()) == 10


@pytest.mark.parametrize("seed", range(12))
def test_splits_are_disjoint_in_layouts_drawn_at_random(tmp_path, seed):
    draw = random.Random(seed)
    splits = {}
    for split in draw.choice([["train"], ["train", "test"], ["train", "validation"], ["train", "validation", "test"]]):
        recordings = draw.sample(range(30), draw.randint(12, 20) if split == "train" else draw.randint(1, 4))
        copies = [recording for recording in recordings for _ in range(draw.choice((1, 1, 1, 2, 5)))]
        splits[draw.choice(NAMES[split])] = draw.sample(copies, len(copies))
    layout = draw.choice(("folders", "parquet"))
    if layout == "parquet":
        splits = {split.lower(): recordings for split, recordings in splits.items()}
    expected = {str(recording) for recordings in splits.values() for recording in recordings}
    corpus = load_corpus(write_corpus(tmp_path, splits, layout), seed=seed)
    assert set().union(*check_disjoint(corpus).values()) == expected
    assert all(len(rows) for rows in corpus.values())
