# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
Splits without common recordings: copies of a track, under whatever names, are in one split.

Copies are tracks of equal bytes. The same music in another format, or with other tags, is not found.
"""

import itertools

from datasets import Dataset, IterableDataset
from transformers.utils import logging

from muscall.data.tracks import group_copies


logger = logging.get_logger(__name__)

Corpus = dict[str, Dataset | IterableDataset]  # of each split its tracks
PRIORITY = {"train": ("validation", "test"), "validation": ("test",)}  # of a split, those that keep what is in both


def list_sources(tracks: Dataset) -> list[str | memoryview]:
    """Return what each track is read from, without reading it: its path, or a view of its bytes on disk."""
    sources = []
    for batch in tracks.select_columns(["path", "bytes"]).with_format("arrow").iter(1000):
        for path, content in zip(batch["path"].to_pylist(), batch["bytes"], strict=True):
            sources.append(memoryview(content.as_buffer()) if content.is_valid else path)
    return sources


def separate_splits(corpora: list[Corpus], name: str) -> list[Corpus]:
    """
    Leave out of the train splits what is in a validation or a test split, and out of the validation splits what is in
    a test split, of the same corpus or of another, and say so. Test splits stay as they are, and so do streams, which
    cannot be compared before they are read.

    Args:
        corpora (`list[dict[str, Dataset]]`): Corpora as [`load_corpus`] returns them; splits may be missing.
        name (`str`): What the corpora are called in messages.

    Raises:
        `ValueError`: if nothing would be left of a split.
    """
    if len({split for corpus in corpora for split, tracks in corpus.items() if isinstance(tracks, Dataset)}) < 2:
        return corpora
    places, sources = [], []  # of each track its corpus, split and row, and what it is read from
    for number, corpus in enumerate(corpora):
        for split, tracks in corpus.items():
            if isinstance(tracks, Dataset):
                places += [(number, split, row) for row in range(len(tracks))]
                sources += list_sources(tracks)
    kept = {}  # of each track that is left out, the copy that stays
    for group in (group for group in group_copies(sources) if len(group) > 1):
        first = {places[position][1]: places[position] for position in reversed(group)}
        for place in (places[position] for position in group):
            if copy := next((first[split] for split in PRIORITY.get(place[1], ()) if split in first), None):
                kept[place] = copy
    separated = [dict(corpus) for corpus in corpora]
    for number, split in dict.fromkeys((number, split) for number, split, _ in kept):
        tracks = corpora[number][split]
        rows = [row for row in range(len(tracks)) if (number, split, row) not in kept]
        for other in PRIORITY[split]:
            pairs = [pair for pair in kept.items() if pair[0][:2] == (number, split) and pair[1][1] == other]
            _report_copies(corpora, pairs, f"{name}: {len(pairs)} of the {len(tracks)} {split} tracks")
        separated[number][split] = tracks.select(rows)
    for split in PRIORITY:
        sizes = [len(corpus[split]) for corpus in separated if isinstance(corpus.get(split), Dataset)]
        if sizes and (sum(sizes) == 0 or split == "train" and 0 in sizes):
            raise ValueError(f"{name}: every {split} track is in another split too, under the same or another name")
    return separated


def _report_copies(corpora: list[Corpus], pairs: list[tuple[tuple, tuple]], words: str) -> None:
    if pairs:
        left_out, kept = ((split, corpora[number][split][row]["path"]) for number, split, row in pairs[0])
        example = "" if None in (left_out[1], kept[1]) else f": {left_out[1]} is {kept[1]}, for instance"
        logger.warning(f"{words} are left out, because the {kept[0]} split has the same recordings{example}")


def hold_out(splits: dict[str, Dataset], dataset: str, holdout_fraction: float, seed: int) -> None:
    """
    Take a validation and a test split from the train split where the corpus has none: a share of its recordings, each
    with all its copies.

    Raises:
        `ValueError`: if there are too few recordings.
    """
    missing = [split for split in ("validation", "test") if split not in splits]
    if not missing:
        return
    tracks = splits["train"]
    recordings = group_copies(list_sources(tracks))
    total = f"{len(tracks)} tracks" + (f" of {len(recordings)} recordings" if len(recordings) < len(tracks) else "")
    num_recordings = max(1, round(holdout_fraction * len(recordings)))
    for split in missing:
        if num_recordings >= len(recordings):
            raise ValueError(f"{dataset} has {total}: too few to hold out {num_recordings} as the {split} split")
        numbers = Dataset.from_dict({"number": range(len(recordings))})
        parts = numbers.train_test_split(num_recordings, seed=seed)
        held_out = [recordings[number] for number in parts["test"]["number"]]
        recordings = [recordings[number] for number in parts["train"]["number"]]
        splits[split] = tracks.select(itertools.chain(*held_out))
    splits["train"] = tracks.select(itertools.chain(*recordings))
