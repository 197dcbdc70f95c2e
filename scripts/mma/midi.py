# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""MIDI clips as parts of notes: compiled by MMA, read, and written."""

import hashlib
import io
import os
import subprocess
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import mido

from muscall.cache import replace_file


Note = tuple[int, int, int, int]  # start and length in ticks, pitch, velocity
Control = tuple[int, int, int]  # tick, controller, value


@dataclass
class Part:
    """One voice of a clip, which one instrument plays from beginning to end."""

    program: int
    notes: list[Note]
    drum: bool = False
    name: str = ""
    controls: list[Control] = field(default_factory=list)

    @property
    def is_bass(self) -> bool:
        """Return whether MMA wrote the part as a bass."""
        return self.name.startswith(("Bass", "Walk")) and not self.drum


def compile_mma(source: str, work: Path) -> mido.MidiFile:
    """
    Compile MMA source text to MIDI; results are kept in the folder `work`.

    Raises:
        `RuntimeError`: if MMA refuses the source; the message has the end of what it says.
    """
    stem = work / hashlib.sha256(source.encode()).hexdigest()[:24]
    path = stem.with_suffix(".mid")
    if not path.exists():
        stem.with_suffix(".mma").write_text(source)
        with replace_file(path) as partial:
            command = ["mma", str(stem.with_suffix(".mma")), "-f", str(partial)]
            environment = {**os.environ, "PYTHONHASHSEED": "0"}
            done = subprocess.run(command, capture_output=True, text=True, env=environment)
            if not partial.exists():
                raise RuntimeError(f"mma refused {stem}.mma: {done.stdout[-400:]}")
    return mido.MidiFile(path)


def read_parts(midi: mido.MidiFile, end: int) -> list[Part]:
    """Return the parts of a compiled file, one for each track of MMA and program in it, cut at tick `end`."""
    return [part for track in midi.tracks[1:] for part in _read_track(track, end)]


def _read_track(track: mido.MidiTrack, end: int) -> list[Part]:
    channel, program, now = None, 0, 0
    notes, controls, sounding = defaultdict(list), [], defaultdict(list)  # notes by program, sounding by pitch
    for event in track:
        now += event.time
        if event.type == "program_change":
            program = event.program
        elif event.type == "control_change" and event.control in (7, 10, 11, 64, 91, 93):
            controls.append((min(now, end), event.control, event.value))
        elif event.type in ("note_on", "note_off"):
            channel, struck = event.channel, event.type == "note_on" and event.velocity
            # A plucked string is struck again without a note-off in between.
            if sounding[event.note] and (not struck or track.name.startswith("Plectrum")):
                _end_note(notes, sounding[event.note].pop(0), event.note, min(now, end))
            if struck:
                sounding[event.note].append((now, event.velocity, program))
    for pitch, left in sounding.items():
        for start in left:
            _end_note(notes, start, pitch, end)
    return [Part(voice, sorted(played), channel == 9, track.name, controls) for voice, played in notes.items()]


def _end_note(notes: dict[int, list[Note]], begun: tuple[int, int, int], pitch: int, stop: int) -> None:
    start, velocity, program = begun
    if start < stop:
        notes[program].append((start, stop - start, pitch, velocity))


def write_midi(parts: list[Part], tempo: int, signature: str, end: int, ticks_per_beat: int) -> bytes:
    """
    Return a clip as the bytes of a small MIDI file, without text or bank selection.

    Args:
        tempo (`int`): Microseconds of a quarter note.
        signature (`str`): `3/4` for instance.
        end (`int`): The tick at which all notes stop.
    """
    midi = mido.MidiFile(type=1, ticks_per_beat=ticks_per_beat)
    numerator, denominator = map(int, signature.split("/"))
    head = mido.MetaMessage("time_signature", numerator=numerator, denominator=denominator)
    midi.tracks.append(mido.MidiTrack([head, mido.MetaMessage("set_tempo", tempo=tempo)]))
    channels = iter([channel for channel in range(16) if channel != 9])
    for part in parts:
        midi.tracks.append(_write_track(part, 9 if part.drum else next(channels), end))
    buffer = io.BytesIO()
    midi.save(file=buffer)
    return buffer.getvalue()


def _write_track(part: Part, channel: int, end: int) -> mido.MidiTrack:
    events = [(0, 0, mido.Message("program_change", channel=channel, program=part.program))]
    for tick, control, value in part.controls:
        events.append((tick, 1, mido.Message("control_change", channel=channel, control=control, value=value)))
    for start, length, pitch, velocity in part.notes:
        events.append((start, 3, mido.Message("note_on", channel=channel, note=pitch, velocity=velocity)))
        stop = min(start + length, end)
        events.append((stop, 2, mido.Message("note_on", channel=channel, note=pitch, velocity=0)))
    now, track = 0, mido.MidiTrack()
    for tick, _, message in sorted(events, key=lambda event: event[:2]):
        track.append(message.copy(time=tick - now))
        now = tick
    return track


def longest_rest(parts: list[Part], end: int) -> int:
    """Return the longest time in ticks in which no note sounds."""
    rest, until = 0, 0
    for start, length, *_ in sorted(note for part in parts for note in part.notes):
        rest, until = max(rest, start - until), max(until, start + length)
    return max(rest, end - until)
