# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Audio-caption corpora: from any `datasets` source to batches of random windows and captions."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import torch
from datasets import Audio, Dataset, DatasetDict, Features, List, Value, load_dataset

from processing_muscall import AudioReader
from training.captions import CaptionEmbeddings


FEATURES = Features({"path": Value("string"), "bytes": Value("binary")})
BUILDERS = {".json": "json", ".jsonl": "json", ".csv": "csv", ".parquet": "parquet"}  # of `datasets`
METADATA_FILES = ("metadata.jsonl", "metadata.csv")
AUDIO_COLUMNS = ("audio", "file_name")  # in order of preference, where no column is named
CAPTION_COLUMNS = ("captions", "caption", "text")
TRACK_ID_PIECE = 16384  # bytes


def load_corpus(
    dataset: str,
    name: str | None = None,
    audio_column: str | None = None,
    caption_column: str | None = None,
    holdout_fraction: float = 0.1,
    seed: int = 0,
) -> DatasetDict:
    """
    Loads an audio-caption corpus without decoding it.

    Args:
        dataset (`str`):
            A folder with `metadata.jsonl` or `metadata.csv` beside the audio files (or in one folder a split); a
            `.json`, `.jsonl`, `.csv` or `.parquet` file, whose audio paths are relative to its folder; else whatever
            `datasets.load_dataset` takes: a Hub id or a folder of parquet files.
        name (`str`, *optional*):
            The configuration of a Hub dataset.
        audio_column (`str`, *optional*, defaults to the first of `audio`, `file_name`):
            Column of audio: paths, or `datasets` audio.
        caption_column (`str`, *optional*, defaults to the first of `captions`, `caption`, `text`):
            Column of captions: a string or a list of strings. Rows of one path are one track with several captions.
        holdout_fraction (`float`, *optional*, defaults to 0.1):
            Share of the tracks that become the `validation` split where there is none, and as many the `test` split.
        seed (`int`, *optional*, defaults to 0):
            Seed of that choice.

    Returns:
        `DatasetDict`: splits `train`, `validation` and `test` with the columns `path` (string or `None`), `bytes`
        (binary or `None`) and `captions` (list of strings).

    Raises:
        `ValueError`: if a column is missing (the message lists those there are), or a row has no caption or no audio.
    """
    raw_splits, folders = _load_splits(dataset, name)
    splits = {
        split: _normalise(rows, folders.get(split), audio_column, caption_column, f"{dataset} [{split}]")
        for split, rows in raw_splits.items()
    }
    for alias in ("valid", "val", "dev"):
        if alias in splits:
            splits.setdefault("validation", splits.pop(alias))
    if "train" not in splits:
        raise ValueError(f"{dataset} has no train split; its splits: {', '.join(splits)}")
    total = len(splits["train"])
    num_tracks = max(1, round(holdout_fraction * total))
    for split in ("validation", "test"):
        if split not in splits:
            if num_tracks >= len(splits["train"]):
                raise ValueError(
                    f"{dataset} has {total} tracks: too few to hold out {num_tracks} as the {split} split"
                )
            parts = splits["train"].train_test_split(num_tracks, seed=seed)
            splits["train"], splits[split] = parts["train"], parts["test"]
    return DatasetDict({split: splits[split] for split in ("train", "validation", "test")})


def _load_splits(dataset: str, name: str | None) -> tuple[dict[str, Dataset], dict[str, Path]]:
    """The raw splits of a corpus, and the folder that the audio paths of each are relative to."""
    path = Path(dataset)
    if path.is_file():
        if path.suffix not in BUILDERS:
            raise ValueError(f"{dataset}: expected a {', '.join(BUILDERS)} file, or a folder")
        splits = load_dataset(BUILDERS[path.suffix], data_files=str(path))
        return splits, dict.fromkeys(splits, path.parent)
    if path.is_dir():
        files = {}
        for folder in [path, *sorted(child for child in path.iterdir() if child.is_dir())]:
            for file in (folder / metadata for metadata in METADATA_FILES):
                if file.exists():
                    split = "train" if folder == path else folder.name
                    if split in files:
                        raise ValueError(f"{dataset}: both {files[split]} and {file} are the split {split}")
                    files[split] = file
        if files:
            splits = {
                split: load_dataset(BUILDERS[file.suffix], data_files=str(file), split="train")
                for split, file in files.items()
            }
            return splits, {split: file.parent for split, file in files.items()}
        if not any(file.suffix in BUILDERS for file in path.rglob("*")):
            raise ValueError(f"{dataset} has no {', '.join(METADATA_FILES)} or {', '.join(BUILDERS)} file")
    splits = load_dataset(dataset, name)
    return splits, dict.fromkeys(splits, path) if path.is_dir() else {}


def _normalise(rows: Dataset, folder: Path | None, audio_column, caption_column, where: str) -> Dataset:
    """Rows of any layout -> one row per track with `path`, `bytes` and `captions`; audio bytes stay on disk."""
    audio_column = _choose_column(rows, audio_column, AUDIO_COLUMNS, "audio", where)
    caption_column = _choose_column(rows, caption_column, CAPTION_COLUMNS, "caption", where)
    if len(rows) == 0:
        raise ValueError(f"{where} has no rows")

    captions = [[row] if isinstance(row, str) else list(row or []) for row in rows[caption_column]]
    for number, row in enumerate(captions):
        if not row or not all(isinstance(caption, str) and caption.strip() for caption in row):
            raise ValueError(
                f"{where}, row {number}: `{caption_column}` must be a caption or a list of captions, none of them "
                f"empty, got {row!r:.80}"
            )

    if rows.features[audio_column] in (Value("string"), Value("large_string")):
        paths = list(rows[audio_column])
        rows = Dataset.from_dict({"path": paths, "bytes": [None] * len(paths)}, features=FEATURES)
    else:
        # Decoding is ours, window by window.
        rows = rows.select_columns([audio_column]).cast_column(audio_column, Audio(decode=False)).flatten()
        rows = rows.rename_columns({f"{audio_column}.path": "path", f"{audio_column}.bytes": "bytes"})

    # The rows of a track have one path, and audio of one size: on the Hub a path may be a bare name that others share.
    sizes = pc.binary_length(rows.data.column("bytes")).to_pylist()
    paths, first_rows, tracks = list(rows["path"]), [], {}
    for number, (path, size, row) in enumerate(zip(paths, sizes, captions, strict=True)):
        if not path and not size:
            raise ValueError(f"{where}, row {number}: `{audio_column}` has neither a path nor bytes")
        key = (path, size) if path else number
        if key not in tracks:
            tracks[key] = []
            first_rows.append(number)
        tracks[key].extend(row)
    captions = dict(zip(first_rows, tracks.values(), strict=True))
    if folder:
        paths = [
            str(folder / path) if path and size is None else path for path, size in zip(paths, sizes, strict=True)
        ]
        rows = rows.remove_columns("path").add_column("path", paths, feature=Value("string"))
    captions = [captions.get(number, []) for number in range(len(rows))]
    return rows.add_column("captions", captions, feature=List(Value("string"))).select(first_rows)


def _choose_column(rows: Dataset, column: str | None, candidates: tuple[str, ...], kind: str, where: str) -> str:
    found = next((candidate for candidate in candidates if candidate in rows.column_names), None)
    chosen = column or found
    if chosen not in rows.column_names:
        wanted = f"column `{column}`" if column else f"{kind} column ({', '.join(candidates)})"
        raise ValueError(
            f"{where} has no {wanted}. Its columns: {', '.join(rows.column_names)}. Name one with --{kind}_column."
        )
    return chosen


def audio_source(track: dict) -> str | bytes:
    """What a row of [`load_corpus`] is read from: its file, or the bytes that the corpus holds."""
    return track["path"] if track["bytes"] is None else track["bytes"]


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


class TrainingWindows(torch.utils.data.Dataset):
    """
    A random window and a random caption of each track, the same for the same seed, epoch and track.

    A file that cannot be read is replaced by a random other track and named in the item, so that the caller can report
    it and stop when there are too many.

    Args:
        tracks (`Dataset`): A split of [`load_corpus`].
        sampling_rate (`int`): Rate of the windows in hertz (Hz).
        window_samples (`int`): Length of a window in samples; shorter tracks are padded with zeros at the end.
        seed (`int`): Seed of all choices.
    """

    def __init__(self, tracks: Dataset, sampling_rate: int, window_samples: int, seed: int):
        self.tracks, self.sampling_rate, self.window_samples, self.seed = tracks, sampling_rate, window_samples, seed
        self.epoch = 0

    def set_epoch(self, epoch: int):
        self.epoch = epoch

    def __len__(self):
        return len(self.tracks)

    def __getitem__(self, index: int) -> dict:
        random = np.random.default_rng((self.seed, self.epoch, index))
        unreadable = []
        while True:
            track = self.tracks[index]
            try:
                window = self._read_window(track, random)
                identity = track_id(audio_source(track))
                break
            except (ValueError, OSError) as error:
                reason = str(error) if track["bytes"] is None else f"{track['path'] or f'track {index}'}: {error}"
                unreadable.append((index, reason))
                if len(unreadable) > 100:
                    raise ValueError(f"100 random tracks in a row are unreadable, the last: {reason}") from error
                index = int(random.integers(len(self.tracks)))
        caption = track["captions"][random.integers(len(track["captions"]))]
        return {"input_values": window, "caption": caption, "track_id": identity, "unreadable": unreadable}

    def _read_window(self, track: dict, random: np.random.Generator) -> np.ndarray:
        with AudioReader(audio_source(track), self.sampling_rate) as reader:
            start = int(random.integers(max(0, reader.num_samples - self.window_samples) + 1))
            samples = reader.read(start, start + self.window_samples)
        return np.pad(samples, (0, self.window_samples - len(samples)))


class TrainingCollator:
    """
    Items of [`TrainingWindows`] -> a batch: `inputs` for the model, captions padded to the longest of the batch;
    `targets` for the loss; and the `unreadable` tracks.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): That of the text tower.
        caption_embeds (`CaptionEmbeddings`, *optional*): Adds the captions' embeddings to the targets.
    """

    def __init__(self, tokenizer, caption_embeds: CaptionEmbeddings | None = None):
        self.tokenizer, self.caption_embeds = tokenizer, caption_embeds

    def __call__(self, items: list[dict]) -> dict:
        captions = [item["caption"] for item in items]
        text = self.tokenizer(captions, padding=True, truncation=True, return_tensors="pt")
        targets = {
            "track_ids": torch.tensor([item["track_id"] for item in items]),
            "caption_ids": torch.tensor([caption_id(caption) for caption in captions]),
        }
        if self.caption_embeds is not None:
            targets["caption_embeds"] = torch.from_numpy(self.caption_embeds[captions])
        return {
            "inputs": {"input_values": torch.from_numpy(np.stack([item["input_values"] for item in items])), **text},
            "targets": targets,
            "unreadable": [failure for item in items for failure in item["unreadable"]],
        }
