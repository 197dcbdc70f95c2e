# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The default corpus: its captions are true of its clips, and a build is exact, repeatable and can be interrupted."""

import importlib.util
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections import Counter, defaultdict
from importlib.util import find_spec
from pathlib import Path

import datasets
import numpy as np
import pytest
import soundfile

import corpus.build
from corpus.build import (
    CORPUS,
    DATASETS,
    LEVEL,
    PART_SECONDS,
    PEAK,
    RATE,
    SAMPLES,
    SPLITS,
    build_corpus,
    build_file,
    find_soundfont,
    read_rows,
    resolve_dataset,
)


REPO = CORPUS.parent
ROWS = read_rows()
MMA = [row for row in ROWS if row["source"] == "mma"]


@pytest.fixture(scope="module")
def midi():
    with zipfile.ZipFile(CORPUS / "mma" / "midi.zip") as archive:
        yield archive


def sounding(midi, clip_id):
    """(channel, program) -> number of notes that start in the first 20 s, read with a parser of its own."""
    data = midi.read(f"{clip_id}.mid")
    ticks_per_beat, tempo, notes, events = int.from_bytes(data[12:14], "big"), 500_000, defaultdict(int), []
    at = 14
    while at < len(data):
        end, now, status, programs = at + 8 + int.from_bytes(data[at + 4 : at + 8], "big"), 0, 0, {}
        stream = io.BytesIO(data[at + 8 : end])

        def variable(stream=stream):
            value = 0
            while True:
                byte = stream.read(1)[0]
                value = value << 7 | byte & 127
                if byte < 128:
                    return value

        while stream.tell() < end - at - 8:
            now += variable()
            byte = stream.read(1)[0]
            if byte == 0xFF:
                kind, payload = stream.read(1)[0], stream.read(variable())
                tempo = int.from_bytes(payload, "big") if kind == 0x51 else tempo
                continue
            first = stream.read(1)[0] if byte >= 0x80 else byte
            status = byte if byte >= 0x80 else status
            channel, kind = status & 15, status & 0xF0
            second = 0 if kind in (0xC0, 0xD0) else stream.read(1)[0]
            if kind == 0xC0:
                programs[channel] = first
            elif kind == 0x90 and second:
                events.append((now, channel, programs.get(channel, 0), first))
        at = end
    for now, channel, program, pitch in events:
        if now * tempo / 1e6 / ticks_per_beat < 20:
            notes[(channel, pitch if channel == 9 else program)] += 1
    return notes


def metadata(folder):
    rows = []
    for split in SPLITS:
        lines = (folder / split / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
        rows += [{**json.loads(line), "split": split} for line in lines]
    return rows


def test_counts_ids_and_captions():
    assert len(MMA) >= 1000
    assert len({row["family"] for row in MMA}) >= 60
    assert len({row["id"] for row in ROWS}) == len(ROWS) == len({row["path"] for row in ROWS})
    assert [row["id"] for row in ROWS] == sorted(row["id"] for row in ROWS)
    for row in ROWS:
        assert 2 <= len(row["captions"]) <= 5, row["id"]
        assert all(caption == caption.strip() and len(caption) > 5 for caption in row["captions"]), row["id"]
        assert row["path"].split("/")[0] == row["split"] and row["split"] in SPLITS
        assert row["caption_source"] in ("human", "metadata", "pseudo")
        assert all(row[name] for name in ("title", "artist", "licence", "family")), row["id"]


def test_no_family_crosses_splits():
    splits = defaultdict(set)
    for row in ROWS:
        splits[(row["source"], row["family"])].add(row["split"])
    assert all(len(names) == 1 for names in splits.values()), splits
    for name, low, high in (("train", 0.7, 0.85), ("validation", 0.07, 0.16), ("test", 0.07, 0.16)):
        assert low < sum(split == {name} for (source, _), split in splits.items() if source == "mma") / 105 < high


def test_captions_vary():
    seen = [caption.lower() for row in MMA for caption in row["captions"]]
    assert 1 - len(set(seen)) / len(seen) < 0.05
    shapes = {re.sub(r"\d+", "0", caption) for caption in seen}
    assert len(shapes) > 0.9 * len(seen)


@pytest.mark.parametrize(
    ("word", "programs"),
    [
        ("flute", {73}),
        ("accordion", {21}),
        ("trumpet", {56, 59}),
        ("harmonica", {22}),
        ("banjo", {105}),
        ("violin", {40}),
    ],
)
def test_a_named_instrument_sounds(midi, word, programs):
    naming = [row for row in MMA if any(re.search(rf"(?<!pan ){word}\b", c, re.I) for c in row["captions"])]
    assert len(naming) >= 8
    for row in naming:
        notes = sounding(midi, row["id"])
        assert sum(n for (channel, p), n in notes.items() if channel != 9 and p in programs) >= 4, row["id"]


def test_drums_and_their_absence_are_true(midi):
    for row in MMA:
        hits = sum(n for (channel, _), n in sounding(midi, row["id"]).items() if channel == 9)
        text = " ".join(row["captions"]).lower()
        if re.search(r"without drums|no drums|without percussion|unaccompanied|played alone", text):
            assert hits == 0, row["id"]
        elif re.search(r"\bdrums\b(?<!steel drums)|drum kit|drum beat", text):
            assert hits >= 16, row["id"]


def test_metre_words_are_true():
    words = {"3/4": r"waltz time|three-four|3/4", "6/8": r"6/8|six-eight", "5/4": r"5/4|five-four"}
    for row in MMA:
        for metre, pattern in words.items():
            if row["metre"] != metre:
                assert not re.search(pattern, " ".join(c for c in row["captions"])) or metre in str(row["genres"])


@pytest.mark.slow
def test_rendering_is_exact_audible_and_repeatable(tmp_path):
    eight = read_rows(8)
    first, again = build_corpus(tmp_path / "a", eight, num_workers=1), build_corpus(tmp_path / "b", eight)
    rows = metadata(first)
    assert len(rows) == 8 and {row["split"] for row in rows} == set(SPLITS)
    for row in rows:
        path = Path(row["split"], row["file_name"])
        assert (first / path).read_bytes() == (again / path).read_bytes()
        if row["source"] == "mma":
            wave, rate = soundfile.read(first / path)
            rms = 20 * np.log10(np.sqrt(np.mean(wave**2)))
            assert rate == RATE and wave.shape == (SAMPLES,)
            assert np.abs(wave).max() <= PEAK + 2**-15 and LEVEL - 12 < rms < LEVEL + 0.1
    assert (first / "test/metadata.jsonl").read_bytes() == (again / "test/metadata.jsonl").read_bytes()


@pytest.fixture(scope="module")
def nine_clips(tmp_path_factory):
    return build_corpus(tmp_path_factory.mktemp("nine"), read_rows(9))


@pytest.mark.slow
def test_a_stale_or_broken_clip_is_rendered_again_and_others_are_not(nine_clips, tmp_path):
    out = shutil.copytree(nine_clips, tmp_path / "corpus")
    stale, kept = [out / row["split"] / row["file_name"] for row in metadata(out) if row["source"] == "mma"][:2]
    good, mtime = stale.read_bytes(), kept.stat().st_mtime_ns
    stale.write_bytes(good[: len(good) // 2])
    with soundfile.SoundFile(moved := out / "train" / "mma-999999.flac", "w", RATE, 1) as file:
        file.write(np.zeros(10))
    # Left behind by a build that died: as `replace_file` names a file in work, and as builds before it did.
    dead = [out / "train" / name for name in (".mma-000001.1.part.flac", ".mma-000001.flac.1.part")]
    for path in dead:
        path.write_bytes(b"half")
        os.utime(path, (time.time() - 2 * PART_SECONDS,) * 2)
    build_corpus(out, read_rows(9))
    assert stale.read_bytes() == good and kept.stat().st_mtime_ns == mtime
    assert not any(path.exists() for path in dead) and not moved.exists()


@pytest.mark.slow
@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_build_loses_no_finished_clip(tmp_path, blow):
    command = [sys.executable, "-m", "corpus.build", "--output_dir", str(tmp_path)]
    build = subprocess.Popen(
        [*command, "--limit", "14", "--num_workers", "1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=REPO,
        start_new_session=True,
        # A shell starts its background jobs, perhaps this test run, with Ctrl-C ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("*/mma-*.flac"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    build.send_signal(signal.SIGINT) if blow == signal.SIGINT else os.killpg(build.pid, blow)
    assert build.wait(timeout=60) != 0
    finished = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/mma-*.flac")}
    assert 3 <= len(finished) < 12 and not list(tmp_path.glob("*/metadata.jsonl"))
    assert all(soundfile.info(path).frames == SAMPLES for path in finished)
    build_corpus(tmp_path, read_rows(14))
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    rows = metadata(tmp_path)
    assert len(rows) == 14
    for row in rows:
        assert (tmp_path / row["split"] / row["file_name"]).exists()
        assert row["captions"] and "path" not in row
    assert blow == signal.SIGKILL or not list(tmp_path.rglob("*.part*"))


@pytest.mark.slow
def test_the_folder_loads_with_datasets(nine_clips, tmp_path):
    files = {split: str(nine_clips / split / "metadata.jsonl") for split in SPLITS}
    loaded = datasets.load_dataset("json", data_files=files, cache_dir=str(tmp_path / "cache"))
    assert sum(map(len, loaded.values())) == 9
    assert loaded["train"].features == loaded["validation"].features == loaded["test"].features
    assert isinstance(loaded["test"][0]["captions"], list) and isinstance(json.loads(loaded["test"][0]["facts"]), dict)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("torchcodec") is None, reason="the audiofolder builder of datasets needs torchcodec")
def test_the_folder_is_an_audiofolder(nine_clips, tmp_path):
    loaded = datasets.load_dataset("audiofolder", data_dir=str(nine_clips), cache_dir=str(tmp_path / "cache"))
    row = loaded["train"].cast_column("audio", datasets.Audio(decode=False))[0]
    assert sum(map(len, loaded.values())) == 9 and row["audio"]["path"].endswith(".flac")


def test_limit_takes_a_balanced_subset():
    few, more = read_rows(40), read_rows(200)
    assert {row["id"] for row in few} <= {row["id"] for row in more}
    assert {row["split"] for row in few} == set(SPLITS)
    assert len({row["family"] for row in few}) >= 35
    with pytest.raises(ValueError, match="limit must be at least 1"):
        read_rows(0)


def test_the_default_dataset_has_six_training_clips_of_each_style_file_and_all_other_clips():
    rows = read_rows(train_clips=DATASETS["default"])
    assert [row for row in rows if row["split"] != "train"] == [row for row in ROWS if row["split"] != "train"]
    rendered = Counter(row["family"] for row in rows if row["split"] == "train" and row["source"] == "mma")
    assert len(rendered) == 81 and set(rendered.values()) == {6}
    assert [row for row in rows if row["source"] == "produced"] == [row for row in ROWS if row["source"] == "produced"]
    assert len(rows) == 893


def test_fewer_training_clips_are_among_more():
    few, more = ({row["id"] for row in read_rows(train_clips=number)} for number in (2, 6))
    assert few < more


def test_the_names_of_the_datasets_stand_for_built_folders(monkeypatch):
    monkeypatch.setattr(corpus.build, "build_corpus", lambda folder, rows: f"{folder.name} of {len(rows)} clips")
    assert resolve_dataset("default") == "default of 893 clips"
    assert resolve_dataset("default-full") == f"default-full of {len(ROWS)} clips"
    assert resolve_dataset("my/corpus") == "my/corpus"


@pytest.mark.slow
def test_a_clip_that_another_dataset_has_is_copied(nine_clips, tmp_path):
    twin = min(nine_clips.glob("train/*.flac"))
    with soundfile.SoundFile(twin) as file:
        fingerprint = file.comment
    build_file(tmp_path / "clip.flac", b"nothing to render", fingerprint, find_soundfont(), [twin])
    assert (tmp_path / "clip.flac").read_bytes() == twin.read_bytes()


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "midirenderer" else find_spec(name))
    with pytest.raises(ImportError, match="pip install midirenderer$"):
        find_soundfont()
