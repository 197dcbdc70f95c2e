"""Make the rendered half of the default corpus: captioned MIDI clips from the style files of MMA.

    apt-get install mma && pip install mido
    python corpus/make_mma.py /usr/share/mma/lib/stdlib

MMA (Musical MIDI Accompaniment, Bob van der Poel, GPL-2+) turns a groove and a chord progression into MIDI. For every
permitted style file this script compiles `CLIPS_PER_STYLE` clips (`CLIPS_PER_TRAINING_STYLE` in the training split) of
21 s with their own groove, tempo, key, progression and arrangement, adds a melody to two thirds of them, and writes
captions from facts only: instruments are read off the notes that sound in the first 20 s, never off the name of the
style. The result is `corpus/mma/midi.zip` and the rows with source "mma" of `corpus/captions.jsonl`. Everything
follows from `SEED`; the rows of other sources stay as they are.
"""

import argparse
import csv
import hashlib
import json
import math
import os
import random
import re
import subprocess
import zipfile
from collections import defaultdict
from io import BytesIO
from pathlib import Path

import mido


CORPUS = Path(__file__).resolve().parents[1] / "corpus"
SEED = 20
CLIPS_PER_STYLE = 10
CLIPS_PER_TRAINING_STYLE = 20  # what training sees has more arrangements; it is not measured on
SECONDS = 21.0  # the builder cuts at 20 s
MAX_REST = 1.2  # seconds without a note, more than which a thinned arrangement gets its band back
LICENCE = "GPL-2.0-or-later"

# Chords of one bar each (a_b: half a bar each), written in C major or C minor and transposed.
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

WORDING = json.loads((CORPUS / "mma" / "wording.json").read_text(encoding="utf-8"))
PROGRAMS = [names.split(",") for names in " | ".join(WORDING["programs"]).split(" | ")]
SYNONYMS = {names[0]: names for names in reversed(PROGRAMS)}
PERCUSSION = {int(key): name for key, name in WORDING["percussion"].items()}
KIT = {35, 36, 38, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 53, 57, 59}

# Melody instruments (General MIDI program:lowest note:dB in TimGM6mb against the median), and which are idiomatic
# for a broad family; every third melody takes any of them.
LEADS = """0:62:-4 4:60:3 9:72:-10 10:72:0 11:60:5 12:60:-4 13:67:-11 15:60:-4 16:60:1 19:60:-1 21:60:1 22:62:2 24:55:0
25:55:-3 26:55:1 27:55:-6 29:52:-2 30:52:2 40:62:3 42:43:5 46:60:4 52:58:0 56:58:-1 57:46:-2 59:60:-5
60:48:5 61:55:-5 64:60:-1 65:56:4 66:50:0 68:62:2 71:55:1 73:64:3 74:68:4 75:66:1 78:70:4 80:60:4 81:60:2
104:55:-3 105:58:-1 107:58:-2 108:62:-1 110:60:2 114:60:-2"""
LOWEST, LOUDNESS = {}, {}
for program, low, decibel in (lead.split(":") for lead in LEADS.split()):
    LOWEST[int(program)], LOUDNESS[int(program)] = int(low), int(decibel)
IDIOMATIC = {
    "jazz": (56, 59, 65, 66, 71, 11, 26, 0, 64, 57), "Latin": (73, 56, 24, 21, 65, 114, 40, 12, 57),
    "rock": (29, 30, 27, 16, 66, 0, 4), "ballad": (0, 40, 68, 73, 66, 24, 4, 42), "blues": (22, 29, 66, 27, 16),
    "country": (110, 22, 25, 105, 27, 0), "folk": (73, 110, 22, 25, 74, 78, 15), "waltz": (40, 21, 71, 73, 68),
    "classical": (73, 68, 40, 42, 60, 71, 46), "dance": (71, 56, 21, 65, 40), "electronic": (80, 81, 52, 4),
    "march": (56, 60, 61, 71, 73),
}  # fmt: skip
# Voices that may replace one another in an accompanying track, so that an instrument is not tied to a style.
REVOICE = [
    (0, 4, 5, 16, 26, 24, 25, 27, 11, 6, 7),
    (48, 49, 50, 52, 53, 16, 89, 61, 19, 21),
    (45, 46, 12, 11, 73, 71, 9),
]
REVOICE_BASS = (32, 33, 35, 38)


def read_styles(folder):
    """`mma/styles.csv` and what each style file in MMA's stdlib `folder` says: beats per bar, playable grooves."""
    styles = {}
    for row in csv.DictReader((CORPUS / "mma" / "styles.csv").open(encoding="utf-8")):
        text = (folder / f"{row['style']}.mma").read_text(encoding="latin-1")
        beats = re.search(r"^\s*Time\s+(\d+)", text, re.M)
        grooves = re.findall(r"^\s*DefGroove\s+(\S+)", text, re.M | re.I)
        styles[row["style"]] = {
            "genres": row["genres"].split(";"),
            "broad": row["broad"].split(";"),
            "bpm": tuple(map(int, row["bpm"].split("-"))),
            "metre": row["metre"],
            "pulse": float(row["pulse"]),
            "idioms": row["progressions"].split(),
            "characters": row["characters"].split(),
            "group": row["sibling"] or row["style"],
            "beats": int(beats[1]) if beats else 4,
            "grooves": [g for g in grooves if not re.search(r"(?i:intro|fill|metronome)|End|end$|-44$", g)],
        }
    return styles


def assign_splits(styles):
    """Style file -> split: near copies together, and every stratum (first broad family) spread over the splits."""
    rng = random.Random(SEED)
    strata = {style["group"]: styles[style["group"]]["broad"][0] for style in styles.values()}
    order = sorted(strata, key=lambda group: (strata[group], rng.random()))
    common = [group for group in order if list(strata.values()).count(strata[group]) > 2]
    pattern = ["train", "train", "validation", "train", "train", "train", "test", "train"]
    by_group = dict.fromkeys(strata, "train")  # a family of one or two styles has no relatives: nothing to test
    by_group |= {group: pattern[i % len(pattern)] for i, group in enumerate(common)}
    return {name: by_group[style["group"]] for name, style in styles.items()}


def transpose(chord, key):
    root, suffix = re.fullmatch(r"([A-G]b?)(.*)", chord).groups()
    return (NOTES[root] + key) % 12, suffix


def compile_mma(source, work):
    """MMA source text -> compiled MIDI; results are kept in the folder `work`."""
    stem = work / hashlib.sha256(source.encode()).hexdigest()[:24]
    if not stem.with_suffix(".mid").exists():
        stem.with_suffix(".mma").write_text(source)
        done = subprocess.run(
            ["mma", str(stem.with_suffix(".mma")), "-f", str(stem.with_suffix(".part"))],
            capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": "0"},
        )  # fmt: skip
        if not stem.with_suffix(".part").exists():
            raise RuntimeError(f"mma refused {stem}.mma: {done.stdout[-400:]}")
        stem.with_suffix(".part").rename(stem.with_suffix(".mid"))
    return mido.MidiFile(stem.with_suffix(".mid"))


def read_tracks(midi, end):
    """Tracks of a compiled file, one per MMA track and program, cut at tick `end`; notes are (start, length, pitch,
    velocity) in ticks."""
    tracks = []
    for track in midi.tracks[1:]:
        channel, program, now, notes, controls, sounding = None, 0, 0, defaultdict(list), [], defaultdict(list)

        def close(pitch, stop, notes=notes, sounding=sounding):
            start, velocity, voice = sounding[pitch].pop(0)
            if start < min(stop, end):
                notes[voice].append((start, min(stop, end) - start, pitch, velocity))

        for event in track:
            now += event.time
            if event.type == "program_change":
                program = event.program
            elif event.type == "control_change" and event.control in (7, 10, 11, 64, 91, 93):
                controls.append((min(now, end), event.control, event.value))
            elif event.type in ("note_on", "note_off"):
                channel, struck = event.channel, event.type == "note_on" and event.velocity
                # a plucked string is struck again without a note-off in between
                if sounding[event.note] and (not struck or track.name.startswith("Plectrum")):
                    close(event.note, now)
                if struck:
                    sounding[event.note].append((now, event.velocity, program))
        for pitch in [pitch for pitch, left in sounding.items() for _ in left]:
            close(pitch, end)
        for voice, played in notes.items():
            track_facts = {"name": track.name, "drum": channel == 9, "program": voice}
            tracks.append({**track_facts, "notes": sorted(played), "controls": controls})
    return tracks


def melody(rng, program, bars, beats, pulse, feel, mode, key, blues, end, tpb):
    """A chord-tone melody: two rhythmic motifs of a bar in turn, a walk over the scale, chord tones on the beat."""
    split = {"straight": (0.5, 0.5), "swing": (2 / 3, 1 / 3), "compound": rng.choice([(2 / 3, 1 / 3), (1 / 3,) * 3])}[
        feel
    ]
    pulses = max(1, round(beats / pulse))
    busy = rng.uniform(0.25, 0.6)

    def motif():
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

    motifs = [motif(), motif(), [(float(pulses), True)]]
    form = rng.choice(((0, 1, 0, 2), (0, 0, 1, 2), (0, 1), (0, 1, 1, 0), (0, 2, 1, 2)))
    scale = (0, 3, 5, 6, 7, 10) if blues else (0, 2, 4, 5, 7, 9, 11) if mode == "major" else (0, 2, 3, 5, 7, 8, 10)
    low, notes = LOWEST[program], []
    pitch = low + rng.randint(4, 12)
    for index, chords in enumerate(bars):
        beat = 0.0
        for length, sounds in motifs[form[index % len(form)]]:
            start = round((index * beats + beat * pulse) * tpb)
            root, suffix = chords[min(len(chords) - 1, int(beat * pulse * len(chords) / beats))]
            on_chord = beat == int(beat)
            allowed = {(root + i) % 12 for i in CHORDS[suffix]} if on_chord else {(key + i) % 12 for i in scale}
            near = [p for p in range(max(low, pitch - 7), min(low + 20, pitch + 7) + 1) if p % 12 in allowed]
            weights = [1 / (1 + abs(p - pitch)) if p != pitch else 0.25 for p in near]
            if near and sounds:
                pitch = rng.choices(near, weights)[0]
                duration = round(length * pulse * tpb * rng.uniform(0.8, 0.97))
                if start < end:
                    velocity = rng.randint(96, 112) + (6 if on_chord else 0)
                    notes.append((start, min(duration, end - start), pitch, velocity))
            beat += length
    return notes


def write_midi(tracks, tempo, signature, end, tpb):
    """The clip as the bytes of a small MIDI file: no text, no bank selection."""
    midi = mido.MidiFile(type=1, ticks_per_beat=tpb)
    numerator, denominator = map(int, signature.split("/"))
    head = mido.MetaMessage("time_signature", numerator=numerator, denominator=denominator)
    midi.tracks.append(mido.MidiTrack([head, mido.MetaMessage("set_tempo", tempo=tempo)]))
    channels = iter([c for c in range(16) if c != 9])
    for track in tracks:
        channel = 9 if track["drum"] else next(channels)
        events = [(0, 0, mido.Message("program_change", channel=channel, program=track["program"]))]
        events += [(t, 1, mido.Message("control_change", channel=channel, control=c, value=v))
                   for t, c, v in track["controls"]]  # fmt: skip
        for start, length, pitch, velocity in track["notes"]:
            events.append((start, 3, mido.Message("note_on", channel=channel, note=pitch, velocity=velocity)))
            stop = min(start + length, end)
            events.append((stop, 2, mido.Message("note_on", channel=channel, note=pitch, velocity=0)))
        now, out = 0, mido.MidiTrack()
        for tick, _, message in sorted(events, key=lambda event: event[:2]):
            out.append(message.copy(time=tick - now))
            now = tick
        midi.tracks.append(out)
    buffer = BytesIO()
    midi.save(file=buffer)
    return buffer.getvalue()


def heard(tracks, tick_seconds):
    """What sounds in the first 20 s: pitched instruments by prominence, the bass, hand percussion, a kit or not."""
    loud, count, bass, hits = defaultdict(float), defaultdict(int), None, defaultdict(int)
    for track in tracks:
        notes = [note for note in track["notes"] if note[0] * tick_seconds < 19.5]
        volume = next((v for _, c, v in track["controls"] if c == 7), 100) / 127
        for _, length, pitch, velocity in notes:
            if track["drum"]:
                hits["drums" if pitch in KIT else PERCUSSION.get(pitch, "")] += 1
                continue
            name = PROGRAMS[track["program"]][0]
            loud[name] += (velocity / 127 * volume) ** 2 * min(length * tick_seconds, 1.0)
            count[name] += 1
        if notes and track["name"].startswith(("Bass", "Walk")) and not track["drum"]:
            name = PROGRAMS[track["program"]][0]
            bass = name if "bass" in name or name == "tuba" else bass
    floor = 0.03 * max(loud.values(), default=0)
    names = [n for n in sorted(loud, key=lambda n: -loud[n]) if loud[n] > floor and count[n] >= 4]
    drums = hits.pop("drums", 0) >= 16
    percussion = [n for n in sorted(hits, key=lambda n: -hits[n]) if n and hits[n] >= 6]
    return names, bass if bass in names else None, percussion, drums


def subdivision(tracks, pulse_ticks, metre):
    """ "compound", "swing" or "straight": where between the beats the notes of the compiled groove fall."""
    if metre in ("6/8", "12/8"):
        return "compound"
    phases = [note[0] % pulse_ticks / pulse_ticks for track in tracks for note in track["notes"]]
    half = sum(0.44 < phase < 0.56 for phase in phases)
    third = sum(0.62 < phase < 0.72 for phase in phases)
    return "swing" if third > 1.5 * half and third > 0.04 * len(phases) else "straight"


def longest_rest(tracks, end):
    """The longest time in ticks in which no note sounds."""
    rest, until = 0, 0
    for start, length, *_ in sorted(note for track in tracks for note in track["notes"]):
        rest, until = max(rest, start - until), max(until, start + length)
    return max(rest, end - until)


def make_clip(number, name, style, groove, work):
    """One clip: MIDI bytes and the true facts that captions are made of."""
    rng = random.Random(f"{SEED} {name} {number}")
    low, high = style["bpm"]
    bpm = rng.randint(low, high)
    tempo = round(bpm * style["pulse"])
    bpm, beats = round(tempo / style["pulse"]), style["beats"]
    key, mode = rng.randrange(12), "minor" if rng.random() < 0.4 else "major"
    idiom = style["idioms"][0] if rng.random() < 0.7 else rng.choice(style["idioms"])
    lines = PROGRESSIONS[idiom].split(";")[mode == "minor"].split("/")
    pattern = [bar.split("_") for bar in rng.choice([x for x in lines if beats % 2 == 0 or "_" not in x]).split()]
    count = math.ceil((SECONDS + 0.5) * tempo / 60 / beats)
    bars = [[transpose(chord, key) for chord in pattern[i % len(pattern)]] for i in range(count)]
    spelled = list(NOTES)
    source = [f"RndSeed {rng.randrange(10**6)}", f"Tempo {tempo}", f"Groove {groove}"]
    hold = " / " * (beats // 2 - 1) + " "
    for i, bar in enumerate(bars, 1):
        source.append(f"{i} " + hold.join(spelled[root] + suffix for root, suffix in bar))
    midi = compile_mma("\n".join(source) + "\n", work)
    tpb = midi.ticks_per_beat
    tick_seconds = 60 / tempo / tpb
    end = round(SECONDS / tick_seconds)
    tracks = read_tracks(midi, end)
    feel = subdivision(tracks, style["pulse"] * tpb, style["metre"])

    drums = [t for t in tracks if t["drum"]]
    bass = [t for t in tracks if t["name"].startswith(("Bass", "Walk")) and not t["drum"]]
    others = [t for t in tracks if t not in drums and t not in bass]
    draw = rng.random()  # thinned arrangements: no drums, a duo or trio, or one accompanying instrument alone
    keep = len([t for t in others if len(t["notes"]) >= 12])
    if draw < 0.14 and keep:
        tracks = others + bass
    elif draw < 0.24 and keep:
        tracks = (
            [rng.choice([t for t in others if len(t["notes"]) >= 12])] + bass + (drums if rng.random() < 0.5 else [])
        )
    elif draw < 0.30 and keep:
        tracks = [max(others, key=lambda t: sum(n[1] for n in t["notes"]))]
    if longest_rest(tracks, end) * tick_seconds > MAX_REST:
        tracks = others + bass + drums
    for track in tracks:
        roles = [role for role in REVOICE if track["program"] in role]
        if track in bass and rng.random() < 0.2:
            track["program"] = rng.choice(REVOICE_BASS)
        elif track in others and roles and rng.random() < 0.3:
            track["program"] = rng.choice(roles[-1])
    lead = None
    if rng.random() < 2 / 3 or not [t for t in tracks if not t["drum"]]:
        taste = next((IDIOMATIC[b] for b in style["broad"] if b in IDIOMATIC), IDIOMATIC["ballad"])
        program = rng.choice(taste if rng.random() < 0.65 else tuple(LOWEST))
        notes = melody(rng, program, bars, beats, style["pulse"], feel, mode, key, idiom == "blues", end, tpb)
        lift = max(-6, min(8, -LOUDNESS[program])) + (-5, -3, 0, 3, 3, 5)[min(len(tracks), 6) - 1]  # dB
        volume = 100 * 10 ** (lift / 40)  # of the melody, when the band has 100, the default; the loudest is 127
        band = 100 if volume <= 127 else round(100 * 127 / volume)
        tracks = [{**track, "controls": [(0, 7, band), *track["controls"]]} for track in tracks]
        controls = [(0, 7, min(127, round(volume)))]
        tracks.append({"name": "Lead", "drum": False, "program": program, "notes": notes, "controls": controls})
        lead = PROGRAMS[program][0]
    tonic = {"Db": "C#", "Gb": "F#", "Ab": "G#"}.get(spelled[key], spelled[key]) if mode == "minor" else spelled[key]
    names, bass_name, percussion, drums = heard(tracks, tick_seconds)
    facts = {"bpm": bpm, "metre": style["metre"], "key": f"{tonic} {mode}", "instruments": names + percussion}
    facts |= {"drums": drums, "melody": lead if lead in names else None}
    facts |= {"bass": bass_name, "percussion": percussion, "pitched": names, "mode": mode, "feel": feel}
    facts |= {"percussive": any(track["drum"] for track in tracks)}
    return write_midi(tracks, round(60e6 / tempo), style["metre"], end, tpb), facts


def join(names):
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def article(name):
    return name if name.endswith("s") and not name.endswith("bass") else f"a {name}"


def slots(rng, style, facts):
    """Every slot of the templates that is true of this clip, in one random wording."""
    slow, fast = WORDING["slow_below_fast_from"][facts["metre"]]
    pace = "slow" if facts["bpm"] < slow else "mid" if facts["bpm"] < fast else "fast"
    say = {}
    for name in facts["instruments"]:
        free = [word for word in SYNONYMS.get(name, [name]) if word not in say.values()] or [name]
        say[name] = rng.choice([free[0], *free])
    never = WORDING["never_minor"].split() if facts["mode"] == "minor" else []
    moods = [mood for mood in style["characters"] if mood not in never]
    first, second = rng.sample(sorted({*moods, *WORDING["moods"][f"{facts['mode']} {pace}"].split()}), 2)
    genre, noun = rng.choice(style["genres"]), rng.choice(WORDING["nouns"])
    broad = rng.choice([b for b in style["broad"] if b.lower() not in genre.lower()] or [""])
    countable = WORDING["countable"].split()
    tune, broad_tune = (f"{x} {noun}" if x and x.split()[-1] not in countable else x for x in (genre, broad))
    drums = rng.choice(["drums", "drum kit", "a drum beat"]) if facts["drums"] else None
    chordal = [name for name in facts["pitched"] if not re.search(r"\bbass\b|tuba", name)]
    front = [say[name] for name in chordal[:4]]
    rng.shuffle(front)
    backing = [say[name] for name in facts["pitched"] if name != facts["melody"]][:3]
    rhythm = [say[name] for name in facts["percussion"]][:1] + (["drums"] if drums else [])
    everyone = [say[name] for name in facts["pitched"]][: rng.randint(2, 4)]
    tonic, lead = facts["key"].split()[0], say.get(facts["melody"])
    uses = [use for family in [style["broad"][0], *style["genres"]] for use in WORDING["uses"].get(family, [])]
    alone = len(facts["pitched"]) == 1 and not facts["percussive"]
    have = {
        **{"mood": first, "mood2": second, "genre": genre, "broad": WORDING["broad_nouns"].get(broad, broad)},
        **{"tune": tune, "broad_tune": broad_tune.replace("retro", "old-fashioned"), "noun": noun},
        **{"tempo": rng.choice(WORDING["tempo"][pace]), "tempo_word": WORDING["tempo_word"][pace]},
        **{"bpm": str(facts["bpm"]), "pace": rng.choice([*WORDING["pace"][pace], f"at about {facts['bpm']} bpm"])},
        **{"pace_bpm": f"at {facts['bpm']} bpm", "metre": rng.choice(WORDING["metre"][facts["metre"]])},
        **{"metre_tag": facts["metre"], "mode_tag": f"{facts['mode']} key", "use": rng.choice(uses) if uses else None},
        "key": rng.choice([f"in {tonic} {facts['mode']}", f"in a {facts['mode']} key"]),
        "feel": "swinging" if facts["feel"] == "swing" else None,
        "inst": front[0] if front else None,
        "a_inst": article(front[0]) if front else None,
        "inst2": front[1] if len(front) > 1 else None,
        "lead": lead if lead in front else None,
        "a_lead": article(lead) if lead in front else None,
        "acc": join(backing + rhythm[-1:]) if len(backing + rhythm) > 1 else None,
        "list": join(everyone + rhythm) if len(everyone + rhythm) > 1 else None,
        "list_tag": ", ".join(everyone),
        "perc": rng.choice([say[name] for name in facts["percussion"]]) if facts["percussion"] else None,
        "bass": say.get(facts["bass"]),
        "drums": drums,
        "arr": None if facts["percussive"] else rng.choice(["without drums", "with no drums", "without percussion"]),
    }
    if alone:
        have["arr"] = rng.choice(["played alone", "on a single instrument", "unaccompanied"])
    have = {name: value for name, value in have.items() if value}
    return have | {name.capitalize(): value[0].upper() + value[1:] for name, value in have.items()}


def make_captions(rng, style, facts, used):
    """2-5 captions of different kinds: at least one names the genre and one an instrument; no sentence used before."""
    count = rng.choices((2, 3, 4, 5), (2, 4, 4, 2))[0]
    tempo_words = re.compile("|".join(word for words in WORDING["tempo"].values() for word in words), re.I)
    for _ in range(500):
        captions, kinds = [], dict(WORDING["kinds"])
        while kinds and len(captions) < count:
            kind = rng.choices(list(kinds), list(kinds.values()))[0]
            del kinds[kind]
            have = slots(rng, style, facts)
            fitting = [t for t in WORDING["templates"][kind] if set(re.findall(r"{(\w+)}", t)) <= set(have)]
            if fitting:
                text = rng.choice(fitting).format(**have)
                text = re.sub(r"\b([Aa]) (?=[aeioAEIO]|u[nprs]|R&B|8|eight)", r"\1n ", text)
                text = text[0].upper() + text[1:] if rng.random() < 0.5 or text.endswith(".") else text
                words = [word.strip(",.:;").lower() for word in text.split()]
                repeats = any(a == b for a, b in zip(words, words[1:], strict=False))
                if not repeats and len(tempo_words.findall(text)) < 2:
                    captions.append(text)
        said, lower = " ".join(captions).lower(), {caption.lower() for caption in captions}
        named = any(name in said for instrument in facts["pitched"] for name in SYNONYMS[instrument])
        genre = any(genre.lower() in said for genre in style["genres"])
        if len(lower) == count and named and genre and not used & lower:
            used |= lower
            return captions
    raise RuntimeError(f"no captions for {facts}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stdlib", type=Path, help="MMA's stdlib folder, e.g. /usr/share/mma/lib/stdlib")
    parser.add_argument(
        "--work", type=Path, default=Path(".cache/mma"), help="compiled MIDI is kept here between runs"
    )
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    styles = read_styles(args.stdlib)
    splits = assign_splits(styles)
    clips = [(name, i) for name in styles for i in range(CLIPS_PER_STYLE)]
    training = [name for name in styles if splits[name] == "train"]
    clips += [(name, i) for name in training for i in range(CLIPS_PER_STYLE, CLIPS_PER_TRAINING_STYLE)]
    rows, used, archive = [], set(), BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as out:
        for name, i in clips:
            style = styles[name]
            grooves = random.Random(f"{SEED} {name}").sample(style["grooves"], len(style["grooves"]))
            clip_id, groove = f"mma-{len(rows):06d}", grooves[i % len(grooves)]
            data, facts = make_clip(i, name, style, groove, args.work)
            out.writestr(zipfile.ZipInfo(f"{clip_id}.mid"), data, zipfile.ZIP_DEFLATED)
            captions = make_captions(random.Random(f"{SEED} {clip_id}"), style, facts, used)
            row = {"id": clip_id, "path": f"{splits[name]}/{clip_id}.flac", "captions": captions, "source": "mma"}
            row |= {"title": f"{groove} in {facts['key']}, {facts['bpm']} bpm", "licence": LICENCE}
            row |= {"artist": "MMA (Bob van der Poel)", "caption_source": "metadata", "split": splits[name]}
            row |= {"family": name, "genres": style["genres"] + style["broad"]}
            rows.append(row | {k: facts[k] for k in ("bpm", "metre", "key", "instruments", "drums", "melody")})
    target = CORPUS / "captions.jsonl"
    if target.exists():
        kept = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
        rows += [row for row in kept if row["source"] != "mma"]
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in sorted(rows, key=lambda row: row["id"])]
    for path, content in ((CORPUS / "mma" / "midi.zip", archive.getvalue()), (target, "".join(lines).encode())):
        path.with_suffix(".part").write_bytes(content)
        path.with_suffix(".part").replace(path)
    print(f"{len(rows)} rows; midi.zip {len(archive.getvalue()) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
