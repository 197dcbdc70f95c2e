# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""What holds for every preset."""

import pytest

from muscall.evaluation.presets import PRESETS
from muscall.evaluation.presets.base import TAG_PROMPTS


@pytest.mark.parametrize("name", PRESETS)
def test_preset_is_complete(name):
    preset = PRESETS[name]
    assert "{}" not in preset.get and ("http" in preset.get or "Hub" in preset.get)
    if preset.task == "retrieval":
        assert not preset.labels and not preset.prompts
        return
    assert preset.task == "zeroshot"
    words = [phrase.lower() for phrase in preset.labels.values()]
    assert len(set(words)) == len(words) and not any("_" in phrase or "-" * 3 in phrase for phrase in words)
    assert {"{}", "A {} track"} < set(preset.prompts)
    assert all(prompt.count("{}") == 1 for prompt in preset.prompts)


def test_labels_have_the_published_number_and_readable_words():
    counts = {name: len(preset.labels) for name, preset in PRESETS.items() if preset.labels}
    assert counts == {
        "gtzan": 10,
        "gtzan_filtered": 10,
        "fma_small": 8,
        "magnatagatune": 50,
        "magnatagatune_merged": 37,
        "mtg_jamendo": 50,
        "mtg_jamendo_genre": 87,
        "mtg_jamendo_instrument": 40,
        "mtg_jamendo_moodtheme": 56,
        "openmic": 20,
    }
    assert PRESETS["gtzan"].labels["hiphop"] == PRESETS["fma_small"].labels["Hip-Hop"] == "hip hop"
    assert PRESETS["openmic"].labels["mallet_percussion"] == "mallet percussion"
    assert PRESETS["magnatagatune"].labels["no vocals"] == "no vocals"
    assert PRESETS["mtg_jamendo"].labels["instrument---drummachine"] == "drum machine"
    assert PRESETS["mtg_jamendo_genre"].labels["genre---drumnbass"] == "drum and bass"
    # The three sets of tags have what the 50 most frequent have, in the same words.
    parts = {}
    for part in ("genre", "instrument", "moodtheme"):
        parts |= PRESETS[f"mtg_jamendo_{part}"].labels
    assert PRESETS["mtg_jamendo"].labels.items() <= parts.items()
    assert PRESETS["mtg_jamendo"].prompts == TAG_PROMPTS
