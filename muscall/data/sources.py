# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Audio-caption corpora as splits of tracks; one function for each layout that a dataset may have on disk."""

import json
import re
import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa
from datasets import Dataset, Features, IterableDataset, concatenate_datasets, interleave_datasets, load_dataset

from muscall.data.tracks import flatten, merge_tracks, read_captions, stream_tracks


Rows = Dataset | IterableDataset
Splits = dict[
    str, tuple[Rows, Path | None]
]  # of each split its rows, and the folder that their audio paths start from

BUILDERS = {".json": "json", ".jsonl": "json", ".csv": "csv", ".parquet": "parquet"}  # of `datasets`
METADATA_FILES = ("metadata.jsonl", "metadata.csv")
SPLITS = ("train", "validation", "test")
VALIDATION_NAMES = ("valid", "val", "dev")  # other names of the validation split
AUDIO_FILES = {".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif"}
DATA_FILES = {".json", ".jsonl", ".csv", ".tsv", ".parquet", ".tar"}  # which say more than folders do


def load_corpus(
    dataset: str,
    name: str | None = None,
    audio_column: str | None = None,
    caption_column: str | None = None,
    holdout_fraction: float = 0.1,
    seed: int = 0,
    npy_sampling_rate: int | None = None,
    streaming: bool = False,
) -> dict[str, Rows]:
    """
    Load the splits `train`, `validation` and `test` of an audio-caption corpus without decoding it.

    Args:
        dataset (`str`): Anything that one of `LAYOUTS` reads, else what `datasets.load_dataset` takes.
        name (`str`, *optional*): The configuration of a Hub dataset.
        audio_column (`str`, *optional*, defaults to the first there is of `AUDIO_COLUMNS`):
            Column of audio: paths, or `datasets` audio.
        caption_column (`str`, *optional*, defaults to the first there is of `CAPTION_COLUMNS`):
            Column of captions: a string or a list of strings. Rows of one path are one track with several captions.
        holdout_fraction (`float`, *optional*, defaults to 0.1):
            Share of the tracks that become the `validation` split where there is none, and as many the `test` split.
        seed (`int`, *optional*, defaults to 0): Seed of that choice.
        npy_sampling_rate (`int`, *optional*): The rate of `.npy` files in hertz (Hz), which these do not state.
        streaming (`bool`, *optional*, defaults to `False`):
            Whether the train split is read row by row during the training, instead of being prepared before it. The
            corpus must then bring its `validation` and `test` splits, and each row of `train` counts as a track.

    Returns:
        `dict[str, Dataset]`: splits with the columns `path` (string or `None`), `bytes` (binary or `None`), `captions`
        (list of strings), `licence` (string, or `None` where the corpus does not say) and `sampling_rate` (of an
        `.npy` file, else `None`). With `streaming`, `train` is an `IterableDataset` of such rows.

    Raises:
        `ValueError`: if a column is missing (the message lists those there are), or a row has no caption or no audio.
    """
    raw_splits, folders = load_splits(dataset, name, streaming)
    splits = {}
    for split, rows in raw_splits.items():
        columns = folders.get(split), audio_column, caption_column, npy_sampling_rate, f"{dataset} [{split}]"
        if streaming and split == "train":
            splits[split] = stream_tracks(rows, *columns)
        else:
            splits[split] = _read_tracks(rows, *columns)
    if "train" not in splits:
        raise ValueError(f"{dataset} has no train split; its splits: {', '.join(splits)}")
    if streaming:
        if missing := {"validation", "test"} - splits.keys():
            raise ValueError(f"{dataset}: a streamed corpus must bring its own {' and '.join(sorted(missing))} split")
    else:
        _hold_out(splits, dataset, holdout_fraction, seed)
    return {split: splits[split] for split in SPLITS}


def _read_tracks(
    rows: Rows,
    folder: Path | None,
    audio_column: str | None,
    caption_column: str | None,
    npy_sampling_rate: int | None,
    where: str,
) -> Dataset:
    rows = flatten(rows if isinstance(rows, Dataset) else Dataset.from_generator(partial(_iterate, rows)))
    captions = read_captions(rows, caption_column, where)
    return merge_tracks(rows, folder, audio_column, {"captions": captions}, npy_sampling_rate, where)


def _iterate(rows: IterableDataset) -> Iterator[dict]:
    yield from rows.decode(False) if rows.features else rows


def _hold_out(splits: dict[str, Dataset], dataset: str, holdout_fraction: float, seed: int) -> None:
    """Take a validation and a test split from the train split where the corpus has none."""
    total = len(splits["train"])
    num_tracks = max(1, round(holdout_fraction * total))
    for split in ("validation", "test"):
        if split in splits:
            continue
        if num_tracks >= len(splits["train"]):
            raise ValueError(f"{dataset} has {total} tracks: too few to hold out {num_tracks} as the {split} split")
        parts = splits["train"].train_test_split(num_tracks, seed=seed)
        splits["train"], splits[split] = parts["train"], parts["test"]


def mix_corpora(corpora: list[dict[str, Rows]], weights: list[float] | None, seed: int) -> dict[str, Rows]:
    """
    Make one corpus of several, each as [`load_corpus`] returns it. With `weights` a track of corpus `i` is drawn with
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


def load_splits(
    dataset: str, name: str | None = None, streaming: bool = False
) -> tuple[dict[str, Rows], dict[str, Path]]:
    """
    Return the raw splits of a corpus, and the folder that the audio paths of each are relative to; arguments as in
    [`load_corpus`]. A split called `valid`, `val` or `dev` is named `validation`.
    """
    layouts = (layout(dataset, streaming) for layout in LAYOUTS)
    splits = next((splits for splits in layouts if splits is not None), None)
    if splits is None:
        splits = _load_with_datasets(dataset, name, streaming)
    names = {split: _standard_name(split) for split in splits}
    if len(set(names.values())) < len(names):
        raise ValueError(f"{dataset} has more than one validation split: {', '.join(names)}")
    rows = {names[split]: rows for split, (rows, _) in splits.items()}
    return rows, {names[split]: folder for split, (_, folder) in splits.items() if folder is not None}


def _standard_name(split: str) -> str:
    return "validation" if split in VALIDATION_NAMES else split


# Layouts. Each function takes what a person calls the dataset and returns its splits, or `None` if it is of another.


def single_file(dataset: str, streaming: bool) -> Splits | None:
    """Read a `.json`, `.jsonl`, `.csv` or `.parquet` file, whose audio paths are relative to its folder."""
    path = Path(dataset)
    if not path.is_file():
        return None
    if path.suffix not in BUILDERS:
        raise ValueError(f"{dataset}: expected a {', '.join(BUILDERS)} file, or a folder")
    splits = load_dataset(BUILDERS[path.suffix], data_files=str(path), streaming=streaming)
    return {split: (rows, path.parent) for split, rows in splits.items()}


def metadata_folders(dataset: str, streaming: bool) -> Splits | None:
    """Read `metadata.jsonl` or `metadata.csv` beside the audio files, in one folder or in one folder a split."""
    path = Path(dataset)
    if not path.is_dir():
        return None
    files = {}
    for folder in [path, *sorted(child for child in path.iterdir() if child.is_dir())]:
        split = "train" if folder == path else folder.name
        for file in (folder / metadata for metadata in METADATA_FILES):
            if not file.exists():
                continue
            if split in files:
                raise ValueError(f"{dataset}: both {files[split]} and {file} are the split {split}")
            files[split] = file
    splits = {}
    for split, file in files.items():
        rows = load_dataset(BUILDERS[file.suffix], data_files=str(file), split="train", streaming=streaming)
        splits[split] = (rows, file.parent)
    return splits or None


def papers_folder(dataset: str, streaming: bool) -> Splits | None:
    """Read `dataset_train.json` and its kin beside `audio/`, as the paper's code has it."""
    path = Path(dataset)
    files = {file.stem.removeprefix("dataset_"): str(file) for file in path.glob("dataset_*.json")}
    if not files:
        return None
    splits = load_dataset("json", data_files=files, streaming=streaming)
    return {split: (rows, path / "audio") for split, rows in splits.items()}


def tar_folder(dataset: str, streaming: bool) -> Splits | None:
    """
    Read `.tar` files in the WebDataset layout, `train-0000.tar` or `train/0000.tar` for instance.

    The columns are those of the first sample and are named here, because `datasets` would take audio for its `Audio`
    feature, which needs torchcodec even to pass it on.
    """
    path, files = Path(dataset), {}
    for file in sorted(path.rglob("*.tar")):
        split = re.split(r"[-_.\d]", file.relative_to(path).parts[0])[0]
        files.setdefault(split, []).append(str(file))
    if not files:
        return None
    sample = _read_first_sample(files.get("train", next(iter(files.values())))[0])
    features = Features.from_arrow_schema(pa.Table.from_pylist([sample]).schema)
    splits = load_dataset("webdataset", data_files=files, features=features, streaming=streaming)
    return {split: (rows, None) for split, rows in splits.items()}


def _read_first_sample(tar_file: str) -> dict:
    sample, first_key = {"__key__": "", "__url__": ""}, None
    with tarfile.open(tar_file) as tar:
        for member in tar:
            key, _, extension = Path(member.name).name.partition(".")
            first_key = first_key or key
            if key != first_key:
                break
            if member.isfile():
                content = tar.extractfile(member).read()
                sample[extension] = json.loads(content) if extension == "json" else content
                sample[extension] = content.decode() if extension == "txt" else sample[extension]
    return sample


LAYOUTS = (single_file, metadata_folders, papers_folder, tar_folder)  # the first that returns splits reads them


def _load_with_datasets(dataset: str, name: str | None, streaming: bool) -> Splits:
    """Read whatever `datasets.load_dataset` takes: a Hub id, or a folder of parquet, JSON or CSV files."""
    path = Path(dataset)
    if path.is_dir() and not any(file.suffix in BUILDERS for file in path.rglob("*")):
        raise ValueError(f"{dataset} has no {', '.join(METADATA_FILES)}, {', '.join(BUILDERS)} or .tar file")
    splits = load_dataset(dataset, name, streaming=streaming)
    return {split: (rows, path if path.is_dir() else None) for split, rows in splits.items()}


def label_folders(dataset: str) -> dict[str, Dataset] | None:
    """
    Read a folder that holds nothing but audio, in one folder for each label, on its own or in one folder a split. It
    has labels and no captions, so that [`load_splits`] does not look for it.

    Returns:
        `dict[str, Dataset]`: of each split the columns `audio` (paths) and `label`, or `None` for another layout.
    """
    folder = Path(dataset)
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    files = [path for path in paths if path.suffix.lower() in AUDIO_FILES]
    places = [path.relative_to(folder).parts for path in files]
    depths = {len(parts) for parts in places}
    if any(path.suffix in DATA_FILES for path in paths) or depths not in ({2}, {3}):
        return None
    if depths == {3} and not {_standard_name(parts[0]) for parts in places} <= set(SPLITS):
        return None
    rows = {}
    for path, parts in zip(files, places, strict=True):
        split = _standard_name(parts[0]) if len(parts) == 3 else "test"
        rows.setdefault(split, []).append({"audio": str(path), "label": parts[-2]})
    return {split: Dataset.from_list(tracks) for split, tracks in rows.items()}
