# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Small corpora of real files in every layout, whose samples say which track they are of."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

from muscall.data.windows import TrainingStream, TrainingWindows


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


def write_embeds(folder, size, splits=(("train", 24), ("validation", 8), ("test", 8))):
    """A corpus without audio: each row is of one of `size` kinds, its embedding says which, and so do its captions."""
    for split, count in splits:
        kinds = [number % size for number in range(count)]
        rows = [
            {"captions": [f"kind {kind}", f"a {kind}"], "audio_embeds": np.eye(size)[kind].tolist()} for kind in kinds
        ]
        write_table(folder / f"{split}.parquet", rows)
    return folder


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


def numbers_of(split):
    return sorted(int(caption.split()[-1]) for captions in split["captions"] for caption in captions)


def numbers_in(items):
    for item in items:
        assert item["unreadable"] == []
        assert int(item["input_values"][0] / 0.05 + 1e-3) == int(item["caption"].split()[-1])
    return [int(item["caption"].split()[-1]) for item in items]


class OnePass(TrainingStream):
    def __iter__(self):
        yield from self.one_pass(0)


def check(corpus, trains=8, others=1):
    """Every caption once and with its own track, whatever the layout."""
    assert [len(corpus[split]) for split in ("train", "validation", "test")] == [trains, others, others]
    assert sorted(sum((numbers_of(split) for split in corpus.values()), [])) == list(range(trains + 2 * others))
    for split in corpus.values():
        windows = TrainingWindows(split, RATE, RATE // 2, seed=0)
        for item in (windows[index] for index in range(len(split))):
            assert item["unreadable"] == []
            assert int(item["input_values"][0] / 0.05 + 1e-3) == int(item["caption"].split()[-1])
