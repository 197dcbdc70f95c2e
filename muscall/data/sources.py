# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Audio-caption corpora of any layout, as splits of tracks."""

import json
import re
import tarfile
from functools import partial
from pathlib import Path

import pyarrow as pa
from datasets import Dataset, Features, IterableDataset, concatenate_datasets, interleave_datasets, load_dataset

from muscall.data.tracks import flatten, merge_tracks, read_captions, stream_tracks


BUILDERS = {".json": "json", ".jsonl": "json", ".csv": "csv", ".parquet": "parquet"}  # of `datasets`
METADATA_FILES = ("metadata.jsonl", "metadata.csv")


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
            splits[split] = stream_tracks(rows, folder, audio_column, caption_column, npy_sampling_rate, where)
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
