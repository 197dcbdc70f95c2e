# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""What the page makes of names, fields and answers, without a browser."""

import pytest


pytest.importorskip("muscall.search")
pytest.importorskip("threadpoolctl", reason='the page needs: pip install -e ".[demo]"')

from muscall.search.filters import parse_filter
from space.demo import make_condition, path_name


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/music/valyriatear/003.ogg", "valyriatear / 003"),
        ("/music/Blue_Nights/03 - so_it_goes.mp3", "Blue Nights / so it goes"),
        ("/music/Blue Nights/1. Opening.flac", "Blue Nights / Opening"),
        ("/music/x/99 Luftballons.mp3", "x / Luftballons"),
        ("/music/x/1999.mp3", "x / 1999"),
        ("/music/новые/01 - песня.mp3", "новые / песня"),
        ("/loose.mp3", "loose"),
    ],
)
def test_a_file_without_title_is_named_by_folder_and_file(path, name):
    assert path_name(path) == name


@pytest.mark.parametrize(
    ("fields", "condition"),
    [
        (([], "", "  ", ""), None),
        (([], "1990-1999", "", ""), "year >= 1990 and year <= 1999"),
        (([], "1990–", "–120.5", ""), "year >= 1990 and bpm <= 120.5"),
        (([], "", "90", ""), "bpm >= 89.5 and bpm < 90.5"),
        (([], "1994", "", ""), "year = 1994"),
        ((["R'n'B", "Jazz"], "", "", ""), "(genre like '%R''n''B%' or genre like '%Jazz%')"),
        ((["Jazz"], "", "90-", "title = 'A' -- or"), "bpm >= 90 and (genre like '%Jazz%') and (LOWER(title) = 'a')"),
    ],
)
def test_fields_become_one_condition(fields, condition):
    assert make_condition(*fields) == condition
    assert condition is None or parse_filter(condition)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (([], "nineties", "", ""), "the year 'nineties' is not understood: expected a number or a range"),
        (([], "1990.5", "", ""), "the year '1990.5' is not understood"),
        (([], "", "-", ""), "the tempo '-' is not understood"),
        (([], "", "90-120; drop", ""), "the tempo .* is not understood"),
        (([], "", "", "tempo > 3"), "names an unknown column, tempo"),
        (([], "", "", "year = 1) or (year = 2"), "is not understood"),
    ],
)
def test_a_field_that_is_not_understood_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        make_condition(*fields)
