# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The tags of audio files, in the containers and spellings that people have."""

import struct

import numpy as np
import pytest
import soundfile
from helpers import HOSTILE, PRODUCED, nest_chapters


pytest.importorskip("muscall.search")

import mutagen
from mutagen import apev2, id3, mp4

from muscall.search.tags import FRAMES, TAG_NAMES, read_tags


YEARS = {
    **dict.fromkeys(("1999", "1999-12", "1999-12-31T07:00:00Z", "1999/12/31", "19991231", "199912"), 1999),
    **dict.fromkeys(("31.12.1999", "12/31/1999", "31-12-1999", "31121999", "Dec 31, 1999", "1999年12月"), 1999),
    **dict.fromkeys(("12311999", "19991231235959"), 1999),
    **dict.fromkeys(("(c) 1999", "\u2117 1999 Label", "1999?", "1999-2003", "0000 / 1999"), 1999),
    **dict.fromkeys(("99", "", "0000-00-00", "12345", "not a year"), None),
}
TEMPOS = {"128": 128, "128,5": 128.5, "128.50": 128.5, "128 BPM": 128, "~128": 128, "0": None, "1e999": None}


@pytest.fixture
def write(tmp_path):
    """Write a second of a tone, and return its path and what mutagen has of it, with tags."""

    def make(name):
        path = tmp_path / name
        soundfile.write(path, 0.3 * np.sin(np.arange(8000) / 20), 8000)
        file = mutagen.File(path)
        if file.tags is None:
            file.add_tags()
        return path, file

    return make


def found(path):
    return {name: value for name, value in read_tags(path).items() if value is not None}


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


@pytest.mark.parametrize("text, year", YEARS.items())
def test_years_in_every_spelling(write, text, year):
    flac, file = write("a.flac")
    file["Year"] = text
    file.save()
    assert read_tags(flac)["year"] == year
    for name in ("a.mp3", "a.wav"):  # the frame as other programs write it: mutagen's own drops what is no time
        path, file = write(name)
        file.tags.add(FRAMES["TDRC"](encoding=id3.Encoding.UTF8, text=[text]))
        file.save()
        assert read_tags(path)["year"] == year
    path, file = write("old.mp3")
    file.tags.add(id3.TYER(encoding=id3.Encoding.UTF16, text=[text]))
    file.save(v2_version=3)
    assert read_tags(path)["year"] == year


@pytest.mark.parametrize("text, bpm", TEMPOS.items())
def test_tempos(write, text, bpm):
    path, file = write("a.flac")
    file["TEMPO"] = text
    file.save()
    assert read_tags(path)["bpm"] == bpm


def test_names_of_vorbis_comments_and_of_free_id3_frames(write):
    path, file = write("a.flac")
    file.tags.extend([("KEY", "Am"), ("Bpm", "x"), ("tEMPO", "90"), ("Year", "?"), ("OriginalDate", "1971")])
    file.save()
    assert found(path) == {"key": "Am", "bpm": 90, "year": 1971}
    path, file = write("a.mp3")
    for name, text in {"InitialKey": "Bm", "BPM": "91", "originalyear": "1972"}.items():
        file.tags.add(id3.TXXX(desc=name, text=[text]))
    file.tags.add(id3.TBPM(text=["", "0"]))
    file.save()
    assert found(path) == {"key": "Bm", "bpm": 91, "year": 1972}


def test_apev2_on_mp3(write):
    path, _ = write("a.mp3")
    tags = apev2.APEv2()
    tags["Title"], tags["Genre"], tags["Year"] = "A title that is longer than ID3v1 can be", ["Rock", "Jazz"], "1999"
    tags["Artist"] = apev2.APEValue(b"\0\1\2", apev2.BINARY)
    tags["Album"] = apev2.APEValue("http://example.org", apev2.EXTERNAL)
    tags.save(path)
    expected = {"title": "A title that is longer than ID3v1 can be", "genre": "Rock; Jazz", "year": 1999}
    assert found(path) == expected
    newer = id3.ID3()
    newer.add(id3.TIT2(text="ID3"))
    newer.save(path, v1=id3.ID3v1SaveOptions.CREATE)
    assert found(path) == expected | {"title": "ID3"}
    id3.delete(path, delete_v1=False, delete_v2=True)
    assert found(path) == expected  # what is left of ID3 may be cut off


def test_riff_info(write, tmp_path):
    path = tmp_path / "a.wav"
    with soundfile.SoundFile(path, "w", 8000, 1) as file:
        file.title, file.artist, file.album, file.genre, file.date = "Tïtle", "A", "B", "Jazz", "12/31/1999"
        file.write(np.zeros(800))
    expected = {"title": "Tïtle", "artist": "A", "album": "B", "genre": "Jazz", "year": 1999}
    assert found(path) == expected
    file = mutagen.File(path)
    file.add_tags()
    file.tags.add(id3.TIT2(text="ID3"))
    file.save()
    assert found(path) == expected | {"title": "ID3"}


def test_riff_info_of_windows(write):
    """Its texts are not UTF-8; they stand before the samples in one file, and have an odd length."""
    path, _ = write("a.wav")
    whole = path.read_bytes()
    info = b"".join(
        name + struct.pack("<I", 7) + "Café\u20ac".encode("cp1252").ljust(8, b"\0") for name in (b"INAM", b"IPRD")
    )
    info = b"LIST" + struct.pack("<I", len(info) + 4) + b"INFO" + info
    start = whole.index(b"data")
    for content in (whole + info, whole[:start] + info + whole[start:]):
        path.write_bytes(content[:4] + struct.pack("<I", len(content) - 8) + content[8:])
        assert found(path) == {"title": "Café\u20ac", "album": "Café\u20ac"}


def test_id3_of_flac(write):
    path, file = write("a.flac")
    tags = id3.ID3()
    tags.add(id3.TIT2(text="ID3"))
    tags.save(path)
    assert found(path) == {"title": "ID3"}
    file = mutagen.File(path)
    file["title"] = "Vorbis"
    file.save()
    assert found(path) == {"title": "Vorbis"}


def atom(name, *parts):
    content = b"".join(parts)
    return struct.pack(">I4s", 8 + len(content), name) + content


def test_mp4_and_wma(tmp_path):
    """The smallest files of these formats that hold tags: no encoder of theirs is installed."""
    track = atom(b"mdhd", struct.pack(">IIIIII", 0, 0, 0, 8000, 8000, 0)) + atom(b"hdlr", bytes(8), b"soun", bytes(13))
    moov = atom(b"moov", atom(b"trak", atom(b"mdia", track)))
    (tmp_path / "a.m4a").write_bytes(atom(b"ftyp", b"M4A \0\0\0\0") + moov)
    file = mutagen.File(tmp_path / "a.m4a")
    file["\xa9nam"], file["\xa9day"], file["tmpo"], file["cpil"] = "Title", "31.12.1999", [0], True
    file["----:com.apple.iTunes:Bpm"], file["----:com.apple.iTunes:INITIALKEY"] = b"128,5", b"Am"
    file["----:com.apple.iTunes:ARTIST"] = mp4.MP4FreeForm("é".encode("utf-16-be"), mp4.AtomDataType.UTF16)
    file["----:com.mixedinkey.mixedinkey:key"] = b"eyJrZXkiOiI4QSJ9"
    file.save()
    expected = {"title": "Title", "year": 1999, "bpm": 128.5, "key": "Am", "artist": "é"}
    assert found(tmp_path / "a.m4a") == expected
    header = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c") + struct.pack("<QIBB", 30, 0, 1, 2)
    (tmp_path / "a.wma").write_bytes(header)
    file = mutagen.File(tmp_path / "a.wma")
    file["Title"], file["Author"], file["WM/Year"], file["WM/Genre"] = "Title", "é", "12/31/1999", ["Rock", "Jazz"]
    file["WM/BeatsPerMinute"], file["WM/AlbumTitle"] = [mutagen.asf.ASFDWordAttribute(128)], [b"\1\2"]
    file.save()
    assert found(tmp_path / "a.wma") == {
        **{"title": "Title", "artist": "é", "year": 1999},
        **{"genre": "Rock; Jazz", "bpm": 128},
    }


def test_texts_are_composed(write):
    path, file = write("a.flac")
    file["artist"], file["genre"] = "Beyonce\u0301", ["Rock\0Pop", "", " ", "Jazz\0"]
    file.save()
    assert found(path) == {"artist": "Beyonc\u00e9", "genre": "Rock; Pop; Jazz"}


def test_tags_that_cannot_be_read_are_none(write):
    path, _ = write("a.mp3")
    path.write_bytes(nest_chapters(1000) + path.read_bytes())
    with pytest.raises(RecursionError):
        mutagen.File(path)
    assert found(path) == {}


@pytest.mark.parametrize("name", ["a.flac", "a.mp3", "a.wav", "a.aiff", "a.ogg"])
def test_no_damage_is_an_error(write, name):
    path, file = write(name)
    if isinstance(file.tags, id3.ID3):
        for frame in (id3.TIT2(text="x"), id3.TCON(text="17"), id3.TDRC(text="1999"), id3.APIC(data=b"x")):
            file.tags.add(frame)
    else:
        file["title"], file["date"] = "x", "1999"
    file.save()
    whole, random = path.read_bytes(), np.random.default_rng(0)
    for number in range(60):
        damaged = bytearray(whole)
        for place in random.integers(min(len(whole), 500), size=6):
            damaged[place] = random.integers(256)
        path.write_bytes(damaged[: random.integers(len(whole)) if number % 3 == 0 else None])
        assert read_tags(path).keys() == TAG_NAMES.keys()
