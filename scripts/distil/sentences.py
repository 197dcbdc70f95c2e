# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Sentences for the small text tower: what they are made from, and sentences without end."""

import gzip
import json
import random
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path


MOST_WORDS = 60  # of a passage

# m: what music is like or is made with, w: a word, frequent ones more often, n: a noun, which may be of several words.
TEMPLATES = (
    *("{m} music", "a {m} track", "a {m} song", "{m}, {m}", "{m} and {m}", "{m} with {m}", "{m}, {m}, {m}", "{m} {m}"),
    *(
        "{w} {m}",
        "{m} {w}",
        "{n} {m}",
        "{m} for {n}",
        "music for {w} {n}",
        "music for a {n}",
        "music for {w}",
        "no {m}",
    ),
    *("a {w} {n}", "{w} {n}", "{n} and {n}", "{w} {w}", "{w} {w} {w}", "{w} in the {n}", "a {n} of {n}", "{n} music"),
    *(
        "a song about {n}",
        "a song about {w} {n}",
        "a {w} song with {m}",
        "the sound of {n}",
        "{n} sounds",
        "{n} playing",
    ),
    *("{m} without {m}", "{m} but not {m}", "something {w} with {m}", "soundtrack for a {w} {n}", "{m} from {n}"),
    *("it sounds like {n}", "{n} playing", "like {n} in a {n}", "{m} at a {n}", "the music is {w} and {w}"),
    *("a {w} melody played on {n}", "{n} plays {m} over {m}", "{m} in the style of {n}", "a {w} {m} with a {w} {m}"),
    *("someone sings about {n}", "a {w} voice and {m}", "music to {w} to", "music for {w}", "i want {m} for my {n}"),
    *("this is a {m} piece with {m} and {m}", "a {w} {n} with {m} in the background", "there is {m} and {w} {n}"),
)


@dataclass
class Texts:
    """
    What sentences are made from, and those for validation.

    Attributes:
        captions (`list[str]`): Of music, of one or more sentences.
        aspects (`list[list[str]]`): What was said of one piece of music in a few words each.
        phrases (`list[str]`): Names and short descriptions of music and sounds.
        passages (`list[str]`): On anything.
        nouns (`list[str]`), words (`list[str]`): The latter from the most frequent one.
        validation_captions (`list[str]`), validation_phrases (`list[str]`): Not among the others.
    """

    captions: list[str] = field(default_factory=list)
    aspects: list[list[str]] = field(default_factory=list)
    phrases: list[str] = field(default_factory=list)
    passages: list[str] = field(default_factory=list)
    nouns: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    validation_captions: list[str] = field(default_factory=list)
    validation_phrases: list[str] = field(default_factory=list)


def read_texts(path: Path) -> Texts:
    """Read what [`write_texts`] wrote."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return Texts(**json.load(file))


def write_texts(texts: Texts, path: Path) -> None:
    """Write texts as JSON, compressed."""
    with gzip.open(path, "wt", encoding="utf-8") as file:
        json.dump(asdict(texts), file, ensure_ascii=False)


def split_sentences(text: str) -> list[str]:
    """Split a text at the ends of its sentences."""
    return [part for part in re.split(r"(?<=[.!?;])\s+", text.strip()) if part]


class Sentences:
    """
    Make sentences without end: whole captions and parts of them, lists of aspects, templates filled with aspects and
    with any words, passages, and single words.

    Args:
        texts (`Texts`): What they are made from.
        seed (`int`): Of the choices.
    """

    def __init__(self, texts: Texts, seed: int):
        self.texts, self.random = texts, random.Random(seed)
        self.kinds = {
            self.caption: 10,
            self.part_of_caption: 10,
            self.list_of_aspects: 8,
            self.music_term: 6,
            self.template: 28,
            self.passage: 18,
            self.fragment: 12,
            self.few_words: 8,
        }

    def draw(self, count: int) -> list[str]:
        """Return sentences."""
        kinds = self.random.choices(list(self.kinds), list(self.kinds.values()), k=count)
        return [kind() for kind in kinds]

    def caption(self) -> str:
        return self.random.choice(self.texts.captions)

    def part_of_caption(self) -> str:
        sentences = split_sentences(self.caption())
        start = self.random.randrange(len(sentences))
        return " ".join(sentences[start : start + self.random.choice((1, 1, 2, 3))])

    def list_of_aspects(self) -> str:
        aspects = self.random.choice(self.texts.aspects)
        return ", ".join(self.random.sample(aspects, self.random.randint(1, len(aspects))))

    def music_term(self) -> str:
        if self.random.random() < 0.5:
            return self.random.choice(self.random.choice(self.texts.aspects))
        return self.random.choice(self.texts.phrases)

    def template(self) -> str:
        slots = {"{m}": self.music_term, "{w}": self.word, "{n}": self.noun}
        parts = re.split(r"(\{[mwn]\})", self.random.choice(TEMPLATES))
        return "".join(slots[part]() if part in slots else part for part in parts)

    def passage(self) -> str:
        words = self.random.choice(self.texts.passages).split()
        return " ".join(words[:MOST_WORDS])

    def fragment(self) -> str:
        words = (self.passage() if self.random.random() < 0.7 else self.caption()).split()
        length = self.random.randint(1, 8)
        start = self.random.randint(0, max(0, len(words) - length))
        return " ".join(words[start : start + length])

    def few_words(self) -> str:
        draw = self.noun if self.random.random() < 0.5 else self.word
        return " ".join(draw() for _ in range(self.random.choice((1, 1, 2, 3))))

    def word(self) -> str:
        return self.texts.words[
            int(self.random.random() ** 3 * len(self.texts.words))
        ]  # a tenth is drawn half the time

    def noun(self) -> str:
        return self.random.choice(self.texts.nouns)
