# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Rendered music of the open mix: the notes that sound are the tune's, and the captions name what sounds."""

import io
import json
from random import Random

import mido
import numpy as np
import pytest
import soundfile

from corpus.build import find_soundfont, read_rows
from scripts.mma.instruments import PROGRAMS
from scripts.open_mix import rendered as rendered_mix
from scripts.open_mix.rendered import DANCES, KEY_OR_TEMPO, Score, arrange, build_rendered, chords, find_scores, vary


MELODY = [(number / 2, 0.5, pitch) for number, pitch in enumerate([60, 64, 67, 64, 67, 71, 74, 71] * 4)]
REEL = Score("here/reel.abc", "A reel", "reel", "4/4", 4.0, 0, False, [MELODY])
CHORALE = Score("here/bwv.mxl", "A chorale", None, "4/4", 4.0, 0, False, [MELODY] * 4)


def events(midi: bytes, kind: str) -> list[mido.Message]:
    tracks = mido.MidiFile(file=io.BytesIO(midi)).tracks
    return [event for track in tracks for event in track if event.type == kind]


def notes(midi: bytes) -> list[tuple[bool, int]]:
    """Whether it is a drum, and the pitch, of each note."""
    return [(event.channel == 9, event.note) for event in events(midi, "note_on") if event.velocity]


def test_what_music21_has():
    scores = find_scores()
    dances = [dance for _, dance in scores]
    assert len(scores) > 1400 and {*DANCES, None} == set(dances) and dances.count(None) > 300


def test_chords_fit_the_melody():
    found = chords(REEL)
    assert [start for start, _ in found] == [2.0 * number for number in range(8)]
    assert [set(triad) for _, triad in found] == [{0, 4, 7}, {7, 11, 2}] * 4


@pytest.mark.parametrize("score", [REEL, CHORALE], ids=["tune", "chorale"])
def test_arrangements(score):
    seen = set()
    for seed in range(40):
        midi, captions, facts = arrange(score, Random(seed))
        assert mido.MidiFile(file=io.BytesIO(midi)).length >= 20
        heard = notes(midi)
        melody = [pitch for _, _, pitch in MELODY]
        assert len({new - old for (_, new), old in zip(heard, melody, strict=False)}) == 1  # the melody, transposed
        programs = {event.program for event in events(midi, "program_change") if event.channel != 9}
        seen |= programs
        assert len(captions) >= 3 and all(caption == " ".join(caption.split()) for caption in captions)
        if score is REEL:
            named = facts["instruments"].split(",")[0].split(" and ")[0]
            assert any(name in captions[0] for name in next(names for names in PROGRAMS if names[0] == named))
            assert facts["instruments"].endswith(" and drums") == any(drum for drum, _ in heard)
            assert ("solo" in " ".join(captions)) == (len(programs) == 1)
    assert len(seen) > 10


def test_variations_keep_drums_and_change_key_and_tempo():
    midi = next(
        midi for midi, _, facts in (arrange(REEL, Random(seed)) for seed in range(99)) if "drums" in str(facts)
    )
    seconds = mido.MidiFile(file=io.BytesIO(midi)).length
    for seed in range(10):
        varied = vary(midi, Random(seed))
        shifts = {(drum, new - old) for (drum, old), (_, new) in zip(notes(midi), notes(varied), strict=True)}
        assert (True, 0) in shifts
        ((_, shift),) = shifts - {(True, 0)}
        assert 1 <= abs(shift) <= 4
        assert 1 <= mido.MidiFile(file=io.BytesIO(varied)).length / seconds < 1.09


@pytest.mark.parametrize("caption", ["a waltz in Eb major", "bossa nova, 132 bpm", "in F# minor, slow"])
def test_captions_of_key_and_tempo_are_left_out(caption):
    assert KEY_OR_TEMPO.search(caption) and not KEY_OR_TEMPO.search("in a minor key, at a fast tempo")


@pytest.mark.slow
def test_a_build_goes_on_where_it_stopped(tmp_path, monkeypatch):
    scores, rows = find_scores(), [row for row in read_rows() if row["source"] == "mma"]
    chosen = [next(row for row in rows if row["split"] == split) for split in ("train", "test")]
    monkeypatch.setattr(rendered_mix, "find_scores", lambda: [scores[0], scores[-1], (scores[1][0], None)])
    monkeypatch.setattr(rendered_mix, "read_rows", lambda: chosen)
    monkeypatch.setattr(rendered_mix, "STYLES", rendered_mix.STYLES[:1])
    monkeypatch.setattr(rendered_mix, "TAKES", 2)
    built = build_rendered(tmp_path / "clips", [find_soundfont()] * 2, num_workers=1)
    kinds = {row["file_name"].split("-")[0]: split for split, rows in built.items() for row in rows}
    assert set(kinds) == {"tune", "chorale", "mma", "beat"} and kinds["mma"] == "train"
    assert sum(map(len, built.values())) == 6  # nothing that the default corpus holds out
    kept = [file.read_text() for file in (tmp_path / "clips").glob("*/.*.json")]
    assert len(kept) == 8 and kept.count("null") == 2  # a tune is no chorale, and is not read again to find that out
    takes = [(split, row) for split, rows in built.items() for row in rows if row["file_name"].startswith("chorale")]
    (split, one), (other_split, other) = takes  # of one chorale, so never in two splits
    assert split == other_split and one["family"] == other["family"] and one["captions"] != other["captions"]
    files = sorted((tmp_path / "clips").glob("*/*.flac"))
    for file in files:
        samples, rate = soundfile.read(file)
        assert rate == 16000 and len(samples) == 20 * rate and np.sqrt(np.square(samples).mean()) > 0.01
    times = [file.stat().st_mtime_ns for file in files]
    assert build_rendered(tmp_path / "clips", [find_soundfont()] * 2, num_workers=1) == json.loads(json.dumps(built))
    assert [file.stat().st_mtime_ns for file in files] == times
