# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Tracks: made of rows of any layout, read from files or bytes, and told apart by hashes of their content."""

import hashlib
import itertools
import os
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from datasets import Audio, Dataset, Features, IterableDataset, List, Value, concatenate_datasets

from muscall.data.texts import check_captions
from muscall.hashing import hash_file
from processing_muscall import AudioReader


FEATURES = Features({"path": Value("string"), "bytes": Value("binary")})
EMBEDS_COLUMN = "audio_embeds"  # stored embeddings in the place of audio
# In order of preference, where no column is named. A sample of a tar file has a column for each of its files.
AUDIO_COLUMNS = (
    "audio",
    "file_name",
    "audio_path",
    "path",
    "file",
    "flac",
    "mp3",
    "wav",
    "ogg",
    "opus",
    EMBEDS_COLUMN,
)
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
            path = find_file(self.folder, path)
            if path.endswith(".npy"):
                sampling_rate = self.npy_sampling_rate
                if sampling_rate is None:
                    raise ValueError(
                        f"{self.where}: {path} does not state its sampling rate: name it with --npy_sampling_rate"
                    )
        return {"path": path, "licence": licence and str(licence), "sampling_rate": sampling_rate}


def find_file(folder: Path | None, path: str) -> str:
    """
    Return the path of a file that is named relative to a folder. A name in another Unicode form than the file's, or
    with the backslashes of Windows, is found too.
    """
    place = str(folder / path) if folder else path
    if path.isascii() and "\\" not in path:
        return place
    names = [path, path.replace("\\", "/")]
    names += [unicodedata.normalize(form, name) for name in names for form in ("NFC", "NFD")]
    places = [str(folder / name) if folder else name for name in names]
    return next((other for other in places if os.path.exists(other)), place)


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
    if reader.audio_column == EMBEDS_COLUMN:
        raise ValueError(f"{where} has stored embeddings, which are read whole: it goes without streaming")
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
    if reader.audio_column == EMBEDS_COLUMN:
        return _embedded_tracks(rows[EMBEDS_COLUMN], texts, licences, where)
    rows = _audio_rows(rows, reader.audio_column, where)
    contents = rows.select_columns("bytes").with_format("arrow")[:]["bytes"]  # on disk
    paths, sizes = list(rows["path"]), pc.binary_length(contents).to_pylist()
    tracks = [reader.read(*row, number) for number, row in enumerate(zip(paths, sizes, licences, strict=True))]
    if folder:
        rows = rows.remove_columns("path")
        rows = rows.add_column("path", [track["path"] for track in tracks], feature=Value("string"))
    for name, kind in (("sampling_rate", "int64"), ("licence", "string")):
        rows = rows.add_column(name, [track[name] for track in tracks], feature=Value(kind))

    groups = _group_rows(tracks, sizes, contents)
    for name, column in texts.items():
        merged = {numbers[0]: list(itertools.chain(*(column[row] for row in numbers))) for numbers in groups}
        column = [merged.get(row, []) for row in range(len(rows))]
        rows = rows.add_column(name, column, feature=List(Value("string")))
    return rows.select([numbers[0] for numbers in groups])  # last: a column added after it copies the audio


def _embedded_tracks(embeds: list, texts: dict[str, list[list[str]]], licences: list, where: str) -> Dataset:
    """
    Return rows that have an embedding and no audio as tracks, each of which is called by its row.

    Raises:
        `ValueError`: if an embedding is no list of as many numbers as the first, or says nothing: all 0, NaN or Inf.
    """
    for number, row in enumerate(embeds):
        is_vector = isinstance(row, list) and len(row) == len(embeds[0]) and None not in row
        if not is_vector or not np.isfinite(row).all() or not np.any(row):
            raise ValueError(
                f"{where}, row {number}: `{EMBEDS_COLUMN}` must hold as many finite numbers as in row 0, not all 0, "
                f"got {row!r:.80}"
            )
    count, string = len(embeds), Value("string")
    columns = {
        "path": ([f"{where}, row {number}" for number in range(count)], string),
        "bytes": ([None] * count, Value("binary")),
        "sampling_rate": ([None] * count, Value("int64")),
        "licence": ([licence and str(licence) for licence in licences], string),
        EMBEDS_COLUMN: (embeds, List(Value("float32"))),
        **{name: (column, List(string)) for name, column in texts.items()},
    }
    features = Features({name: feature for name, (_, feature) in columns.items()})
    return Dataset.from_dict({name: values for name, (values, _) in columns.items()}, features=features)


def has_embeds(tracks: Dataset | IterableDataset) -> bool:
    """Return whether a split has stored embeddings in the place of audio."""
    return EMBEDS_COLUMN in (tracks.column_names or [])


def _group_rows(tracks: list[dict], sizes: list[int | None], contents: pa.ChunkedArray) -> list[list[int]]:
    """
    Return the rows of each track. Rows of one file are of one track. Rows with bytes are if path and content are the
    same: on the Hub a path may be a bare name, `audio.wav`, that others share.
    """
    groups = {}
    for number, (track, size) in enumerate(zip(tracks, sizes, strict=True)):
        path = track["path"]
        if path and size is None:
            path = os.path.realpath(path) if ".." in path else os.path.normpath(path)
        groups.setdefault((path, size) if path else number, []).append(number)
    divided = []
    for numbers in groups.values():
        if len(numbers) > 1 and sizes[numbers[0]] is not None:
            copies = group_copies([memoryview(contents[number].as_buffer()) for number in numbers])
            divided += [[numbers[position] for position in positions] for positions in copies]
        else:
            divided.append(numbers)
    return sorted(divided)


def _audio_rows(rows: Dataset, column: str, where: str) -> Dataset:
    """Return the columns `path` and `bytes` of rows, without reading the bytes."""
    if "__url__" in rows.column_names:  # of a tar, whose keys need not be unique among all tars
        paths = [f"{url}/{key}" for url, key in zip(rows["__url__"], rows["__key__"], strict=True)]
        rows = rows.select_columns([column]).rename_column(column, "bytes")
        return rows.add_column("path", paths, feature=Value("string"))
    feature = rows.features[column]
    if feature in (Value("string"), Value("large_string"), Value("null")):
        paths = list(rows[column])
        return Dataset.from_dict({"path": paths, "bytes": [None] * len(paths)}, features=FEATURES)
    fields = feature.keys() if isinstance(feature, dict) else set()
    is_file = fields & {"path", "bytes"} and "array" not in fields
    if not is_file and feature not in (Value("binary"), Value("large_binary")) and not isinstance(feature, Audio):
        raise ValueError(f"{where}: `{column}` must hold paths, audio or bytes, got {feature}")
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


def track_id(source: str | bytes | memoryview) -> int:
    """
    Return a number that equal audio files share, wherever they lie: a hash of their size and of four pieces. Files
    that differ only between these pieces share it too; the loss then leaves out one negative, which does no harm.
    """
    size = content_size(source)
    pieces = [(size - TRACK_ID_PIECE) * part // 3 for part in range(4)] if size > 4 * TRACK_ID_PIECE else [0]
    length = TRACK_ID_PIECE if len(pieces) == 4 else size
    digest = hashlib.sha256(size.to_bytes(8, "little"))
    for piece in _read_pieces(source, pieces, length):
        digest.update(piece)
    return _to_id(digest.digest())


def middle_id(source: str | bytes | memoryview) -> int:
    """Return a hash of the 4 KiB in the middle of a file, which tells most files of one size apart at little cost."""
    (piece,) = _read_pieces(source, [content_size(source) // 2], 4096)
    return _to_id(hashlib.sha256(piece).digest())


def _read_pieces(source: str | bytes | memoryview, starts: list[int], length: int) -> list[bytes | memoryview]:
    if not isinstance(source, str):
        return [source[start : start + length] for start in starts]
    pieces = []
    with open(source, "rb") as file:
        for start in starts:
            file.seek(start)
            pieces.append(file.read(length))
    return pieces


def caption_id(caption: str) -> int:
    """Return a number that captions share which differ only in case and spaces."""
    return _to_id(hashlib.sha256(" ".join(caption.lower().split()).encode()).digest())


def _to_id(digest: bytes) -> int:
    return int.from_bytes(digest[:8], "little", signed=True)


def check_readable(tracks: Dataset, split: str, sampling_rate: int) -> None:
    """
    Open every file of a split that will be evaluated, where it has files, and read its end, so that one that is
    missing, of another format or cut off is reported before the training and not after it.

    Raises:
        `ValueError`: if files cannot be opened; the message names each.
    """
    reasons = []
    for track in () if has_embeds(tracks) else tracks:
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


def content_size(source: str | bytes | memoryview) -> int:
    """Return the number of bytes of a file, or of the bytes themselves."""
    return os.path.getsize(source) if isinstance(source, str) else len(source)


def hash_content(source: str | bytes | memoryview) -> str:
    """Return the SHA-256 of all the bytes of a file, or of the bytes themselves."""
    return hash_file(source) if isinstance(source, str) else hashlib.sha256(source).hexdigest()


def hash_track(track: dict) -> str:
    """Return the SHA-256 of all the bytes of a track and, of a file, its rate: it tells one content from another."""
    if track["bytes"] is not None:
        return hash_content(track["bytes"])
    return f"{hash_content(track['path'])} {track['sampling_rate']}"


def group_copies(sources: Sequence[str | memoryview]) -> list[list[int]]:
    """
    Return the positions of the sources, files or bytes, one list for each content, ordered by its first. Only what is
    of one size is looked into, only what has one [`middle_id`] at several places, and only what has one [`track_id`]
    is read whole.
    """
    groups = [list(range(len(sources)))]
    for measure in (content_size, middle_id, track_id, hash_content):
        groups = [part for group in groups for part in _divide(group, sources, measure)]
    return sorted(groups)


def _divide(group: list[int], sources: Sequence[str | memoryview], measure: Callable[[str | memoryview], Any]) -> list:
    if len(group) == 1:
        return [group]
    parts = {}
    for position in group:
        try:
            key = measure(sources[position])
        except (OSError, ValueError):  # what cannot be read is no copy; whoever reads the audio reports it
            key = "unreadable", position
        parts.setdefault(key, []).append(position)
    return list(parts.values())
