# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
Rendered music with true captions for the open mix: fiddle tunes and chorales that music21 carries, arranged here;
those of the shipped MMA clips that are for training, in another key and tempo than the default corpus has; and the
beats of `beats.py`.

The encodings of music21 are read where it is installed and never shipped.
"""

import hashlib
import io
import json
import re
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from random import Random

import mido
import soundfile
from tqdm import tqdm

from corpus.build import RATE, SPLITS, read_rows, read_soundfont, read_sources, render
from muscall.cache import replace_file
from scripts.files import replace_text
from scripts.mma.instruments import LOWEST, PROGRAMS
from scripts.mma.midi import Part, write_midi
from scripts.open_mix.beats import STYLES, TAKES, Style, play
from scripts.wording import fix_articles, join_words


SOUNDFONT = ("fluid-soundfont-gm", "usr/share/sounds/sf2/FluidR3_GM.sf2")  # Debian package (MIT licence), file in it
SECONDS = 21  # the renderer cuts at 20
TICKS = 480  # of a quarter note
# What a tune is called, notes in a second when played fast, and what else is true of it.
DANCES = {
    "reel": (7.5, ["Irish reel", "reel", "fiddle tune", "Celtic dance"]),
    "hornpipe": (6.0, ["hornpipe", "sailors' dance", "fiddle tune", "folk dance"]),
    "clog": (6.0, ["clog dance", "fiddle tune", "folk dance"]),
    "jig": (6.5, ["Irish jig", "jig", "fiddle tune", "Celtic dance"]),
    "slip jig": (6.5, ["slip jig", "Irish jig", "Celtic dance"]),
    "strathspey": (5.0, ["strathspey", "Scottish dance", "fiddle tune"]),
    "highland fling": (5.5, ["Highland fling", "Scottish dance", "folk dance"]),
}
TRADITIONAL = ["traditional music", "folk music", "a traditional tune", "a folk tune", "old dance music", "folk"]
BACKINGS = {  # how chords are played, and the programs that play them so
    "strum": (24, 25, 27, 105, 15),
    "vamp": (0, 21, 4, 26),
    "arpeggio": (46, 0, 24, 6),
    "hold": (48, 19, 52, 89, 21),
}
ENSEMBLES = [  # the programs of soprano, alto, tenor, bass; what they are together
    ((40, 40, 41, 42), ["a string quartet", "violins, viola and cello", "bowed strings"]),
    ((48, 48, 48, 48), ["a string orchestra", "strings", "a string section"]),
    ((52, 52, 52, 52), ["a choir", "voices in four parts", "choir voices without words"]),
    ((19, 19, 19, 19), ["a church organ", "a pipe organ", "an organist in a church"]),
    ((56, 56, 60, 57), ["a brass quartet", "trumpets, horn and trombone", "a brass ensemble"]),
    ((57, 57, 57, 58), ["trombones and tuba", "low brass", "a brass ensemble"]),
    ((73, 68, 71, 70), ["a woodwind quartet", "flute, oboe, clarinet and bassoon", "woodwinds"]),
    ((71, 71, 71, 71), ["clarinets", "a clarinet quartet", "a clarinet choir"]),
    ((64, 65, 66, 67), ["a saxophone quartet", "saxophones", "a choir of saxophones"]),
    ((74, 74, 74, 74), ["recorders", "a recorder consort", "a consort of recorders"]),
    ((0, 0, 0, 0), ["a piano", "solo piano", "a pianist"]),
    ((6, 6, 6, 6), ["a harpsichord", "solo harpsichord", "baroque keyboard"]),
    ((24, 24, 24, 24), ["a classical guitar", "nylon-string guitar", "a lute or guitar"]),
    ((21, 21, 21, 21), ["an accordion", "solo accordion", "an accordionist"]),
    ((89, 89, 89, 89), ["synthesizer pads", "a warm synthesizer", "electronic pads"]),
    ((11, 11, 11, 11), ["a vibraphone", "vibes", "mallets"]),
]
SACRED = [
    "a chorale by Bach",
    "a hymn",
    "baroque music",
    "church music",
    "a chorale",
    "four-part harmony",
    "sacred music",
]
CHOIR = 52  # the program that sings
DRUM_PATTERN = ((0, 36), (0.5, 38), (0, 42), (0.25, 42), (0.5, 42), (0.75, 42))  # share of a chord's time, drum
KEY_OR_TEMPO = re.compile(r"\bbpm\b|\b[A-G](b|#| flat| sharp)? (major|minor)\b")


ScoreNote = tuple[float, float, int]  # start and length in quarters, MIDI pitch
Chord = tuple[float, list[int]]  # start in quarters, pitch classes


@dataclass(frozen=True)
class Score:
    """
    A tune or a chorale as music21 encodes it.

    Args:
        name, title (`str`): Where music21 has it, and what it is called.
        dance (`str`, *optional*): A key of `DANCES`; `None`: a chorale.
        metre (`str`): `6/8`
        bar (`float`): Its length in quarters.
        tonic, minor (`int`, `bool`): Pitch class and mode of the key.
        parts (`list[list[ScoreNote]]`): The notes of each part.
    """

    name: str
    title: str
    dance: str | None
    metre: str
    bar: float
    tonic: int
    minor: bool
    parts: list[list[ScoreNote]]

    @property
    def length(self) -> float:
        """Return the length in quarters."""
        return max(start + size for part in self.parts for start, size, _ in part)


@dataclass(frozen=True)
class Arrangement:
    """
    A score for instruments, with what it is called.

    Args:
        parts (`list[Part]`): What sounds.
        quarters (`float`): Quarter notes in a minute.
        captions (`list[str]`): Each true of it; some may be equal.
        facts (`dict`): What the captions were written from.
    """

    parts: list[Part]
    quarters: float
    captions: list[str]
    facts: dict


def read_score(path: Path, dance: str | None) -> Score | None:
    """Return a score, or `None` where it is too short, has no metre, or is no chorale of four parts."""
    from music21 import converter  # takes seconds to import

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        score = converter.parse(path)
    parts = []
    for part in score.parts or [score]:
        notes = part.flatten().stripTies().notes
        parts.append(
            [
                (float(note.offset), float(note.quarterLength), max(pitch.midi for pitch in note.pitches))
                for note in notes
                if note.quarterLength > 0 and note.pitches
            ]
        )
    flat = score.flatten()
    metres, key = flat.getElementsByClass("TimeSignature"), flat.analyze("key")
    if not metres or len(parts[0]) < 16 or (dance is None and len(parts) != 4):
        return None
    title = (score.metadata.title if score.metadata else None) or path.stem
    return Score(
        f"{path.parent.name}/{path.name}",
        title,
        dance,
        metres[0].ratioString,
        float(metres[0].barDuration.quarterLength),
        key.tonic.pitchClass,
        key.mode == "minor",
        parts if dance is None else parts[:1],
    )


def find_scores() -> list[tuple[Path, str | None]]:
    """Return the files of Ryan's Mammoth Collection (1883) and of Bach's chorales in the installed music21."""
    try:
        import music21
    except ImportError as error:
        raise ImportError("the rendered half of the open mix needs music21: pip install music21") from error
    root, scores = Path(music21.__file__).parent / "corpus", []
    for path in sorted((root / "ryansMammoth").glob("*.abc")):
        stated = re.search(r"^R:(.*)$", path.read_text(errors="replace"), re.M)
        dance = stated and stated[1].strip().lower().replace("slipjig", "slip jig")
        if dance in DANCES:
            scores.append((path, dance))
    return scores + [(path, None) for path in sorted((root / "bach").glob("bwv*.mxl"))]


def chords(score: Score) -> list[Chord]:
    """Return for each half of a bar (whole in uneven metres) the triad of the key that the melody fits best."""
    step = score.bar / 2 if score.bar in (4.0, 2.0, 3.0) and score.metre != "3/4" else score.bar
    scale = [0, 2, 3, 5, 7, 8, 10] if score.minor else [0, 2, 4, 5, 7, 9, 11]
    triads = {degree: [(score.tonic + scale[(degree + third) % 7]) % 12 for third in (0, 2, 4)] for degree in range(7)}
    likely = {0: 0.35, 4: 0.25, 3: 0.2, 5: 0.1, 6: 0.15 if score.minor else -0.5, 1: 0.0, 2: -0.1}
    (melody,), harmony = score.parts, []
    for number in range(int(melody[-1][0] // step) + 1):
        start = number * step
        weight = dict.fromkeys(range(12), 0.0)
        for offset, length, pitch in melody:
            if start <= offset < start + step:
                weight[pitch % 12] += length
        whole = sum(weight.values()) or 1
        best = max(triads, key=lambda degree: sum(weight[note] for note in triads[degree]) / whole + likely[degree])
        harmony.append((start, triads[best]))
    return harmony


def backing(kind: str, harmony: list[Chord], step: float, low: int) -> list[ScoreNote]:
    """Return the notes of an accompaniment: `kind` is a key of `BACKINGS`, `low` its lowest pitch but for basses."""
    notes = []
    for start, triad in harmony:
        pitches = sorted(low + (note - low) % 12 for note in triad)
        if kind == "hold":
            notes += [(start, step, pitch) for pitch in pitches]
        elif kind == "arpeggio":
            order = [*pitches, pitches[1] + 12]
            notes += [(start + number * step / 4, step / 2, pitch) for number, pitch in enumerate(order)]
        else:
            half = step / 2
            notes.append((start, half, low - 12 + (triad[0] - low) % 12))
            beats = (0.5,) if kind == "vamp" else (0.25, 0.5, 0.75)
            notes += [(start + beat * step, half / 2, pitch) for beat in beats for pitch in pitches]
    return notes


def make_part(
    notes: list[ScoreNote], program: int, loops: int, length: float, shift: int, velocity: int, drum: bool = False
) -> Part:
    """Return notes, `shift` semitones higher and repeated every `length` quarters, as a part in ticks."""
    events = [
        (int((start + loop * length) * TICKS), max(1, int(0.95 * size * TICKS)), pitch + shift, velocity)
        for loop in range(loops)
        for start, size, pitch in notes
    ]
    return Part(program, sorted(events), drum)


def arrange_chorale(score: Score, random: Random, key: int) -> Arrangement:
    """Return a chorale for four instruments of a kind, `key` semitones higher."""
    programs, names = random.choice(ENSEMBLES)
    quarters = random.choice([56, 66, 76, 88])
    pace = "slow" if quarters < 70 else "moderate"
    loops = int(SECONDS * quarters / 60 / score.length) + 1
    parts = [
        make_part(notes, program, loops, score.length, key, 84)
        for notes, program in zip(score.parts, programs, strict=True)
    ]
    name, kind = random.choice(names), random.choice(SACRED)
    mood = random.choice(["solemn", "calm", "stately", "peaceful"])
    sung = programs[0] == CHOIR
    captions = [
        f"{kind} sung by {name}" if sung else f"{kind} played by {name}",
        f"{pace} and {mood}, {names[1]}" if pace == "slow" else f"{mood} music, {names[1]}",
        random.choice([name, f"{names[2]}, baroque", f"{mood} classical music with {name}"]),
        "A choir sings a hymn." if sung else f"{names[0].capitalize()} plays {random.choice(SACRED)}.",
    ]
    facts = {"instruments": names[0], "style": "chorale", "quarters_per_minute": quarters}
    return Arrangement(parts, quarters, captions, facts)


def accompany(score: Score, random: Random, key: int, program: int, loops: int) -> tuple[list[Part], list[str]]:
    """Return the parts beside the melody of a tune, which `program` plays, and their names: none, one or a band."""
    parts, names = [], []
    texture = random.choice(["solo", "solo", "backed", "backed", "band"])
    harmony = chords(score)
    step = harmony[1][0] - harmony[0][0] if len(harmony) > 1 else score.bar
    if texture != "solo":
        kind = random.choice(list(BACKINGS))
        other = random.choice([candidate for candidate in BACKINGS[kind] if candidate != program])
        names.append(random.choice(PROGRAMS[other]))
        parts.append(make_part(backing(kind, harmony, step, 50), other, loops, score.length, key, 66))
    if texture == "band":
        bass = random.choice([32, 33])
        names.append("bass")
        roots = [(start, step / 2, 36 + (triad[0] - 36) % 12) for start, triad in harmony]
        parts.append(make_part(roots, bass, loops, score.length, key, 80))
        if random.random() < 0.7:
            names.append("drums")
            beats = [(start + share * step, 0.25, drum) for start, _ in harmony for share, drum in DRUM_PATTERN]
            parts.append(make_part(beats, 0, loops, score.length, 0, 72, drum=True))
    return parts, names


def arrange_tune(score: Score, random: Random, key: int) -> Arrangement:
    """Return a tune for an instrument, alone or accompanied, about `key` semitones higher."""
    rate, dance_names = DANCES[score.dance]
    pace = random.choice(["fast", "fast", "lively", "slow"])
    rate *= {"fast": 1.0, "lively": 0.85, "slow": 0.45}[pace]
    (melody,) = score.parts
    quarters = 60 * rate / (len(melody) / score.length)
    loops = int(SECONDS * quarters / 60 / score.length) + 1
    program = random.choice(list(LOWEST))
    lowest = min(pitch for _, _, pitch in melody)
    octaves = -(-(LOWEST[program] - 5 - lowest - key) // 12)
    lead = PROGRAMS[program]
    parts, others = accompany(score, random, key, program, loops)
    parts = [make_part(melody, program, loops, score.length, key + 12 * octaves, 100), *parts]
    name, style = random.choice(lead), random.choice(dance_names)
    over = f" with {join_words(others)}" if others else ""
    captions = [
        f"{pace} {style} on the {name}{over}",
        f"{random.choice(TRADITIONAL)}, {name}" + "".join(f", {other}" for other in others),
        f"solo {name}" if not others else f"{name} and {join_words(others)}",
        fix_articles(f"A {name} plays {random.choice(['a tune', 'a melody', 'a dance'])}{over}."),
        f"{random.choice(lead)}, {pace}, {random.choice(dance_names)}",
    ]
    facts = {"instruments": join_words([lead[0], *others]), "style": score.dance, "pace": pace}
    return Arrangement(parts, quarters, captions, facts)


def arrange(score: Score, random: Random) -> tuple[bytes, list[str], dict]:
    """
    Arrange a score at random.

    Returns:
        `tuple[bytes, list[str], dict]`: the MIDI file, its captions, and what they were written from.
    """
    key = random.randint(-4, 4)
    arranged = (arrange_chorale if score.dance is None else arrange_tune)(score, random, key)
    end = int(SECONDS * arranged.quarters / 60 * TICKS)
    for part in arranged.parts:
        part.notes = [note for note in part.notes if note[0] < end]
    midi = write_midi(arranged.parts, round(60e6 / arranged.quarters), score.metre, end, TICKS)
    return midi, list(dict.fromkeys(arranged.captions)), arranged.facts


def vary(midi: bytes, random: Random) -> bytes:
    """Return the same arrangement up to 4 semitones higher or lower, and up to 8 % slower."""
    file = mido.MidiFile(file=io.BytesIO(midi))
    shift, stretch = random.choice([-4, -3, -2, -1, 1, 2, 3, 4]), random.uniform(1.0, 1.08)
    for track in file.tracks:
        for number, event in enumerate(track):
            if event.type in ("note_on", "note_off") and event.channel != 9:
                track[number] = event.copy(note=min(127, max(0, event.note + shift)))
            elif event.type == "set_tempo":
                track[number] = event.copy(tempo=int(event.tempo * stretch))
    buffer = io.BytesIO()
    file.save(file=buffer)
    return buffer.getvalue()


@dataclass(frozen=True)
class Task:
    """
    A clip to render.

    Args:
        kind (`str`): `tune`, `chorale`, `mma` or `beat`; the beginning of its name.
        family (`str`): What it is made from.
        label (`str`): What its name and all that is drawn follow from.
        split (`str`): Where it belongs.
    """

    kind: str
    family: str
    label: str
    split: str

    @property
    def digest(self) -> bytes:
        return hashlib.sha256(self.label.encode()).digest()

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.digest.hex()[:10]}"


def choose_split(family: str) -> str:
    """Return the split of all that is made from one thing: every 16th is for validation, and as many for testing."""
    return {0: "validation", 1: "test"}.get(hashlib.sha256(family.encode()).digest()[1] % 16, "train")


@dataclass(frozen=True)
class ScoreTask(Task):
    """An arrangement of a score of music21; `take` tells several of one score apart."""

    path: Path
    dance: str | None
    take: str

    @classmethod
    def of(cls, path: Path, dance: str | None, take: str = "") -> "ScoreTask":
        family = f"{path.parent.name}/{path.name}"
        kind = "tune" if dance else "chorale"
        return cls(kind, family, family + take, choose_split(family), path, dance, take)

    def make(self) -> tuple[bytes, dict] | None:
        """Return the MIDI file and the row of the clip, or `None` where the score is of no use."""
        score = read_score(self.path, self.dance)
        if score is None:
            return None
        midi, captions, facts = arrange(score, Random(score.name + self.take))
        artist = "traditional" if self.dance else "Johann Sebastian Bach"
        row = {"title": score.title, "captions": captions, "facts": facts, "family": score.name}
        return midi, row | {"artist": artist, "licence": "public domain"}


@dataclass(frozen=True)
class VariationTask(Task):
    """A clip of the default corpus in another key and tempo; `row` and `midi` are that clip's."""

    row: dict
    midi: bytes

    @classmethod
    def of(cls, row: dict, midi: bytes) -> "VariationTask":
        return cls("mma", row["id"], row["id"], "train", row, midi)

    def make(self) -> tuple[bytes, dict]:
        """Return the MIDI file and the row of the clip."""
        captions = [caption for caption in self.row["captions"] if not KEY_OR_TEMPO.search(caption)]
        facts = {"style": self.row["genres"], "instruments": self.row["instruments"]}
        row = {"title": self.row["title"], "captions": captions, "facts": facts, "family": self.row["family"]}
        row |= {"artist": self.row["artist"], "licence": self.row["licence"]}
        return vary(self.midi, Random(self.label)), row


@dataclass(frozen=True)
class BeatTask(Task):
    """A take of one of `beats.STYLES`."""

    style: Style

    @classmethod
    def of(cls, style: Style, take: int) -> "BeatTask":
        family = f"{style.names[0]} {take}"
        return cls("beat", family, family, choose_split(family), style)

    def make(self) -> tuple[bytes, dict]:
        """Return the MIDI file and the row of the clip."""
        midi, captions, facts = play(self.style, Random(self.label))
        row = {"title": self.style.names[0], "captions": captions, "facts": facts, "family": self.family}
        return midi, row | {"artist": "the MusCALL repository authors", "licence": "Apache-2.0"}


def write_clip(task: ScoreTask | VariationTask | BeatTask, output_dir: Path, soundfonts: list[Path]) -> dict | None:
    """Render a clip and return its row, which is kept beside it, or `None` where there is none."""
    folder = output_dir / task.split
    done = folder / f".{task.name}.json"
    if done.exists():
        return json.loads(done.read_text())
    made = task.make()
    if made is None:
        replace_text(done, "null")
        return None
    midi, row = made
    wave = render(midi, read_soundfont(soundfonts[task.digest[0] % 2]))
    with replace_file(folder / f"{task.name}.flac") as partial:
        soundfile.write(partial, wave, RATE, format="FLAC", subtype="PCM_16")
    package = {"mma": "mma", "beat": "here"}.get(task.kind, "music21")
    row |= {"file_name": f"{task.name}.flac", "caption_source": "rendered"}
    row |= {"package": package, "path": task.label, "seconds": len(wave) / RATE}
    replace_text(done, json.dumps(row, ensure_ascii=False))
    return row


def build_rendered(output_dir: Path, soundfonts: list[Path], num_workers: int | None = None) -> dict[str, list[dict]]:
    """
    Render about 3,700 clips into a folder for each split; a clip that is there is not rendered again. Every 16th tune
    and chorale is for validation, and as many for testing. Chorales are arranged twice.

    Args:
        soundfonts (`list[Path]`): Two .sf2 files.

    Returns:
        `dict[str, list[dict]]`: for each split the rows of its clips.
    """
    for split in SPLITS:
        (output_dir / split).mkdir(parents=True, exist_ok=True)
    scores = find_scores()
    tasks = [ScoreTask.of(path, dance) for path, dance in scores]
    tasks += [ScoreTask.of(path, dance, " again") for path, dance in scores if dance is None]
    sources = [row for row in read_rows() if row["source"] == "mma" and row["split"] == "train"]
    tasks += [VariationTask.of(row, midi) for row, midi in zip(sources, read_sources(sources), strict=True)]
    tasks += [BeatTask.of(style, take) for style in STYLES for take in range(TAKES)]
    rows = {split: [] for split in SPLITS}
    with ProcessPoolExecutor(num_workers, get_context("spawn")) as pool:
        futures = [pool.submit(write_clip, task, output_dir, soundfonts) for task in tasks]
        for task, future in zip(tasks, tqdm(futures, "rendering"), strict=True):
            row = future.result()
            if row is not None:
                rows[task.split].append(row)
    return rows
