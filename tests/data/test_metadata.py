# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Folders of audio with tables in them, above them or deeper, with no torchcodec installed."""

import shutil
import sys
import unicodedata

import pytest
from corpora import check, make_bytes, make_tracks, numbers_of, write_ramp, write_table

from muscall.data.sources import load_corpus


@pytest.fixture(autouse=True)
def no_torchcodec(monkeypatch):
    """As with requirements.txt alone, also where torchcodec is installed."""
    monkeypatch.setitem(sys.modules, "torchcodec", None)


def write_split(folder, split, numbers, table="metadata.jsonl"):
    return write_table(folder / split / table, make_tracks(folder / split, numbers=numbers))


def rows_above(folder, splits, separator="/"):
    """Rows of a table that lies above the folders of the splits."""
    rows = []
    for split, numbers in splits.items():
        for row in make_tracks(folder / split, numbers=numbers):
            rows.append({**row, "file_name": f"{split}/{row['file_name']}".replace("/", separator)})
    return rows


def sizes(corpus):
    return [len(corpus[split]) for split in ("train", "validation", "test")]


@pytest.mark.parametrize("names", [("train", "validation", "test"), ("Training", "dev", "eval")])
@pytest.mark.parametrize("table", ["metadata.jsonl", "metadata.csv", "metadata.parquet"])
def test_one_table_above_the_folders_of_splits(tmp_path, table, names):
    write_table(tmp_path / table, rows_above(tmp_path, dict(zip(names, (range(8), [8], [9]), strict=True))))
    corpus = load_corpus(str(tmp_path))
    check(corpus)
    assert (numbers_of(corpus["validation"]), numbers_of(corpus["test"])) == ([8], [9])


def test_one_table_above_streamed(tmp_path):
    splits = {"train": range(8), "dev": [8], "test": [9]}
    write_table(tmp_path / "metadata.jsonl", rows_above(tmp_path, splits))
    corpus = load_corpus(str(tmp_path), streaming=True)
    assert sorted(caption for row in corpus["train"] for caption in row["captions"])[0] == "tone number 0"
    assert (numbers_of(corpus["validation"]), numbers_of(corpus["test"])) == ([8], [9])


@pytest.mark.parametrize("table", ["metadata.jsonl", "metadata.csv", "metadata.parquet", "Metadata.CSV"])
def test_tables_as_audio_repositories_of_the_hub_have_them(tmp_path, table):
    for split, numbers in (("train", range(8)), ("valid", [8]), ("testing", [9])):
        path = write_split(tmp_path / "data", split, numbers, table.lower())
        path.rename(path.with_name(table))
    check(load_corpus(str(tmp_path)))


def test_tables_of_several_folders_without_splits_are_one(tmp_path):
    write_split(tmp_path, "albums/a", range(5))
    write_split(tmp_path, "b", range(5, 10), "metadata.csv")
    check(load_corpus(str(tmp_path)))


def test_paths_of_windows(tmp_path):
    splits = {"train": range(8), "val": [8], "test": [9]}
    write_table(tmp_path / "metadata.csv", rows_above(tmp_path, splits, separator="\\"))
    check(load_corpus(str(tmp_path)))


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_name_in_another_unicode_form(tmp_path, form):
    rows = make_tracks(tmp_path)
    name = unicodedata.normalize("NFD" if form == "NFC" else "NFC", "clips/café.wav")
    (tmp_path / "clips" / "4.wav").rename(tmp_path / name)
    rows[4]["file_name"] = unicodedata.normalize(form, name)
    write_table(tmp_path / "metadata.jsonl", rows)
    check(load_corpus(str(tmp_path)))


def test_splits_that_are_not_used_are_named(tmp_path, caplog):
    write_split(tmp_path, "train", range(8))
    write_split(tmp_path, "unlabelled", [20, 21])
    write_split(tmp_path, "train_500", [22])
    assert sizes(load_corpus(str(tmp_path))) == [6, 1, 1]
    assert "left out: train_500 (1 rows), unlabelled (2 rows)" in caplog.text


def test_rows_in_no_folder_of_a_split_are_named(tmp_path, caplog):
    rows = rows_above(tmp_path, {"train": range(8), "test": [9], "extra": [20, 21]})
    write_ramp(tmp_path / "30.wav", 30)
    write_table(tmp_path / "metadata.jsonl", [*rows, {"file_name": "30.wav", "caption": "tone number 30"}])
    assert sizes(load_corpus(str(tmp_path))) == [7, 1, 1]
    assert "left out: extra (2 rows), no folder (1 rows)" in caplog.text


def test_audio_without_a_row_is_counted(tmp_path, caplog):
    write_table(tmp_path / "metadata.jsonl", make_tracks(tmp_path)[:8])
    write_ramp(tmp_path / "other" / "MORE.WAV", 20)
    assert sizes(load_corpus(str(tmp_path))) == [6, 1, 1]
    assert "3 of its 11 audio files have no row in its tables" in caplog.text


def test_two_tables_of_one_split_are_an_error(tmp_path):
    write_split(tmp_path, "train", range(8))
    write_table(tmp_path / "metadata.csv", rows_above(tmp_path, {"train": [8]}))
    with pytest.raises(ValueError, match=r"both .*metadata.csv and .*metadata.jsonl have rows of the split train"):
        load_corpus(str(tmp_path))
    (tmp_path / "metadata.csv").rename(tmp_path / "train" / "metadata.csv")
    with pytest.raises(ValueError, match=r"both .*metadata.csv and .*metadata.jsonl describe the audio"):
        load_corpus(str(tmp_path))


def write_card(folder, splits):
    lines = "".join(f"  - split: {split}\n    path: {path}\n" for split, path in splits.items())
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files:\n{lines}---\n")


@pytest.mark.parametrize("above", [True, False])
def test_splits_that_the_card_states(tmp_path, above):
    parts = {"one": range(8), "two": [8], "three": [9]}
    if above:
        write_table(tmp_path / "metadata.csv", rows_above(tmp_path, parts))
    else:
        for name, numbers in parts.items():
            write_split(tmp_path, name, numbers)
    write_card(tmp_path, {"train": "one/**", "dev": "two/**", "test": "three/**"})
    corpus = load_corpus(str(tmp_path))
    check(corpus)
    assert (numbers_of(corpus["validation"]), numbers_of(corpus["test"])) == ([8], [9])


def test_audio_that_the_card_does_not_mention_is_counted(tmp_path, caplog):
    write_table(tmp_path / "metadata.csv", rows_above(tmp_path, {"one": range(8), "two": [8, 9]}))
    write_card(tmp_path, {"train": "one/**"})
    assert sizes(load_corpus(str(tmp_path))) == [6, 1, 1]
    assert "left out: in no split of README.md (2 rows)" in caplog.text


def test_a_linked_split_is_named(tmp_path, caplog):
    write_split(tmp_path, "train", range(10))
    (tmp_path / "test").symlink_to(tmp_path / "train")
    check(load_corpus(str(tmp_path)))
    assert f"left out are 1 folders that are listed under another name ({tmp_path / 'test'})" in caplog.text


def test_other_tables_beside_metadata_are_named(tmp_path, caplog):
    write_split(tmp_path, "train", range(10))
    write_table(tmp_path / "test.csv", [{"file_name": "0.wav", "caption": "other"}])
    check(load_corpus(str(tmp_path)))
    assert f"1 of its tables are not used: {tmp_path / 'test.csv'}" in caplog.text


def test_metadata_without_audio_beside_shards_of_audio(tmp_path, caplog):
    write_table(tmp_path / "train-00000-of-00001.parquet", make_bytes(tmp_path / "source"))
    shutil.rmtree(tmp_path / "source")
    write_table(tmp_path / "extra" / "metadata.csv", [{"file_name": "0.wav", "caption": "other"}])
    check(load_corpus(str(tmp_path)))
    assert "1 of its tables are not used" in caplog.text


@pytest.mark.parametrize("text", ["Caf\u00e9", "# Music\n---\n", "---\nlicense: cc0-1.0\n---\n"])
def test_cards_that_say_nothing_of_splits(tmp_path, text):
    write_split(tmp_path, "train", range(10))
    (tmp_path / "README.md").write_bytes(text.encode("latin-1"))
    check(load_corpus(str(tmp_path)))


@pytest.mark.parametrize(
    ("configs", "words"),
    [
        ("configs: [a: b: c", "README.md: its YAML cannot be read"),
        ("configs: all", "README.md: its YAML cannot be read: Expected configs to be a list, but got 'all'"),
        (
            "configs:\n- config_name: a\n  data_dir: a\n- config_name: b\n  data_dir: b",
            "README.md has 2 configurations: give the folder of one of them as the dataset",
        ),
    ],
)
def test_cards_that_cannot_be_followed_are_named(tmp_path, configs, words):
    write_split(tmp_path, "a", range(10))
    (tmp_path / "README.md").write_text(f"---\n{configs}\n---\n")
    with pytest.raises(ValueError, match=words):
        load_corpus(str(tmp_path))
