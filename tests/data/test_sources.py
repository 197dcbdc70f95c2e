# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Corpora in every layout, and mixtures of them."""

import shutil

import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpora import (
    RATE,
    OnePass,
    check,
    make_bytes,
    make_tracks,
    numbers_in,
    numbers_of,
    write_ramp,
    write_stream,
    write_table,
    write_tars,
)
from datasets import Audio, Dataset, DatasetDict, Features, IterableDataset

from muscall.data.sources import load_corpus, mix_corpora
from muscall.data.tracks import check_readable
from muscall.data.windows import TrainingWindows


@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.csv"])
def test_folder_without_splits(tmp_path, name):
    write_table(tmp_path / name, make_tracks(tmp_path))
    check(load_corpus(str(tmp_path)))
    splits = [[numbers_of(rows) for rows in load_corpus(str(tmp_path), seed=seed).values()] for seed in (1, 1, 2, 3)]
    assert splits[0] == splits[1] and (splits[0] != splits[2] or splits[0] != splits[3])
    assert [len(rows) for rows in load_corpus(str(tmp_path), holdout_fraction=0.2).values()] == [6, 2, 2]


@pytest.mark.parametrize("validation", ["validation", "valid", "val", "dev"])
def test_folder_per_split(tmp_path, validation):
    for split, numbers in (("train", range(8)), (validation, [8]), ("test", [9])):
        write_table(tmp_path / split / "metadata.jsonl", make_tracks(tmp_path / split, numbers=numbers))
    corpus = load_corpus(str(tmp_path))
    check(corpus)
    assert (numbers_of(corpus["validation"]), numbers_of(corpus["test"])) == ([8], [9])


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".parquet"])
def test_file_with_relative_paths(tmp_path, suffix):
    check(load_corpus(str(write_table(tmp_path / f"corpus{suffix}", make_tracks(tmp_path, "audio")))))


def test_parquet_of_large_types(tmp_path):
    pandas.DataFrame(make_tracks(tmp_path, "audio")).to_parquet(tmp_path / "corpus.parquet")
    check(load_corpus(str(tmp_path / "corpus.parquet")))
    struct = pa.struct({"path": pa.large_string(), "bytes": pa.large_binary()})
    audio = pa.array([row["audio"] for row in make_bytes(tmp_path)], struct)
    captions = pa.array([row["caption"] for row in make_tracks(tmp_path)], pa.large_string())
    pq.write_table(pa.table({"audio": audio, "caption": captions}), tmp_path / "1.parquet")
    check(load_corpus(str(tmp_path / "1.parquet")))


def test_parquet_of_bare_bytes(tmp_path):
    rows = [{**row, "audio": row["audio"]["bytes"]} for row in make_bytes(tmp_path)]
    check(load_corpus(str(write_table(tmp_path / "corpus.parquet", rows))))
    for split, part in (("train", rows[:8]), ("validation", rows[8:9]), ("test", rows[9:])):
        write_table(tmp_path / "data" / f"{split}-00000-of-00001.parquet", part)
    corpus = load_corpus(str(tmp_path / "data"), streaming=True)
    assert sorted(numbers_in(OnePass(corpus["train"], RATE, RATE // 2, seed=0))) == list(range(8))


@pytest.mark.parametrize("paths", [True, False])
@pytest.mark.parametrize("hub", [True, False])
def test_parquet_of_bytes(tmp_path, hub, paths):
    rows = make_bytes(tmp_path, paths=paths)
    if hub:  # with the `Audio` feature in the file's metadata, as `push_to_hub` writes it
        Dataset.from_list(rows).cast_column("audio", Audio()).to_parquet(tmp_path / "corpus.parquet")
        assert b'"_type": "Audio"' in (tmp_path / "corpus.parquet").read_bytes()
    else:
        write_table(tmp_path / "corpus.parquet", rows)
    check(load_corpus(str(tmp_path / "corpus.parquet")))


def test_folder_of_shards(tmp_path):
    for name, numbers in (
        ("train-00000-of-00002", range(5)),
        ("train-00001-of-00002", range(5, 8)),
        ("test-00000-of-00001", [9]),
    ):
        write_table(tmp_path / "data" / f"{name}.parquet", make_bytes(tmp_path / name, numbers))
    write_table(tmp_path / "data" / "validation-00000-of-00001.parquet", make_bytes(tmp_path / "v", [8]))
    check(load_corpus(str(tmp_path)))


def test_shards_with_relative_paths(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    write_table(tmp_path / "data" / "train-00000-of-00001.parquet", make_tracks(tmp_path, "audio"))
    check(load_corpus(str(tmp_path)))


def test_bad_corpora(tmp_path):
    rows = make_tracks(tmp_path, "audio")
    with pytest.raises(ValueError, match="row 3: `audio` has neither a path nor bytes"):
        load_corpus(str(write_table(tmp_path / "missing.jsonl", [*rows[:3], {**rows[3], "audio": None}])))
    with pytest.raises(ValueError, match="has 3 tracks: too few to hold out 2 as the test"):
        load_corpus(str(write_table(tmp_path / "few.jsonl", rows[:3])), holdout_fraction=0.5)
    with pytest.raises(ValueError, match="expected a .json, .jsonl, .csv, .parquet file"):
        load_corpus(str(tmp_path / "clips" / "0.wav"))
    write_table(tmp_path / "only" / "test" / "metadata.csv", rows)
    with pytest.raises(ValueError, match="no train split; its splits: test"):
        load_corpus(str(tmp_path / "only"))
    with pytest.raises(ValueError, match=r"no metadata\.jsonl, metadata\.csv"):
        load_corpus(str(tmp_path / "clips"))


def as_saved(folder, numbers):
    """Rows as a person saves them who has used `cast_column`; each file is called `audio.wav`."""
    rows = [{**row, "audio": {**row["audio"], "path": "audio.wav"}} for row in make_bytes(folder, numbers)]
    rows = Dataset.from_list(rows)
    return rows.cast(Features({**rows.features, "audio": Audio()}))


def test_folder_of_save_to_disk(tmp_path):
    as_saved(tmp_path, range(12)).select([3, 1, 0, 2, *range(4, 10)]).save_to_disk(tmp_path / "saved")
    check(load_corpus(str(tmp_path / "saved")))


@pytest.mark.parametrize("streaming", [False, True])
def test_folder_of_save_to_disk_with_splits(tmp_path, caplog, streaming):
    numbers = {"train": range(8), "dev": [8], "eval": [9], "unlabelled": [10, 11]}
    DatasetDict({split: as_saved(tmp_path, part) for split, part in numbers.items()}).save_to_disk(tmp_path / "saved")
    corpus = load_corpus(str(tmp_path / "saved"), streaming=streaming)
    assert (numbers_of(corpus["validation"]), numbers_of(corpus["test"])) == ([8], [9])
    assert sorted(row["captions"][0] for row in corpus["train"]) == [f"tone number {number}" for number in range(8)]
    assert "left out: unlabelled" in caplog.text


def test_tables_that_datasets_does_not_take_are_named(tmp_path, caplog):
    for split, numbers in (("train", range(8)), ("dev", [8]), ("test", [9]), ("extra", [10])):
        write_table(tmp_path / f"{split}.csv", make_tracks(tmp_path, "audio", numbers))
    check(load_corpus(str(tmp_path)))
    assert f"1 of its tables are not used: {tmp_path / 'extra.csv'}" in caplog.text


def test_a_table_of_another_name_beside_audio_is_named(tmp_path):
    write_table(tmp_path / "captions.csv", make_tracks(tmp_path))
    with pytest.raises(ValueError, match=r"no metadata.jsonl.* give the table itself as the dataset, .*captions.csv"):
        load_corpus(str(tmp_path))


def test_splits_in_capitals_are_not_trained_on(tmp_path):
    for split, numbers in (("Train", range(8)), ("Test", [9])):
        write_table(tmp_path / "tables" / f"{split}.csv", make_tracks(tmp_path, "audio", numbers))
    with pytest.raises(ValueError, match=r"Test.csv would be read as training data"):
        load_corpus(str(tmp_path / "tables"))


def test_folders_whose_names_datasets_takes_for_patterns(tmp_path):
    folder = tmp_path / "corpus [2020]"
    for split, numbers in (("train", range(8)), ("dev", [8]), ("test", [9])):
        write_table(folder / split / "metadata.jsonl", make_tracks(folder / split, numbers=numbers))
    check(load_corpus(str(folder)))
    write_tars(tmp_path / "tars [2020]")
    check(load_corpus(str(tmp_path / "tars [2020]")))
    write_table(tmp_path / "shards [2020]" / "train-00000-of-00001.parquet", make_bytes(tmp_path))
    with pytest.raises(ValueError, match=r"for a pattern: rename the folder"):
        load_corpus(str(tmp_path / "shards [2020]"))


@pytest.mark.parametrize("captions", ["json", "txt"])
def test_folder_of_tars(tmp_path, captions):
    write_tars(tmp_path, captions=captions)
    corpus = load_corpus(str(tmp_path))
    check(corpus)
    assert set(corpus["train"]["licence"]) == {"CC0-1.0" if captions == "json" else None}


@pytest.mark.parametrize("stereo", [False, True])
def test_layout_of_the_papers_code(tmp_path, stereo):
    for split, numbers in (("train", range(8)), ("val", [8]), ("test", [9])):
        rows = []
        for number in numbers:
            samples = write_ramp(tmp_path / "scratch.wav", number, seconds=1.5)
            (tmp_path / "audio").mkdir(exist_ok=True)
            np.save(tmp_path / "audio" / f"{number}.npy", np.stack([samples, samples]) if stereo else samples)
            caption = f"tone number {number}"
            rows.append({"audio_id": number, "caption": caption, "audio_path": f"{number}.npy"})
        write_table(tmp_path / f"dataset_{split}.json", rows)
    with pytest.raises(ValueError, match=r"\d.npy does not state its sampling rate: name it with --npy_sampling_rate"):
        load_corpus(str(tmp_path))
    corpus = load_corpus(str(tmp_path), npy_sampling_rate=RATE)
    check(corpus)
    check_readable(corpus["test"], "test", RATE)
    resampled = TrainingWindows(corpus["train"], 2 * RATE, RATE, seed=0)[3]  # half a second at the double rate
    assert resampled["input_values"].shape == (RATE,) and resampled["unreadable"] == []
    np.testing.assert_allclose(resampled["input_values"][100:-100], 0.15, atol=0.01)

    (tmp_path / "audio" / "2.npy").write_bytes(b"")
    (tmp_path / "audio" / "5.npy").write_bytes(b"no numbers")
    windows = TrainingWindows(corpus["train"], RATE, RATE, seed=0)
    reasons = [windows[index]["unreadable"] for index in range(8)]
    assert [bool(reason) for reason in reasons] == [index in (2, 5) for index in range(8)]
    assert "2.npy is not an .npy file of numbers" in reasons[2][0][1]


@pytest.mark.parametrize("layout", ["tars", "parquet", "metadata"])
def test_a_streamed_corpus_is_the_corpus(tmp_path, layout):
    corpus = load_corpus(write_stream(tmp_path, layout), streaming=True)
    assert isinstance(corpus["train"], IterableDataset)
    assert (numbers_of(corpus["validation"]), numbers_of(corpus["test"])) == ([8], [9])
    stream = OnePass(corpus["train"], RATE, RATE // 2, seed=0)
    assert sorted(numbers_in(stream)) == list(range(8))
    order = {}
    for seed, epoch in ((0, 0), (0, 1), (1, 0)):
        stream = OnePass(corpus["train"], RATE, RATE // 2, seed=seed)
        stream.set_epoch(epoch)
        order[seed, epoch] = numbers_in(stream)
        assert order[seed, epoch] == numbers_in(stream)  # the same again
    assert len({tuple(numbers) for numbers in order.values()}) > 1


def test_streams_that_cannot_be(tmp_path):
    write_table(tmp_path / "corpus.jsonl", make_tracks(tmp_path, "audio"))
    with pytest.raises(ValueError, match="a streamed corpus must bring its own test and validation split"):
        load_corpus(str(tmp_path / "corpus.jsonl"), streaming=True)
    folder = write_stream(tmp_path / "parquet", "parquet")
    with pytest.raises(ValueError, match=r"\[train\] has no column `words`. Its columns: audio, caption"):
        load_corpus(folder, caption_column="words", streaming=True)


def test_mixtures(tmp_path):
    corpora = []
    for name, numbers in (("large", [*range(8), 10, 11]), ("small", [8, 9, 12, 13])):
        rows = [
            {**row, "file_name": f"../{row['file_name']}"} for row in make_tracks(tmp_path / name, numbers=numbers)
        ]
        for split, part in (("train", rows[:-2]), ("validation", rows[-2:-1]), ("test", rows[-1:])):
            write_table(tmp_path / name / split / "metadata.jsonl", part)
        corpora.append(load_corpus(str(tmp_path / name)))

    whole = mix_corpora(corpora, None, seed=0)
    assert numbers_of(whole["train"]) == list(range(10))
    assert (numbers_of(whole["validation"]), numbers_of(whole["test"])) == ([10, 12], [11, 13])
    mixed = mix_corpora(corpora, [1, 3], seed=0)["train"]
    numbers = numbers_of(mixed)
    assert set(numbers) == set(range(10))  # each at least once
    assert 0.6 < np.mean([number >= 8 for number in numbers]) < 0.9
    assert numbers == numbers_of(mix_corpora(corpora, [1, 3], seed=0)["train"])
    with pytest.raises(
        ValueError, match=r"dataset_weights must be 2 numbers above 0, one for each dataset, got \[1\]"
    ):
        mix_corpora(corpora, [1], seed=0)
    check_readable(mixed, "train", RATE)


@pytest.mark.parametrize("layout", ["file", "folder", "shards", "saved"])
def test_a_column_of_splits(tmp_path, caplog, layout):
    names = ["train"] * 7 + ["extra", "Dev", "test"]
    if layout in ("file", "folder"):
        rows = make_tracks(tmp_path, "audio")
    else:
        rows = make_bytes(tmp_path / "source")
        shutil.rmtree(tmp_path / "source")
    rows = [{**row, "split": name} for row, name in zip(rows, names, strict=True)]
    dataset = tmp_path
    if layout == "file":
        dataset = write_table(tmp_path / "tracks.csv", rows)
    elif layout == "saved":
        Dataset.from_list(rows).save_to_disk(tmp_path)
    else:
        write_table(tmp_path / ("metadata.csv" if layout == "folder" else "train-0000.parquet"), rows)
    corpus = load_corpus(str(dataset))
    assert [numbers_of(corpus[split]) for split in ("train", "validation", "test")] == [[*range(7)], [8], [9]]
    assert "left out: extra (1 rows)" in caplog.text


def test_a_column_split_of_other_words(tmp_path):
    rows = [{**row, "split": "a" if number < 5 else "b"} for number, row in enumerate(make_tracks(tmp_path))]
    write_table(tmp_path / "metadata.csv", rows)
    check(load_corpus(str(tmp_path)))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("train-0000.tar", b"no tar", "train-0000.tar: its first sample cannot be read"),
        ("metadata.tsv", b"file_name\tcaption\n", r"has no metadata.jsonl.* Its files: 1 .tsv"),
    ],
)
def test_files_that_are_no_corpus_are_named(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=words):
        load_corpus(str(tmp_path))


def test_a_broken_folder_of_save_to_disk_is_named(tmp_path):
    Dataset.from_list(make_bytes(tmp_path / "source")).save_to_disk(tmp_path / "saved")
    (file,) = (tmp_path / "saved").glob("*.arrow")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"saved: cannot be read: Expected to read"):
        load_corpus(str(tmp_path / "saved"))


def test_a_split_called_all_is_named(tmp_path):
    table = write_table(tmp_path / "data" / "all-00000-of-00001.parquet", [{"audio": b"0", "caption": "calm"}])
    with pytest.raises(ValueError, match=f"{table}: cannot be read: `all` is a special split keyword"):
        load_corpus(str(tmp_path))
