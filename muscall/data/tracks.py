# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Rows of any layout to tracks: what is read for each, its captions, and what tells it from others."""

import hashlib
import itertools
import os
from pathlib import Path

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


def _check_captions(captions, column: str, where: str) -> list[str]:
    captions = [captions] if isinstance(captions, str) else list(captions or [])
    if not captions or not all(isinstance(caption, str) and caption.strip() for caption in captions):
        raise ValueError(
            f"{where}: `{column}` must be a caption or a list of captions, none of them empty, got {captions!r:.80}"
        )
    return captions


def _rate_of(path: str | None, npy_sampling_rate: int | None, where: str) -> int | None:
    if not (path or "").endswith(".npy"):
        return None
    if npy_sampling_rate is None:
        raise ValueError(f"{where}: {path} does not state its sampling rate: name it with --npy_sampling_rate")
    return npy_sampling_rate


def stream_tracks(rows, folder, audio_column, caption_column, npy_sampling_rate, where) -> IterableDataset:
    """As `_normalise`, row by row."""
    first = next(iter(rows.decode(False) if rows.features else rows), None)
    if first is None:
        raise ValueError(f"{where} has no rows")
    names = [*first, *(f"json.{name}" for name in first.get("json", ()))]
    audio_column = choose_column(names, audio_column, AUDIO_COLUMNS, "audio", where)
    caption_column = choose_column(names, caption_column, CAPTION_COLUMNS, "caption", where)
    licence_column = next((column for column in LICENCE_COLUMNS if column in names), None)

    def to_track(row: dict) -> dict:
        row = {**row, **{f"json.{name}": value for name, value in (row.get("json") or {}).items()}}
        audio = row[audio_column]
        if isinstance(audio, bytes):
            audio = {"path": f"{row['__url__']}/{row['__key__']}" if "__url__" in row else None, "bytes": audio}
        path, content = (audio["path"], audio["bytes"]) if isinstance(audio, dict) else (audio, None)
        if not path and not content:
            raise ValueError(f"{where}: `{audio_column}` has neither a path nor bytes in a row")
        if folder and content is None:
            path = str(folder / path)
        return {
            "path": path,
            "bytes": content,
            "captions": _check_captions(row[caption_column], caption_column, f"{where}, {path}"),
            "licence": row[licence_column] and str(row[licence_column]) if licence_column else None,
            "sampling_rate": _rate_of(path if content is None else None, npy_sampling_rate, where),
        }

    rows = rows.decode(False) if rows.features else rows
    return rows.map(to_track, remove_columns=[*first])


def flatten(rows: Dataset) -> Dataset:
    """The fields of a tar's `.json` files as columns `json.<field>`; other datasets as they are."""
    if not isinstance(rows.features.get("json"), dict):
        return rows
    fields = rows.select_columns(["json"]).flatten()
    return concatenate_datasets([rows.remove_columns("json"), fields], axis=1)


def read_captions(rows: Dataset, column: str | None, where: str) -> list[list[str]]:
    """The captions of each row; `column` as in [`load_corpus`]."""
    column = choose_column(rows.column_names, column, CAPTION_COLUMNS, "caption", where)
    return [_check_captions(row, column, f"{where}, row {number}") for number, row in enumerate(rows[column])]


def merge_tracks(
    rows: Dataset,
    folder: Path | None,
    audio_column: str | None,
    texts: dict[str, list[list[str]]],
    npy_sampling_rate: int | None,
    where: str,
) -> Dataset:
    """
    Rows of any layout -> one row per track, see [`load_corpus`]; audio bytes stay on disk. `texts` are the columns
    besides audio: a list of strings for each row; the lists of rows of one track are put together.
    """
    audio_column = choose_column(rows.column_names, audio_column, AUDIO_COLUMNS, "audio", where)
    if len(rows) == 0:
        raise ValueError(f"{where} has no rows")

    licence_column = next((column for column in LICENCE_COLUMNS if column in rows.column_names), None)
    licences = [licence and str(licence) for licence in rows[licence_column]] if licence_column else [None] * len(rows)

    if "__url__" in rows.column_names:  # of a tar, whose keys need not be unique among all tars
        paths = [f"{url}/{key}" for url, key in zip(rows["__url__"], rows["__key__"], strict=True)]
        rows = rows.select_columns([audio_column]).rename_column(audio_column, "bytes")
        rows = rows.add_column("path", paths, feature=Value("string"))
    elif rows.features[audio_column] in (Value("string"), Value("large_string")):
        paths = list(rows[audio_column])
        rows = Dataset.from_dict({"path": paths, "bytes": [None] * len(paths)}, features=FEATURES)
    else:
        # Decoding is ours, window by window.
        rows = rows.select_columns([audio_column]).cast_column(audio_column, Audio(decode=False)).flatten()
        rows = rows.rename_columns({f"{audio_column}.path": "path", f"{audio_column}.bytes": "bytes"})

    # The rows of a track have one path, and audio of one size: on the Hub a path may be a bare name that others share.
    sizes = pc.binary_length(rows.data.column("bytes")).to_pylist()
    paths, tracks = list(rows["path"]), {}
    for number, (path, size) in enumerate(zip(paths, sizes, strict=True)):
        if not path and not size:
            raise ValueError(f"{where}, row {number}: `{audio_column}` has neither a path nor bytes")
        tracks.setdefault((path, size) if path else number, []).append(number)
    if folder:
        paths = [
            str(folder / path) if path and size is None else path for path, size in zip(paths, sizes, strict=True)
        ]
        rows = rows.remove_columns("path").add_column("path", paths, feature=Value("string"))
    rates = [
        _rate_of(path if size is None else None, npy_sampling_rate, where)
        for path, size in zip(paths, sizes, strict=True)
    ]
    rows = rows.add_column("sampling_rate", rates, feature=Value("int64"))
    rows = rows.add_column("licence", licences, feature=Value("string"))
    for name, column in texts.items():
        merged = {numbers[0]: list(itertools.chain(*(column[row] for row in numbers))) for numbers in tracks.values()}
        column = [merged.get(row, []) for row in range(len(rows))]
        rows = rows.add_column(name, column, feature=List(Value("string")))
    return rows.select([numbers[0] for numbers in tracks.values()])  # last: a column added after it copies the audio


def choose_column(names: list[str], column: str | None, candidates: tuple[str, ...], kind: str, where: str) -> str:
    found = next((candidate for candidate in candidates if candidate in names), None)
    chosen = column or found
    if chosen not in names:
        wanted = f"column `{column}`" if column else f"{kind} column ({', '.join(candidates)})"
        raise ValueError(f"{where} has no {wanted}. Its columns: {', '.join(names)}. Name one with --{kind}_column.")
    return chosen


def audio_source(track: dict) -> str | bytes | dict:
    """What a row of [`load_corpus`] is read from: its file, the bytes in the corpus, or a mapped `.npy` file."""
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
    A number that equal audio files share, wherever they lie: a hash of their size and of four pieces. Files that
    differ nowhere but between these share it too, which costs no more than a negative.
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
    return _to_id(digest)


def caption_id(caption: str) -> int:
    """A number that captions share which differ in case and spaces alone."""
    return _to_id(hashlib.sha256(" ".join(caption.lower().split()).encode()))


def _to_id(digest) -> int:
    return int.from_bytes(digest.digest()[:8], "little", signed=True)


def check_readable(tracks: Dataset, split: str, sampling_rate: int):
    """
    Opens every file of a split that will be evaluated and reads its end, so that one that is missing, foreign or cut
    off is known before the training, not after it.

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
    """All captions, and the row of each one's track."""
    rows = tracks["captions"]
    captions = [caption for row in rows for caption in row]
    return captions, torch.tensor([index for index, row in enumerate(rows) for _ in row])


def hash_track(track: dict) -> str:
    """The SHA-256 of all the bytes of a track, which tells one content from another wherever it lies."""
    if track["bytes"] is not None:
        return hashlib.sha256(track["bytes"]).hexdigest()
    return f"{hash_file(track['path'])} {track['sampling_rate']}"
