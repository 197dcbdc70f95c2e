# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The open mix: what its table says, how captions come about, and one real package built, stopped and built again."""

import fnmatch
import shutil
import zipfile
from random import Random

import numpy as np
import pytest
import soundfile

from muscall.data.sources import load_splits
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
from scripts.open_mix.captions import WORDS, read_phrases, sure_words, write_captions, write_phrases


NOTHING = {"genre": [], "part": [], "mood": []}


def test_no_package_is_heard_in_training_and_held_out():
    splits = {}
    for row in read_table():
        splits.setdefault(row["package"], set()).add(row["split"])
        assert row["split"] == "-" or row["licence"], row
    for package, some in splits.items():
        assert "train" not in some or some <= {"train", "-"}, package
        assert "validation" not in some or some <= {"validation", "-"}, package
    assert {split for some in splits.values() for split in some} == {*FOLDERS, "-"}


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


def test_tags_that_the_tagger_is_sure_of():
    names = {name for _, _, tags in WORDS for name in tags.split(",")}
    tags = {name: np.full(20, 0.01) for name in names}
    tags["MTT:piano"] = np.linspace(0, 0.95, 20)
    tags["MTT:slow"] = np.where(np.arange(20) == 19, 0.4, 0.0)
    tags["MTT:fast"] = np.where(np.arange(20) == 19, 0.3, 0.0)
    tags["MTT:flute"] = np.where(np.arange(20) == 19, 0.09, 0.0)  # more than any other, and still unlikely
    training = np.arange(20) < 15  # the others have no say in the thresholds
    clips = sure_words(tags, training)
    assert [clip for clip in range(20) if "piano" in clips[clip]["part"]] == [13, 14, 15, 16, 17, 18, 19]
    assert clips[19] == {"genre": [], "part": ["piano"], "mood": ["slow"]}


def test_captions_say_what_is_known_in_various_words():
    words = {"genre": ["ambient", "electronic"], "part": ["piano", "strings", "a choir"], "mood": ["slow"]}
    captions = write_captions(["orchestral", "for a castle"], words, Random(0), count=30)
    assert len(captions) == len({caption.lower() for caption in captions}) == 30
    known = {"ambient", "electronic", "piano", "strings", "choir", "slow", "orchestral", "castle"}
    for caption in captions:
        said = set(caption.lower().replace(",", "").replace(".", "").split())
        assert said & known and said <= known | {"a", "an", "and", "with", "music", "track", "piece", "for"}, caption
        assert "a ambient" not in caption.lower() and "  " not in caption and "music music" not in caption
    assert write_captions([], NOTHING, Random(0)) == []
    assert write_captions(["for a castle"], NOTHING, Random(0)) == ["music for a castle"]


def test_phrases_are_of_known_words_and_say_nothing_of_what_is_absent():
    known = {word for word, _, _ in WORDS}
    phrases = read_phrases()
    assert {word for words in phrases for word in words} == known
    said = [phrase for some in phrases.values() for phrase in some]
    assert len(said) > 700 and all(phrase.strip() == phrase and phrase for phrase in said)
    assert not any({"no", "not", "without", "never"} & set(phrase.lower().split()) for phrase in said)


def test_phrases_were_not_taken_from_the_queries_that_measure_them():
    said = {phrase.lower() for some in read_phrases().values() for phrase in some}
    assert not said & {query.lower() for query, _ in read_queries()}


def test_phrases_of_what_holds_alone():
    phrases = read_phrases()
    allowed = {*phrases[("piano",)], *phrases[("slow",)], *phrases[("piano", "slow")]}
    captions = write_phrases({"piano", "slow", "a word without phrases"}, Random(0), 40)
    assert len(captions) > 25
    for caption in captions:
        rest = caption.lower()
        for phrase in sorted(allowed, key=len, reverse=True):
            rest = rest.replace(phrase.lower(), "")
        assert not rest.strip(" ,."), caption
    assert any(phrase in caption for caption in captions for phrase in phrases[("piano", "slow")])
    assert write_phrases(set(), Random(0), 40) == []


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
    assert open_mix._named({"captions": ["Slow jazz.", "an acid jazz, piano; slow"]}) == ["jazz", "piano", "slow"]


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
    again = build(tmp_path / "mix", tmp_path / "cache", ["amoebax-data"])
    assert again == rows
    assert sum(path.stat().st_mtime_ns != time for path, time in files.items()) <= 4  # one track
