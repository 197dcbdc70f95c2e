# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Rows that become tracks, and the ids and checks of these."""

import tracemalloc
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
import soundfile
from corpora import RATE, check, make_bytes, make_tracks, write_embeds, write_ramp, write_table
from datasets import Dataset
from helpers import ROOT
from transformers import CLIPTokenizer

from muscall.data.fingerprint import describe_changes, fingerprint_corpus
from muscall.data.sources import load_corpus
from muscall.data.tracks import caption_id, check_readable, has_embeds, track_id
from muscall.data.windows import TrainingCollator, TrainingWindows
from muscall.training.losses import duplicate_mask


def test_several_captions(tmp_path):
    rows = make_tracks(tmp_path, "audio", range(4))
    as_lists = [{"audio": row["audio"], "captions": [row["caption"], "second"]} for row in rows]
    as_rows = rows + [{"audio": row["audio"], "caption": "second"} for row in rows]
    as_bytes = make_bytes(tmp_path, range(4))
    as_bytes += [{"audio": row["audio"], "caption": "second"} for row in as_bytes]
    for number, table in enumerate((as_lists, as_rows, as_bytes)):
        corpus = load_corpus(str(write_table(tmp_path / f"{number}.parquet", table)))
        assert [len(rows) for rows in corpus.values()] == [2, 1, 1]
        captions = sorted(captions for rows in corpus.values() for captions in rows["captions"])
        assert captions == [[f"tone number {index}", "second"] for index in range(4)]


def test_other_audio_under_the_same_name_is_another_track(tmp_path):
    rows = make_bytes(tmp_path, range(4))
    write_ramp(tmp_path / "longer.wav", 4, seconds=2)
    rows.append({"audio": {"bytes": (tmp_path / "longer.wav").read_bytes(), "path": "0.wav"}, "caption": "tone 4"})
    check(load_corpus(str(write_table(tmp_path / "corpus.parquet", rows))), trains=3)


def test_recordings_of_one_name_and_one_size_stay_apart(tmp_path):
    rows = make_bytes(tmp_path, range(20))
    rows = [{**row, "audio": {**row["audio"], "path": "audio.wav"}} for row in rows]
    rows += [{**rows[4], "caption": "tone number 4"}]
    corpus = load_corpus(str(write_table(tmp_path / "corpus.parquet", rows)))
    captions = sorted(row for split in corpus.values() for row in split["captions"])
    assert captions == sorted([f"tone number {n}"] * (2 if n == 4 else 1) for n in range(20))


def test_a_difference_in_the_middle_of_long_recordings_keeps_them_apart(tmp_path):
    long = bytes(500_000)
    contents = [long[:n] + b"1" + long[n + 1 :] for n in range(200_000, 200_010)]
    assert len({track_id(content) for content in contents}) == 1
    rows = [{"audio": {"bytes": content, "path": "audio.wav"}, "caption": "tone"} for content in contents]
    corpus = load_corpus(str(write_table(tmp_path / "corpus.parquet", rows)))
    assert sum(map(len, corpus.values())) == 10


def test_spellings_of_one_path_are_one_track(tmp_path):
    rows = make_tracks(tmp_path, "file_name", range(6))
    places = ("", "./", "clips/../", f"{tmp_path}/")
    rows = [{**row, "file_name": place + row["file_name"]} for row in rows for place in places]
    corpus = load_corpus(str(write_table(tmp_path / "corpus.jsonl", rows)))
    captions = sorted(row for split in corpus.values() for row in split["captions"])
    assert captions == [[f"tone number {number}"] * 4 for number in range(6)]


def test_files_whose_names_differ_in_their_unicode_form_only_are_two_tracks(tmp_path):
    rows = make_tracks(tmp_path, "file_name", range(6))
    for row, form in zip(rows, ("NFC", "NFD"), strict=False):
        name = unicodedata.normalize(form, "clips/café.wav")
        (tmp_path / row["file_name"]).rename(tmp_path / name)
        row["file_name"] = name
    check(load_corpus(str(write_table(tmp_path / "corpus.jsonl", rows))), trains=4)


def test_audio_columns_of_numbers_are_refused(tmp_path):
    rows = [{"file_name": number, "caption": "tone"} for number in range(6)]
    with pytest.raises(ValueError, match="`file_name` must hold paths, audio or bytes, got .*int64"):
        load_corpus(str(write_table(tmp_path / "corpus.csv", rows)))


@pytest.mark.parametrize(
    ("suffix", "captions"), [(".csv", 1980), (".jsonl", 1980), (".jsonl", [1980, 1981]), (".jsonl", {"a": "tone"})]
)
def test_captions_of_numbers_are_refused(tmp_path, suffix, captions):
    rows = [{**row, "caption": captions} for row in make_tracks(tmp_path, "file_name")]
    with pytest.raises(ValueError, match=r"\[train\], row 0: `caption` must be a caption or a list of captions"):
        load_corpus(str(write_table(tmp_path / f"corpus{suffix}", rows)))


def test_bytes_stay_on_disk(tmp_path):
    size = 2**20
    rows = [{"audio": {"bytes": bytes([n]) * size, "path": f"{n}.wav"}, "caption": f"tone {n}"} for n in range(30)]
    rows += [{**rows[0], "caption": "second"}]
    path = write_table(tmp_path / "corpus.parquet", rows)
    del rows
    load_corpus(str(path))  # the copy in the cache is made
    allocated = pa.total_allocated_bytes()
    tracemalloc.start()
    corpus = load_corpus(str(path))
    assert tracemalloc.get_traced_memory()[1] < 5 * size
    tracemalloc.stop()
    assert pa.total_allocated_bytes() - allocated < 5 * size
    assert len(corpus["train"][0]["bytes"]) == size


def test_columns(tmp_path):
    rows = [{**row, "title": "Piece", "text": "wrong"} for row in make_tracks(tmp_path, "audio")]
    check(load_corpus(str(write_table(tmp_path / "corpus.csv", rows))))  # audio and caption come before text
    renamed = [{"sound": row["audio"], "wording": row["caption"], "caption": "wrong"} for row in rows]
    path = str(write_table(tmp_path / "renamed.csv", renamed))
    check(load_corpus(path, audio_column="sound", caption_column="wording"))
    with pytest.raises(
        ValueError, match=r"no audio column \(audio, file_name, .*\).* columns: sound, wording, caption.*--audio"
    ):
        load_corpus(path)
    with pytest.raises(
        ValueError, match="no column `words`. Its columns: sound, wording, caption. .*--caption_column"
    ):
        load_corpus(path, audio_column="sound", caption_column="words")


@pytest.mark.parametrize("caption", ["", "  ", None, [], ["good", ""], ["good", None]])
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_empty_caption(tmp_path, suffix, caption):
    rows = make_bytes(tmp_path) if suffix == ".parquet" else make_tracks(tmp_path, "audio")
    if isinstance(caption, list):
        rows = [{**row, "caption": [row["caption"]]} for row in rows]
    rows[7]["caption"] = caption
    path = write_table(tmp_path / f"corpus{suffix}", rows)
    with pytest.raises(ValueError, match=r"corpus.* \[train\], row 7: `caption` must be a caption"):
        load_corpus(str(path))


def test_files_to_evaluate_are_checked_before_training(tracks):
    check_readable(tracks.select(range(6)), "test", RATE)
    with pytest.raises(ValueError, match=r"4 of the 10 test tracks cannot be read: .*6\.wav.*7\.wav.*8\.wav.*9\.wav"):
        check_readable(tracks, "test", RATE)


def test_equal_tracks_and_captions_have_equal_ids(tmp_path):
    noise = np.random.default_rng(0).normal(0, 0.1, 10 * RATE)
    sounds = {"a": noise, "copy": noise, "shorter": noise[:-1], "quiet": np.zeros(10), "other": noise[::-1]}
    for name, sound in sounds.items():
        soundfile.write(tmp_path / f"{name}.wav", sound, RATE)
    ids = {name: track_id(str(tmp_path / f"{name}.wav")) for name in sounds}
    assert ids["a"] == ids["copy"] and len(set(ids.values())) == len(sounds) - 1
    assert all(track_id((tmp_path / f"{name}.wav").read_bytes()) == ids[name] for name in sounds)
    assert caption_id("Calm  solo Piano") == caption_id("calm solo piano ") != caption_id("calm solo pianos")

    tracks = {"path": [str(tmp_path / f"{name}.wav") for name in ("a", "copy", "other")], "bytes": [None] * 3}
    tracks = Dataset.from_dict({**tracks, "captions": [["calm"], ["slow"], ["calm"]]})
    windows = TrainingWindows(tracks, RATE, RATE, seed=0)
    targets = TrainingCollator(CLIPTokenizer.from_pretrained(ROOT / "clip_tokenizer"))([windows[i] for i in range(3)])[
        "targets"
    ]
    assert duplicate_mask(**targets).tolist() == [[False, True, True], [True, False, False], [True, False, False]]


def test_stored_embeddings_stand_in_the_place_of_audio(tmp_path):
    corpus = load_corpus(str(write_embeds(tmp_path / "corpus", 4)))
    assert {split: len(rows) for split, rows in corpus.items()} == {"train": 24, "validation": 8, "test": 8}
    assert has_embeds(corpus["train"])
    check_readable(corpus["test"], "test", RATE)  # there is nothing to open
    windows = TrainingWindows(corpus["train"], RATE, RATE, seed=0)
    first, same, other = (windows[index] for index in (0, 4, 5))
    assert first["audio_embeds"].tolist() == [1, 0, 0, 0] and first["audio_embeds"].dtype == np.float32
    assert first["caption"] in ("kind 0", "a 0") and first["track_id"] == same["track_id"] != other["track_id"]
    batch = TrainingCollator(CLIPTokenizer.from_pretrained(ROOT / "clip_tokenizer"))([first, same, other])
    assert batch["inputs"]["audio_embeds"].shape == (3, 4) and "input_values" not in batch["inputs"]
    whole = load_corpus(str(tmp_path / "corpus" / "train.parquet"))  # without splits of its own
    assert [len(whole[split]) for split in ("train", "validation", "test")] == [20, 2, 2]


def test_other_embeddings_are_another_corpus(tmp_path):
    corpus = load_corpus(str(write_embeds(tmp_path / "first", 4)))
    other = load_corpus(str(write_embeds(tmp_path / "second", 4)))
    assert describe_changes(fingerprint_corpus(corpus), fingerprint_corpus(other)) == ""
    twice = [[2 * number for number in row] for row in other["train"]["audio_embeds"]]
    other["train"] = other["train"].remove_columns("audio_embeds").add_column("audio_embeds", twice)
    assert "audio of train are others" in describe_changes(fingerprint_corpus(corpus), fingerprint_corpus(other))


@pytest.mark.parametrize("bad", [[1.0], [0.0, 0.0], [1.0, float("nan")], None, "far"])
def test_embeddings_that_say_nothing_are_refused(tmp_path, bad):
    rows = [{"caption": "calm", "audio_embeds": [1.0, 2.0]}, {"caption": "loud", "audio_embeds": bad}]
    path = tmp_path / "corpus.json"
    if isinstance(bad, str):  # a column of texts
        rows[0]["audio_embeds"] = "near"
    write_table(path, rows if bad != [1.0, float("nan")] else [])
    if bad == [1.0, float("nan")]:
        path = write_table(tmp_path / "corpus.parquet", rows)
    with pytest.raises(ValueError, match="row [01]: `audio_embeds` must hold as many finite numbers as in row 0"):
        load_corpus(str(path))


def test_stored_embeddings_are_not_streamed(tmp_path):
    with pytest.raises(ValueError, match="has stored embeddings, which are read whole: it goes without streaming"):
        load_corpus(str(write_embeds(tmp_path, 4)), streaming=True)
