# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Tables of tracks in one file, read by `datasets`, and what is wrong with those that it would misread or refuse."""

import codecs
import csv
import glob
import json
from pathlib import Path

from datasets import Dataset, IterableDataset, load_dataset
from datasets.exceptions import DatasetGenerationCastError, DatasetGenerationError


BUILDERS = {".json": "json", ".jsonl": "json", ".csv": "csv", ".parquet": "parquet"}  # of `datasets`
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


def load_table(file: Path, streaming: bool) -> Dataset | IterableDataset:
    """
    Return the rows of a file of one of the `BUILDERS`.

    Raises:
        `ValueError`: if it cannot be read; the message says where and why.
    """
    check_table(file)
    builder = BUILDERS[file.suffix.lower()]
    try:
        return load_dataset(builder, data_files=escape_pattern(file), split="train", streaming=streaming)
    except (DatasetGenerationError, ValueError) as error:
        raise ValueError(describe_failure([file], error)) from error


def escape_pattern(file: Path) -> str:
    """Return the path of a file for `datasets`, which would take brackets in it for a pattern."""
    return glob.escape(str(file))


def check_table(file: Path) -> None:
    """
    Check that a file of text is UTF-8 and has rows, and that a CSV file has the columns that its first line names.

    Raises:
        `ValueError`: if not; the message names the file and the line.
    """
    if file.suffix.lower() not in (".json", ".jsonl", ".csv"):
        return
    filled = 0
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if number == 1 and line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in line:
                raise ValueError(f"{file}: expected text in UTF-8, got UTF-16 or no text at all. Save it as UTF-8.")
            try:
                line.decode()
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{file}, line {number}: expected text in UTF-8, got the byte 0x{line[error.start]:02x}, which "
                    "another encoding has, Latin-1 for instance. Save it as UTF-8."
                ) from error
            filled += sum(bool(part.strip()) for part in line.splitlines())  # old Macs end lines with \r
    if filled <= (file.suffix.lower() == ".csv"):
        raise ValueError(f"{file} has no rows")
    if file.suffix.lower() == ".csv":
        _check_columns(file)


def _check_columns(file: Path) -> None:
    with file.open(encoding="utf-8-sig", newline="") as lines:
        rows = csv.reader(lines)
        names = next(rows, [])
        if len(names) == 1 and (found := [word for mark, word in SEPARATORS.items() if mark in names[0]]):
            raise ValueError(f"{file}: expected columns with commas between them, got {found[0]}")
        if twice := sorted({name for name in names if name and names.count(name) > 1}):
            raise ValueError(f"{file}: its first line names the column `{twice[0]}` twice")
        try:
            for row in rows:
                if len(row) > len(names):  # `datasets` would take the first cells for the names of rows
                    raise ValueError(
                        f"{file}, line {rows.line_num}: expected {len(names)} columns, got {len(row)}. A text with a "
                        "comma in it must be between quotes."
                    )
        except csv.Error:
            return  # a cell of more than 128 KiB, which `datasets` can read


def describe_failure(files: list[Path], error: Exception) -> str:
    """Return why `datasets` cannot read one of some files: the broken line of JSON where there is one."""
    for file in (file for file in files if file.suffix.lower() == ".jsonl"):
        with file.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip() and not _is_json_object(line):
                    return f"{file}, line {number}: expected a JSON object, got {line.strip()!r:.80}"
    reason = error if isinstance(error, DatasetGenerationCastError) else error.__cause__ or error
    return f"{', '.join(map(str, files))}: cannot be read: {reason}"


def _is_json_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
