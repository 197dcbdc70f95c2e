# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Audio-caption corpora: from any `datasets` source to batches of random windows and captions."""

import hashlib
import itertools
import json
import os
import re
import tarfile
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from datasets import (
    Audio,
    Dataset,
    Features,
    IterableDataset,
    List,
    Value,
    concatenate_datasets,
    interleave_datasets,
    load_dataset,
)
from datasets.distributed import split_dataset_by_node

from processing_muscall import AudioReader
from training.captions import CaptionEmbeddings


FEATURES = Features({"path": Value("string"), "bytes": Value("binary")})
BUILDERS = {".json": "json", ".jsonl": "json", ".csv": "csv", ".parquet": "parquet"}  # of `datasets`
METADATA_FILES = ("metadata.jsonl", "metadata.csv")
# In order of preference, where no column is named. A sample of a tar file has a column for each of its files.
AUDIO_COLUMNS = ("audio", "file_name", "audio_path", "path", "file", "flac", "mp3", "wav", "ogg", "opus")
CAPTION_COLUMNS = ("captions", "caption", "text", "json.captions", "json.caption", "json.text", "txt")
LICENCE_COLUMNS = ("licence", "license", "json.licence", "json.license")
TRACK_ID_PIECE = 16384  # bytes


def load_corpus(
    dataset: str,
    name: str | None = None,
    audio_column: str | None = None,
    caption_column: str | None = None,
    holdout_fraction: float = 0.1,
    seed: int = 0,
    npy_sampling_rate: int | None = None,
    streaming: bool = False,
) -> dict[str, Dataset | IterableDataset]:
    """
    Loads an audio-caption corpus without decoding it.

    Args:
        dataset (`str`):
            A folder with `metadata.jsonl` or `metadata.csv` beside the audio files (or in one folder a split), with
            `.tar` files in the WebDataset layout (`train-0000.tar`, ...), or with `dataset_train.json` and its kin
            beside `audio/`, as the paper's code has it; a `.json`, `.jsonl`, `.csv` or `.parquet` file, whose audio
            paths are relative to its folder; else whatever `datasets.load_dataset` takes: a Hub id or a folder of
            parquet files.
        name (`str`, *optional*):
            The configuration of a Hub dataset.
        audio_column (`str`, *optional*, defaults to the first there is of `AUDIO_COLUMNS`):
            Column of audio: paths, or `datasets` audio.
        caption_column (`str`, *optional*, defaults to the first there is of `CAPTION_COLUMNS`):
            Column of captions: a string or a list of strings. Rows of one path are one track with several captions.
        holdout_fraction (`float`, *optional*, defaults to 0.1):
            Share of the tracks that become the `validation` split where there is none, and as many the `test` split.
        seed (`int`, *optional*, defaults to 0):
            Seed of that choice.
        npy_sampling_rate (`int`, *optional*):
            The rate of audio in `.npy` files, in hertz (Hz), which these do not state.
        streaming (`bool`, *optional*, defaults to `False`):
            Whether the train split is read row by row during the training, instead of being prepared before it. The
            corpus must then bring its `validation` and `test` splits, and each row of `train` counts as a track.

    Returns:
        `dict[str, Dataset]`: splits `train`, `validation` and `test` with the columns `path` (string or `None`),
        `bytes` (binary or `None`), `captions` (list of strings), `licence` (string, or `None` where the corpus does
        not say) and `sampling_rate` (of an `.npy` file, else `None`). With `streaming`, `train` is an
        `IterableDataset` of such rows.

    Raises:
        `ValueError`: if a column is missing (the message lists those there are), or a row has no caption or no audio.
    """
    raw_splits, folders = load_splits(dataset, name, streaming)
    splits = {}
    for split, rows in raw_splits.items():
        where, folder = f"{dataset} [{split}]", folders.get(split)
        if streaming and split == "train":
            splits[split] = _stream(rows, folder, audio_column, caption_column, npy_sampling_rate, where)
            continue
        rows = flatten(Dataset.from_generator(partial(_rows_of, rows)) if streaming else rows)
        captions = read_captions(rows, caption_column, where)
        splits[split] = merge_tracks(rows, folder, audio_column, {"captions": captions}, npy_sampling_rate, where)
    if "train" not in splits:
        raise ValueError(f"{dataset} has no train split; its splits: {', '.join(splits)}")
    if streaming:
        if missing := {"validation", "test"} - splits.keys():
            raise ValueError(f"{dataset}: a streamed corpus must bring its own {' and '.join(sorted(missing))} split")
        return {split: splits[split] for split in ("train", "validation", "test")}
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
    return {split: splits[split] for split in ("train", "validation", "test")}


def load_splits(
    dataset: str, name: str | None = None, streaming: bool = False
) -> tuple[dict[str, Dataset | IterableDataset], dict[str, Path]]:
    """
    The raw splits of a corpus, and the folder that the audio paths of each are relative to; arguments as in
    [`load_corpus`]. A split called `valid`, `val` or `dev` is named `validation`.
    """
    splits, folders = _load_raw_splits(dataset, name, streaming)
    names = {split: "validation" if split in ("valid", "val", "dev") else split for split in splits}
    if len(set(names.values())) < len(names):
        raise ValueError(f"{dataset} has more than one validation split: {', '.join(names)}")
    folders = {names[split]: folder for split, folder in folders.items()}
    return {names[split]: rows for split, rows in splits.items()}, folders


def _load_raw_splits(dataset, name, streaming):
    path = Path(dataset)
    if path.is_file():
        if path.suffix not in BUILDERS:
            raise ValueError(f"{dataset}: expected a {', '.join(BUILDERS)} file, or a folder")
        splits = load_dataset(BUILDERS[path.suffix], data_files=str(path), streaming=streaming)
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
                split: load_dataset(BUILDERS[file.suffix], data_files=str(file), split="train", streaming=streaming)
                for split, file in files.items()
            }
            return splits, {split: file.parent for split, file in files.items()}
        originals = {file.stem.removeprefix("dataset_"): str(file) for file in path.glob("dataset_*.json")}
        if originals:
            splits = load_dataset("json", data_files=originals, streaming=streaming)
            return splits, dict.fromkeys(splits, path / "audio")
        if any(path.rglob("*.tar")):
            return _load_tars(path, streaming), {}
        if not any(file.suffix in BUILDERS for file in path.rglob("*")):
            raise ValueError(f"{dataset} has no {', '.join(METADATA_FILES)}, {', '.join(BUILDERS)} or .tar file")
    splits = load_dataset(dataset, name, streaming=streaming)
    return splits, dict.fromkeys(splits, path) if path.is_dir() else {}


def _load_tars(folder: Path, streaming: bool) -> dict[str, Dataset | IterableDataset]:
    """
    Splits by the start of a tar's name, or of its folder's. The columns are those of the first sample and are named
    here, because `datasets` would take audio for its `Audio` feature, which needs torchcodec even to pass it on.
    """
    files = {}
    for file in sorted(folder.rglob("*.tar")):
        split = re.split(r"[-_.\d]", str(file.relative_to(folder)).split("/")[0])[0]
        files.setdefault(split, []).append(str(file))
    with tarfile.open(files.get("train", next(iter(files.values())))[0]) as tar:
        sample, first = {"__key__": "", "__url__": ""}, None
        for member in tar:
            key, _, extension = Path(member.name).name.partition(".")
            first = first or key
            if key != first:
                break
            if member.isfile():
                content = tar.extractfile(member).read()
                sample[extension] = json.loads(content) if extension == "json" else content
                sample[extension] = content.decode() if extension == "txt" else sample[extension]
    features = Features.from_arrow_schema(pa.Table.from_pylist([sample]).schema)
    return load_dataset("webdataset", data_files=files, features=features, streaming=streaming)


def _rows_of(rows: IterableDataset):
    yield from rows.decode(False) if rows.features else rows


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


def _stream(rows, folder, audio_column, caption_column, npy_sampling_rate, where) -> IterableDataset:
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


def mix_corpora(corpora: list[dict], weights: list[float] | None, seed: int) -> dict:
    """
    One corpus of several, each as [`load_corpus`] returns it. With `weights` a track of corpus `i` is drawn with
    probability `weights[i] / sum(weights)`, until each corpus was read through at least once: small ones repeat.
    Without, each track comes once. Validation and test splits are put together as they are.
    """
    if weights is not None and (len(weights) != len(corpora) or min(weights) <= 0):
        raise ValueError(
            f"dataset_weights must be {len(corpora)} numbers above 0, one for each dataset, got {weights}"
        )
    if len(corpora) == 1:
        return corpora[0]
    mixed = {split: concatenate_datasets([corpus[split] for corpus in corpora]) for split in corpora[0]}
    if weights is not None:
        mixed["train"] = interleave_datasets(
            [corpus["train"] for corpus in corpora],
            [weight / sum(weights) for weight in weights],
            seed=seed,
            stopping_strategy="all_exhausted",
        )
    return mixed


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
        return self.read(index, np.random.default_rng((self.seed, self.epoch, index)))

    def read(self, index: int, random: np.random.Generator) -> dict:
        unreadable = []
        while True:
            track = self.tracks[index]
            try:
                item = _draw(track, self.sampling_rate, self.window_samples, random)
                return {**item, "index": index, "unreadable": unreadable}
            except (ValueError, OSError) as error:
                unreadable.append((index, _reason(track, error, f"track {index}")))
                _check_luck(unreadable, error)
                index = int(random.integers(len(self.tracks)))


class TrainingStream(torch.utils.data.IterableDataset):
    """
    Random windows and captions of a streamed corpus, without end: pass after pass, each in another order. The shards
    of the corpus are shared out over the processes and their workers, so that each row is read once a pass; where the
    number of shards is no multiple of the processes, each process reads all and keeps its share of the rows.

    A row that cannot be read is left out and named in the next item.

    Args:
        tracks (`IterableDataset`): The train split of [`load_corpus`] with `streaming`.
        sampling_rate (`int`): Rate of the windows in hertz (Hz).
        window_samples (`int`): Length of a window in samples; shorter tracks are padded with zeros at the end.
        seed (`int`): Seed of all choices.
        process_index (`int`, *optional*, defaults to 0), num_processes (`int`, *optional*, defaults to 1):
            This process, and how many share the stream.
        buffer_size (`int`, *optional*, defaults to 1000): Rows among which the next one is drawn.
    """

    def __init__(
        self,
        tracks: IterableDataset,
        sampling_rate: int,
        window_samples: int,
        seed: int,
        process_index: int = 0,
        num_processes: int = 1,
        buffer_size: int = 1000,
    ):
        self.tracks, self.sampling_rate, self.window_samples, self.seed = tracks, sampling_rate, window_samples, seed
        self.process_index, self.num_processes, self.buffer_size = process_index, num_processes, buffer_size
        self.epoch = 0

    def set_epoch(self, epoch: int):
        self.epoch = epoch

    def one_pass(self, number: int):
        """The items of this process and worker in pass `number` of an epoch."""
        # Shuffled anew and not by `IterableDataset.set_epoch`, which the workers of the last epoch would hear too.
        order = int(np.random.default_rng((self.seed, self.epoch, number)).integers(2**63))
        tracks = self.tracks.shuffle(order, buffer_size=self.buffer_size)
        tracks = split_dataset_by_node(tracks, self.process_index, self.num_processes)
        worker = torch.utils.data.get_worker_info()
        place = (self.seed, self.epoch, number, self.process_index, worker.id if worker else 0)
        unreadable = []
        for row, track in enumerate(tracks):
            try:
                item = _draw(track, self.sampling_rate, self.window_samples, np.random.default_rng((*place, row)))
            except (ValueError, OSError) as error:
                reason = _reason(track, error, f"row {row}")
                unreadable.append((track["path"] or reason, reason))
                _check_luck(unreadable, error)
                continue
            yield {**item, "unreadable": unreadable}
            unreadable = []

    def __iter__(self):
        for number in itertools.count():
            item = None
            for item in self.one_pass(number):
                yield item
            if item is None:  # more workers than shards
                return


def _draw(track: dict, sampling_rate: int, window_samples: int, random: np.random.Generator) -> dict:
    """A random window and a random caption of a track."""
    source = audio_source(track)
    if isinstance(source, dict) and source["sampling_rate"] == sampling_rate:  # map no more of it than is needed
        start = int(random.integers(max(0, source["array"].shape[-1] - window_samples) + 1))
        source["array"] = source["array"][..., start : start + window_samples]
    with AudioReader(source, sampling_rate) as reader:
        start = int(random.integers(max(0, reader.num_samples - window_samples) + 1))
        samples = reader.read(start, start + window_samples)
    return {
        "input_values": np.pad(samples, (0, window_samples - len(samples))),
        "caption": track["captions"][random.integers(len(track["captions"]))],
        "track_id": track_id(track["path"] if track["bytes"] is None else track["bytes"]),
    }


def _reason(track: dict, error: Exception, place: str) -> str:
    return str(error) if track["bytes"] is None else f"{track['path'] or place}: {error}"


def _check_luck(unreadable: list[tuple], error: Exception):
    if len(unreadable) > 100:
        raise ValueError(f"100 random tracks in a row are unreadable, the last: {unreadable[-1][1]}") from error


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
