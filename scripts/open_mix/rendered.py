# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
Rendered music with true captions for the open mix: fiddle tunes and chorales that music21 carries, arranged here, and
those of the shipped MMA clips that are for training, in another key and tempo than the default corpus has.

The encodings of music21 are read where it is installed and never shipped.
"""

import hashlib
import io
import json
import re
import warnings
import zipfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from random import Random

import mido
import soundfile
from tqdm import tqdm

from corpus.build import CORPUS, RATE, SPLITS, read_rows, render, replace_file
from scripts.make_mma import LOWEST, PROGRAMS, join, write_midi


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
KEY_OR_TEMPO = re.compile(r"\bbpm\b|\b[A-G](b|#| flat| sharp)? (major|minor)\b")


@dataclass(frozen=True)
class Score:
    """
    Args:
        name, title (`str`): Where music21 has it, and what it is called.
        dance (`str`, *optional*): A key of `DANCES`; `None`: a chorale.
        metre (`str`): `6/8`
        bar (`float`): Its length in quarters.
        tonic, minor (`int`, `bool`): Pitch class and mode of the key.
        parts (`list[list[tuple[float, float, int]]]`): Start and length in quarters, and MIDI pitch of the notes.
    """

    name: str
    title: str
    dance: str | None
    metre: str
    bar: float
    tonic: int
    minor: bool
    parts: list


def _read(path: Path, dance: str | None) -> Score | None:
    from music21 import converter

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
    """The files of Ryan's Mammoth Collection (1883) and of Bach's chorales in the installed music21."""
    try:
        import music21
    except ImportError as error:
        raise ImportError("the rendered half of the open mix needs music21: pip install music21") from error
    root, found = Path(music21.__file__).parent / "corpus", []
    for path in sorted((root / "ryansMammoth").glob("*.abc")):
        stated = re.search(r"^R:(.*)$", path.read_text(errors="replace"), re.M)
        dance = stated and stated[1].strip().lower().replace("slipjig", "slip jig")
        if dance in DANCES:
            found.append((path, dance))
    return found + [(path, None) for path in sorted((root / "bach").glob("bwv*.mxl"))]


def chords(score: Score) -> list[tuple[float, list[int]]]:
    """For each half of a bar (whole in uneven metres) the triad of the key that the melody fits best."""
    step = score.bar / 2 if score.bar in (4.0, 2.0, 3.0) and score.metre != "3/4" else score.bar
    scale = [0, 2, 3, 5, 7, 8, 10] if score.minor else [0, 2, 4, 5, 7, 9, 11]
    triads = {degree: [(score.tonic + scale[(degree + third) % 7]) % 12 for third in (0, 2, 4)] for degree in range(7)}
    likely = {0: 0.35, 4: 0.25, 3: 0.2, 5: 0.1, 6: 0.15 if score.minor else -0.5, 1: 0.0, 2: -0.1}
    (melody,), found = score.parts, []
    for number in range(int(melody[-1][0] // step) + 1):
        start = number * step
        weight = dict.fromkeys(range(12), 0.0)
        for offset, length, pitch in melody:
            if start <= offset < start + step:
                weight[pitch % 12] += length
        whole = sum(weight.values()) or 1
        best = max(triads, key=lambda degree: sum(weight[note] for note in triads[degree]) / whole + likely[degree])
        found.append((start, triads[best]))
    return found


def backing(kind: str, harmony: list, step: float, low: int) -> list[tuple[float, float, int]]:
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


def _track(notes, program, loops, length, shift, velocity, drum=False) -> dict:
    events = [
        (int((start + loop * length) * TICKS), max(1, int(0.95 * size * TICKS)), pitch + shift, velocity)
        for loop in range(loops)
        for start, size, pitch in notes
    ]
    return {"name": "", "drum": drum, "program": program, "notes": sorted(events), "controls": []}


def arrange(score: Score, random: Random) -> tuple[bytes, list[str], dict]:
    """
    Returns:
        `tuple[bytes, list[str], dict]`: the MIDI file, its captions, and what they were written from.
    """
    length = max(start + size for part in score.parts for start, size, _ in part)
    key = random.randint(-4, 4)
    if score.dance is None:
        programs, names = random.choice(ENSEMBLES)
        quarters = random.choice([56, 66, 76, 88])  # a minute
        pace = "slow" if quarters < 70 else "moderate"
        loops = int(SECONDS * quarters / 60 / length) + 1
        tracks = [
            _track(part, program, loops, length, key, 84) for part, program in zip(score.parts, programs, strict=True)
        ]
        name, what = random.choice(names), random.choice(SACRED)
        mood = random.choice(["solemn", "calm", "stately", "peaceful"])
        captions = [
            f"{what} played by {name}" if programs[0] != 52 else f"{what} sung by {name}",
            f"{pace} and {mood}, {names[1]}" if pace == "slow" else f"{mood} music, {names[1]}",
            random.choice([name, f"{names[2]}, baroque", f"{mood} classical music with {name}"]),
            f"{names[0].capitalize()} plays {random.choice(SACRED)}."
            if programs[0] != 52
            else "A choir sings a hymn.",
        ]
        facts = {"instruments": names[0], "style": "chorale", "quarters_per_minute": quarters}
    else:
        rate, called = DANCES[score.dance]
        pace = random.choice(["fast", "fast", "lively", "slow"])
        rate *= {"fast": 1.0, "lively": 0.85, "slow": 0.45}[pace]
        (melody,) = score.parts
        quarters = 60 * rate / (len(melody) / length)
        loops = int(SECONDS * quarters / 60 / length) + 1
        program = random.choice(list(LOWEST))
        lowest = min(pitch for _, _, pitch in melody)
        octaves = -(-(LOWEST[program] - 5 - lowest - key) // 12)
        tracks = [_track(melody, program, loops, length, key + 12 * octaves, 100)]
        lead, others = PROGRAMS[program], []
        texture = random.choice(["solo", "solo", "backed", "backed", "band"])
        harmony = chords(score)
        step = harmony[1][0] - harmony[0][0] if len(harmony) > 1 else score.bar
        if texture != "solo":
            kind = random.choice(list(BACKINGS))
            other = random.choice([some for some in BACKINGS[kind] if some != program])
            others.append(random.choice(PROGRAMS[other]))
            tracks.append(_track(backing(kind, harmony, step, 50), other, loops, length, key, 66))
        if texture == "band":
            bass = random.choice([32, 33])
            others.append("bass")
            roots = [(start, step / 2, 36 + (triad[0] - 36) % 12) for start, triad in harmony]
            tracks.append(_track(roots, bass, loops, length, key, 80))
            if random.random() < 0.7:
                others.append("drums")
                beats = [
                    (start + share * step, 0.25, drum)
                    for start, _ in harmony
                    for share, drum in ((0, 36), (0.5, 38), (0, 42), (0.25, 42), (0.5, 42), (0.75, 42))
                ]
                tracks.append(_track(beats, 0, loops, length, 0, 72, drum=True))
        name, style = random.choice(lead), random.choice(called)
        article = "an" if name[0] in "aeiou" else "a"
        over = f" with {join(others)}" if others else ""
        captions = [
            f"{pace} {style} on the {name}{over}",
            f"{random.choice(TRADITIONAL)}, {name}" + "".join(f", {other}" for other in others),
            f"solo {name}" if not others else f"{name} and {join(others)}",
            f"{article.capitalize()} {name} plays {random.choice(['a tune', 'a melody', 'a dance'])}{over}.",
            f"{random.choice(lead)}, {pace}, {random.choice(called)}",
        ]
        facts = {"instruments": join([lead[0], *others]), "style": score.dance, "pace": pace}
    end = int(SECONDS * quarters / 60 * TICKS)
    for track in tracks:
        track["notes"] = [note for note in track["notes"] if note[0] < end]
    midi = write_midi(tracks, round(60e6 / quarters), score.metre, end, TICKS)
    return midi, list(dict.fromkeys(captions)), facts


def vary(midi: bytes, random: Random) -> bytes:
    """The same arrangement up to 4 semitones higher or lower, and up to 8 % slower."""
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


def _score_clip(path: Path, dance: str | None, take: str) -> tuple[bytes, dict] | None:
    score = _read(path, dance)
    if score is None:
        return None
    midi, captions, facts = arrange(score, Random(score.name + take))
    return midi, {"title": score.title, "captions": captions, "facts": facts, "family": score.name}


def _write_clip(output_dir: Path, soundfonts: list[str], kind: str, *source) -> tuple[str, dict] | None:
    """One clip; returns its split and its row, which is kept beside the clip."""
    family = source[0]["id"] if kind == "mma" else f"{source[0].parent.name}/{source[0].name}"
    label = family if kind == "mma" else family + source[2]
    digest = hashlib.sha256(label.encode()).digest()
    name, split = f"{kind}-{digest.hex()[:10]}", "train"
    if kind != "mma":  # all takes of a score are in one split
        split = {0: "validation", 1: "test"}.get(hashlib.sha256(family.encode()).digest()[1] % 16, "train")
    folder = output_dir / split
    done = folder / f".{name}.json"
    if done.exists():
        row = json.loads(done.read_text())
        return (split, row) if row else None
    if kind == "mma":
        row, midi = source
        midi = vary(midi, Random(label))
        captions = [caption for caption in row["captions"] if not KEY_OR_TEMPO.search(caption)]
        facts = {"style": row["genres"], "instruments": row["instruments"]}
        clip = {"title": row["title"], "captions": captions, "facts": facts, "family": row["family"]}
        clip |= {"artist": row["artist"], "licence": row["licence"]}
    else:
        made = _score_clip(*source)
        if made is None:
            done.write_text("null")
            return None
        midi, clip = made
        clip |= {"artist": "traditional" if source[1] else "Johann Sebastian Bach", "licence": "public domain"}
    wave = render(midi, Path(soundfonts[digest[0] % 2]).read_bytes())
    flac = io.BytesIO()
    soundfile.write(flac, wave, RATE, format="FLAC", subtype="PCM_16")
    replace_file(folder / f"{name}.flac", flac.getvalue())
    clip |= {"file_name": f"{name}.flac", "caption_source": "rendered"}
    clip |= {"package": "mma" if kind == "mma" else "music21", "path": label, "seconds": len(wave) / RATE}
    done.write_text(json.dumps(clip, ensure_ascii=False))
    return split, clip


def build_rendered(output_dir: Path, soundfonts: list[Path], num_workers: int | None = None) -> dict[str, list[dict]]:
    """
    Renders about 3,400 clips into a folder for each split; a clip that is there is not rendered again. Every 16th tune
    and chorale is for validation, and as many for testing. Chorales are arranged twice.

    Args:
        soundfonts (`list[Path]`): Two .sf2 files.

    Returns:
        `dict[str, list[dict]]`: for each split the rows of its clips.
    """
    for split in SPLITS:
        (output_dir / split).mkdir(parents=True, exist_ok=True)
    fonts = [str(path) for path in soundfonts]
    scores = find_scores()
    tasks = [("tune" if dance else "chorale", path, dance, "") for path, dance in scores]
    tasks += [("chorale", path, dance, " again") for path, dance in scores if dance is None]
    with zipfile.ZipFile(CORPUS / "mma" / "midi.zip") as archive:
        for row in read_rows():
            if row["source"] == "mma" and row["split"] == "train":
                tasks.append(("mma", row, archive.read(f"{row['id']}.mid")))
    with ProcessPoolExecutor(num_workers, get_context("spawn")) as pool:
        futures = [pool.submit(_write_clip, output_dir, fonts, *task) for task in tasks]
        clips = [future.result() for future in tqdm(futures, "rendering")]
    rows = {split: [] for split in SPLITS}
    for clip in clips:
        if clip is not None:
            split, row = clip
            rows[split].append(row)
    return rows
