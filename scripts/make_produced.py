"""Makes the shipped slice of produced music: `produced/*.opus` and its rows in `captions.jsonl`.

A maintainer's tool; training only reads what it wrote. Needs `pip install soundfile soxr librosa`. Three stages:

    # 1. cut: PKG/<package>/ is what `apt-get download <package> && dpkg -x <package>_*.deb PKG/<package>` unpacked
    python corpus/make_produced.py --packages PKG
    # 2. tag: a module with `Musicnn(wheel_dir, name)(samples)` and the unpacked `musicnn` wheel, the teacher
    python corpus/make_produced.py --teacher musicnn_torch.py WHEEL_DIR
    # 3. caption: always runs, from the clips, `produced/tracks.csv` and `produced/pseudo_tags.json`
    python corpus/make_produced.py
"""

import argparse
import csv
import hashlib
import importlib.util
import io
import json
import os
import re
import zipfile
from pathlib import Path
from random import Random

import librosa
import numpy as np
import scipy.signal
import soundfile
import soxr


HERE = Path(__file__).resolve().parents[1] / "corpus"
PRODUCED = HERE / "produced"
RATE = 16000  # hertz
CLIP = 323200  # samples: 20.2 s, so that a 20 s window always fits whatever the codec trims
LEVEL = -20.0  # dBFS, RMS of a clip
PEAK = 0.9  # full scale is 1; leaves room for the codec's overshoot
HIGH_PASS = scipy.signal.butter(2, 25, "highpass", fs=RATE, output="sos")  # two tracks drift below hearing
SOURCE = "produced"
LICENCES = {
    "CC-BY-SA-3.0": "https://creativecommons.org/licenses/by-sa/3.0/",
    "CC-BY-3.0": "https://creativecommons.org/licenses/by/3.0/",
    "MIT": "LICENSE.md#mit",
    "Public domain": "LICENSE.md#public-domain",
}
ATTRIBUTION_HEAD = """# Attribution

Written by `corpus/make_produced.py` from `tracks.csv`. Files `produced-NUMBER-LETTER.opus` come from track NUMBER.
Changes made to every track: excerpts of 20.2 s starting at the stated seconds, stems (where two files are named) and
channels mixed to mono, high-passed at 25 Hz, resampled to 16 kHz, level set, 5 ms fades at the cuts, encoded as Opus.

| Track | Title | Artist | Licence | Debian package and path in it | Source | Excerpts at (s) |
|---|---|---|---|---|---|---|"""


def read_csv(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_atomically(path, text):
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def unit_hash(text):
    """A number in [0, 1) that depends on `text` alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


# Stage 1: cut


def read_mono(root, path):
    """Reads one audio file, also out of a zip (`archive.pk3!member`), as mono `RATE` float32 `(samples,)`."""
    archive, _, member = path.partition("!")
    file = root / archive
    if member:
        with zipfile.ZipFile(file) as bundle:
            file = io.BytesIO(bundle.read(member))
    samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
    return soxr.resample(samples.mean(1), rate, RATE, quality="VHQ")


def patches(clip):
    """Normalised log-mel patches of 5 s of a clip, one every 0.1 s: `(patches, features)`."""
    mel = librosa.feature.melspectrogram(y=clip, sr=RATE, n_fft=1024, hop_length=RATE // 20, n_mels=64)
    mel = librosa.power_to_db(mel, amin=1e-8)
    flat = np.stack([mel[:, i : i + 100] for i in range(0, mel.shape[1] - 99, 2)])
    flat = (flat - flat.mean(2, keepdims=True)).reshape(len(flat), -1)
    return flat / np.linalg.norm(flat, axis=1, keepdims=True)


def likeness(clip, other):
    """How much of `clip` comes back in `other` at any lag, 0 to 1: above 0.6 it is the same loop."""
    return float(np.median((patches(clip)[::25] @ patches(other).T).max(1)))


def choose_starts(track):
    """Where the clips of a track begin, in samples: about two, one per equal part of the track.

    The ends of the track (6%, 1 to 12 s: fades) are left out where it is long enough. Of every part the loudest window
    without silence is taken for the even clips, the one nearest to the track's median level for the odd ones, so that
    the clips of a track differ; where it repeats an earlier clip the next best one is tried, or none is taken.
    """
    step = RATE // 2
    power = np.square(track[: len(track) // step * step]).reshape(-1, step).mean(1)
    level = 10 * np.log10(power + 1e-10)  # dB, one value per half second
    seconds = len(track) / RATE
    margin = min(max(0.06 * seconds, 1.0), 12.0)
    count = 1 if seconds < 44 else 3 if seconds > 450 else 2
    if seconds - 2 * margin < count * 20.5:
        margin = max((seconds - count * 20.5) / 2, 0.0)
    window = -(-CLIP // step)  # half seconds
    edges = np.linspace(2 * margin, min(2 * (seconds - margin), len(level)), count + 1).astype(int)
    median = np.median(level)
    starts = []
    for part, (low, high) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
        merits = {}
        for start in range(low, max(high - window, low) + 1):
            piece = level[start : start + window]
            if start * step + CLIP <= len(track):
                mean = 10 * np.log10(np.mean(10 ** (piece / 10)))
                gap = np.maximum(mean - 25 - piece, 0).mean()  # dB that half seconds lie too deep
                slope = abs(piece[:8].mean() - piece[-8:].mean())  # dB, a fade or a break
                merits[start * step] = (mean if part % 2 == 0 else -abs(mean - median)) - 10 * gap - 0.4 * slope
        while merits:
            start = max(merits, key=merits.get)
            clip = track[start : start + CLIP]
            if all(likeness(clip, track[other : other + CLIP]) < 0.6 for other in starts):
                starts.append(start)
                break
            merits = {other: merit for other, merit in merits.items() if abs(other - start) >= 4 * RATE}
    return starts


def finish_clip(samples):
    """Removes the constant part, sets level and peak, and fades both cut edges over 5 ms."""
    samples = samples - samples.mean()
    gain = 10 ** (LEVEL / 20) / np.sqrt(np.square(samples).mean())
    samples = samples * min(gain, PEAK / np.abs(samples).max())
    fade = np.linspace(0, 1, RATE * 5 // 1000, dtype=np.float32)
    samples[: len(fade)] *= fade
    samples[-len(fade) :] *= fade[::-1]
    return samples


def cut(packages, tracks):
    rows = []
    for track in tracks:
        root = packages / track["package"]
        samples = read_mono(root, track["path"])
        if track["stem"]:
            samples = samples + read_mono(root, track["stem"])
        samples = scipy.signal.sosfiltfilt(HIGH_PASS, samples).astype(np.float32)
        for letter, start in zip("abc", choose_starts(samples), strict=False):
            name = f"produced-{track['number']}-{letter}"
            path = PRODUCED / f"{name}.opus"
            temporary = path.with_suffix(".tmp")
            clip = finish_clip(samples[start : start + CLIP])
            soundfile.write(temporary, clip, RATE, format="OGG", subtype="OPUS")
            os.replace(temporary, path)
            rows.append(f"{name},{track['number']},{start / RATE:.1f}")
        print(f"cut {rows[-1].split(',')[0]} {track['title']}", flush=True)
    for stale in {path.stem for path in PRODUCED.glob("*.opus")} - {row.split(",")[0] for row in rows}:
        (PRODUCED / f"{stale}.opus").unlink()
    write_atomically(PRODUCED / "clips.csv", "id,track,start_s\n" + "\n".join(rows) + "\n")


# Stage 2: pseudo-tags


def tag(module_path, wheel):
    """Writes the mean score of every tag over a clip, for both of the teacher's vocabularies."""
    spec = importlib.util.spec_from_file_location("teacher", module_path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    models = {name: module.Musicnn(wheel, f"{name}_musicnn") for name in ("MSD", "MTT")}
    scores = {}
    for clip in read_csv(PRODUCED / "clips.csv"):
        samples, _ = soundfile.read(PRODUCED / f"{clip['id']}.opus", dtype="float32")
        scores[clip["id"]] = {
            name: [round(float(score), 3) for score in model(samples)[0].mean(0)] for name, model in models.items()
        }
        print("tagged", clip["id"], flush=True)
    note = (
        "Pseudo-labels, not human annotation: mean tag scores (0 to 1) over 3 s patches of each clip by the taggers "
        "MSD_musicnn and MTT_musicnn of the PyPI wheel musicnn 0.1.0 (Jordi Pons, ISC licence; trained on the Million "
        "Song Dataset and MagnaTagATune), run on the shipped clips at 16 kHz."
    )
    lines = [f'"note": {json.dumps(note)}']
    lines.append('"tags": ' + json.dumps({name: model.labels for name, model in models.items()}))
    body = ",\n".join(f" {json.dumps(name)}: {json.dumps(row, separators=(',', ':'))}" for name, row in scores.items())
    lines.append('"clips": {\n' + body + "\n}")
    write_atomically(PRODUCED / "pseudo_tags.json", "{\n" + ",\n".join(lines) + "\n}\n")


# Stage 3: captions

# Word for a caption | kind | the tags (vocabulary:tag) of which one must reach its score. The scores lie between the
# 60th and 97th percentiles of the tag over the clips: some tags fire everywhere, some never. No claim about voices
# but a choir: the scores for singing stay far too low on this music.
WORDS = """
metal|genre|MSD:metal 0.3|MTT:metal 0.3
rock|genre|MTT:rock 0.3|MSD:rock 0.22
techno|genre|MTT:techno 0.55
dance|genre|MSD:dance 0.14
jazz|genre|MSD:jazz 0.35
folk|genre|MSD:folk 0.13
classical|genre|MTT:classical 0.25
chillout|genre|MSD:chillout 0.2
ambient|genre|MSD:ambient 0.3|MTT:ambient 0.3
electronic|genre|MSD:electronic 0.36|MTT:electronic 0.36
guitar|part|MTT:guitar 0.24
drums|part|MTT:drums 0.32
synthesizers|part|MTT:synth 0.27
strings|part|MTT:strings 0.18
violin|part|MTT:violin 0.18
flute|part|MTT:flute 0.2
piano|part|MTT:piano 0.16
harpsichord|part|MTT:harpsichord 0.12
a choir|part|MTT:choir 0.4
a steady beat|part|MTT:beat 0.3
slow|mood|MTT:slow 0.26
fast|mood|MTT:fast 0.27
quiet|mood|MTT:quiet 0.12
soft|mood|MTT:soft 0.1
loud|mood|MTT:loud 0.1
strange|mood|MTT:weird 0.1
experimental|mood|MSD:experimental 0.16
jazzy|mood|MSD:jazz 0.25
Indian-tinged|mood|MTT:indian 0.15
"""
# The first word of a pair drives out the second.
CLASHES = """slow,fast slow,busy slow,techno quiet,loud quiet,percussive soft,loud soft,percussive sparse,fast
drums,sustained a_steady_beat,sustained sustained,percussive classical,jazz classical,jazzy flute,jazzy strings,jazzy
jazz,jazzy techno,electronic sparse,dance"""
GENRES = {"death metal", "metal", "electronic"}  # the styles in `tracks.csv` that are genres, stated by the packages
NOUNS = [
    "folk",
    "ambient",
    "chillout",
    "electronic",
    "dance",
    "techno",
    "jazz",
    "rock",
    "metal",
]  # later words go last
BARE = {"ambient", "techno", "jazz", "rock", "metal"}  # can stand without "music"
SYNONYMS = {
    "chillout": ["chillout", "downtempo"],
    "classical": ["classical", "classical-style"],
    "soundtrack": ["soundtrack", "game soundtrack"],
    "synthesizers": ["synthesizers", "synths", "synth sounds"],
    "strings": ["strings", "string sounds"],
    "a steady beat": ["a steady beat", "a regular beat"],
    "electric guitar": ["electric guitar", "electric guitars"],
    "dark": ["dark", "dark-toned"],
    "bright": ["bright", "bright-sounding"],
    "busy": ["busy", "dense"],
    "sparse": ["sparse", "minimal"],
    "sustained": ["sustained", "smooth"],
    "uneven in level": ["changing in volume", "moving between loud and quiet"],
    "even in level": ["even in volume", "constant in volume"],
}
TEMPLATES = """{mood} {noun} with {parts}
{noun}, {mood}, {parts}
{parts}, {mood} {noun}
{noun} with {parts}, {tempo}
{mood} {genre} {music}, {sound}
{Mood} {genre} {music} with {parts}.
A {mood} {genre} piece with {parts}, {sound}.
A {mood} piece of {noun} built on {parts}.
{Noun} with {parts}; the sound is {sound}.
{Parts} in a {mood} {genre} piece.
{Genre} {music} at {tempo} with {parts}.
{mood} {noun}, {tempo}
{Mood} {genre} {music} at {tempo}, {sound}.
{Mood} {genre} {music} for {scene}.
background music for {scene}, {mood} {noun}
Game music for {scene}: {mood} {noun} with {parts}.
{noun} for {scene} with {parts}
{Noun} whose sound is {sound}.
A {mood} {genre} piece, {sound}.
{genre} {music}, {sound}, {tempo}
{noun} for {scene}, {sound}""".splitlines()


def measure(samples):
    """What the signal itself tells: timbre, percussiveness, density and, where it is clear, the tempo."""
    hop = 512
    mel = librosa.feature.melspectrogram(y=samples, sr=RATE, n_fft=1024, hop_length=hop, n_mels=64)
    harmonic, percussive = librosa.decompose.hpss(mel, power=2.0, kernel_size=(17, 13))
    onset = librosa.onset.onset_strength(S=librosa.power_to_db(mel), sr=RATE)
    hits = librosa.onset.onset_detect(onset_envelope=onset, sr=RATE, hop_length=hop)
    amplitude = np.sqrt(mel).sum(1)
    frequency = np.log2(np.maximum(librosa.mel_frequencies(64, fmax=RATE / 2), 60))
    pulse = librosa.autocorrelate(onset - onset.mean())
    lags = np.arange(60 * RATE // (hop * 180), 60 * RATE // (hop * 60) + 1)  # 180 to 60 beats a minute
    lag = lags[pulse[lags].argmax()]
    left, middle, right = pulse[lag - 1 : lag + 2]
    exact = lag + 0.5 * (left - right) / (left - 2 * middle + right)  # the peak between the bins
    other = float(librosa.feature.tempo(onset_envelope=onset, sr=RATE, hop_length=hop)[0])
    tempo = 60 * RATE / (hop * exact)
    agreed = abs(other * lag * hop / (60 * RATE) - 1) < 0.04 and middle > 0.45 * pulse[0]
    return {
        "tempo": round(float(tempo)) if agreed else None,  # beats a minute
        "percussive": float(percussive.sum() / (percussive.sum() + harmonic.sum())),  # share of the energy
        "brightness": float(2 ** (amplitude @ frequency / amplitude.sum())),  # hertz, centre of the log spectrum
        "onsets": len(hits) * RATE / len(samples),  # per second
        "level": float((10 * np.log10(mel.sum(0) + 1e-9)).std()),  # dB, spread over time
    }


def describe(track, tags, facts, ranks):
    """The words that are true of a clip, by kind, and the pseudo-tags behind them.

    `ranks`: for every measured fact the share of the clips that lie below this one.
    """
    words, kept = {"genre": [], "part": [], "mood": [], "sound": []}, {}
    for word, kind, *rules in (line.split("|") for line in WORDS.strip().splitlines()):
        for tag, score in (rule.split() for rule in rules):
            if tags[tag] >= float(score):
                kept[tag] = tags[tag]
                words[kind] += [] if word in words[kind] else [word]
    if track["style"] in GENRES:
        words["genre"] = [track["style"]] + [word for word in words["genre"] if word not in track["style"]]
    if "death metal" in words["genre"]:
        words["genre"] = ["death metal"]
    elif track["style"] in {"sad", "industrial"}:
        words["mood"].insert(0, track["style"])
    if track["stem"] or {"rock", "metal"} & set(words["genre"]):
        words["part"] = [word for word in words["part"] if word != "guitar"]
        if track["stem"] or tags["MTT:guitar"] >= 0.2:
            words["part"].insert(0, "electric guitar")  # with `stem` a fact: one of the two files is the guitar
    beat = max(tags["MTT:drums"], tags["MTT:beat"])
    tempo = facts["tempo"] if max(beat, facts["percussive"]) > 0.2 else None
    for limit, kind in ((0.2, "mood"), (0.35, "sound")):
        checks = {
            "dark": ranks["brightness"] < limit,
            "bright": ranks["brightness"] > 1 - limit,
            "sparse": ranks["onsets"] < limit,
            "busy": ranks["onsets"] > 1 - limit,
            "percussive": ranks["percussive"] > 1 - limit,
            "sustained": ranks["percussive"] < limit and beat < 0.2,
            "uneven in level": ranks["level"] > 1 - limit and kind == "sound",
            "even in level": ranks["level"] < limit and kind == "sound",
        }
        words[kind] += [word for word, true in checks.items() if true]
    for first, second in (pair.replace("_", " ").split(",") for pair in CLASHES.split()):
        if any(first in some for some in words.values()):
            words = {kind: [word for word in some if word != second] for kind, some in words.items()}
    words["sound"] = words["sound"] or ["balanced"]
    words["genre"] = words["genre"] or ["soundtrack"]  # all of these packages are games
    if tempo and 85 <= tempo <= 120 and not {"slow", "fast"} & set(words["mood"]):
        words["mood"].append("mid-tempo")
    words["mood"] = words["mood"] or [word for word in words["sound"] if " " not in word]
    clash = tempo and (("slow" in words["mood"] and tempo > 105) or ("fast" in words["mood"] and tempo < 100))
    words["tempo"] = (
        [f"{how} {5 * round(tempo / 5)} BPM" for how in ("about", "around")] if tempo and not clash else []
    )
    words["scene"] = [track["scene"]] if track["scene"] else []
    return words, kept


def write_captions(random, words, used):
    """Two to four captions from templates whose every slot can be filled; none occurs twice in the corpus."""

    def some(kind, most, but=()):
        free = [word for word in words[kind] if word not in but]
        return random.sample(free, min(len(free), random.randint(1, most)))

    def say(chosen):
        return [random.choice(SYNONYMS.get(word, [word])) for word in chosen]

    def listing(items):
        return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)

    captions, left = [], list(TEMPLATES)
    for _ in range(2000):
        template = random.choice(left)
        genres = sorted(some("genre", 2), key=lambda word: NOUNS.index(word) if word in NOUNS else -1)
        genre = " ".join(say(genres[-2:]))
        moods = some("mood", 2)
        slots = {"genre": genre, "mood": ", ".join(say(moods)), "parts": listing(say(some("part", 3)))}
        slots["sound"] = listing(say(some("sound", 2, but=moods)) or [""])
        slots |= {kind: random.choice(words[kind]) if words[kind] else "" for kind in ("tempo", "scene")}
        slots["noun"] = genre if genre.split()[-1] in BARE else genre + " music"
        slots |= {
            key.capitalize(): slots[key][:1].upper() + slots[key][1:] for key in ("genre", "mood", "parts", "noun")
        }
        music = random.choice(["music", "track"])
        slots["music"] = "music" if genre.endswith("soundtrack") else music
        if all(slots[name] for name in re.findall(r"{(\w+)}", template)):
            text = re.sub(r"\b([Aa]) (?=[aeiouAEIO])(?!un)", r"\1n ", template.format(**slots))
            if text.lower() not in used:
                used.add(text.lower())
                left.remove(template)
                captions.append(text)
        if len(captions) == 4:
            break
    if len(captions) < 2:
        raise RuntimeError(f"too little is known for two captions: {words}")
    return captions


def assign_splits(tracks):
    """Track number -> split, by family: about 78 / 11 / 11 %, every game in its own proportion."""
    games = {}
    for track in tracks:
        games.setdefault(track["package"].split("-")[0], set()).add(track["family"])
    splits = {}
    for families in games.values():
        order = sorted(families, key=unit_hash)
        test = max(1, round(0.11 * len(order)))
        validation = round(0.11 * len(order))
        for rank, family in enumerate(order):
            splits[family] = "test" if rank < test else "validation" if rank < test + validation else "train"
    return splits


def caption(tracks):
    teacher = json.loads((PRODUCED / "pseudo_tags.json").read_text(encoding="utf-8"))
    clips = read_csv(PRODUCED / "clips.csv")
    facts = {
        clip["id"]: measure(soundfile.read(PRODUCED / f"{clip['id']}.opus", dtype="float32")[0]) for clip in clips
    }
    keys = ("percussive", "brightness", "onsets", "level")
    by_number, splits, rows, used = {track["number"]: track for track in tracks}, assign_splits(tracks), [], set()
    for clip in clips:
        name, track = clip["id"], by_number[clip["track"]]
        scores = teacher["clips"][name].items()
        tags = {
            f"{key}:{tag}": score for key, row in scores for tag, score in zip(teacher["tags"][key], row, strict=True)
        }
        ranks = {key: np.mean([fact[key] < facts[name][key] for fact in facts.values()]) for key in keys}
        words, kept = describe(track, tags, facts[name], ranks)
        split = splits[track["family"]]
        row = {"id": name, "path": f"{split}/{name}.flac", "captions": write_captions(Random(name), words, used)}
        row |= {"source": SOURCE} | {key: track[key] for key in ("title", "artist", "licence")}
        row |= {"caption_source": "pseudo", "split": split, "family": track["family"], "package": track["package"]}
        rows.append(row | {"tags": kept})
    target = HERE / "captions.jsonl"
    if target.exists():
        others = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
        rows += [row for row in others if row["source"] != SOURCE]
    rows.sort(key=lambda row: row["id"])
    write_atomically(target, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def attribute(tracks):
    """Writes `produced/ATTRIBUTION.md`: one line per track."""
    lines = [ATTRIBUTION_HEAD]
    clips = read_csv(PRODUCED / "clips.csv")
    for track in tracks:
        starts = [f"{float(clip['start_s']):.1f}" for clip in clips if clip["track"] == track["number"]]
        licence = f"[{track['licence']}]({LICENCES[track['licence']]})"
        path = track["path"].replace("!", ", ") + (f" + {Path(track['stem']).name}" if track["stem"] else "")
        fields = [track["number"], track["title"], track["artist"], licence, f"{track['package']}: {path}"]
        lines.append("| " + " | ".join([*fields, f"<{track['url']}>", ", ".join(starts)]) + " |")
    write_atomically(PRODUCED / "ATTRIBUTION.md", "\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=Path, metavar="PKG", help="folder with one unpacked package per sub-folder")
    parser.add_argument("--teacher", nargs=2, metavar=("MODULE.py", "WHEEL_DIR"), help="recompute the pseudo-tags")
    arguments = parser.parse_args()
    tracks = read_csv(PRODUCED / "tracks.csv")
    if arguments.packages:
        cut(arguments.packages, tracks)
    if arguments.teacher:
        tag(*arguments.teacher)
    caption(tracks)
    attribute(tracks)


if __name__ == "__main__":
    main()
