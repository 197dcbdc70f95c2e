# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""search.py and library/: real files in a folder that changes, their index, and its answers."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import mutagen
import numpy as np
import pyarrow as pa
import pytest
import soundfile
import torch
from accelerate.state import AcceleratorState
from helpers import save_model

import muscall.search.query
import muscall.search.store
import search
from muscall.encoder import MusCALLEncoder, load_encoder
from muscall.search.files import MAX_TAG, find_audio, read_tags
from muscall.search.query import Library, recall
from muscall.search.store import COLUMNS, Store, lock, parse_filter, vectors


ROOT = Path(__file__).parents[1]
PRODUCED = sorted((ROOT / "corpus" / "produced").glob("*.opus"))
HOSTILE = "'; DROP TABLE windows; -- \" \\ <script>alert(1)</script> \n\x1b[2J 日本語 🎵 ' OR 1=1"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def encoder(model):
    return load_encoder(str(model))


@pytest.fixture
def music(tmp_path):
    """Six produced clips under names that real folders have."""
    folder = tmp_path / "My Müsic 'live'"
    names = (
        "a b.opus",
        'it\'s "quoted".opus',
        "new\nline.opus",
        "日本語/песня.opus",
        "deep/er/c.opus",
        ".hidden.opus",
    )
    for source, name in zip(PRODUCED[::9], names, strict=False):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, folder / name)
    (folder / "cover.jpg").write_bytes(b"not audio")
    return folder


@pytest.fixture
def index(model, tmp_path, capfd):
    """`search.py index`, in this process; returns the open index and what was on the screen."""
    store = tmp_path / "store"

    def run(*arguments):
        arguments = ["index", *with_model, *map(str, arguments), "--store", str(store)]
        try:
            search.run_index(search.parse_arguments(arguments))
        finally:
            AcceleratorState._reset_state(reset_partial_state=True)
        return Store.open(store), capfd.readouterr().out

    with_model = ["--model", str(model)]
    return run


def content(store: Store) -> dict:
    """Each row by what it is about."""
    rows = store.table.to_arrow()
    return {
        (row["track"], row["start"]): row | {"vector": vector.tolist()}
        for row, vector in zip(rows.drop_columns("vector").to_pylist(), vectors(rows), strict=True)
    }


def test_rows_are_the_windows_of_the_tracks(index, music, encoder):
    store, _ = index(music)
    tracks = list(find_audio(music))
    assert len(tracks) == 5 == len(store.tracks())
    for track in tracks:
        inputs = encoder.processor(audio=track, return_tensors="pt", return_window_starts=True)
        rows = store.rows(f"track = {muscall.search.store.literal(str(track))}").sort_by("start")
        assert rows.column("start").to_pylist() == inputs["window_starts"][0].tolist()
        assert rows.column("weight").to_pylist() == inputs["window_weights"][0].tolist()
        duration = soundfile.info(track).duration
        assert rows.column("end").to_pylist()[-1] == pytest.approx(duration, abs=1e-3) == rows["duration"][0].as_py()
        starts = inputs.pop("window_starts")
        with torch.no_grad():
            windows = encoder.model.get_audio_features(inputs["input_values"][0]).pooler_output
            whole = encoder.model.get_audio_features(**inputs).pooler_output[0]
        assert len(rows) == starts.shape[1]
        np.testing.assert_allclose(vectors(rows), windows.numpy(), atol=1e-5)
        np.testing.assert_allclose(encoder.embed_track(track), whole.numpy(), atol=1e-5)


def test_index_follows_the_folder_and_embeds_each_content_once(index, music, tmp_path, monkeypatch):
    embedded = []
    embed_windows = MusCALLEncoder.embed_windows

    def count(self, input_values):
        embedded.append(len(input_values))
        return embed_windows(self, input_values)

    monkeypatch.setattr(MusCALLEncoder, "embed_windows", count)
    first, second, third, fourth, fifth = find_audio(music)
    shutil.copy(first, music / "copy.opus")
    store, output = index(music)
    assert "6 tracks (6 new)" in output
    before = content(store)
    assert sum(embedded) == len(before) - len(store.rows(f"track = {muscall.search.store.literal(str(first))}"))

    embedded.clear()
    store, output = index(music)
    assert "6 tracks (nothing new)" in output and content(store) == before

    os.utime(first)  # touched, the same
    (music / "sub").mkdir()
    second.rename(music / "sub" / "moved.opus")
    a, b = third.read_bytes(), fourth.read_bytes()
    third.write_bytes(b), fourth.write_bytes(a)  # changed places
    fifth.unlink()
    store, output = index(music)
    assert "5 tracks (2 changed, 1 moved, 1 deleted)" in output
    assert not embedded
    after = content(store)

    def of(rows, track):
        return [row["vector"] for (name, _), row in sorted(rows.items()) if name == str(track)]

    assert of(after, music / "sub" / "moved.opus") == of(before, second) and not of(after, second)
    assert of(after, third) == of(before, fourth) and of(after, fourth) == of(before, third)
    assert {track for track, _ in after} == set(map(str, find_audio(music)))

    shutil.copy(PRODUCED[-1], first)
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(PRODUCED[5], other)
    store, output = index(music, other)
    assert "6 tracks (1 new, 1 changed)" in output and sum(embedded) > 0
    shutil.rmtree(music / "sub")
    assert "6 tracks (nothing new)" in index(other)[1]  # what lies elsewhere stays
    assert "5 tracks (1 deleted)" in index(music)[1]


def test_a_folder_that_is_gone_is_forgotten_only_when_asked(index, music, tmp_path, capfd):
    store, _ = index(music)
    new = music.rename(tmp_path / "new place")
    store, output = index(new)
    assert "10 tracks (5 new)" in output
    answers = Library(store.uri).search("music")
    assert [answer["file"] for answer in answers] == ["there"] * 5  # not the copies that are gone
    assert all(Path(answer["track"]).is_relative_to(new) for answer in answers)
    search.run_forget(search.parse_arguments(["forget", str(music), "--store", str(store.uri)]))
    assert "5 tracks taken out" in capfd.readouterr().out
    assert set(store.tracks()) == set(map(str, find_audio(new)))


def test_an_empty_folder_is_taken_for_a_missing_disk(index, music):
    before = content(index(music)[0])
    music.rename(music.with_name("away"))
    with pytest.raises(ValueError, match="is no folder"):
        index(music)
    music.mkdir()
    with pytest.raises(ValueError, match="is empty, but the index has 5 tracks of it: is its disk mounted"):
        index(music)
    music.rmdir()
    music.with_name("away").rename(music)
    store, output = index(music)
    assert "nothing new" in output and content(store).keys() == before.keys()


def test_unreadable_files_are_listed_and_others_indexed(index, music):
    whole = soundfile.read(PRODUCED[0])
    soundfile.write(music / "cut.flac", *whole)
    (music / "cut.flac").write_bytes((music / "cut.flac").read_bytes()[:50_000])
    (music / "empty.mp3").write_bytes(b"")
    (music / "text.mp3").write_text("no audio at all\n" * 500)
    (music / "protected.m4p").write_bytes(b"\0\0\0\x20ftypM4P " + os.urandom(5000))
    soundfile.write(music / "no samples.wav", np.zeros(0), 8000)
    soundfile.write(music / "nan.wav", np.full(8000, np.nan, dtype=np.float32), 8000, subtype="FLOAT")
    (music / "dangling.mp3").symlink_to(music / "nowhere")
    shutil.copy(music / "text.mp3", music / "text copy.mp3")
    undecodable = os.fsencode(music) + b"/\xff.mp3"
    Path(os.fsdecode(undecodable)).write_bytes(b"x")
    store, output = index(music)
    assert "5 tracks (5 new)" in output and "9 files could not be read" in output
    reasons = {
        "cut.flac": "is damaged",
        "empty.mp3": "is empty: 0 bytes",
        "text.mp3": "cannot be decoded",
        "text copy.mp3": "cannot be decoded",
        "protected.m4p": "cannot be decoded",
        "no samples.wav": "is empty",
        "nan.wav": "contains NaN",
        "dangling.mp3": "No such file",
        'udcff.mp3"': "its name is not valid UTF-8",
    }
    for name, reason in reasons.items():
        assert f"{name}: {reason}" in output
    # A track that can no longer be read is not what the index has of it.
    (music / "a b.opus").write_bytes(b"overwritten")
    store, output = index(music)
    assert "4 tracks" in output and str(music / "a b.opus") not in store.tracks()


def test_a_file_that_changes_while_it_is_read_is_not_indexed(index, music, monkeypatch):
    embed_windows = MusCALLEncoder.embed_windows

    def touch(self, input_values):
        os.utime(music / "a b.opus")
        time.sleep(0.05)
        return embed_windows(self, input_values)

    monkeypatch.setattr(muscall.search.indexing, "QUEUE", 1)
    monkeypatch.setattr(muscall.search.indexing, "CHUNK", 1)
    with monkeypatch.context() as patch:
        patch.setattr(MusCALLEncoder, "embed_windows", touch)
        _, output = index(music)
    assert "a b.opus: it changed while it was read" in output
    assert "5 tracks" in index(music)[1]


@pytest.mark.parametrize("suffix", ["opus", "flac", "mp3", "wav", "ogg"])
def test_tags(tmp_path, suffix):
    path = tmp_path / f"song.{suffix}"
    samples, rate = soundfile.read(PRODUCED[0])
    kind = {"format": "OGG", "subtype": "OPUS"} if suffix == "opus" else {}
    soundfile.write(path, samples[: 2 * rate], rate, **kind)
    assert read_tags(path) == dict.fromkeys(("title", "artist", "album", "genre", "year", "bpm", "key"))
    file = mutagen.File(path)
    if file.tags is None:
        file.add_tags()
    if suffix in ("mp3", "wav"):
        from mutagen import id3

        file.tags.add(id3.TIT2(text=HOSTILE))
        file.tags.add(id3.TCON(text=["17", "Jazz"]))
        file.tags.add(id3.TDRC(text="2003-05-01"))
        file.tags.add(id3.TBPM(text="128"))
        genre = "Rock; Jazz"
    else:
        file.tags["title"], file.tags["genre"] = HOSTILE, ["Rock", "Jazz"]
        file.tags["date"], file.tags["bpm"] = "2003-05-01", "128"
        genre = "Rock; Jazz"
    file.save()
    tags = read_tags(path)
    assert (tags["title"], tags["genre"], tags["year"], tags["bpm"]) == (HOSTILE, genre, 2003, 128.0)


def test_hostile_tags_stay_text(index, music, capfd):
    track = music / "a b.opus"
    file = mutagen.File(track)
    file["title"], file["artist"], file["genre"] = HOSTILE, "A" * 10_000_000, "Jazz"
    file["bpm"], file["date"] = "1e999", "not a year'; --"
    file.save()
    store, _ = index(music)
    found = Library(store.uri).search("music", where=f"title = {muscall.search.store.literal(HOSTILE)}")
    assert [answer["track"] for answer in found] == [str(track)]
    answer = found[0]
    assert answer["title"] == HOSTILE and answer["artist"] == "A" * MAX_TAG
    assert answer["bpm"] is None and answer["year"] is None
    search.print_answers(found, as_json=False)
    assert "\x1b" not in (screen := capfd.readouterr().out) and "\\x1b[2J" in screen
    search.print_answers(found, as_json=True)
    assert json.loads(capfd.readouterr().out)[0]["title"] == HOSTILE
    assert len(store.tracks()) == 5


@pytest.fixture(scope="module")
def tagged(model, tmp_path_factory):
    """An index of six clips with tags."""
    folder = tmp_path_factory.mktemp("tagged")
    for number, source in enumerate(PRODUCED[::20][:6]):
        shutil.copy(source, folder / f"{number}.opus")
        file = mutagen.File(folder / f"{number}.opus")
        file["genre"], file["bpm"] = ("Jazz", "rock", "JAZZ")[number % 3], str(100 + 10 * number)
        file.save()
    store = folder / "store" / "music"
    arguments = ["index", str(folder), "--model", str(model), "--store", str(store)]
    try:
        search.run_index(search.parse_arguments(arguments))
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
    return folder, Library(store)


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
    answers = music.search("fast samba")
    assert [answer["track"] for answer in answers] == expected
    for answer in answers:
        assert (answer["start"], answer["end"]) == best[answer["track"]][1:]
        assert answer["score"] == pytest.approx(best[answer["track"]][0], abs=1e-5)
    assert [answer["track"] for answer in music.search("fast samba", k=2)] == expected[:2]
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
    with pytest.raises(ValueError, match="text\\[0\\] is empty"):
        music.search(" ")
    with pytest.raises(ValueError, match="is not in the index: index its folder first"):
        music.search(like=str(tmp_path / "no.mp3"))
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


def test_a_folder_with_other_things_is_no_place_for_an_index(index, music, tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "thesis.tex").write_text("precious")
    with pytest.raises(ValueError, match="is no index: expected a new or empty folder"):
        index(music)
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["thesis.tex"]


def test_another_model_is_refused_with_the_reason(index, music, model, tmp_path):
    store, _ = index(music)
    other = save_model(tmp_path / "other", seed=1)
    with pytest.raises(ValueError, match="made by another model: its weights are"):
        index(music, "--model", other)
    with pytest.raises(ValueError, match="made by another model: its weights are"):
        Library(store.uri, str(other)).search("music")
    moved = shutil.copytree(model, tmp_path / "moved")
    assert Library(store.uri, str(moved)).search("music")


def test_one_indexer_at_a_time(index, music, tmp_path):
    before = content(index(music)[0])
    (music / "a b.opus").unlink()
    with lock(tmp_path / "store"), pytest.raises(ValueError, match="another search.py is indexing into"):
        index(music)
    assert content(Store.open(tmp_path / "store")) == before
    assert "1 deleted" in index(music)[1]


def test_files_that_changed_since_they_were_indexed_are_marked(index, music):
    store, _ = index(music)
    (music / "a b.opus").unlink()
    shutil.copy(PRODUCED[3], music / "deep" / "er" / "c.opus")
    state = {Path(answer["track"]).name: answer["file"] for answer in Library(store.uri).search("music")}
    assert state.pop("a b.opus") == "missing" and state.pop("c.opus") == "changed" and set(state.values()) == {"there"}
    assert Library(store.uri).search(like=str(music / "a b.opus"))  # its vectors are still there


def test_approximate_index(tmp_path, encoder, monkeypatch, capsys):
    """Built where there are enough windows, as good as it says, and right about what is added or deleted later."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((40, 32))

    def add(store, tracks):
        total = len(tracks) * 10
        embeds = centres[random.integers(40, size=total)] + 0.5 * random.standard_normal((total, 32))
        embeds = (embeds / np.linalg.norm(embeds, axis=1, keepdims=True)).astype(np.float32)
        columns = {name: pa.nulls(total, kind) for name, kind in COLUMNS.items()}
        columns["track"] = columns["hash"] = pa.array([track for track in tracks for _ in range(10)])
        columns["state"] = pa.array(["1 2 3"] * total)
        columns["start"] = pa.array(np.tile(np.arange(10, dtype=np.float32), len(tracks)))
        columns["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(embeds.ravel()), 32)
        store.add(pa.table(columns))
        return embeds

    store = Store.open_or_create(tmp_path / "store", encoder.describe())
    add(store, [f"t{number}" for number in range(1000)])
    search.approximate(store, encoder)
    assert not store.is_approximate
    monkeypatch.setattr(search, "APPROXIMATE_FROM", 10_000)
    search.approximate(store, encoder)
    output = capsys.readouterr().out
    assert "approximate index of 10000 windows" in output and "by text" in output
    assert store.is_approximate and recall(store, store.sample(50)) > 0.95

    new = add(store, ["new"])
    assert store.search(new[3], 1)[0]["track"] == "new"
    store.delete([(f"t{number}", "1 2 3") for number in range(500)])
    store.tidy()
    assert store.table.count_rows() == 5010 and store.search(new[3], 1)[0]["track"] == "new"
    answers = Library(store.uri)._best_tracks(new[0], None, 501)  # more than are near: all of them
    assert len(answers) == 501


INDEX = [sys.executable, str(ROOT / "search.py"), "index"]


@pytest.mark.slow
def test_a_killed_run_goes_on(music, model, index, tmp_path):
    killer = (
        "import os, runpy, sys; sys.argv = sys.argv[1:]; sys.path.insert(0, os.path.dirname(sys.argv[0]))\n"
        "import muscall.search.indexing as indexing; from muscall.search.store import Store\n"
        "indexing.FLUSH_TRACKS, add, calls = 1, Store.add, []\n"
        "def kill_at_the_third(self, rows):\n"
        "    calls.append(1); len(calls) < 3 or os.kill(os.getpid(), 9); add(self, rows)\n"
        "Store.add = kill_at_the_third\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    command = [sys.executable, "-c", killer, *INDEX[1:], music, "--model", model, "--store", tmp_path / "store"]
    assert subprocess.run(command, capture_output=True).returncode == -9
    store = Store.open(tmp_path / "store")
    done = content(store)
    assert len(store.tracks()) == 2
    store, output = index(music)
    assert "5 tracks (3 new)" in output
    resumed = content(store)
    assert all(resumed[key] == row for key, row in done.items())
    shutil.rmtree(tmp_path / "store")
    assert content(index(music)[0]) == resumed  # as if it had never been killed, to the bit


@pytest.mark.slow
def test_a_full_disk_loses_nothing(music, model, index, tmp_path):
    before = content(index(music)[0])
    shutil.copytree(ROOT / "corpus" / "produced", music / "more", ignore=lambda _, names: names[20:])
    limited = (
        "import resource, runpy, signal, sys; sys.argv = sys.argv[1:]; sys.path.insert(0, sys.argv[0][:-9])\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (15_000, 15_000))\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    command = [sys.executable, "-c", limited, *INDEX[1:], music, "--model", model, "--store", tmp_path / "store"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1 and "cannot be written to" in result.stderr and "Traceback" not in result.stderr
    after = content(Store.open(tmp_path / "store"))
    assert all(after[key] == row for key, row in before.items())
    store, _ = index(music)
    assert len(store.tracks()) == len(list(find_audio(music)))


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torchrun", "ray"])
def test_several_workers_write_the_same_rows(launcher, music, model, index, tmp_path):
    shutil.copy(PRODUCED[0], music / "copy.opus")
    (music / "text.mp3").write_text("no audio")
    expected = content(index(music)[0])
    command = [*INDEX, music, "--model", model, "--store", tmp_path / "second"]
    if launcher == "ray":
        command += ["--ray_workers", "2"]
    else:
        command = [Path(sys.executable).with_name("torchrun"), "--nproc_per_node", "2", *command[1:]]
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert result.returncode == 0, result.stderr
    assert "6 tracks (6 new)" in result.stdout and "1 files could not be read" in result.stdout
    rows = content(Store.open(tmp_path / "second"))
    assert rows.keys() == expected.keys()
    for key, row in rows.items():
        np.testing.assert_allclose(row.pop("vector"), expected[key].pop("vector"), atol=1e-5)
        assert row == expected[key]


@pytest.mark.slow
def test_command_line(music, model, tmp_path):
    """As a person types it: index, query, sentences from a pipe, a mistake."""
    store = ["--store", str(tmp_path / "store")]
    result = subprocess.run([*INDEX, music, "--model", model, *store], capture_output=True, text=True)
    assert result.returncode == 0 and "5 tracks (5 new)" in result.stdout, result.stderr
    query = [sys.executable, str(ROOT / "search.py"), "query", *store]
    result = subprocess.run([*query, "calm piano", "--json", "--k", "2"], capture_output=True, text=True)
    answers = json.loads(result.stdout)
    assert len(answers) == 2 and {"track", "score", "start", "end", "copies", "file"} <= answers[0].keys()
    result = subprocess.run(query, input="calm piano\n\nfast samba\n", capture_output=True, text=True)
    assert result.returncode == 0 and result.stdout.count("  1  ") == 2
    result = subprocess.run([*query, "x", "--filter", "gender = 1"], capture_output=True, text=True)
    assert (
        result.returncode == 1 and result.stderr.startswith("error: the filter") and "Traceback" not in result.stderr
    )
    for path in Path(store[1], "windows.lance", "data").iterdir():
        os.truncate(path, 100)
    result = subprocess.run([*query, "calm piano"], capture_output=True, text=True)
    assert result.returncode == 1 and "is damaged, delete it and index again" in result.stderr.splitlines()[-1]


def test_parsed_filters_are_one_condition():
    assert parse_filter("genre = 'Jazz' -- and more") == "LOWER(genre) = 'jazz'"
