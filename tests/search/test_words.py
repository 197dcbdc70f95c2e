# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""What is written about tracks: how it is cleaned, kept in step with the index, and searched."""

import logging
import shutil
from pathlib import Path

import pytest
from helpers import PRODUCED


pytest.importorskip("muscall.search")

import mutagen

import muscall.search.query
import muscall.search.store
from muscall.search.indexing import forget
from muscall.search.query import Library
from muscall.search.store import Store
from muscall.search.tags import TAG_NAMES, read_comment
from muscall.search.words import clean_name, describe_track, is_described, without_suffix


@pytest.fixture
def numbered(tmp_path):
    """A folder of clips of which nothing is written."""
    (tmp_path / "music").mkdir()
    for number, source in enumerate(PRODUCED[::9][:6]):
        shutil.copy(source, tmp_path / "music" / f"{number:02}.opus")
    return tmp_path / "music"


def names(answers):
    return [Path(answer["track"]).stem for answer in answers]


@pytest.mark.parametrize(
    "name, expected",
    [
        ("01 - So What", "So What"),
        ("1-03 Miles_Davis - Blue in Green", "Miles Davis Blue in Green"),
        ("A1. Intro", "Intro"),
        ("U2 - One", "U2 One"),
        ("07. Hip-Hop", "Hip Hop"),
        ("rybky04", "rybky04"),
        ("日本語", "日本語"),
        ("Cafe\u0301", "Caf\u00e9"),
        ("song-f27473db-48d94519", "song"),
        *((name, "") for name in ("Track 03", "003", "unknown artist", "d4f5e6a7b8c9", "CD 2", "", "...")),
    ],
)
def test_names_are_cleaned(name, expected):
    assert clean_name(name) == expected


def test_a_description_says_each_thing_once():
    facts = dict.fromkeys(TAG_NAMES) | {"track": "/m/Jazz/Miles Davis/Kind of Blue/01 So What.flac"}
    assert describe_track(facts, None, "/m") == ("So What", "Miles Davis, Kind of Blue")
    facts |= {"title": "Freddie Freeloader", "artist": "Miles Davis", "year": 1959}
    assert describe_track(facts, "a take", "/m") == ("Freddie Freeloader", "Miles Davis, 1959, a take, Kind of Blue")
    assert is_described(facts, None)


def test_folders_alone_are_no_description():
    facts = dict.fromkeys(TAG_NAMES) | {"track": "/m/Miles Davis/01.flac"}
    assert describe_track(facts, None, "/m") == ("", "Miles Davis") and not is_described(facts, None)


def test_suffixes_of_audio_files_are_no_words():
    assert [without_suffix(text) for text in (".ogg", "a.mp3.ogg ", "Mr. Mp3")] == ["", "a", "Mr. Mp3"]


def test_comments_are_read(tmp_path):
    path = str(shutil.copy(PRODUCED[0], tmp_path / "a.opus"))
    assert read_comment(path) is None
    file = mutagen.File(path)
    file["description"] = "live"
    file.save()
    assert read_comment(path) == "live"


@pytest.mark.parametrize(
    "sentence, expected",
    [
        ("blue trains", "0"),  # stems
        ("BLUE", "0"),
        ("夜", "1"),
        ("夜に駆ける", "1"),
        ("песня друге", "2"),
        ("cafe", "3"),
        ("the who", "4"),
        ("rudy's", "0"),
        ("miles davis", "5"),  # of its folder
        ('jazz AND (blue " :', ""),
        ("blue café", ""),  # not all words
    ],
)
def test_words_are_found_in_all_scripts(titled, sentence, expected):
    tracks = {facts["hash"]: Path(facts["track"]).stem for facts in titled.store.described_tracks()}
    assert [tracks[digest] for digest in titled.store.search_words(sentence, 10)] == list(expected)
    answers = titled.search(sentence, k=6)
    assert {Path(answer["track"]).stem for answer in answers if "words" in answer["parts"]} == set(expected)
    assert all(abs(sum(answer["parts"].values()) - 1) < 0.01 for answer in answers)


def test_by_words_answers_are_tracks_with_words(titled):
    answers = titled.search("miles davis", by="words")
    assert names(answers)[0] == "5" and answers[0]["parts"] == {"words": 1.0}
    assert sorted(names(answers)) == list("012345")
    assert sorted(names(titled.search("blue", by="words"))) == list("01234")  # the last has no description
    assert all(answer["end"] > answer["start"] >= 0 for answer in answers)


def test_a_long_query(titled):
    for by in ("both", "words"):
        assert len(titled.search("blue train " * 1000, by=by)) >= 5
        assert len(titled.search("x" * 10_000, by=by)) >= 5


def test_filters_hold_for_words(titled):
    assert names(titled.search("blue train", where="title like 'caf%'")) == ["3"]
    assert names(titled.search("blue train", where="title like 'caf%'", by="words")) == ["3"]


def test_few_candidates_lead_to_the_same_answers(titled, monkeypatch):
    expected = {by: titled.search("blue train", k=2, by=by) for by in ("both", "words")}
    monkeypatch.setattr(muscall.search.query, "CANDIDATES", 1)
    for by, answers in expected.items():
        assert [answer["hash"] for answer in titled.search("blue train", k=2, by=by)] == [
            answer["hash"] for answer in answers
        ]
        assert len(titled.search("blue train", k=1, by=by)) == 1


def test_a_library_without_tags_is_ranked_by_sound(index, numbered):
    library = Library(index(numbered)[0].uri)
    for sentence in ("calm piano", "fast samba", "01", "x" * 10_000):
        both, sound = library.search(sentence), library.search(sentence, by="sound")
        assert [answer | {"parts": None} for answer in both] == [answer | {"parts": None} for answer in sound]
        assert library.search(sentence, by="words") == []


def test_an_older_index_is_searched_by_sound_and_brought_up_to_date(index, numbered, monkeypatch, caplog):
    (numbered / "00.opus").rename(numbered / "blue train.opus")
    with monkeypatch.context() as context:
        context.setattr(muscall.search.store, "FORMAT", 1)
        uri = index(numbered)[0].uri
    shutil.rmtree(Path(uri, "words.lance"))
    library = Library(uri)
    with caplog.at_level(logging.WARNING, logger="muscall"):
        assert library.search("blue train") == library.search("blue train", by="sound")
    assert caplog.text.count("search.py index FOLDER brings it up to date, and embeds no track again") == 1
    with pytest.raises(ValueError, match="is older than the search of words: search.py index FOLDER"):
        library.search("blue train", by="words")

    def refuse(self, input_values):
        raise AssertionError("audio was embedded again")

    monkeypatch.setattr("muscall.encoder.MusCALLEncoder.embed_windows", refuse)
    assert "what is written about 6 tracks was added" in index(numbered)[1]
    assert names(library.search("blue train", by="words")) == ["blue train"]  # the library that was open all the time


def test_words_follow_moved_changed_and_deleted_tracks(index, numbered):
    (numbered / "00.opus").rename(numbered / "blue train.opus")
    uri = index(numbered)[0].uri
    (numbered / "blue train.opus").rename(numbered / "green river.opus")
    (numbered / "01.opus").unlink()
    index(numbered)
    store = Store.open(uri)
    assert store.search_words("blue train", 5) == [] and len(store.search_words("green river", 5)) == 1
    assert {track for track, _ in store.tracks_with_words()} == set(store.tracks())
    forget(uri, numbered / "green river.opus")
    assert Store.open(uri).search_words("green river", 5) == []


def test_words_that_a_stopped_run_left_out_are_added(index, numbered, monkeypatch):
    def stop(self, rows):
        raise KeyboardInterrupt

    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        context.setattr(Store, "add_words", stop)
        index(numbered)
    assert "what is written about 6 tracks was added" in index(numbered)[1]
