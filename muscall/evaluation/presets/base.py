# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The base of all presets: their description, banks of prompts, and the reading and checking of annotations."""

import csv
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from datasets import Dataset, Features, List, Value


@dataclass(frozen=True)
class Preset:
    """
    A public evaluation set. `muscall/evaluation/README.md` has the sizes, licences and conventions of all.

    Args:
        task (`str`):
            `"retrieval"` or `"zeroshot"`.
        get (`str`):
            Where the data come from.
        read (`Callable[[str], dict[str, Dataset]]`):
            Reads the dataset, given its folder or Hub id, as undecoded splits with the columns `audio` (absolute
            paths, or `datasets` audio) and `captions` (a string a row; a track may have several rows), or `labels`
            and, where a set leaves labels open, `unknown` (lists of strings).
        dataset (`str`, *optional*):
            The Hub id that is read where no folder is given; without it a folder is needed.
        split (`str`, *optional*, defaults to `"test"`):
            The split that is reported.
        multi_label (`bool`, *optional*, defaults to `False`):
            Whether a track may have any number of labels.
        labels (`dict[str, str]`, *optional*):
            For each label the words that stand for it in a prompt.
        prompts (`tuple[str, ...]`, *optional*):
            Templates with one `{}`. The bare label and "A {} track" are those of the MusCALL paper.
    """

    task: str
    get: str
    read: Callable[[str], dict[str, Dataset]]
    dataset: str | None = None
    split: str = "test"
    multi_label: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    prompts: tuple[str, ...] = ()


GENRE_PROMPTS = ("{}", "A {} track", "{} music", "This is a {} song.")
INSTRUMENT_PROMPTS = ("{}", "A {} track", "music with {}", "the sound of {}", "a recording of {}")
TAG_PROMPTS = ("{}", "A {} track", "{} music", "music described as {}")

FEATURES = {
    "audio": Value("string"),
    "captions": Value("string"),
    "labels": List(Value("string")),
    "unknown": List(Value("string")),
}


def shorten(items: Iterable, limit: int = 5) -> str:
    """Join the first `limit` items with commas and, where there are more, say how many there are in all."""
    items = list(map(str, items))
    return ", ".join(items[:limit]) + (f", ... ({len(items)} in all)" if len(items) > limit else "")


def find_file(folder: str, *names: str) -> Path:
    """
    Return the absolute path of the first of `names`, files or folders within `folder`, that exists.

    Raises:
        `ValueError`: if there is none; the message says what the folder holds.
    """
    root = Path(folder).absolute()
    if not root.is_dir():
        raise ValueError(f"{folder} is not a folder; expected one with {' or '.join(names)} in it")
    path = next((root / name for name in names if (root / name).exists()), None)
    if path is None:
        contents = shorten(sorted(path.name for path in root.iterdir())) or "nothing"
        raise ValueError(f"{folder} has no {' or '.join(names)}. It has: {contents}")
    return path


def check_columns(columns: Iterable[str], required: Iterable[str], where: str):
    """Raise `ValueError` unless all `required` columns are among `columns`, those of `where`."""
    columns = list(columns)
    if missing := [column for column in required if column not in columns]:
        raise ValueError(f"{where} has no column {shorten(missing)}. Its columns: {shorten(columns, 20)}")


def read_csv(file: Path, columns: Iterable[str], delimiter: str = ",") -> list[dict[str, str]]:
    """Read the rows of a file with a header that must have `columns`."""
    with open(file, encoding="utf-8", newline="") as lines:
        reader = csv.DictReader(lines, delimiter=delimiter)
        check_columns(reader.fieldnames or (), columns, str(file))
        return list(reader)


def build_splits(rows: dict[str, list[dict]], where: str | Path) -> dict[str, Dataset]:
    """
    Make a dataset of the rows of each split.

    Raises:
        `ValueError`: if audio that the rows name is missing, since a part of a set is no benchmark, or if the test
        split is empty.
    """
    paths = sorted({row["audio"] for split in rows.values() for row in split})
    if missing := [path for path in paths if not os.path.isfile(path)]:
        raise ValueError(
            f"{len(missing)} of the {len(paths)} audio files of {where} are not there: {shorten(missing)}"
        )
    if not rows.get("test"):
        raise ValueError(f"{where} has no audio of the test split")
    return {
        split: Dataset.from_list(tracks, features=Features({column: FEATURES[column] for column in tracks[0]}))
        for split, tracks in rows.items()
        if tracks
    }


def is_hub_copy(dataset: str) -> bool:
    """Tell whether `load_dataset` reads the dataset: an id, or a folder of parquet files as the Hub has them."""
    return not Path(dataset).is_dir() or any(Path(dataset).rglob("*.parquet"))
