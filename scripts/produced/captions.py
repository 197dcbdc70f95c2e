# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Captions of produced music, from pseudo-tags, from what the signal tells and from what the packages state."""

import re
from collections.abc import Sequence
from random import Random

import librosa
import numpy as np

from scripts.produced.cutting import RATE
from scripts.wording import fix_articles, join_words


FACTS = ("percussive", "brightness", "onsets", "level")  # measured ones that are ranked over the clips
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
# Words that follow others in a list of genres, the later the further behind.
NOUNS = ["folk", "ambient", "chillout", "electronic", "dance", "techno", "jazz", "rock", "metal"]
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


def measure(samples: np.ndarray) -> dict[str, float | None]:
    """Return what the signal itself tells: timbre, percussiveness, density and, where it is clear, the tempo."""
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


def describe(
    track: dict, tags: dict[str, float], facts: dict, ranks: dict[str, float]
) -> tuple[dict[str, list[str]], dict[str, float]]:
    """
    Return the words that are true of a clip, by kind, and the pseudo-tags behind them.

    Args:
        track (`dict`): Its row in `tracks.csv`.
        tags (`dict[str, float]`): Scores of the pseudo-tags.
        facts (`dict`): See [`measure`].
        ranks (`dict[str, float]`): For every fact of `FACTS` the share of the clips that lie below this one.
    """
    words, kept = tagged_words(tags)
    add_stated_words(words, track, tags)
    beat = max(tags["MTT:drums"], tags["MTT:beat"])
    tempo = facts["tempo"] if max(beat, facts["percussive"]) > 0.2 else None
    for limit, kind in ((0.2, "mood"), (0.35, "sound")):
        words[kind] += measured_words(ranks, limit, beat, kind == "sound")
    for first, second in (pair.replace("_", " ").split(",") for pair in CLASHES.split()):
        if any(first in group for group in words.values()):
            words = {kind: [word for word in group if word != second] for kind, group in words.items()}
    words["sound"] = words["sound"] or ["balanced"]
    words["genre"] = words["genre"] or ["soundtrack"]  # all of these packages are games
    if tempo and 85 <= tempo <= 120 and not {"slow", "fast"} & set(words["mood"]):
        words["mood"].append("mid-tempo")
    words["mood"] = words["mood"] or [word for word in words["sound"] if " " not in word]
    clash = tempo and (("slow" in words["mood"] and tempo > 105) or ("fast" in words["mood"] and tempo < 100))
    tempos = [f"{how} {5 * round(tempo / 5)} BPM" for how in ("about", "around")] if tempo and not clash else []
    words |= {"tempo": tempos, "scene": [track["scene"]] if track["scene"] else []}
    return words, kept


def tagged_words(tags: dict[str, float]) -> tuple[dict[str, list[str]], dict[str, float]]:
    """Return the words whose pseudo-tags reach their scores, by kind, and these tags."""
    words, kept = {"genre": [], "part": [], "mood": [], "sound": []}, {}
    for word, kind, *rules in (line.split("|") for line in WORDS.strip().splitlines()):
        for tag, score in (rule.split() for rule in rules):
            if tags[tag] >= float(score):
                kept[tag] = tags[tag]
                words[kind] += [] if word in words[kind] else [word]
    return words, kept


def add_stated_words(words: dict[str, list[str]], track: dict, tags: dict[str, float]) -> None:
    """Add what the package states of a track, which goes before what the tagger guesses."""
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


def measured_words(ranks: dict[str, float], limit: float, beat: float, with_level: bool) -> list[str]:
    """
    Return the words for what is measured and extreme among the clips.

    Args:
        ranks (`dict[str, float]`): See [`describe`].
        limit (`float`): Share of the clips that count as extreme at either end.
        beat (`float`): The score of drums or of a beat.
        with_level (`bool`): Whether to say how even the level is.
    """
    checks = {
        "dark": ranks["brightness"] < limit,
        "bright": ranks["brightness"] > 1 - limit,
        "sparse": ranks["onsets"] < limit,
        "busy": ranks["onsets"] > 1 - limit,
        "percussive": ranks["percussive"] > 1 - limit,
        "sustained": ranks["percussive"] < limit and beat < 0.2,
        "uneven in level": ranks["level"] > 1 - limit and with_level,
        "even in level": ranks["level"] < limit and with_level,
    }
    return [word for word, true in checks.items() if true]


class Wording:
    """
    Draws words for the slots of templates.

    Args:
        random (`Random`): What is drawn with.
        words (`dict[str, list[str]]`): See [`describe`].
    """

    def __init__(self, random: Random, words: dict[str, list[str]]):
        self.random, self.words = random, words

    def draw(self, kind: str, most: int, but: Sequence[str] = ()) -> list[str]:
        """Return up to `most` words of a kind, without those in `but`."""
        free = [word for word in self.words[kind] if word not in but]
        return self.random.sample(free, min(len(free), self.random.randint(1, most)))

    def reword(self, words: list[str]) -> list[str]:
        """Return words or their synonyms."""
        return [self.random.choice(SYNONYMS.get(word, [word])) for word in words]

    def fill_slots(self) -> dict[str, str]:
        """Return a value of each slot; it is empty where nothing is known."""
        genres = sorted(self.draw("genre", 2), key=lambda word: NOUNS.index(word) if word in NOUNS else -1)
        genre = " ".join(self.reword(genres[-2:]))
        moods = self.draw("mood", 2)
        slots = {"genre": genre, "mood": ", ".join(self.reword(moods))}
        slots["parts"] = join_words(self.reword(self.draw("part", 3)))
        slots["sound"] = join_words(self.reword(self.draw("sound", 2, but=moods)) or [""])
        for kind in ("tempo", "scene"):
            slots[kind] = self.random.choice(self.words[kind]) if self.words[kind] else ""
        slots["noun"] = genre if genre.split()[-1] in BARE else genre + " music"
        for key in ("genre", "mood", "parts", "noun"):
            slots[key.capitalize()] = slots[key][:1].upper() + slots[key][1:]
        music = self.random.choice(["music", "track"])
        return slots | {"music": "music" if genre.endswith("soundtrack") else music}


def write_captions(random: Random, words: dict[str, list[str]], used: set[str]) -> list[str]:
    """
    Return two to four captions from templates whose every slot can be filled.

    Args:
        words (`dict[str, list[str]]`): See [`describe`].
        used (`set[str]`): Captions of earlier clips in small letters, none of which comes again; the new are added.
    """
    captions, left, wording = [], list(TEMPLATES), Wording(random, words)
    for _ in range(2000):
        template = random.choice(left)
        slots = wording.fill_slots()
        if all(slots[name] for name in re.findall(r"{(\w+)}", template)):
            text = fix_articles(template.format(**slots))
            if text.lower() not in used:
                used.add(text.lower())
                left.remove(template)
                captions.append(text)
        if len(captions) == 4:
            break
    if len(captions) < 2:
        raise RuntimeError(f"too little is known for two captions: {words}")
    return captions
