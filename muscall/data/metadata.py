# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
Folders of audio with tables beside it, as the AudioFolder of `datasets` has them.

`datasets` itself reads them only where torchcodec is installed, and gives every split all rows of a table that lies
above the folders of the splits.
"""

import os
import unicodedata
from collections import Counter, defaultdict
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from datasets import Dataset, Features, IterableDataset, Value, concatenate_datasets, load_dataset_builder
from datasets.utils.metadata import MetadataConfigs
from huggingface_hub import DatasetCard
from transformers.utils import logging

from muscall.data.split_names import find_split, name_places
from muscall.data.tables import load_table
from muscall.data.tracks import AUDIO_COLUMNS


logger = logging.get_logger(__name__)

NOT_STATED = "in no split of README.md"  # what rows are called whose audio it does not mention
METADATA_FILES = ("metadata.jsonl", "metadata.csv", "metadata.parquet")


def read_card(folder: Path) -> dict[Path, str]:
    """
    Return the split of each file of a folder where its `README.md` says so, under `configs`, as it may on the Hub.

    Raises:
        `ValueError`: if it has several configurations, or is not what `datasets` expects.
    """
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    if not text.startswith("---"):  # no YAML
        return {}
    try:
        configs = MetadataConfigs.from_dataset_card_data(DatasetCard(text, ignore_metadata_errors=True).data)
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{card}: its YAML cannot be read: {error}") from error
    if not any({"data_files", "data_dir"} & config.keys() for config in configs.values()):
        return {}
    if len(configs) > 1:
        raise ValueError(f"{card} has {len(configs)} configurations: give the folder of one of them as the dataset")
    splits = load_dataset_builder(str(folder)).config.data_files
    return {Path(file): str(split) for split, files in splits.items() for file in files}


def read_metadata(
    folder: Path, tables: list[Path], audio: list[Path], stated: dict[Path, str], streaming: bool
) -> dict[str, tuple[Dataset | IterableDataset, Path]]:
    """
    Return the rows of each split, and the folder that their audio paths start from.

    A table in the folder of a split is of that split. The rows of another go where their audio is: to the split whose
    folder it lies in, see [`name_places`]. Audio files without a row are counted and reported.

    Args:
        folder (`Path`): The folder of the corpus.
        tables (`list[Path]`): The files below it that are called as one of `METADATA_FILES`.
        audio (`list[Path]`): The audio files below it.
        stated (`dict[Path, str]`):
            The split of each file, as [`read_card`] returns it. If there are any, names of folders do not matter.
        streaming (`bool`): As in [`load_corpus`].

    Raises:
        `ValueError`: if two tables are in one folder, or describe one split from two folders, one above the other.
    """
    for place, count in Counter(table.parent for table in tables).items():
        if count > 1:
            both = " and ".join(str(table) for table in tables if table.parent == place)
            raise ValueError(f"{folder}: both {both} describe the audio in their folder")
    parts = _divide_tables(folder, tables, stated)
    splits = {}
    for split, tables_of_split in parts.items():
        if not stated:
            _check_owners(folder, split, [table for table, _ in tables_of_split])
        if len(tables_of_split) == 1:
            ((table, rows),) = tables_of_split
            splits[split] = load_table(table, streaming) if rows is None else rows, table.parent
        else:
            splits[split] = _join(folder, split, tables_of_split), folder
    if not streaming:
        _report_unlisted(folder, audio, splits)
    for split, (rows, place) in splits.items():
        if streaming and isinstance(rows, Dataset):
            splits[split] = rows.to_iterable_dataset(), place
    return splits


def _divide_tables(
    folder: Path, tables: list[Path], stated: dict[Path, str]
) -> dict[str, list[tuple[Path, Dataset | None]]]:
    """Return for each split its tables, each with its rows of the split, or `None` where it is of one split."""
    places, loaded = [], {}
    for table in tables:
        parts = table.parent.relative_to(folder).parts
        if find_split(parts) and not stated:
            places.append((table, None, parts, None))
        else:
            loaded[table] = load_table(table, streaming=False)
            column = _path_column(loaded[table])
            paths = loaded[table][column][:] if column else [None] * len(loaded[table])
            for row, path in enumerate(paths):
                split = stated.get(Path(os.path.realpath(table.parent / path)) if path else table, NOT_STATED)
                places.append((table, row, (*parts, *_folders(path)), split))
    named = [split for _, _, _, split in places] if stated else name_places([parts for _, _, parts, _ in places])
    rows = defaultdict(lambda: defaultdict(list))
    for (table, row, _, _), split in zip(places, named, strict=True):
        rows[split][table].append(row)
    return {
        split: [
            (table, loaded[table].select(numbers) if table in loaded else None) for table, numbers in group.items()
        ]
        for split, group in rows.items()
    }


def _check_owners(folder: Path, split: str, tables: list[Path]) -> None:
    """Check that no split has both a table in its folder, and rows of one above."""
    own = [table for table in tables if find_split(table.parent.relative_to(folder).parts) == split]
    if own and len(own) < len(tables):
        other = next(table for table in tables if table not in own)
        raise ValueError(f"{folder}: both {other} and {own[0]} have rows of the split {split}")


def _join(folder: Path, split: str, tables: list[tuple[Path, Dataset | None]]) -> Dataset:
    """Return the rows of several tables as those of one in the folder of the corpus."""
    parts = []
    for table, rows in tables:
        rows = load_table(table, streaming=False) if rows is None else rows
        if (column := _path_column(rows)) is None:
            raise ValueError(f"{table} is one of {len(tables)} tables of the split {split}, and has no file names")
        place = table.parent.relative_to(folder)
        paths = [path and str(place / path) for path in rows[column][:]]
        rows = rows.remove_columns(column).add_column(column, paths, feature=Value("string"))
        parts.append(rows.cast(Features({name: _small(feature) for name, feature in rows.features.items()})))
    try:
        return concatenate_datasets(parts)
    except ValueError as error:
        names = ", ".join(str(table) for table, _ in tables)
        raise ValueError(f"the columns of {names} differ in what they hold: {error}") from error


def _small(feature: Any) -> Any:
    """Return the type of texts in JSON for that of texts in CSV."""
    return Value("string") if feature == Value("large_string") else feature


def _path_column(rows: Dataset) -> str | None:
    """Return the column of paths to audio, where there is one of the usual names."""
    column = next((name for name in AUDIO_COLUMNS if name in rows.column_names), None)
    return column if column and rows.features[column] in (Value("string"), Value("large_string")) else None


def _folders(path: str | None) -> tuple[str, ...]:
    """Return the folders in a path of a table, which may have been made on Windows."""
    return PurePosixPath((path or "").replace("\\", "/")).parent.parts


def _report_unlisted(folder: Path, audio: list[Path], splits: dict[str, tuple[Dataset, Path]]) -> None:
    """Report how many audio files of the folder are in no row."""
    listed = set()
    for rows, place in splits.values():
        if (column := _path_column(rows)) is None:
            return
        listed |= {_spelling(place / path.replace("\\", "/")) for path in rows[column][:] if path}
    if unlisted := [file for file in audio if _spelling(file) not in listed]:
        logger.warning(
            f"{folder}: {len(unlisted)} of its {len(audio)} audio files have no row in its tables and are not used, "
            f"{unlisted[0].relative_to(folder)} for instance"
        )


def _spelling(path: Path) -> str:
    return unicodedata.normalize("NFC", os.path.normpath(path))
