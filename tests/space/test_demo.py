# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""What the page makes of names, fields and answers, without a browser."""

import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch


pytest.importorskip("muscall.search")
pytest.importorskip("threadpoolctl", reason='the page needs: pip install -e ".[demo]"')

from muscall.search.filters import parse_filter
from space.demo import describe, path_name, read_filters
from space.sound import BARS, MOMENT, PLAY_RATE, draw_waveform, read_stereo


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/music/valyriatear/003.ogg", "valyriatear / 003"),
        ("/music/Blue_Nights/03 - so_it_goes.mp3", "Blue Nights / so it goes"),
        ("/music/Blue Nights/1. Opening.flac", "Blue Nights / Opening"),
        ("/music/x/99 Luftballons.mp3", "x / Luftballons"),
        ("/music/x/1999.mp3", "x / 1999"),
        ("/music/x/A2 Opening.flac", "x / Opening"),
        ("/music/новые/01 - песня.mp3", "новые / песня"),
        ("/loose.mp3", "loose"),
    ],
)
def test_a_file_without_title_is_named_by_folder_and_file(path, name):
    assert path_name(path) == name


@pytest.mark.parametrize(
    ("fields", "filters"),
    [
        (([], "", "  ", ""), {}),
        (([], "1990-1999", "", ""), {"year >= 1990 and year <= 1999": "1990 to 1999"}),
        (([], "1990–", "–120.5", ""), {"year >= 1990": "from 1990 on", "bpm <= 120.5": "up to 120.5 bpm"}),
        (([], "", "90", ""), {"bpm >= 89.5 and bpm < 90.5": "90 bpm"}),
        (([], "1994", "", ""), {"year = 1994": "1994"}),
        (
            (["R'n'B", "Jazz"], "", "", ""),
            {"genre like '%R''n''B%' or genre like '%Jazz%'": "genre R'n'B or Jazz"},
        ),
        (([], "", "90-", " title = 'A' "), {"bpm >= 90": "from 90 bpm on", " title = 'A' ": "where title = 'A'"}),
    ],
)
def test_fields_become_conditions_in_words(fields, filters):
    assert read_filters(*fields) == filters
    assert not filters or parse_filter(list(filters))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (([], "nineties", "", ""), "the year 'nineties' is not understood: expected a number or a range"),
        (([], "1990.5", "", ""), "the year '1990.5' is not understood"),
        (([], "", "-", ""), "the tempo '-' is not understood"),
        (([], "", "90-120; drop", ""), "the tempo .* is not understood"),
    ],
)
def test_a_field_that_is_not_understood_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        read_filters(*fields)


def test_a_request_is_told_in_words():
    seeds = [{"kind": kind, "name": name} for kind, name in (("like", "A"), ("like", "B"), ("unlike", "C"))]
    filters = ["genre Jazz", "1990 to 1999"]
    assert describe("calm", "both", [], None, []) == "for “calm”"
    assert describe("calm", "words", [], None, filters) == "for “calm” by words alone, only genre Jazz, 1990 to 1999"
    assert describe("calm", "both", seeds, "drums", []) == "for “calm” and like 2 tracks and unlike C, without drums"
    assert describe(None, "both", seeds[:1], None, filters) == "like A, only genre Jazz, 1990 to 1999"


def test_a_waveform_shows_what_is_loud(tmp_path):
    """The last quarter, of three minutes; the line of what cannot be read is the page's."""
    wave = np.sin(np.arange(180 * 8000)) * np.repeat([0.01, 0.01, 0.01, 0.9], 45 * 8000)
    soundfile.write(tmp_path / "late.flac", wave, 8000)
    heights = [float(height) for height in re.findall(r"v([\d.]+)", draw_waveform(str(tmp_path / "late.flac"), 180))]
    assert len(heights) == BARS and max(heights[: 3 * BARS // 4]) < 30 and min(heights[3 * BARS // 4 :]) > 95


def test_a_waveform_of_an_hour_needs_no_more_samples_than_one_of_a_minute(tmp_path, monkeypatch):
    class Counted(soundfile.SoundFile):
        def read(self, frames, **options):
            count.append(frames)
            return super().read(frames, **options)

    monkeypatch.setattr(soundfile, "SoundFile", Counted)
    for seconds in (60, 3600):
        count = []
        soundfile.write(tmp_path / "long.flac", np.zeros(seconds * 8000), 8000)
        draw_waveform(str(tmp_path / "long.flac"), seconds)
        assert sum(count) == BARS * MOMENT * 8000


def test_what_torchcodec_reads_is_in_stereo(tmp_path, monkeypatch):
    """With a stand-in for torchcodec, which needs FFmpeg's shared libraries."""
    asked = []

    class AudioDecoder:
        def __init__(self, path, sample_rate):
            asked.append((path, sample_rate))

        def get_samples_played_in_range(self, start, stop):
            asked.append((start, stop))
            return SimpleNamespace(data=torch.stack([torch.zeros(50), torch.ones(50), torch.ones(50)]))

    monkeypatch.setitem(sys.modules, "torchcodec", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", SimpleNamespace(AudioDecoder=AudioDecoder))
    (tmp_path / "a.m4a").write_bytes(b"of a format that soundfile does not know")
    samples = read_stereo(str(tmp_path / "a.m4a"), 5, 60)
    assert asked == [(str(tmp_path / "a.m4a"), PLAY_RATE), (5, 65)]
    assert samples.shape == (50, 2) and samples.mean(axis=0).tolist() == [0, 1]
