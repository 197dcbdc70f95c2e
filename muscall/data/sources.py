# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Audio-caption corpora as splits of tracks; one function for each layout that a dataset may have on disk."""

import json
import os
import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa
from datasets import (
    Dataset,
    Features,
    IterableDataset,
    concatenate_datasets,
    interleave_datasets,
    load_dataset,
    load_dataset_builder,
    load_from_disk,
)
from datasets.exceptions import DatasetGenerationError
from datasets.packaged_modules.audiofolder.audiofolder import AudioFolder
from huggingface_hub import snapshot_download
from transformers.utils import logging

from muscall.data.copies import hold_out, separate_splits
from muscall.data.folders import describe_left_out, list_files
from muscall.data.metadata import METADATA_FILES, read_card, read_metadata
from muscall.data.split_names import SPLITS, find_split, standard_name, standard_names
from muscall.data.tables import BUILDERS, check_table, describe_failure, escape_pattern, load_table
from muscall.data.tracks import flatten, merge_tracks, read_captions, stream_tracks
from muscall.folders import LINKED_FILES


logger = logging.get_logger(__name__)

Rows = Dataset | IterableDataset
Splits = dict[
    str, tuple[Rows, Path | None]
]  # of each split its rows, and the folder that their audio paths start from

# What soundfile reads, by suffix in small letters.
AUDIO_FILES = {".wav", ".w64", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".aifc", ".au", ".caf"}
DATA_FILES = {".json", ".jsonl", ".csv", ".tsv", ".parquet", ".tar"}  # which say more than folders do
ARCHIVES = {".parquet", ".tar"}  # which may hold audio


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
            Column of audio: paths, or `datasets` audio. A column `audio_embeds` of stored embeddings can stand in its
            place, for sentences that learn without audio; then it is a column of the splits too, which have no files.
        caption_column (`str`, *optional*, defaults to the first there is of `CAPTION_COLUMNS`):
            Column of captions: a string or a list of strings. Rows of one file are one track with several captions.
        holdout_fraction (`float`, *optional*, defaults to 0.1):
            Share of the recordings that become the `validation` split where there is none, and as many the `test`
            split. No recording is in two splits, see [`separate_splits`] and [`hold_out`].
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
    if "train" not in raw_splits:
        raise ValueError(f"{dataset} has no train split; its splits: {', '.join(raw_splits)}")
    _report_unused(raw_splits, dataset)
    splits = {}
    for split in (split for split in SPLITS if split in raw_splits):
        columns = folders.get(split), audio_column, caption_column, npy_sampling_rate, f"{dataset} [{split}]"
        if streaming and split == "train":
            splits[split] = stream_tracks(raw_splits[split], *columns)
        else:
            splits[split] = _read_tracks(raw_splits[split], *columns)
    if streaming and (missing := {"validation", "test"} - splits.keys()):
        raise ValueError(f"{dataset}: a streamed corpus must bring its own {' and '.join(sorted(missing))} split")
    (splits,) = separate_splits([splits], dataset)
    if streaming:
        logger.warning(f"{dataset}: a stream is not searched for recordings that are also in the other splits")
    else:
        hold_out(splits, dataset, holdout_fraction, seed)
    return {split: splits[split] for split in SPLITS}


def _report_unused(splits: dict[str, Rows], dataset: str) -> None:
    unused = []
    for split in (split for split in splits if split not in SPLITS):
        rows = splits[split]
        unused.append(f"{split} ({len(rows)} rows)" if isinstance(rows, Dataset) else split)
    if unused:
        logger.warning(f"{dataset}: only train, validation and test splits are used; left out: {', '.join(unused)}")


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


def mix_corpora(corpora: list[dict[str, Rows]], weights: list[float] | None, seed: int) -> dict[str, Rows]:
    """
    Make one corpus of several, each as [`load_corpus`] returns it. With `weights` a track of corpus `i` is drawn with
    probability `weights[i] / sum(weights)`, until each corpus was read through at least once: small ones repeat.
    Without, each track comes once. Validation and test splits are put together, after [`separate_splits`].
    """
    if weights is not None and (len(weights) != len(corpora) or min(weights) <= 0):
        raise ValueError(
            f"dataset_weights must be {len(corpora)} numbers above 0, one for each dataset, got {weights}"
        )
    if len(corpora) == 1:
        return corpora[0]
    corpora = separate_splits(corpora, "the mixture")
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
    [`load_corpus`]. The names are those of [`standard_names`].
    """
    layouts = (layout(dataset, streaming) for layout in LAYOUTS)
    splits = next((splits for splits in layouts if splits is not None), None)
    if splits is None:
        splits = _load_with_datasets(dataset, name, streaming)
    if list(splits) == ["train"]:
        splits = _divide_by_column(*splits["train"])
    names = standard_names(splits, dataset)
    rows = {names[split]: rows for split, (rows, _) in splits.items()}
    return rows, {names[split]: folder for split, (_, folder) in splits.items() if folder is not None}


def _divide_by_column(rows: Rows, folder: Path | None) -> Splits:
    """Return the splits that a column `split` tells apart; the only one where no row of it has the name of a split."""
    column = next((name for name in rows.column_names or [] if name.lower() == "split"), None)
    if column is None or not isinstance(rows, Dataset):
        return {"train": (rows, folder)}
    numbers = {}
    for number, name in enumerate(rows[column]):
        numbers.setdefault("no split" if name is None else standard_name(str(name).strip()), []).append(number)
    if not numbers.keys() & set(SPLITS):
        return {"train": (rows, folder)}
    return {split: (rows.select(part), folder) for split, part in numbers.items()}


# Layouts. Each function takes what a person calls the dataset and returns its splits, or `None` if it is of another.


def single_file(dataset: str, streaming: bool) -> Splits | None:
    """Read a `.json`, `.jsonl`, `.csv` or `.parquet` file, whose audio paths are relative to its folder."""
    path = Path(dataset)
    if not path.is_file():
        return None
    if path.suffix.lower() not in BUILDERS:
        raise ValueError(f"{dataset}: expected a {', '.join(BUILDERS)} file, or a folder")
    return {"train": (load_table(path, streaming), path.parent)}


def saved_folder(dataset: str, streaming: bool) -> Splits | None:
    """Read what `save_to_disk` of `datasets` wrote: one split, or several. Audio paths are as they were saved."""
    path = Path(dataset)
    if not (path / "dataset_dict.json").is_file() and not (path / "state.json").is_file():
        return None
    try:
        saved = load_from_disk(dataset)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{dataset}: cannot be read: {error}") from error
    saved = saved.with_format(None)  # what was saved may have a format, which hides columns
    splits = {"train": saved} if isinstance(saved, Dataset) else saved
    return {split: (rows.to_iterable_dataset() if streaming else rows, None) for split, rows in splits.items()}


def metadata_folder(dataset: str, streaming: bool) -> Splits | None:
    """Read `metadata.jsonl`, `.csv` or `.parquet` beside the audio files, above them, or in folders of splits."""
    path = Path(dataset)
    if not path.is_dir():
        return None
    files, found = list_files(path)
    audio = [file for file in files if file.suffix.lower() in AUDIO_FILES]
    tables = [file for file in files if file.name.lower() in METADATA_FILES]
    archives = [file for file in files if file.suffix.lower() in ARCHIVES and file not in tables]
    if not tables or (archives and not audio):
        return None
    links = found.left_out.pop(LINKED_FILES, Counter())
    for link in (link for link in links if Path(link).name.lower() in METADATA_FILES):
        found.leave_out(LINKED_FILES, link)  # one to an audio file is no loss: a row that names it reads it
    if left_out := describe_left_out(found):
        logger.warning(f"{dataset}: left out are {left_out}")
    others = [file for file in files if file.suffix.lower() in DATA_FILES and file not in tables]
    _report_unused_tables(dataset, others)
    return read_metadata(path, tables, audio, read_card(path), streaming)


def papers_folder(dataset: str, streaming: bool) -> Splits | None:
    """Read `dataset_train.json` and its kin beside `audio/`, as the paper's code has it."""
    path = Path(dataset)
    files = {file.stem.removeprefix("dataset_"): file for file in path.glob("dataset_*.json")}
    return {split: (load_table(file, streaming), path / "audio") for split, file in files.items()} or None


def tar_folder(dataset: str, streaming: bool) -> Splits | None:
    """
    Read `.tar` files in the WebDataset layout, `train-0000.tar` or `train/0000.tar` for instance.

    The columns are those of the first sample and are named here, because `datasets` would take audio for its `Audio`
    feature, which needs torchcodec even to pass it on.
    """
    path, files = Path(dataset), {}
    tars = sorted(path.rglob("*.tar"))
    places = [file.relative_to(path).parts for file in tars]
    named = any(map(find_split, places))
    for file, place in zip(tars, places, strict=True):
        split = find_split(place) or (re.split(r"[-_.\d]", place[0])[0] if named else "train")
        files.setdefault(split, []).append(file)
    if not files:
        return None
    others = [file for file in list_files(path)[0] if file.suffix.lower() in DATA_FILES - {".tar"}]
    _report_unused_tables(dataset, others)
    sample = _read_first_sample(files.get("train", next(iter(files.values())))[0])
    features = Features.from_arrow_schema(pa.Table.from_pylist([sample]).schema)
    files = {split: [escape_pattern(file) for file in shards] for split, shards in files.items()}
    try:
        splits = load_dataset("webdataset", data_files=files, features=features, streaming=streaming)
    except (DatasetGenerationError, ValueError) as error:
        raise ValueError(describe_failure(tars, error)) from error
    return {split: (rows, None) for split, rows in splits.items()}


def _read_first_sample(tar_file: Path) -> dict:
    """
    Return the first sample of a tar file, a value for each extension.

    Raises:
        `ValueError`: if it cannot be read; the message names the file.
    """
    try:
        return _read_sample(tar_file)
    except (tarfile.TarError, ValueError) as error:
        raise ValueError(f"{tar_file}: its first sample cannot be read: {error}") from error


def _read_sample(tar_file: Path) -> dict:
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


# The first that returns splits reads them.
LAYOUTS = (single_file, saved_folder, metadata_folder, papers_folder, tar_folder)


def _load_with_datasets(dataset: str, name: str | None, streaming: bool) -> Splits:
    """Read whatever `datasets.load_dataset` takes: a Hub id, or a folder of parquet, JSON or CSV files."""
    path = Path(dataset)
    files = list_files(path)[0] if path.is_dir() else []
    tables = [file for file in files if file.suffix.lower() in BUILDERS]
    if path.is_dir() and not tables:
        found = Counter(file.suffix.lower() or "other" for file in files)
        raise ValueError(
            f"{dataset} has no {', '.join(METADATA_FILES)}, {', '.join(BUILDERS)} or .tar file. Its files: "
            f"{', '.join(f'{count} {suffix}' for suffix, count in found.items()) or 'none'}"
        )
    if path.is_dir() and escape_pattern(path.resolve()) != str(path.resolve()):
        raise ValueError(f"`datasets` takes the signs []*? in {path.resolve()} for a pattern: rename the folder")
    builder = load_dataset_builder(dataset, name)
    if isinstance(builder, AudioFolder):  # which `datasets` reads only where torchcodec is installed
        if path.is_dir():
            raise ValueError(
                f"{dataset} has audio files and no {', '.join(METADATA_FILES)}: give such a name to the table of "
                f"their captions, or give the table itself as the dataset, {tables[0]} for instance"
            )
        folder = snapshot_download(dataset, repo_type="dataset")
        if (splits := metadata_folder(folder, streaming)) is None:
            raise ValueError(f"{dataset} has no {', '.join(METADATA_FILES)}, so that its audio has no captions")
        return splits
    if path.is_dir():
        used = {str(split): [Path(file) for file in files] for split, files in builder.config.data_files.items()}
        _check_tables(dataset, tables, used)
    try:
        splits = load_dataset(dataset, name, streaming=streaming)
    except (DatasetGenerationError, ValueError) as error:  # ArrowInvalid is a ValueError
        raise ValueError(describe_failure(tables or [path], error)) from error
    return {split: (rows, path if path.is_dir() else None) for split, rows in splits.items()}


def _check_tables(dataset: str, tables: list[Path], used: dict[str, list[Path]]) -> None:
    """
    Check the tables of a folder, given those that `datasets` takes for each split, and report the others.

    Raises:
        `ValueError`: if a file cannot be read, or if `datasets` takes files of another split for training because it
            knows the names of splits in small letters only.
    """
    for table in (table for files in used.values() for table in files):
        check_table(table)
        split = find_split(Path(os.path.relpath(table, Path(dataset).resolve())).parts)
        if set(used) == {"train"} and split not in (None, "train"):
            raise ValueError(f"{table} would be read as training data: write the name of the split in small letters")
    names = {table.resolve() for files in used.values() for table in files}
    _report_unused_tables(dataset, [table for table in tables if table.resolve() not in names])


def _report_unused_tables(dataset: str, tables: list[Path]) -> None:
    if tables:
        logger.warning(f"{dataset}: {len(tables)} of its tables are not used: {', '.join(map(str, tables))}")


def label_folders(dataset: str) -> dict[str, Dataset] | None:
    """
    Read a folder that holds nothing but audio, in one folder for each label, on its own or in one folder a split. It
    has labels and no captions, so that [`load_splits`] does not look for it. What is left out is reported.

    Returns:
        `dict[str, Dataset]`: of each split the columns `audio` (paths) and `label`, or `None` for another layout.
    """
    folder = Path(dataset)
    if not folder.is_dir():
        return None
    paths, found = list_files(folder)
    files = [path for path in paths if path.suffix.lower() in AUDIO_FILES]
    places = [path.relative_to(folder).parts for path in files]
    depths = {len(parts) for parts in places}
    if any(path.suffix.lower() in DATA_FILES for path in paths) or depths not in ({2}, {3}):
        return None
    if depths == {3} and not any(standard_name(parts[0]) in SPLITS for parts in places):
        return None
    names = standard_names(sorted({parts[0] for parts in places}), dataset) if depths == {3} else {}
    rows = {}
    for path, parts in zip(files, places, strict=True):
        split = names[parts[0]] if names else "test"
        rows.setdefault(split, []).append({"audio": str(path), "label": parts[-2]})
    for path in paths:
        if path.suffix.lower() not in AUDIO_FILES:
            found.leave_out("files with other suffixes", path.suffix.lower() or "no suffix")
    if left_out := describe_left_out(found):
        logger.warning(f"{dataset}: left out are {left_out}")
    return {split: Dataset.from_list(tracks) for split, tracks in rows.items()}
