# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Beats of the open mix: what their patterns say is what sounds, and what their captions name."""

import io
from random import Random

import mido
import numpy as np
import pytest

from corpus.build import find_soundfont, read_soundfont, render
from scripts.mma.instruments import PROGRAMS
from scripts.open_mix.beats import DEGREES, DRUMS, STEP, STEPS, STYLES, Style, place_steps, play
from scripts.open_mix.rendered import BeatTask


def notes_of(midi):
    """Tick, channel and pitch of all that sounds."""
    notes = []
    for track in mido.MidiFile(file=io.BytesIO(midi)).tracks:
        tick = 0
        for event in track:
            tick += event.time
            if event.type == "note_on" and event.velocity:
                notes.append((tick, event.channel, event.note))
    return notes


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.names[0])
def test_patterns_are_bars_of_sixteen_steps(style):
    assert {len(pattern) for pattern in (*style.drums.values(), style.bass, style.chords)} == {STEPS}
    assert set(style.drums) <= set(DRUMS) and set(style.bass) <= {*DEGREES, "."} and set(style.chords) <= {"x", "."}
    assert all(0 <= program < 128 for programs in style.programs.values() for program in programs)


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.names[0])
def test_what_sounds_is_what_the_pattern_and_the_captions_say(style):
    for take in range(4):
        midi, captions, facts = play(style, Random(take))
        file, notes = mido.MidiFile(file=io.BytesIO(midi)), notes_of(midi)
        assert file.length >= 20
        first_bar = {(tick, pitch) for tick, channel, pitch in notes if channel == 9 and tick < STEPS * STEP}
        expected = {
            (tick, DRUMS[name]) for name, row in style.drums.items() for _, tick, _ in place_steps(row, 1, style.swing)
        }
        assert first_bar == expected
        programs = {event.program for track in file.tracks for event in track if event.type == "program_change"}
        heard = {name for program in programs for name in PROGRAMS[program]}
        named = facts["instruments"].replace(" and ", ", ").split(", ")
        assert set(named) - {"drums"} <= heard
        assert captions[0] in style.names and all(caption == " ".join(caption.split()) for caption in captions)
        assert all(name in captions[2] for name in named)
    assert play(style, Random(1)) == play(style, Random(1))


def test_late_steps_are_late():
    assert place_steps("x.x.............", 1, 0.5) == [(0, 0, "x"), (0, 2 * STEP, "x")]
    assert place_steps(".x..............", 2, 0.5) == [(0, round(1.5 * STEP), "x"), (1, round(17.5 * STEP), "x")]


def test_a_beat_can_be_heard():
    style = next(style for style in STYLES if style.names[0] == "reggae")
    midi, row = BeatTask.of(style, 3).make()
    wave = render(midi, read_soundfont(find_soundfont()))
    assert row["title"] == "reggae" and row["family"] == "reggae 3" and isinstance(style, Style)
    assert len(wave) == 20 * 16000 and np.square(wave).mean() ** 0.5 > 0.02
