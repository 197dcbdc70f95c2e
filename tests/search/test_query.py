# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Answers of a library."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers import HOSTILE, PRODUCED


pytest.importorskip("muscall.search")

import mutagen

from muscall.search.query import Library
from muscall.search.snapshot import vectors
from muscall.search.store import literal
from muscall.search.tags import MAX_TAG


def names(answers):
    return [Path(answer["track"]).stem for answer in answers]


def test_answers_are_the_best_windows(tagged, encoder):
    _, music = tagged
    query = encoder.embed_texts(["fast samba"])[0]
    rows = music.store.table.to_arrow()
    scores = vectors(rows) @ query
    best = {}
    for row, score in zip(rows.drop_columns("vector").to_pylist(), scores, strict=True):
        if row["track"] not in best or score > best[row["track"]][0]:
            best[row["track"]] = (score, row["start"], row["end"])
    expected = sorted(best, key=lambda track: -best[track][0])
    answers = music.search("fast samba", by="sound")
    assert [answer["track"] for answer in answers] == expected
    for answer in answers:
        assert (answer["start"], answer["end"]) == best[answer["track"]][1:]
        assert answer["score"] == pytest.approx(best[answer["track"]][0], abs=1e-5)
    assert [answer["track"] for answer in music.search("fast samba", by="sound", k=2)] == expected[:2]
    assert music.search("fast samba", by="sound", k=10**30) == answers
    segment = encoder.model.best_segments("fast samba", expected[0], encoder.processor)[0]
    assert segment["start"] == answers[0]["start"] and segment["score"] == pytest.approx(answers[0]["score"], abs=1e-5)


def test_answers_by_audio_and_likeness(tagged, tmp_path):
    folder, music = tagged
    soundfile.write(tmp_path / "same.wav", *soundfile.read(folder / "3.opus"))  # decoded, so another file
    assert names(music.search(audio=str(tmp_path / "same.wav")))[0] == "3"
    like = names(music.search(like=str(folder / "3.opus")))
    assert "3" not in like and like == [name for name in names(music.search(audio=folder / "3.opus")) if name != "3"]
    both = music.search("fast samba", audio=str(tmp_path / "same.wav"), without="fast samba")
    assert {answer["track"] for answer in both} == {str(folder / f"{number}.opus") for number in range(6)}


def test_a_file_is_embedded_once(tagged, encoder, tmp_path, monkeypatch):
    folder, store = tagged[0], tagged[1].store
    music, heard = Library(store.uri), []
    monkeypatch.setattr(music, "encoder", encoder)
    embed = encoder.embed_track
    monkeypatch.setattr(encoder, "embed_track", lambda *arguments: heard.append(arguments[0]) or embed(*arguments))
    path = str(shutil.copy(folder / "3.opus", tmp_path))
    first = music.search(audio=path)
    assert music.search(audio=path) == first and heard == [path]
    shutil.copy(folder / "1.opus", path)
    assert music.search(audio=path) != first and heard == [path, path]  # another content


def test_without_moves_tracks_down(tagged):
    _, music = tagged
    plain = {answer["track"]: answer["score"] for answer in music.search("calm piano")}
    unwanted = music.search("loud drums", k=1)[0]["track"]
    without = [answer["track"] for answer in music.search("calm piano", without="loud drums")]
    assert without.index(unwanted) >= sorted(plain, key=lambda track: -plain[track]).index(unwanted)


@pytest.mark.parametrize(
    "condition, expected",
    [
        ("bpm > 120 and genre = 'jazz'", "35"),
        ("genre = 'ROCK' or bpm <= 100", "014"),
        ("genre like 'j%'", "0235"),
        ("genre != 'jazz'", "14"),
        ("genre in ('Jazz', 'x') and not bpm between 110 and 130", "05"),
        ('title is null and "end" > 1 and start >= 0', "012345"),
        ("lower(genre) = 'jazz' and track like '%/0.OPUS'", "0"),
    ],
)
def test_filters(tagged, condition, expected):
    assert sorted(names(tagged[1].search("music", where=condition))) == list(expected)


@pytest.mark.parametrize(
    "condition, message",
    [
        ("bpm >", "is not understood"),
        ("", "is not understood"),
        ("gender = 'x'", "unknown column, gender"),
        ("genre = jazz", "unknown column, jazz"),
        ("bpm", "is not a comparison"),
        ("1; delete from windows", "is not understood"),
        ("exists (select 1)", "is not a comparison"),
        ("load_extension('x') = 1", "is not a comparison"),
        ("hash = 'x'", "unknown column, hash"),
        ("bpm = 'fast'", "does not fit"),
        ("genre > 3", "does not fit"),
        ("bpm > ?", "is not a comparison"),
        ("bpm > $1 or genre = N'x' or genre = b'1'", "is not a comparison"),
        ("(" * 500 + "bpm > 1" + ")" * 500, "is not understood"),
    ],
)
def test_bad_filters_list_the_columns(tagged, condition, message):
    with pytest.raises(ValueError, match=message) as error:
        tagged[1].search("music", where=condition)
    assert "Columns: track, start, end, duration, title, artist, album, genre, year, bpm, key" in str(error.value)


def test_bad_queries(tagged, tmp_path, model, monkeypatch):
    folder, music = tagged
    with pytest.raises(ValueError, match="ask for something"):
        music.search()
    with pytest.raises(ValueError, match="positive, got 0"):
        music.search("music", k=0)
    with pytest.raises(ValueError, match="the sentence is empty: expected words"):
        music.search(" ")
    with pytest.raises(ValueError, match="is the name of an audio file: .* or --audio FILE"):
        music.search("song.mp3")
    with pytest.raises(ValueError, match="a library is searched by both, sound, words, got 'title'"):
        music.search("music", by="title")
    with pytest.raises(ValueError, match="words are searched by a sentence"):
        music.search(like=str(folder / "3.opus"), by="words")
    for like in (tmp_path / "no.mp3", folder, folder / "caf\udce9.opus"):
        with pytest.raises(ValueError, match="is not in the index: index its folder first"):
            music.search(like=str(like))
    for text in ("caf\udce9 music", "\0c\0a\0l\0m"):
        with pytest.raises(ValueError, match="the sentence .* cannot be read: expected text in UTF-8"):
            music.search(text)
        with pytest.raises(ValueError, match="the sentence .* cannot be read: expected text in UTF-8"):
            music.search("music", without=text)
    with pytest.raises(ValueError, match="the filter .* cannot be read: expected text in UTF-8"):
        music.search("music", where="genre = 'caf\udce9'")
    (tmp_path / "no.mp3").write_text("no audio")
    with pytest.raises(ValueError, match="cannot be decoded"):
        music.search(audio=str(tmp_path / "no.mp3"))
    with pytest.raises(ValueError, match="there is no index at"):
        Library(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(ValueError, match="is no index: expected the folder that search.py index has written"):
        Library(folder)


def test_an_index_without_tracks(index, tmp_path):
    (tmp_path / "nothing").mkdir()
    store, output = index(tmp_path / "nothing")
    assert "0 tracks" in output
    with pytest.raises(ValueError, match="is empty: add music to it"):
        Library(store.uri)


def test_files_that_changed_since_they_were_indexed_are_marked(index, music):
    store, _ = index(music)
    (music / "a b.opus").unlink()
    shutil.copy(PRODUCED[3], music / "deep" / "er" / "c.opus")
    state = {Path(answer["track"]).name: answer["file"] for answer in Library(store.uri).search("music")}
    assert state.pop("a b.opus") == "missing" and state.pop("c.opus") == "changed" and set(state.values()) == {"there"}
    assert Library(store.uri).search(like=str(music / "a b.opus"))  # its vectors are still there


def test_hostile_tags_stay_text(index, music):
    track = music / "a b.opus"
    file = mutagen.File(track)
    file["title"], file["artist"], file["genre"] = HOSTILE, "A" * 10_000_000, "Jazz"
    file["bpm"], file["date"] = "1e999", "not a year'; --"
    file.save()
    store, _ = index(music)
    answers = Library(store.uri).search("music", where=f"title = {literal(HOSTILE)}")
    assert [answer["track"] for answer in answers] == [str(track)]
    assert answers[0]["title"] == HOSTILE and answers[0]["artist"] == "A" * MAX_TAG
    assert answers[0]["bpm"] is None and answers[0]["year"] is None
    assert len(store.tracks()) == 5


def test_several_seeds_weigh_as_one(tagged, encoder):
    folder, music = tagged
    tracks = [folder / f"{number}.opus" for number in (0, 3)]
    embeds = [music.recording_of(track).embed for track in tracks]
    mean = sum(embeds) / np.linalg.norm(sum(embeds))
    expected = music.best_tracks(mean.astype(np.float32), 6, excluded={music.recording_of(one).hash for one in tracks})
    assert names(music.search(like=tracks)) == names(expected) and not {"0", "3"} & {*names(expected)}
    assert names(music.search(like=[*tracks, tracks[0], str(tracks[0])])) == names(expected)
    assert names(music.search(like=[tracks[0]])) == names(music.search(like=str(tracks[0])))


def test_unlike_moves_tracks_down_and_leaves_the_seed_out(tagged):
    folder, music = tagged
    unwanted = music.search("calm piano", k=1)[0]["track"]
    answers = music.search("calm piano", unlike=[unwanted])
    assert unwanted not in [answer["track"] for answer in answers] and len(answers) == 5
    with pytest.raises(ValueError, match="0.opus is among both, those to sound like and unlike"):
        music.search(like=[folder / "0.opus"], unlike=[folder / "0.opus"])
    with pytest.raises(ValueError, match="ask for something"):
        music.search(unlike=[unwanted])


def test_seeds_of_the_same_recording_in_two_formats_count_once(index, tmp_path):
    music = tmp_path / "music"
    music.mkdir()
    for number, source in enumerate(PRODUCED[:60:20]):
        shutil.copy(source, music / f"{number}.opus")
    samples, rate = soundfile.read(PRODUCED[0])
    soundfile.write(music / "0.mp3", samples, rate)
    library = Library(index(music)[0].uri)
    seeds = library.seeds([music / "0.mp3", music / "1.opus", music / "0.opus"])
    assert [Path(seed.describe()["track"]).name for seed in seeds] == ["0.mp3", "1.opus"]


def test_passages_do_not_overlap_and_come_several_to_a_track(tagged, encoder):
    _, music = tagged
    query = encoder.embed_texts(["fast samba"])[0]
    rows = music.store.table.to_arrow()
    scores = vectors(rows) @ query
    expected = []
    for place in np.argsort(-scores):
        row = rows.drop_columns("vector").slice(place, 1).to_pylist()[0]
        if not any(row["track"] == one and row["start"] < end and row["end"] > start for one, start, end in expected):
            expected.append((row["track"], row["start"], row["end"]))
    answers = music.search("fast samba", segments=True, k=1000)
    assert [(answer["track"], answer["start"], answer["end"]) for answer in answers] == expected
    assert len(expected) > 30 and len({track for track, _, _ in expected[:10]}) < 10
    assert music.search("fast samba", segments=True, k=4) == answers[:4]
