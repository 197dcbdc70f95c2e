# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""One clip: its key, tempo and chords are drawn, MMA writes the band, and the facts are read off what sounds."""

import math
import random
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from scripts.mma.instruments import IDIOMATIC, KIT, LOUDNESS, LOWEST, PERCUSSION, PROGRAMS, REVOICE, REVOICE_BASS
from scripts.mma.midi import Note, Part, compile_mma, longest_rest, read_parts, write_midi


SEED = 20
SECONDS = 21.0  # the builder cuts at 20 s
MAX_REST = 1.2  # seconds without a note, more than which a thinned arrangement gets its band back
MANY_NOTES = 12  # with as many an accompanying part can stand alone

# Chords of one bar each (a_b: half a bar each), written in C major or C minor and transposed. Lines of major and of
# minor are separated by a semicolon.
PROGRESSIONS = {
    "pop": "C Am F G/C G Am F/C Em F G/C F C G/C Em Am F C Dm G G/F G Em Am F G C C;"
    "Cm Ab Eb Bb/Cm Bb Ab Bb/Cm Fm Ab G7/Cm Eb Bb Fm/Cm Gm Ab Bb",
    "rock": "C Bb F C/C F G F/C C F G/C F C G/C Am F G/C Eb F C;Cm Bb Ab Bb/Cm Eb F Cm/Cm Cm Ab Bb/Cm Fm Cm Bb",
    "jazz": "CM7 Am7 Dm7 G7/CM7 A7 Dm7 G7/Dm7 G7 CM7 CM7/CM7 F7 Em7 A7 Dm7 G7 CM7 G7/C6 Ebdim7 Dm7 G7/"
    "CM7 CM7 Gm7 C7 FM7 Fm6 Em7 A7 Dm7 G7/FM7 Bb7 CM7 A7 D7 D7 Dm7 G7/CM7_A7 Dm7_G7 Em7_A7 Dm7_G7;"
    "Cm7 Fm7 Dm7b5 G7/Cm6 Cm6 Dm7b5 G7b9/Fm7 Bb7 EbM7 AbM7 Dm7b5 G7 Cm6 Cm6/Cm7 F9 Cm7 F9/Cm7 Ab7 G7 Cm7/"
    "Cm6_Am7b5 Dm7b5_G7 Cm6 G7",
    "blues": "C7 C7 C7 C7 F7 F7 C7 C7 G7 F7 C7 G7/C7 F7 C7 C7 F7 F7 C7 A7 Dm7 G7 C7 G7/C7 C7 F7 F7 C7 G7 C7 G7/"
    "C7 G7 F7 F7 C7 G7 C7 G7;Cm7 Cm7 Cm7 Cm7 Fm7 Fm7 Cm7 Cm7 Ab7 G7 Cm7 G7/Cm7 Cm7 Fm7 Cm7 Ab7 G7 Cm7 G7",
    "latin": "C6 C6 Dm7 G7/CM7 CM7 D7 D7 Dm7 G7 CM7 G7/C F G F/C C G7 G7 G7 G7 C C/C Am Dm G7/C6 A7 Dm7 G7;"
    "Cm Fm G7 Cm/Cm Bb Ab G7/Cm6 G7 G7 Cm6/Cm Cm Fm Fm Dm7b5 G7 Cm Cm/Cm7 Bb7 Ab7 G7/Cm Fm Bb7 Eb Ab Dm7b5 G7 Cm",
    "folk": "C C F C C C G7 G7/C F C G7/C G7 G7 C/C C F F G7 G7 C C/C Am F G7/C F G7 C/C Em F C F C G7 C;"
    "Cm Bb Cm Bb/Cm Fm Cm G7/Cm Cm Bb Bb Cm Cm G7 Cm/Cm Eb Bb Cm/Cm Bb Ab Gm",
    "classical": "C G7 C F C Dm G7 C/C Am Dm G7 C F G7 C/C G Am Em F C F G7/C F Dm G Em Am D7 G7/C G7 G7 C;"
    "Cm Fm Cm G7 Cm Ab Dm7b5 G7/Cm Fm Bb Eb Ab Dm7b5 G7 Cm/Cm Gm Ab Eb Fm Cm Dm7b5 G7/Cm G7 G7 Cm",
    "gospel": "C C7 F Fm6 C A7 D7 G7/C F C G7/C E7 Am C7 F G7 C G7/C G Am F C G F C/F C G C;"
    "Cm Fm Cm G7/Cm Ab Fm G7/Cm Cm7 Fm7 Cm Ab7 G7 Cm G7",
    "modal": "C Bb C Bb/C7 Bb7 C7 F7/CM7 D CM7 D;Cm7 F7 Cm7 F7/Cm Db Cm Db/Cm Cm Bb Cm/Cm7 Cm7 Dm7 Dm7",
}
CHORDS = {
    "": (0, 4, 7), "m": (0, 3, 7), "7": (0, 4, 7, 10), "m7": (0, 3, 7, 10), "M7": (0, 4, 7, 11), "6": (0, 4, 7, 9),
    "m6": (0, 3, 7, 9), "9": (0, 4, 7, 10, 2), "dim7": (0, 3, 6, 9), "m7b5": (0, 3, 6, 10), "7b9": (0, 4, 7, 10, 1),
}  # fmt: skip
NOTES = {"C": 0, "Db": 1, "D": 2, "Eb": 3, "E": 4, "F": 5, "Gb": 6, "G": 7, "Ab": 8, "A": 9, "Bb": 10, "B": 11}
SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}


@dataclass(frozen=True)
class Song:
    """
    What is drawn for a clip before there are notes.

    Args:
        style (`dict`): See [`read_styles`].
        bpm (`int`): Felt beats in a minute.
        tempo (`int`): Quarter notes in a minute.
        key (`int`), mode (`str`): Pitch class of the tonic, and `major` or `minor`.
        idiom (`str`): A key of `PROGRESSIONS`.
        bars (`list[list[tuple[int, str]]]`): Root and suffix of the chords of each bar.
    """

    style: dict
    bpm: int
    tempo: int
    key: int
    mode: str
    idiom: str
    bars: list[list[tuple[int, str]]]


def draw_song(rng: random.Random, style: dict) -> Song:
    """Return a random song in a style."""
    tempo = round(rng.randint(*style["bpm"]) * style["pulse"])
    beats = style["beats"]
    key, mode = rng.randrange(12), "minor" if rng.random() < 0.4 else "major"
    idiom = style["idioms"][0] if rng.random() < 0.7 else rng.choice(style["idioms"])
    lines = PROGRESSIONS[idiom].split(";")[mode == "minor"].split("/")
    line = rng.choice([line for line in lines if beats % 2 == 0 or "_" not in line])
    pattern = [bar.split("_") for bar in line.split()]
    count = math.ceil((SECONDS + 0.5) * tempo / 60 / beats)
    bars = [[transpose(chord, key) for chord in pattern[bar % len(pattern)]] for bar in range(count)]
    return Song(style, round(tempo / style["pulse"]), tempo, key, mode, idiom, bars)


def transpose(chord: str, key: int) -> tuple[int, str]:
    """Return the root of a chord in a key, as a pitch class, and its suffix."""
    root, suffix = re.fullmatch(r"([A-G]b?)(.*)", chord).groups()
    return (NOTES[root] + key) % 12, suffix


def write_source(song: Song, groove: str, seed: int) -> str:
    """Return a song as MMA source text."""
    names = list(NOTES)
    lines = [f"RndSeed {seed}", f"Tempo {song.tempo}", f"Groove {groove}"]
    hold = " / " * (song.style["beats"] // 2 - 1) + " "
    for number, bar in enumerate(song.bars, 1):
        lines.append(f"{number} " + hold.join(names[root] + suffix for root, suffix in bar))
    return "\n".join(lines) + "\n"


def find_feel(parts: list[Part], pulse_ticks: float, metre: str) -> str:
    """Return `compound`, `swing` or `straight`: where between the beats the notes of the compiled groove fall."""
    if metre in ("6/8", "12/8"):
        return "compound"
    phases = [note[0] % pulse_ticks / pulse_ticks for part in parts for note in part.notes]
    half = sum(0.44 < phase < 0.56 for phase in phases)
    third = sum(0.62 < phase < 0.72 for phase in phases)
    return "swing" if third > 1.5 * half and third > 0.04 * len(phases) else "straight"


def thin(rng: random.Random, parts: list[Part], end: int, tick_seconds: float) -> list[Part]:
    """Leave some parts out of some clips: no drums, a duo or trio, or one accompanying instrument alone."""
    drums = [part for part in parts if part.drum]
    bass = [part for part in parts if part.is_bass]
    others = [part for part in parts if not part.drum and not part.is_bass]
    able = [part for part in others if len(part.notes) >= MANY_NOTES]
    draw = rng.random()
    if draw < 0.14 and able:
        parts = others + bass
    elif draw < 0.24 and able:
        parts = [rng.choice(able)] + bass + (drums if rng.random() < 0.5 else [])
    elif draw < 0.30 and able:
        parts = [max(others, key=lambda part: sum(length for _, length, _, _ in part.notes))]
    return others + bass + drums if longest_rest(parts, end) * tick_seconds > MAX_REST else parts


def exchange_voices(rng: random.Random, parts: list[Part]) -> None:
    """Give some parts another instrument of their kind."""
    for part in parts:
        roles = [role for role in REVOICE if part.program in role]
        if part.is_bass:
            if rng.random() < 0.2:
                part.program = rng.choice(REVOICE_BASS)
        elif not part.drum and roles and rng.random() < 0.3:
            part.program = rng.choice(roles[-1])


def draw_motif(rng: random.Random, pulses: int, split: tuple[float, ...], busy: float) -> list[tuple[float, bool]]:
    """Return the rhythm of a bar: the length of each step in pulses, and whether it sounds."""
    steps, left = [], pulses
    while left:
        draw = rng.random()
        if draw < busy:
            steps += [(length, rng.random() > 0.12) for length in split]
            left -= 1
        else:
            long = min(left, rng.choice((1, 1, 2) if draw < 0.9 else (2, 3, 4)))
            steps.append((float(long), rng.random() > 0.18))
            left -= long
    return steps


def write_melody(rng: random.Random, song: Song, program: int, feel: str, end: int, ticks_per_beat: int) -> list[Note]:
    """Return a melody: two rhythmic motifs of a bar in turn, a walk over the scale, chord tones on the beat."""
    beats, pulse = song.style["beats"], song.style["pulse"]
    compound = rng.choice([(2 / 3, 1 / 3), (1 / 3,) * 3])  # drawn for every feel, so that the other draws stay
    split = {"straight": (0.5, 0.5), "swing": (2 / 3, 1 / 3), "compound": compound}[feel]
    pulses = max(1, round(beats / pulse))
    busy = rng.uniform(0.25, 0.6)
    motifs = [draw_motif(rng, pulses, split, busy), draw_motif(rng, pulses, split, busy), [(float(pulses), True)]]
    form = rng.choice(((0, 1, 0, 2), (0, 0, 1, 2), (0, 1), (0, 1, 1, 0), (0, 2, 1, 2)))
    scale = (0, 3, 5, 6, 7, 10) if song.idiom == "blues" else SCALES[song.mode]
    low, notes = LOWEST[program], []
    pitch = low + rng.randint(4, 12)
    for index, chords in enumerate(song.bars):
        beat = 0.0
        for length, sounds in motifs[form[index % len(form)]]:
            start = round((index * beats + beat * pulse) * ticks_per_beat)
            root, suffix = chords[min(len(chords) - 1, int(beat * pulse * len(chords) / beats))]
            on_chord = beat == int(beat)
            steps = CHORDS[suffix] if on_chord else scale
            allowed = {((root if on_chord else song.key) + step) % 12 for step in steps}
            near = [p for p in range(max(low, pitch - 7), min(low + 20, pitch + 7) + 1) if p % 12 in allowed]
            weights = [1 / (1 + abs(p - pitch)) if p != pitch else 0.25 for p in near]
            if near and sounds:
                pitch = rng.choices(near, weights)[0]
                duration = round(length * pulse * ticks_per_beat * rng.uniform(0.8, 0.97))
                if start < end:
                    velocity = rng.randint(96, 112) + (6 if on_chord else 0)
                    notes.append((start, min(duration, end - start), pitch, velocity))
            beat += length
    return notes


def add_lead(
    rng: random.Random, song: Song, parts: list[Part], feel: str, end: int, ticks_per_beat: int
) -> list[Part]:
    """Return the parts, their volume set against that of a melody, and the melody after them."""
    taste = next((IDIOMATIC[name] for name in song.style["broad"] if name in IDIOMATIC), IDIOMATIC["ballad"])
    program = rng.choice(taste if rng.random() < 0.65 else tuple(LOWEST))
    notes = write_melody(rng, song, program, feel, end, ticks_per_beat)
    lift = max(-6, min(8, -LOUDNESS[program])) + (-5, -3, 0, 3, 3, 5)[min(len(parts), 6) - 1]  # dB
    volume = 100 * 10 ** (lift / 40)  # of the melody, when the band has 100, the default; the loudest is 127
    band = 100 if volume <= 127 else round(100 * 127 / volume)
    for part in parts:
        part.controls = [(0, 7, band), *part.controls]
    return [*parts, Part(program, notes, name="Lead", controls=[(0, 7, min(127, round(volume)))])]


def read_instruments(parts: list[Part], tick_seconds: float) -> dict:
    """
    Return what sounds in the first 20 s: `pitched` instruments by prominence, the `bass`, hand `percussion`, and
    whether there are `drums`.
    """
    loud, count, bass, hits = defaultdict(float), defaultdict(int), None, defaultdict(int)
    for part in parts:
        notes = [note for note in part.notes if note[0] * tick_seconds < 19.5]
        volume = next((value for _, control, value in part.controls if control == 7), 100) / 127
        name = PROGRAMS[part.program][0]
        for _, length, pitch, velocity in notes:
            if part.drum:
                hits["drums" if pitch in KIT else PERCUSSION.get(pitch, "")] += 1
                continue
            loud[name] += (velocity / 127 * volume) ** 2 * min(length * tick_seconds, 1.0)
            count[name] += 1
        if notes and part.is_bass:
            bass = name if "bass" in name or name == "tuba" else bass
    floor = 0.03 * max(loud.values(), default=0)
    names = [name for name in sorted(loud, key=lambda name: -loud[name]) if loud[name] > floor and count[name] >= 4]
    drums = hits.pop("drums", 0) >= 16
    percussion = [name for name in sorted(hits, key=lambda name: -hits[name]) if name and hits[name] >= 6]
    return {"pitched": names, "bass": bass if bass in names else None, "percussion": percussion, "drums": drums}


def name_key(key: int, mode: str) -> str:
    """Return `C# minor` for instance; a tonic that minor keys spell with a sharp has one."""
    name = list(NOTES)[key]
    tonic = {"Db": "C#", "Gb": "F#", "Ab": "G#"}.get(name, name) if mode == "minor" else name
    return f"{tonic} {mode}"


def make_clip(number: int, name: str, style: dict, groove: str, work: Path) -> tuple[bytes, dict]:
    """
    Make one clip.

    Args:
        number (`int`), name (`str`): Of the clip in its style, and of the style: what is drawn follows from them.
        groove (`str`): Of the style.
        work (`Path`): See [`compile_mma`].

    Returns:
        `tuple[bytes, dict]`: its MIDI file, and the true facts that captions are made of.
    """
    rng = random.Random(f"{SEED} {name} {number}")
    song = draw_song(rng, style)
    midi = compile_mma(write_source(song, groove, rng.randrange(10**6)), work)
    ticks_per_beat = midi.ticks_per_beat
    tick_seconds = 60 / song.tempo / ticks_per_beat
    end = round(SECONDS / tick_seconds)
    parts = read_parts(midi, end)
    feel = find_feel(parts, style["pulse"] * ticks_per_beat, style["metre"])

    parts = thin(rng, parts, end, tick_seconds)
    exchange_voices(rng, parts)
    lead = None
    if rng.random() < 2 / 3 or all(part.drum for part in parts):
        parts = add_lead(rng, song, parts, feel, end, ticks_per_beat)
        lead = PROGRAMS[parts[-1].program][0]

    sounding = read_instruments(parts, tick_seconds)
    facts = {"bpm": song.bpm, "metre": style["metre"], "key": name_key(song.key, song.mode), **sounding}
    facts |= {"instruments": sounding["pitched"] + sounding["percussion"], "mode": song.mode, "feel": feel}
    facts |= {"melody": lead if lead in sounding["pitched"] else None}
    facts |= {"percussive": any(part.drum for part in parts)}
    return write_midi(parts, round(60e6 / song.tempo), style["metre"], end, ticks_per_beat), facts
