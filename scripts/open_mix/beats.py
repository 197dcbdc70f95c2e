# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
Beats in styles that neither the MMA library nor the packages of games have, reggae and hip hop above all: patterns of
one bar in sixteen steps for drums, bass and chords, played in many keys, tempos and instruments.
"""

from dataclasses import dataclass
from random import Random

from scripts.mma.instruments import PROGRAMS
from scripts.mma.midi import Part, write_midi
from scripts.wording import fix_articles, join_words


TICKS = 480  # of a quarter note
STEP = TICKS // 4
STEPS = 16  # in a bar
SECONDS = 21  # the renderer cuts at 20
TAKES = 24  # of each style
DRUMS = {"kick": 36, "snare": 38, "rim": 37, "clap": 39, "hat": 42, "open": 46, "shaker": 70, "tambourine": 54}
DEGREES = {"r": 0, "3": 3, "5": 7, "7": 10, "o": 12}  # of the bass, in semitones above the root
MINOR, MAJOR, MINOR7, MAJOR7 = (0, 3, 7), (0, 4, 7), (0, 3, 7, 10), (0, 4, 7, 11)
PENTATONIC = (0, 3, 5, 7, 10)


@dataclass(frozen=True)
class Style:
    """
    A style as patterns of a bar: a letter or sign for each of its steps, and `.` where nothing happens.

    Attributes:
        names (`tuple[str, ...]`): What the music is called, from the most usual name on.
        tempo (`tuple[int, int]`): The least and the most quarters in a minute.
        drums (`dict[str, str]`): A pattern for each of `DRUMS` that plays.
        bass, chords (`str`): `r35o7` are degrees, see `DEGREES`; `x` is a chord, held until the next one if `held`.
        programs (`dict[str, tuple[int, ...]]`): Those that may play the `bass`, the `chords` and the `lead`.
        progressions (`tuple`): Roots in semitones above the key and their chords, one a bar.
        swing (`float`): How late every other step is, in steps.
    """

    names: tuple[str, ...]
    tempo: tuple[int, int]
    drums: dict[str, str]
    bass: str
    chords: str
    programs: dict[str, tuple[int, ...]]
    progressions: tuple
    held: bool = False
    swing: float = 0.0
    moods: tuple[str, ...] = ("laid-back", "relaxed", "sunny")


ROUNDS = (((0, MINOR), (5, MINOR)), ((0, MINOR), (8, MAJOR), (10, MAJOR), (7, MINOR)), ((0, MAJOR), (7, MAJOR)))
SEVENTHS = (
    ((0, MINOR7), (5, MINOR7)),
    ((2, MINOR7), (7, MINOR7), (0, MAJOR7), (9, MINOR7)),
    ((0, MAJOR7), (5, MAJOR7)),
)
REGGAE = {"bass": (33, 32), "chords": (27, 28, 16, 0), "lead": (22, 57, 16, 66)}
HIP_HOP = {"bass": (38, 33, 32), "chords": (4, 0, 11, 48), "lead": (73, 11, 56, 4)}
STYLES = (
    Style(
        ("reggae", "roots reggae", "one drop reggae", "Jamaican reggae"),
        (68, 84),
        {"kick": "........x.......", "rim": "........x.......", "hat": "x.x.x.x.x.x.x.x."},
        "....r.r.5...r...",
        "..x...x...x...x.",
        REGGAE,
        ROUNDS,
    ),
    Style(
        ("dub", "dub reggae", "instrumental dub"),
        (64, 76),
        {
            "kick": "x.......x.......",
            "snare": "........x.......",
            "hat": "..x...x...x...x.",
            "shaker": "x.x.x.x.x.x.x.x.",
        },
        "r...r.5.....r.3.",
        "..x.......x.....",
        REGGAE | {"bass": (38, 33)},
        ROUNDS[:1],
        moods=("spacious", "heavy", "hypnotic"),
    ),
    Style(
        ("reggaeton", "a dembow beat", "Latin urban music"),
        (88, 98),
        {"kick": "x...x...x...x...", "snare": "...x..x....x..x.", "hat": "x.x.x.x.x.x.x.x."},
        "r.....r.r.....5.",
        "x.......x.......",
        {"bass": (38, 39), "chords": (24, 90, 4), "lead": (24, 80, 11)},
        ROUNDS[1:2],
        held=True,
        moods=("danceable", "sensual", "party"),
    ),
    Style(
        ("hip hop", "boom bap", "a hip hop beat", "old school hip hop", "a rap instrumental"),
        (82, 96),
        {"kick": "x......x..x.....", "snare": "....x.......x...", "hat": "x.x.x.x.x.x.x.x."},
        "r......r..5.....",
        "x...............",
        HIP_HOP,
        SEVENTHS[:2],
        held=True,
        swing=0.3,
        moods=("laid-back", "gritty", "head-nodding"),
    ),
    Style(
        ("lo-fi hip hop", "chillhop", "a lo-fi beat", "beats to study to"),
        (68, 84),
        {"kick": "x.......x.x.....", "rim": "....x.......x...", "shaker": "x.x.x.x.x.x.x.x."},
        "r.......r.....5.",
        "x.......x.......",
        HIP_HOP | {"bass": (32, 33), "chords": (4, 0, 11)},
        SEVENTHS,
        held=True,
        swing=0.35,
        moods=("relaxed", "mellow", "sleepy"),
    ),
    Style(
        ("trap", "a trap beat", "southern hip hop", "an 808 beat"),
        (66, 75),
        {
            "kick": "x.....x...x.....",
            "clap": "........x.......",
            "hat": "xxxxxxxxxxxxxxxx",
            "open": "..............x.",
        },
        "r.....r...3.....",
        "x...............",
        {"bass": (38, 39), "chords": (48, 90, 10), "lead": (11, 14, 98)},
        ROUNDS[:2],
        held=True,
        moods=("dark", "menacing", "heavy"),
    ),
    Style(
        ("soul", "sixties soul", "Motown soul", "a soul track", "northern soul"),
        (104, 126),
        {"kick": "x.......x.x.....", "snare": "x...x...x...x...", "tambourine": "..x...x...x...x."},
        "r..r..5.r..r5.o.",
        "....x.......x...",
        {"bass": (33,), "chords": (61, 16, 0, 27), "lead": (66, 57, 48)},
        (((0, MAJOR), (5, MAJOR)), ((0, MAJOR), (9, MINOR), (2, MINOR), (7, MAJOR))),
        moods=("joyful", "heartfelt", "upbeat"),
    ),
    Style(
        ("slow R&B", "a slow jam", "neo soul", "contemporary R&B"),
        (60, 74),
        {"kick": "x.....x...x.....", "snare": "....x.......x...", "hat": "x.x.x.xxx.x.x.x."},
        "r.....r...5..3..",
        "x.......x.......",
        {"bass": (33, 38), "chords": (4, 5, 89), "lead": (66, 27, 4)},
        SEVENTHS,
        held=True,
        swing=0.25,
        moods=("smooth", "romantic", "intimate"),
    ),
    Style(
        ("funk", "a funk groove", "James Brown style funk"),
        (96, 112),
        {"kick": "x..x..x...x..x..", "snare": "....x..x.x..x...", "hat": "xxxxxxxxxxxxxxxx"},
        "r..o..7.r.r.o.57",
        "..x..x.x..x..x..",
        {"bass": (36, 37, 33), "chords": (27, 28, 7), "lead": (61, 66, 57)},
        (((0, MINOR7),), ((0, MINOR7), (0, MINOR7), (5, MINOR7), (0, MINOR7))),
        moods=("groovy", "tight", "energetic"),
    ),
    Style(
        ("drum and bass", "jungle", "a fast breakbeat"),
        (168, 176),
        {"kick": "x.........x.....", "snare": "....x.......x..x", "hat": "x.x.x.x.x.x.x.x."},
        "r...............",
        "x...............",
        {"bass": (38, 39, 87), "chords": (89, 90, 95), "lead": (81, 80, 4)},
        ROUNDS[:2],
        held=True,
        moods=("fast", "restless", "energetic"),
    ),
    Style(
        ("house", "house music", "deep house", "a four-on-the-floor beat"),
        (118, 126),
        {
            "kick": "x...x...x...x...",
            "clap": "....x.......x...",
            "open": "..x...x...x...x.",
            "shaker": "xxxxxxxxxxxxxxxx",
        },
        "..r...r...r..r5.",
        "..x..x....x..x..",
        {"bass": (38, 39), "chords": (0, 4, 90), "lead": (81, 61, 48)},
        SEVENTHS[:2],
        moods=("danceable", "driving", "club"),
    ),
    Style(
        ("disco", "seventies disco", "a disco track"),
        (112, 124),
        {
            "kick": "x...x...x...x...",
            "snare": "....x.......x...",
            "open": "..x...x...x...x.",
            "tambourine": "x.x.x.x.x.x.x.x.",
        },
        "r.o.r.o.r.o.r.o.",
        "..x...x..x....x.",
        {"bass": (33, 36), "chords": (27, 28, 4), "lead": (48, 61, 81)},
        SEVENTHS[:2],
        moods=("glamorous", "danceable", "party"),
    ),
)


def place_steps(pattern: str, bars: int, swing: float) -> list[tuple[int, int, str]]:
    """Return bar, tick and sign of all that a pattern plays."""
    events = []
    for bar in range(bars):
        for step, sign in enumerate(pattern):
            if sign != ".":
                events.append((bar, round((bar * STEPS + step + swing * (step % 2)) * STEP), sign))
    return events


def play_drums(style: Style, bars: int, random: Random) -> Part:
    """Return the drums, each note a little louder or softer."""
    notes = [
        (tick, STEP, DRUMS[name], random.randint(78, 100) - (18 if name in ("hat", "shaker") else 0))
        for name, pattern in style.drums.items()
        for _, tick, _ in place_steps(pattern, bars, style.swing)
    ]
    return Part(0, sorted(notes), drum=True)


def play_bass(style: Style, progression: tuple, bars: int, key: int, program: int) -> Part:
    """Return the bass, between the E of a bass guitar and the octave above it."""
    notes = []
    for bar, tick, sign in place_steps(style.bass, bars, style.swing):
        root = 28 + (key + progression[bar % len(progression)][0] - 28) % 12
        notes.append((tick, 2 * STEP, root + DEGREES[sign], 96))
    return Part(program, notes)


def play_chords(style: Style, progression: tuple, bars: int, key: int, program: int) -> Part:
    """Return the chords around middle C, short or held until the next one."""
    notes, events = [], place_steps(style.chords, bars, style.swing)
    ends = [tick for _, tick, _ in events[1:]] + [bars * STEPS * STEP]
    for (bar, tick, _), end in zip(events, ends, strict=True):
        root, chord = progression[bar % len(progression)]
        pitches = sorted(55 + (key + root + note - 55) % 12 for note in chord)
        notes += [(tick, end - tick - 10 if style.held else STEP, pitch, 70) for pitch in pitches]
    return Part(program, sorted(notes))


def play_lead(bars: int, key: int, minor: bool, program: int, random: Random) -> Part:
    """Return a phrase of two bars in the pentatonic scale, played in every other two bars."""
    base = 67 + (key + (0 if minor else 9) - 67) % 12  # of the relative minor
    phrase, step = [], random.choice((0, 2, 4))
    while step < 2 * STEPS - 4:
        size = random.choice((2, 2, 3, 4))
        phrase.append((step * STEP, size * STEP - 20, base + random.choice(PENTATONIC), 84))
        step += size + random.choice((0, 0, 2))
    notes = []
    for bar in range(0, bars - 1, 4):
        notes += [(bar * STEPS * STEP + tick, size, pitch, velocity) for tick, size, pitch, velocity in phrase]
    return Part(program, notes)


def play(style: Style, random: Random) -> tuple[bytes, list[str], dict]:
    """
    Play a style at random.

    Returns:
        `tuple[bytes, list[str], dict]`: the MIDI file, its captions, and what they were written from.
    """
    quarters, key = random.randint(*style.tempo), random.randint(0, 11)
    progression = random.choice(style.progressions)
    bars = int(SECONDS * quarters / 60 / 4) + 1
    programs = {name: random.choice(options) for name, options in style.programs.items()}
    parts = [play_drums(style, bars, random), play_bass(style, progression, bars, key, programs["bass"])]
    parts.append(play_chords(style, progression, bars, key, programs["chords"]))
    voices = ["bass", "chords"]
    if random.random() < 0.6:
        voices.append("lead")
        minor = progression[0][1] in (MINOR, MINOR7)
        parts.append(play_lead(bars, key, minor, programs["lead"], random))
    instruments = {name: random.choice(PROGRAMS[programs[name]]) for name in voices}
    others = list(dict.fromkeys(instruments[name] for name in reversed(voices)))
    end = round(SECONDS * quarters / 60 * TICKS)
    for part in parts:
        part.notes = [note for note in part.notes if note[0] < end]
    midi = write_midi(parts, round(60e6 / quarters), "4/4", end, TICKS)
    captions = write_captions(style, others, random)
    facts = {"instruments": join_words([*others, "drums"]), "style": style.names[0], "quarters_per_minute": quarters}
    return midi, captions, facts


def write_captions(style: Style, instruments: list[str], random: Random) -> list[str]:
    """Return sentences that are true of a beat: its style by several names, its mood, and what plays."""
    name, usual, mood = random.choice(style.names), style.names[0], random.choice(style.moods)
    everyone = join_words([*instruments, "drums"])
    captions = [
        name,
        f"{mood} {usual}",
        f"{usual} with {everyone}",
        f"instrumental {usual}, {', '.join(instruments)}",
        f"a {mood} {usual} groove with {random.choice(instruments)}",
        f"{random.choice(style.names)}, {mood}, {instruments[0]}, drums",
    ]
    return list(dict.fromkeys(fix_articles(caption) for caption in captions))
