# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
Build the language corpus: sentences about music, and which classes of AudioSet they mean, without any audio.

    python -m scripts.language corpus/language --labels class_labels_indices.csv --ontology ontology.json
    accelerate launch train.py --config recipes/language.yaml

Human captions of MusicCaps (the part whose audio is in the training split of AudioSet) come with the labels that
AudioSet's raters gave the same recording. To these come the names of the classes as people may say them, so that near
styles are told apart, their descriptions, and the phrases of the open mix whose words are classes. A recording is
known by its labels alone: they are the column `audio_embeds`, one number for each class, and rare classes count more.
What learns from it is the text tower, of which `scripts/words.py` makes the words of the release.

The captions come from google/MusicCaps on the Hub, or from `--captions`, a CSV file with its columns `caption`,
`aspect_list` and `audioset_positive_labels`, without the evaluation part. `class_labels_indices.csv` and
`ontology.json` are AudioSet's. The output folder gets `train.parquet`, `validation.parquet`, `test.parquet`, each a
tenth of the captions but the first, and `classes.json`, the class of each number.
"""

import argparse
import ast
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
from datasets import Dataset, load_dataset

from scripts.distil.sentences import split_sentences
from scripts.files import read_csv, replace_text


PHRASES = Path(__file__).parent / "open_mix" / "phrases.csv"
MUSIC, SINGING = "/m/04rlf", "/m/015lz1"  # in the ontology; all below them concerns music
MIN_CAPTIONS = 15  # of another class, to be taken too
TEMPLATES = ("{}", "{} music", "a {} track", "the sound of {}", "a song with {}")
TEMPLATES += ("a {} song", "{} style", "{} beat with a groove", "{} sounds")
RARE = 3e-3  # a rarer class weighs as much as one in this share of the captions
SPLITS = ("test", *["train"] * 4, "validation", *["train"] * 4)  # of each ten captions
PARTS = 6  # of a caption and of its aspects, beside the whole ones
CLASS_ROWS = 5  # of each class: a quarter of all rows


@dataclass(frozen=True)
class Classes:
    """
    Classes of AudioSet.

    Attributes:
        ids (`list[str]`): `/m/05rwpb`, for instance.
        names (`list[str]`): In words, `independent music`.
        descriptions (`list[str]`): A sentence or two on each.
        concern_music (`np.ndarray` of shape `(classes,)`): Whether they are below music or singing.
    """

    ids: list[str]
    names: list[str]
    descriptions: list[str]
    concern_music: np.ndarray


@dataclass(frozen=True)
class Caption:
    """A caption of MusicCaps, its aspects, and the labels of AudioSet of the same recording."""

    text: str
    aspects: list[str]
    labels: list[str]


def read_classes(labels: Path, ontology: Path) -> Classes:
    """Read the classes of AudioSet in the order of its table, which is that of a tagger's outputs."""
    nodes = {node["id"]: node for node in json.loads(ontology.read_text(encoding="utf-8"))}
    rows, below, waiting = read_csv(labels), set(), [MUSIC, SINGING]
    while waiting:
        below.add(identifier := waiting.pop())
        waiting += nodes[identifier]["child_ids"]
    ids, names = [row["mid"] for row in rows], [row["display_name"].lower() for row in rows]
    described = [nodes[i]["description"] if i in nodes else name for i, name in zip(ids, names, strict=True)]
    return Classes(ids, names, described, np.array([identifier in below for identifier in ids]))


def read_captions(path: Path | None) -> list[Caption]:
    """Read the training part of MusicCaps, from a CSV file or, without one, from the Hub."""
    if path is None:
        rows = load_dataset("google/MusicCaps", split="train").filter(lambda row: not row["is_audioset_eval"])
    else:
        rows = read_csv(path)
    return [
        Caption(row["caption"], ast.literal_eval(row["aspect_list"]), row["audioset_positive_labels"].split(","))
        for row in rows
    ]


def choose_classes(classes: Classes, captions: list[Caption]) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the classes that are learnt, `(chosen,)`, and the labels `(captions, chosen)`."""
    index = {identifier: number for number, identifier in enumerate(classes.ids)}
    labels = np.zeros((len(captions), len(classes.ids)), np.float32)
    for row, caption in zip(labels, captions, strict=True):
        row[[index[label] for label in caption.labels if label in index]] = 1
    chosen = np.flatnonzero(classes.concern_music | (labels.sum(0) >= MIN_CAPTIONS))
    return chosen, labels[:, chosen]


def take_parts(parts: list[str], joint: str, random: Random) -> str:
    """Return some of the parts of a text, in another order."""
    return joint.join(random.sample(parts, random.randint(1, len(parts))))


def write_sentences(caption: Caption, random: Random) -> list[str]:
    """Return what is said of a recording: its caption, the first sentence of it, its aspects, and parts of these."""
    sentences = split_sentences(caption.text)
    texts = [caption.text, sentences[0], ", ".join(caption.aspects)]
    for _ in range(PARTS):
        texts += [take_parts(sentences, " ", random), take_parts(caption.aspects, ", ", random)]
    return [text for text in texts if text]


def phrase_rows(names: list[str]) -> Iterable[tuple[list[str], list[int]]]:
    """Yield phrases of the open mix, and the classes that their words name: `rock` is `rock music`."""
    place = {name: number for number, name in enumerate(names)}
    for row in read_csv(PHRASES):
        words = row["words"].split("+")
        found = [next((place[name] for name in (word, f"{word} music") if name in place), None) for word in words]
        if numbers := [number for number in found if number is not None]:
            yield row["phrases"].split("; "), numbers


def build(classes: Classes, captions: list[Caption]) -> tuple[dict[str, list[dict]], np.ndarray]:
    """
    Return the rows of each split, with `captions` and `audio_embeds`, and the indices of the classes.

    The labels of a recording are centred, so that what most music has says little, and a label counts by the root of
    how rare it is.
    """
    chosen, labels = choose_classes(classes, captions)
    mean = labels[[SPLITS[number % len(SPLITS)] == "train" for number in range(len(captions))]].mean(0)
    weight = 1 / np.sqrt(np.maximum(mean, RARE))
    rows = {"train": [], "validation": [], "test": []}
    for number, (caption, row) in enumerate(zip(captions, labels, strict=True)):
        split = SPLITS[number % len(SPLITS)]
        sentences = write_sentences(caption, Random(number)) if split == "train" else [caption.text]
        if split != "train" and caption.aspects:
            sentences.append(", ".join(caption.aspects))
        rows[split].append({"captions": sentences, "audio_embeds": (row - mean) * weight})
    names, meant = [classes.names[number] for number in chosen], np.eye(len(chosen), dtype=np.float32) * weight
    for number, name in enumerate(names):
        sentences = [*(template.format(name) for template in TEMPLATES), classes.descriptions[chosen[number]] or name]
        rows["train"] += [{"captions": sentences, "audio_embeds": meant[number]}] * CLASS_ROWS
    for sentences, numbers in phrase_rows(names):
        rows["train"].append({"captions": sentences, "audio_embeds": meant[numbers].sum(0)})
    return rows, chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output_dir", type=Path)
    parser.add_argument("--labels", type=Path, required=True, help="AudioSet's class_labels_indices.csv")
    parser.add_argument("--ontology", type=Path, required=True, help="AudioSet's ontology.json")
    parser.add_argument("--captions", type=Path, help="a CSV file; by default google/MusicCaps from the Hub")
    args = parser.parse_args()
    classes, captions = read_classes(args.labels, args.ontology), read_captions(args.captions)
    splits, chosen = build(classes, captions)
    args.output_dir.mkdir(parents=True, exist_ok=True)
    for split, rows in splits.items():
        Dataset.from_list(rows).to_parquet(args.output_dir / f"{split}.parquet")
    rows = [{"index": int(number), "id": classes.ids[number], "name": classes.names[number]} for number in chosen]
    replace_text(args.output_dir / "classes.json", json.dumps(rows, indent=1) + "\n")
    counts = ", ".join(f"{len(rows)} {split}" for split, rows in splits.items())
    print(f"{len(chosen)} classes; rows: {counts}: {args.output_dir}")


if __name__ == "__main__":
    main()
