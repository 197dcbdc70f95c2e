# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Tracks: made of rows of any layout, read from files or bytes, and told apart by hashes of their content."""

import hashlib
import itertools
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from datasets import Audio, Dataset, Features, IterableDataset, List, Value, concatenate_datasets

from muscall.checkpoint import hash_file
from processing_muscall import AudioReader


FEATURES = Features({"path": Value("string"), "bytes": Value("binary")})
# In order of preference, where no column is named. A sample of a tar file has a column for each of its files.
AUDIO_COLUMNS = ("audio", "file_name", "audio_path", "path", "file", "flac", "mp3", "wav", "ogg", "opus")
CAPTION_COLUMNS = ("captions", "caption", "text", "json.captions", "json.caption", "json.text", "txt")
LICENCE_COLUMNS = ("licence", "license", "json.licence", "json.license")
TRACK_ID_PIECE = 16384  # bytes


@dataclass(frozen=True)
class RowReader:
    """
    The columns of a split of any layout, and the way from a row to its track. Both [`merge_tracks`] and
    [`stream_tracks`] read rows with it.

    Args:
        audio_column (`str`): Column of paths, of `datasets` audio or of bytes.
        licence_column (`str`, *optional*): Column of licences, where there is one.
        folder (`Path`, *optional*): The folder that paths are relative to.
        npy_sampling_rate (`int`, *optional*): The rate of audio in `.npy` files, in hertz (Hz).
        where (`str`): The dataset and its split, for messages.
    """

    audio_column: str
    licence_column: str | None
    folder: Path | None
    npy_sampling_rate: int | None
    where: str

    @classmethod
    def choose(
        cls, names: list[str], audio_column: str | None, folder: Path | None, npy_sampling_rate: int | None, where: str
    ) -> "RowReader":
        """Return the reader of a split with the columns `names`; `audio_column` as in [`load_corpus`]."""
        audio_column = choose_column(names, audio_column, AUDIO_COLUMNS, "audio", where)
        licence_column = next((column for column in LICENCE_COLUMNS if column in names), None)
        return cls(audio_column, licence_column, folder, npy_sampling_rate, where)

    def read(self, path: str | None, size: int | None, licence: Any, row: int | None = None) -> dict:
        """
        Return the `path`, the `licence` and the `sampling_rate` of a track.

        Args:
            path (`str`, *optional*), licence: As the row has them.
            size (`int`, *optional*): Number of bytes of audio in the row, or `None` where it has only a path.
            row (`int`, *optional*): The number of the row, for messages, where rows have one.

        Raises:
            `ValueError`: if there is neither a path nor a byte, or if the rate of an `.npy` file is not known.
        """
        if not path and not size:
            place, end = ("", " in a row") if row is None else (f", row {row}", "")
            raise ValueError(f"{self.where}{place}: `{self.audio_column}` has neither a path nor bytes{end}")
        sampling_rate = None
        if size is None:
            path = str(self.folder / path) if self.folder else path
            if path.endswith(".npy"):
                sampling_rate = self.npy_sampling_rate
                if sampling_rate is None:
                    raise ValueError(
                        f"{self.where}: {path} does not state its sampling rate: name it with --npy_sampling_rate"
                    )
        return {"path": path, "licence": licence and str(licence), "sampling_rate": sampling_rate}


def stream_tracks(
    rows: IterableDataset,
    folder: Path | None,
    audio_column: str | None,
    caption_column: str | None,
    npy_sampling_rate: int | None,
    where: str,
) -> IterableDataset:
    """Return the rows of a streamed split as tracks, see [`load_corpus`]; each row counts as one."""
    rows = rows.decode(False) if rows.features else rows
    first = next(iter(rows), None)
    if first is None:
        raise ValueError(f"{where} has no rows")
    names = list(_with_json_fields(first))
    reader = RowReader.choose(names, audio_column, folder, npy_sampling_rate, where)
    caption_column = choose_column(names, caption_column, CAPTION_COLUMNS, "caption", where)
    return rows.map(partial(_stream_track, reader, caption_column), remove_columns=[*first])


def _with_json_fields(row: dict) -> dict:
    return {**row, **{f"json.{name}": value for name, value in (row.get("json") or {}).items()}}


def _stream_track(reader: RowReader, caption_column: str, row: dict) -> dict:
    row = _with_json_fields(row)
    audio = row[reader.audio_column]
    if isinstance(audio, bytes):
        audio = {"path": f"{row['__url__']}/{row['__key__']}" if "__url__" in row else None, "bytes": audio}
    path, content = (audio["path"], audio["bytes"]) if isinstance(audio, dict) else (audio, None)
    licence = row[reader.licence_column] if reader.licence_column else None
    track = reader.read(path, None if content is None else len(content), licence)
    captions = check_captions(row[caption_column], caption_column, f"{reader.where}, {track['path']}")
    return {**track, "bytes": content, "captions": captions}


def flatten(rows: Dataset) -> Dataset:
    """Return the fields of a tar's `.json` files as columns `json.<field>`; other datasets as they are."""
    if not isinstance(rows.features.get("json"), dict):
        return rows
    fields = rows.select_columns(["json"]).flatten()
    return concatenate_datasets([rows.remove_columns("json"), fields], axis=1)


def check_captions(captions: Any, column: str, place: str) -> list[str]:
    """
    Return the captions of a row as a list.

    Raises:
        `ValueError`: if there is none, or one is empty or no string; the message begins with `place`.
    """
    captions = [captions] if isinstance(captions, str) else list(captions or [])
    if not captions or not all(isinstance(caption, str) and caption.strip() for caption in captions):
        raise ValueError(
            f"{place}: `{column}` must be a caption or a list of captions, none of them empty, got {captions!r:.80}"
        )
    return captions


def read_captions(rows: Dataset, column: str | None, where: str) -> list[list[str]]:
    """Return the captions of each row; `column` as in [`load_corpus`]."""
    column = choose_column(rows.column_names, column, CAPTION_COLUMNS, "caption", where)
    return [check_captions(row, column, f"{where}, row {number}") for number, row in enumerate(rows[column])]


def merge_tracks(
    rows: Dataset,
    folder: Path | None,
    audio_column: str | None,
    texts: dict[str, list[list[str]]],
    npy_sampling_rate: int | None,
    where: str,
) -> Dataset:
    """
    Return rows of any layout as one row per track, see [`load_corpus`]; audio bytes stay on disk.

    Args:
        texts (`dict[str, list[list[str]]]`):
            The columns besides audio, a list of strings for each row. The lists of rows of one track are put together.
    """
    reader = RowReader.choose(rows.column_names, audio_column, folder, npy_sampling_rate, where)
    if len(rows) == 0:
        raise ValueError(f"{where} has no rows")
    licences = rows[reader.licence_column] if reader.licence_column else [None] * len(rows)
    rows = _audio_rows(rows, reader.audio_column)
    paths, sizes = list(rows["path"]), pc.binary_length(rows.data.column("bytes")).to_pylist()
    tracks = [reader.read(*row, number) for number, row in enumerate(zip(paths, sizes, licences, strict=True))]
    if folder:
        rows = rows.remove_columns("path")
        rows = rows.add_column("path", [track["path"] for track in tracks], feature=Value("string"))
    for name, kind in (("sampling_rate", "int64"), ("licence", "string")):
        rows = rows.add_column(name, [track[name] for track in tracks], feature=Value(kind))

    # The rows of a track have one path, and audio of one size: on the Hub a path may be a bare name that others share.
    groups = {}
    for number, (path, size) in enumerate(zip(paths, sizes, strict=True)):
        groups.setdefault((path, size) if path else number, []).append(number)
    for name, column in texts.items():
        merged = {numbers[0]: list(itertools.chain(*(column[row] for row in numbers))) for numbers in groups.values()}
        column = [merged.get(row, []) for row in range(len(rows))]
        rows = rows.add_column(name, column, feature=List(Value("string")))
    return rows.select([numbers[0] for numbers in groups.values()])  # last: a column added after it copies the audio


def _audio_rows(rows: Dataset, column: str) -> Dataset:
    """Return the columns `path` and `bytes` of rows, without reading the bytes."""
    if "__url__" in rows.column_names:  # of a tar, whose keys need not be unique among all tars
        paths = [f"{url}/{key}" for url, key in zip(rows["__url__"], rows["__key__"], strict=True)]
        rows = rows.select_columns([column]).rename_column(column, "bytes")
        return rows.add_column("path", paths, feature=Value("string"))
    if rows.features[column] in (Value("string"), Value("large_string")):
        paths = list(rows[column])
        return Dataset.from_dict({"path": paths, "bytes": [None] * len(paths)}, features=FEATURES)
    # This repository decodes audio itself, window by window.
    rows = rows.select_columns([column]).cast_column(column, Audio(decode=False)).flatten()
    return rows.rename_columns({f"{column}.path": "path", f"{column}.bytes": "bytes"})


def choose_column(names: list[str], column: str | None, candidates: tuple[str, ...], kind: str, where: str) -> str:
    """
    Return the column that was asked for, or the first there is of the candidates.

    Raises:
        `ValueError`: if there is none; the message lists the columns and names the option `--<kind>_column`.
    """
    chosen = column or next((candidate for candidate in candidates if candidate in names), None)
    if chosen not in names:
        wanted = f"column `{column}`" if column else f"{kind} column ({', '.join(candidates)})"
        raise ValueError(f"{where} has no {wanted}. Its columns: {', '.join(names)}. Name one with --{kind}_column.")
    return chosen


def audio_source(track: dict) -> str | bytes | dict:
    """Return what a row of [`load_corpus`] is read from: its file, the bytes in it, or a memory-mapped `.npy` file."""
    if track["bytes"] is not None:
        return track["bytes"]
    if track.get("sampling_rate") is None:
        return track["path"]
    try:
        array = np.load(track["path"], mmap_mode="r")
    except (EOFError, ValueError) as error:
        raise ValueError(f"{track['path']} is not an .npy file of numbers: {error}") from error
    return {"array": array, "sampling_rate": track["sampling_rate"]}


def track_id(source: str | bytes) -> int:
    """
    Return a number that equal audio files share, wherever they lie: a hash of their size and of four pieces. Files
    that differ only between these pieces share it too; the loss then leaves out one negative, which does no harm.
    """
    size = len(source) if isinstance(source, bytes) else os.path.getsize(source)
    pieces = [(size - TRACK_ID_PIECE) * part // 3 for part in range(4)] if size > 4 * TRACK_ID_PIECE else [0]
    length = TRACK_ID_PIECE if len(pieces) == 4 else size
    digest = hashlib.sha256(size.to_bytes(8, "little"))
    if isinstance(source, bytes):
        for start in pieces:
            digest.update(source[start : start + length])
    else:
        with open(source, "rb") as file:
            for start in pieces:
                file.seek(start)
                digest.update(file.read(length))
    return _to_id(digest.digest())


def caption_id(caption: str) -> int:
    """Return a number that captions share which differ only in case and spaces."""
    return _to_id(hashlib.sha256(" ".join(caption.lower().split()).encode()).digest())


def _to_id(digest: bytes) -> int:
    return int.from_bytes(digest[:8], "little", signed=True)


def check_readable(tracks: Dataset, split: str, sampling_rate: int) -> None:
    """
    Open every file of a split that will be evaluated and read its end, so that one that is missing, of another format
    or cut off is reported before the training and not after it.

    Raises:
        `ValueError`: if files cannot be opened; the message names each.
    """
    reasons = []
    for track in tracks:
        try:
            with AudioReader(audio_source(track), sampling_rate) as reader:
                reader.read(reader.num_samples - 1)
        except (ValueError, OSError) as error:
            reasons.append(str(error) if track["bytes"] is None else f"{track['path']}: {error}")
    if reasons:
        raise ValueError(f"{len(reasons)} of the {len(tracks)} {split} tracks cannot be read: {'; '.join(reasons)}")


def list_captions(tracks: Dataset) -> tuple[list[str], torch.Tensor]:
    """Return all captions of a split, and for each the row of its track."""
    rows = tracks["captions"]
    captions = [caption for row in rows for caption in row]
    return captions, torch.tensor([index for index, row in enumerate(rows) for _ in row])


def hash_track(track: dict) -> str:
    """Return the SHA-256 of all the bytes of a track and, of a file, its rate: it tells one content from another."""
    if track["bytes"] is not None:
        return hashlib.sha256(track["bytes"]).hexdigest()
    return f"{hash_file(track['path'])} {track['sampling_rate']}"
