# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The tags of audio files."""

import pytest
import soundfile
from helpers import HOSTILE, PRODUCED


pytest.importorskip("muscall.search")

import mutagen

from muscall.search.tags import read_tags


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
        file.tags.add(mutagen.id3.TIT2(text=HOSTILE))
        file.tags.add(mutagen.id3.TCON(text=["17", "Jazz"]))
        file.tags.add(mutagen.id3.TDRC(text="2003-05-01"))
        file.tags.add(mutagen.id3.TBPM(text="128"))
        genre = "Rock; Jazz"
    else:
        file.tags["title"], file.tags["genre"] = HOSTILE, ["Rock", "Jazz"]
        file.tags["date"], file.tags["bpm"] = "2003-05-01", "128"
        genre = "Rock; Jazz"
    file.save()
    tags = read_tags(path)
    assert (tags["title"], tags["genre"], tags["year"], tags["bpm"]) == (HOSTILE, genre, 2003, 128.0)
