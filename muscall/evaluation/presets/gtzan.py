# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""GTZAN: excerpts of 30 s of ten genres; all of them, or the fault-filtered partition."""

from functools import partial
from pathlib import Path

from datasets import Audio, Dataset, load_dataset
from torchaudio.datasets.gtzan import filtered_test, filtered_train, filtered_valid, gtzan_genres

from muscall.evaluation.presets.base import (
    FEATURES,
    GENRE_PROMPTS,
    Preset,
    build_splits,
    check_columns,
    find_file,
    is_hub_copy,
    shorten,
)


BROKEN = ("jazz.00054",)  # not a WAV file that can be decoded
ALL = {"test": [f"{genre}.{number:05d}" for genre in gtzan_genres for number in range(100)]}
FILTERED = {"train": filtered_train, "validation": filtered_valid, "test": filtered_test}
LABELS = {genre: {"hiphop": "hip hop"}.get(genre, genre) for genre in gtzan_genres}


def _read_gtzan(dataset: str, splits: dict[str, list[str]]) -> dict[str, Dataset]:
    splits = {split: [name for name in names if name not in BROKEN] for split, names in splits.items()}
    return _read_hub_copy(dataset, splits) if is_hub_copy(dataset) else _read_folder(dataset, splits)


def _read_folder(dataset: str, splits: dict[str, list[str]]) -> dict[str, Dataset]:
    folder = find_file(dataset, "genres", "genres_original")
    rows = {split: [] for split in splits}
    for split, names in splits.items():
        for name in names:
            genre = name.split(".")[0]
            rows[split].append({"audio": str(folder / genre / f"{name}.wav"), "labels": [genre]})
    return build_splits(rows, folder)


def _read_hub_copy(dataset: str, splits: dict[str, list[str]]) -> dict[str, Dataset]:
    rows = load_dataset(dataset, split="train")
    check_columns(rows.column_names, ("file", "audio"), dataset)
    available = [Path(file).stem for file in rows["file"]]
    places = {name: place for place, name in enumerate(available)}
    if missing := [name for names in splits.values() for name in names if name not in places]:
        raise ValueError(
            f"{dataset} lacks {len(missing)} excerpts: {shorten(missing)}. Its `file` has: {shorten(available)}"
        )
    rows = rows.select_columns(["audio"]).cast_column("audio", Audio(decode=False))
    # The labels come before the selection, because a column that is added after it copies the audio.
    rows = rows.add_column("labels", [[name.split(".")[0]] for name in available], feature=FEATURES["labels"])
    return {split: rows.select([places[name] for name in names]) for split, names in splits.items()}


def _gtzan(splits: dict[str, list[str]]) -> Preset:
    return Preset(
        task="zeroshot",
        get="The Hub copy sanchit-gandhi/gtzan; or a folder with genres/, which is data/genres.tar.gz of "
        "marsyas/gtzan on the Hub, or with genres_original/, from Kaggle's copy.",
        read=partial(_read_gtzan, splits=splits),
        dataset="sanchit-gandhi/gtzan",
        labels=LABELS,
        prompts=GENRE_PROMPTS,
    )


PRESETS = {"gtzan": _gtzan(ALL), "gtzan_filtered": _gtzan(FILTERED)}
