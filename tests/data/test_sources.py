# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Corpora in every layout, and the windows and captions that training takes from them; on small real files."""

import io
import json
import tarfile
import tracemalloc
from pathlib import Path

import datasets
import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from datasets import Audio, Dataset, IterableDataset
from torch.utils.data import DataLoader
from transformers import CLIPTokenizer

from muscall.data.sources import load_corpus, mix_corpora
from muscall.data.tracks import caption_id, check_readable, track_id
from muscall.data.windows import TrainingCollator, TrainingStream, TrainingWindows
from muscall.training.losses import duplicate_mask


ROOT = Path(__file__).parents[2]
RATE = 8000
NUM_TRACKS = 10


def write_ramp(path, index, seconds=1.0):
    """A track whose samples say which track they are of, and where they are in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = index * 0.05 + 0.05 * np.arange(round(seconds * RATE)) / (10 * RATE)
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    return samples.astype(np.float32)


def write_table(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        path.unlink(missing_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        pandas.DataFrame(rows).to_csv(path, index=False)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def make_tracks(folder, column="file_name", numbers=range(NUM_TRACKS)):
    for number in numbers:
        write_ramp(folder / "clips" / f"{number}.wav", number)
    return [{column: f"clips/{number}.wav", "caption": f"tone number {number}"} for number in numbers]


def make_bytes(folder, numbers=range(NUM_TRACKS), paths=True):
    rows = make_tracks(folder / "source", "audio", numbers)
    for row in rows:
        content = (folder / "source" / row["audio"]).read_bytes()
        row["audio"] = {"bytes": content, "path": Path(row["audio"]).name if paths else None}
    return rows


def numbers_of(split):
    return sorted(int(caption.split()[-1]) for captions in split["captions"] for caption in captions)


def check(corpus, trains=8, others=1):
    """Every caption once and with its own track, whatever the layout."""
    assert [len(corpus[split]) for split in ("train", "validation", "test")] == [trains, others, others]
    assert sorted(sum((numbers_of(split) for split in corpus.values()), [])) == list(range(trains + 2 * others))
    for split in corpus.values():
        windows = TrainingWindows(split, RATE, RATE // 2, seed=0)
        for item in (windows[index] for index in range(len(split))):
            assert item["unreadable"] == []
            assert int(item["input_values"][0] / 0.05 + 1e-3) == int(item["caption"].split()[-1])


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


@pytest.fixture(scope="module")
def tracks(tmp_path_factory):
    """Six good tracks of 0.2 to 10 s, then a corrupt, an empty, a zero-length and a missing one."""
    folder = tmp_path_factory.mktemp("tracks")
    for number, seconds in enumerate((0.2, 0.5, 1, 2, 5, 10)):
        write_ramp(folder / f"{number}.wav", number + 1, seconds)
    (folder / "6.wav").write_bytes(b"RIFF, but no more than that")
    (folder / "7.wav").write_bytes(b"")
    soundfile.write(folder / "8.wav", np.zeros(0), RATE)
    rows = {"path": [str(folder / f"{number}.wav") for number in range(10)], "bytes": [None] * 10}
    return Dataset.from_dict({**rows, "captions": [[f"first {n}", f"second {n}", f"third {n}"] for n in range(10)]})


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


def test_files_to_evaluate_are_checked_before_training(tracks):
    check_readable(tracks.select(range(6)), "test", RATE)
    with pytest.raises(ValueError, match=r"4 of the 10 test tracks cannot be read: .*6\.wav.*7\.wav.*8\.wav.*9\.wav"):
        check_readable(tracks, "test", RATE)


def test_collator_pads_to_the_longest_and_keeps_the_end_of_text():
    tokenizer = CLIPTokenizer.from_pretrained(ROOT / "clip_tokenizer")
    window = {"input_values": np.zeros(RATE, np.float32), "track_id": 5, "unreadable": [(3, "3.wav: gone")]}
    batch = TrainingCollator(tokenizer)([{**window, "caption": text} for text in ("piano", "calm solo piano")])
    inputs = batch["inputs"]
    assert inputs["input_ids"].shape == (2, 5) and inputs["attention_mask"].sum(1).tolist() == [3, 5]
    assert inputs["input_values"].shape == (2, RATE) and batch["unreadable"] == [(3, "3.wav: gone")] * 2
    inputs = TrainingCollator(tokenizer)([{**window, "caption": "piano " * 2000}])["inputs"]
    assert inputs["input_ids"].shape == (1, 77) and inputs["input_ids"][0, -1] == tokenizer.eos_token_id


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


def write_tars(folder, num_shards=4, captions="json"):
    """WebDataset: training samples over several tars, one sample in each of the other splits."""
    folder.mkdir(parents=True, exist_ok=True)
    shards = {f"train-{shard:04d}": range(shard, 8, num_shards) for shard in range(num_shards)}
    for name, numbers in {**shards, "validation-0000": [8], "test-0000": [9]}.items():
        with tarfile.open(folder / f"{name}.tar", "w") as tar:
            for number in numbers:
                write_ramp(folder / "ramp.wav", number)
                caption = f"tone number {number}"
                text = json.dumps({"caption": caption, "licence": "CC0-1.0"}) if captions == "json" else caption
                for extension, content in (("wav", (folder / "ramp.wav").read_bytes()), (captions, text.encode())):
                    member = tarfile.TarInfo(f"sample{number // num_shards}.{extension}")  # unique in its tar
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    (folder / "ramp.wav").unlink()


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


def write_stream(tmp_path, layout, num_shards=4):
    if layout == "tars":
        write_tars(tmp_path, num_shards)
    elif layout == "parquet":
        for shard in range(num_shards):
            numbers = range(shard, 8, num_shards)
            name = f"train-{shard:05d}-of-{num_shards:05d}.parquet"
            write_table(tmp_path / "data" / name, make_bytes(tmp_path / f"{shard}", numbers))
        for split, number in (("validation", 8), ("test", 9)):
            name = f"{split}-00000-of-00001.parquet"
            write_table(tmp_path / "data" / name, make_bytes(tmp_path / split, [number]))
    else:
        for split, numbers in (("train", range(8)), ("validation", [8]), ("test", [9])):
            write_table(tmp_path / split / "metadata.jsonl", make_tracks(tmp_path / split, numbers=numbers))
    return str(tmp_path)


def numbers_in(items):
    for item in items:
        assert item["unreadable"] == []
        assert int(item["input_values"][0] / 0.05 + 1e-3) == int(item["caption"].split()[-1])
    return [int(item["caption"].split()[-1]) for item in items]


@pytest.fixture(autouse=True)
def no_sleep(monkeypatch):
    """`datasets` sleeps for seconds at the end of each pass over parquet, for the sake of a bug at exit."""
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0)


class OnePass(TrainingStream):
    def __iter__(self):
        yield from self.one_pass(0)


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


def test_streams_that_cannot_be(tmp_path):
    write_table(tmp_path / "corpus.jsonl", make_tracks(tmp_path, "audio"))
    with pytest.raises(ValueError, match="a streamed corpus must bring its own test and validation split"):
        load_corpus(str(tmp_path / "corpus.jsonl"), streaming=True)
    folder = write_stream(tmp_path / "parquet", "parquet")
    with pytest.raises(ValueError, match=r"\[train\] has no column `words`. Its columns: audio, caption"):
        load_corpus(folder, caption_column="words", streaming=True)


def test_mixtures(tmp_path):
    for name, numbers in (("large", range(8)), ("small", [8, 9])):
        rows = make_tracks(tmp_path / name, numbers=numbers)
        for split, part in (("train", rows), ("validation", rows[:1]), ("test", rows[-1:])):
            write_table(tmp_path / name / f"{split}.jsonl", part)
    corpora = []
    for name in ("large", "small"):
        splits = {}
        for split in ("train", "validation", "test"):
            file = tmp_path / name / f"{split}.jsonl"
            (tmp_path / name / split).mkdir()
            rows = [json.loads(line) for line in file.read_text().splitlines()]
            rows = [{**row, "file_name": f"../{row['file_name']}"} for row in rows]
            splits[split] = write_table(tmp_path / name / split / "metadata.jsonl", rows)
        corpora.append(load_corpus(str(tmp_path / name)))

    whole = mix_corpora(corpora, None, seed=0)
    assert numbers_of(whole["train"]) == list(range(10))
    assert (numbers_of(whole["validation"]), numbers_of(whole["test"])) == ([0, 8], [7, 9])
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
