# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The names of splits: those of `datasets`, whose table of keywords decides, in capital or small letters."""

import re
from collections.abc import Iterable

from datasets.data_files import NON_WORDS_CHARS, SPLIT_KEYWORDS


SPLITS = ("train", "validation", "test")
KEYWORDS = {keyword: str(split) for split, keywords in SPLIT_KEYWORDS.items() for keyword in keywords}
# `train` is in `train-0001`, `music_train` and `train.clean`, but not in `trainer`.
PATTERN = re.compile(rf"(?:.*[{NON_WORDS_CHARS}])?({'|'.join(KEYWORDS)})(?:[{NON_WORDS_CHARS}].*)?", re.IGNORECASE)
NO_FOLDER = "no folder"  # what rows are called that lie beside the folders of splits, and in none


def standard_name(name: str) -> str:
    """Return `train`, `validation` or `test` for one of its names (`dev`, `Testing`), and other names as they are."""
    return KEYWORDS.get(name.lower(), name)


def standard_names(names: Iterable[str], dataset: str) -> dict[str, str]:
    """
    Return the standard name of each split of a dataset. A split keeps its own where another already has that name.

    Raises:
        `ValueError`: if two splits have names of the same standard one, `valid` and `dev` for instance.
    """
    names = list(names)
    standard = {name: name if standard_name(name) in names else standard_name(name) for name in names}
    for split in SPLITS:
        if len(same := [name for name in names if standard[name] == split]) > 1:
            raise ValueError(f"{dataset} has more than one {split} split: {', '.join(same)}")
    return standard


def find_split(parts: Iterable[str]) -> str | None:
    """Return the split that the first of some folders or files is named for, as `datasets` has it, or `None`."""
    matches = (PATTERN.fullmatch(part) for part in parts)
    return next((standard_name(match[1]) for match in matches if match), None)


def name_places(places: list[tuple[str, ...]]) -> list[str]:
    """
    Return the split of each place, the folders that a table or a track is in. Where every place has a folder that
    `datasets` takes for one of a split, these decide. Otherwise only exact names do, so that an album called "Test
    Pressing 2" is no split; places outside them are splits of their own, named by their folder. Where there are no
    exact names, everything is `train`.
    """
    splits = [find_split(parts) for parts in places]
    if all(splits):
        return splits
    found = [[depth for depth, part in enumerate(parts) if part.lower() in KEYWORDS][:1] for parts in places]
    if not any(found):
        return ["train"] * len(places)
    level = min(depth for depths in found for depth in depths)
    names = []
    for parts, depths in zip(places, found, strict=True):
        other = parts[level] if len(parts) > level else NO_FOLDER
        names.append(standard_name(parts[depths[0]]) if depths else other)
    return names
