# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The open mix: what its table says, how tracks are cut, and one real package built, stopped and built again."""

import fnmatch
import shutil
import zipfile

import numpy as np
import pytest
import soundfile

from muscall.data.sources import load_splits


pytest.importorskip("mutagen", reason='the open mix needs: pip install -e ".[dev]"')

from scripts.open_mix import build as open_mix
from scripts.open_mix.build import (
    CLIP_SECONDS,
    FOLDERS,
    RATE,
    Track,
    build,
    cut,
    find_tracks,
    read_queries,
    read_table,
    readable_title,
)


def test_no_package_is_heard_in_training_and_held_out():
    splits = {}
    for row in read_table():
        splits.setdefault(row["package"], set()).add(row["split"])
        assert row["split"] == "-" or row["licence"], row
    for package, names in splits.items():
        assert "train" not in names or names <= {"train", "-"}, package
        assert "validation" not in names or names <= {"validation", "-"}, package
    assert {split for names in splits.values() for split in names} == {*FOLDERS, "-"}


def test_queries_mean_held_out_tracks():
    splits = {}
    for row in read_table():
        splits.setdefault(row["package"], set()).add(row["split"])
    queries = read_queries()
    assert len(queries) == len({query for query, _ in queries}) >= 60
    for query, patterns in queries:
        assert ";" not in query
        for package in (pattern.partition(":")[0] for pattern in patterns):
            meant = [name for name in splits if fnmatch.fnmatchcase(name, package)]
            assert meant and not any("train" in splits[name] for name in meant), (query, package)


def test_tracks_of_folders_and_archives_the_first_row_decides(tmp_path):
    root = tmp_path / "game-data" / "music"
    root.mkdir(parents=True)
    for name in ("a.ogg", "b.ogg", "skipped.ogg", "notes.txt"):
        (root / name).write_bytes(b"x")
    with zipfile.ZipFile(root / "more.pk3", "w") as archive:
        archive.writestr("music/c.ogg", b"x")
    rows = [
        {"files": "*skipped*", "split": "-"},
        {"files": "*b.ogg", "split": "test"},
        {"files": "*", "split": "train"},
    ]
    tracks = find_tracks("game-data", rows, tmp_path)
    assert {track.path: track.row["split"] for track in tracks} == {
        "music/a.ogg": "train",
        "music/b.ogg": "test",
        "music/more.pk3!music/c.ogg": "train",
    }
    assert len({track.id for track in tracks}) == 3


@pytest.mark.parametrize(
    ("seconds", "split", "clips"), [(19, "train", 0), (65, "train", 3), (400, "train", 8), (65, "test", 1)]
)
def test_clips_do_not_overlap(tmp_path, seconds, split, clips):
    """The track counts its own samples, so that each clip tells where it was taken from."""
    (tmp_path / "package").mkdir()
    ramp = (np.arange(seconds * RATE) / (seconds * RATE)).astype(np.float32) * 0.9
    ramp *= np.sign(np.sin(np.arange(len(ramp))))
    soundfile.write(tmp_path / "package" / "a.flac", ramp, RATE, subtype="PCM_24")
    for folder in FOLDERS.values():
        (tmp_path / folder).mkdir(parents=True)
    row = {"split": split, "stems": "", "artist": "", "words": "orchestral; for a castle", "licence": "CC0"}
    rows = cut(Track("package", "a.flac", row), tmp_path, tmp_path)
    assert len(rows) == clips
    files = sorted((tmp_path / FOLDERS[split]).glob("*.flac"))
    assert [soundfile.info(file).frames for file in files] == [round(row["seconds"] * RATE) for row in rows]
    # Normalised by their last, and largest, sample: the ratio of the first to it is that of their times.
    ends = []
    for file in files:
        samples = np.abs(soundfile.read(file)[0])
        first, size = samples[0] / samples[-1], len(samples)
        ends.append((first * size / (1 - first), size / (1 - first)))  # in samples
    for (_, end), (start, _) in zip(ends[:-1], ends[1:], strict=True):
        assert start > end - 0.02 * RATE * CLIP_SECONDS
    assert all(row["facts"] == ["orchestral", "for a castle"] for row in rows)


def test_stems_are_mixed(tmp_path):
    (tmp_path / "package").mkdir()
    time = np.arange(21 * RATE) / RATE
    for name, hertz in (("song", 200), ("guitar", 1000)):
        soundfile.write(tmp_path / "package" / f"{name}.flac", 0.2 * np.sin(2 * np.pi * hertz * time), RATE)
    (tmp_path / FOLDERS["unseen"]).mkdir(parents=True)
    row = {"split": "unseen", "stems": "guitar.flac", "artist": "", "words": "", "licence": "CC0"}
    (clip,) = cut(Track("package", "song.flac", row), tmp_path, tmp_path)
    samples, _ = soundfile.read(tmp_path / FOLDERS["unseen"] / clip["file_name"])
    spectrum = np.abs(np.fft.rfft(samples[:RATE]))
    assert spectrum[200] == pytest.approx(spectrum[1000], rel=0.01) and spectrum[200] > 100 * spectrum[600]


@pytest.mark.parametrize(
    ("title", "readable"),
    [
        ("03_DarkCastle_v2", "Dark Castle"),
        ("Battle Epic", "Battle Epic"),
        ("The Sky Clears (demo) [2019]", "The Sky Clears"),
        ("track13", ""),
        ("music-level-4", ""),
        ("007", ""),
    ],
)
def test_titles_that_say_something(title, readable):
    assert readable_title(title) == readable


def test_the_datasheet_counts_clips_that_name_a_style():
    assert open_mix.named_words({"captions": ["Slow jazz.", "an acid jazz, piano; slow"]}) == ["jazz", "piano", "slow"]


def test_bad_input(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="tracks.csv has no package nothing-like-it"):
        build(tmp_path / "mix", tmp_path / "cache", ["nothing-like-it"])
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(OSError, match="fetching asc-music needs Debian's apt-get and dpkg-deb"):
        build(tmp_path / "mix", tmp_path / "cache", ["asc-music"])


@pytest.mark.slow
def test_a_real_package(tmp_path, monkeypatch):
    if not shutil.which("apt-get"):
        pytest.skip("no Debian")
    try:
        rows = build(tmp_path / "mix", tmp_path / "cache", ["amoebax-data"])
    except OSError as error:
        pytest.skip(f"no packages: {error}")
    assert len(rows["train"]) > 15 and not rows["test"]
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "mix").rglob("*.flac")}
    assert len(files) == len(rows["train"]) == len(list((tmp_path / "mix").rglob(".*.tags.npy")))
    splits, _ = load_splits(str(tmp_path / "mix" / "main"), None)
    columns = set(splits["train"].column_names)
    assert {"captions", "caption_source", "licence", "title", "artist", "family", "queries"} <= columns
    assert all(row["captions"] for row in rows["train"])
    assert {row["artist"] for row in rows["train"]} == {"Àlex Almarza"}
    assert "Free-Art-License-1.2 | 8" in (tmp_path / "mix" / "README.md").read_text()

    last = max(files)  # as if the build had been stopped before it
    family = next(row["family"] for row in rows["train"] if row["file_name"] == last.name)
    last.unlink()
    (last.parent / f".{family}.json").unlink()
    monkeypatch.setattr(open_mix, "fetch_wheel", lambda cache_dir: tmp_path / "cache" / "musicnn")
    again = build(tmp_path / "mix", tmp_path / "cache", ["amoebax-data"], num_workers=1)  # for one track
    assert again == rows
    assert sum(path.stat().st_mtime_ns != time for path, time in files.items()) <= 4  # one track
