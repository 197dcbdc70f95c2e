# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Captions of the open mix: they say what is known, in various words, and nothing else."""

from random import Random

import numpy as np
import pytest


pytest.importorskip("mutagen", reason='the open mix needs: pip install -e ".[dev]"')

from scripts.open_mix.build import (
    read_queries,
)
from scripts.open_mix.captions import WORDS, read_phrases, sure_words, write_captions, write_phrases


NOTHING = {"genre": [], "part": [], "mood": []}


def test_tags_that_the_tagger_is_sure_of():
    names = {name for _, _, tags in WORDS for name in tags.split(",")}
    tags = {name: np.full(20, 0.01) for name in names}
    tags["MTT:piano"] = np.linspace(0, 0.95, 20)
    tags["MTT:slow"] = np.where(np.arange(20) == 19, 0.4, 0.0)
    tags["MTT:fast"] = np.where(np.arange(20) == 19, 0.3, 0.0)
    tags["MTT:flute"] = np.where(np.arange(20) == 19, 0.09, 0.0)  # more than any other, and still unlikely
    training = np.arange(20) < 15  # the others have no say in the thresholds
    clips = sure_words(tags, training)
    assert [clip for clip in range(20) if "piano" in clips[clip]["part"]] == [13, 14, 15, 16, 17, 18, 19]
    assert clips[19] == {"genre": [], "part": ["piano"], "mood": ["slow"]}


def test_captions_say_what_is_known_in_various_words():
    words = {"genre": ["ambient", "electronic"], "part": ["piano", "strings", "a choir"], "mood": ["slow"]}
    captions = write_captions(["orchestral", "for a castle"], words, Random(0), count=30)
    assert len(captions) == len({caption.lower() for caption in captions}) == 30
    known = {"ambient", "electronic", "piano", "strings", "choir", "slow", "orchestral", "castle"}
    for caption in captions:
        said = set(caption.lower().replace(",", "").replace(".", "").split())
        assert said & known and said <= known | {"a", "an", "and", "with", "music", "track", "piece", "for"}, caption
        assert "a ambient" not in caption.lower() and "  " not in caption and "music music" not in caption
    assert write_captions([], NOTHING, Random(0)) == []
    assert write_captions(["for a castle"], NOTHING, Random(0)) == ["music for a castle"]


def test_phrases_are_of_known_words_and_say_nothing_of_what_is_absent():
    known = {word for word, _, _ in WORDS}
    phrases = read_phrases()
    assert {word for words in phrases for word in words} == known
    said = [phrase for group in phrases.values() for phrase in group]
    assert len(said) > 700 and all(phrase.strip() == phrase and phrase for phrase in said)
    assert not any({"no", "not", "without", "never"} & set(phrase.lower().split()) for phrase in said)


def test_phrases_were_not_taken_from_the_queries_that_measure_them():
    said = {phrase.lower() for group in read_phrases().values() for phrase in group}
    assert not said & {query.lower() for query, _ in read_queries()}


def test_phrases_of_what_holds_alone():
    phrases = read_phrases()
    allowed = {*phrases[("piano",)], *phrases[("slow",)], *phrases[("piano", "slow")]}
    captions = write_phrases({"piano", "slow", "a word without phrases"}, Random(0), 40)
    assert len(captions) > 25
    for caption in captions:
        rest = caption.lower()
        for phrase in sorted(allowed, key=len, reverse=True):
            rest = rest.replace(phrase.lower(), "")
        assert not rest.strip(" ,."), caption
    assert any(phrase in caption for caption in captions for phrase in phrases[("piano", "slow")])
    assert write_phrases(set(), Random(0), 40) == []
