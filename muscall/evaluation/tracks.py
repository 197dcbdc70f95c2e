# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Tracks with captions or labels, of any layout, for evaluation."""

from pathlib import Path

from datasets import ClassLabel, Dataset, List, Value

from corpus.build import build_corpus
from muscall.data.sources import load_splits
from muscall.data.tracks import choose_column, flatten, merge_tracks, read_captions
from muscall.evaluation.presets import PRESETS


LABEL_COLUMNS = ("label", "labels", "genre", "genres", "tags", "tag", "instrument", "instruments", "mood", "class")
AUDIO_FILES = {".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif"}
DATA_FILES = {".json", ".jsonl", ".csv", ".tsv", ".parquet", ".tar"}  # which say more than folders do
SPLITS = ("train", "validation", "valid", "val", "dev", "test")


class Tracks:
    """
    The splits of a dataset, one row per track: its audio, and its captions or labels.

    Args:
        kind (`str`):
            What each track must have: `"captions"` or `"labels"`.
        dataset (`str`, *optional*, defaults to the preset's):
            `default` for the corpus that comes with the repository; what `muscall.data.sources.load_corpus` takes; or,
            for labels, a folder with a folder of audio files for each label, on its own or in one folder a split.
        preset (`str`, *optional*):
            A key of `muscall.evaluation.presets.PRESETS`, which reads the dataset.
        name (`str`, *optional*):
            The configuration of a Hub dataset.
        audio_column (`str`, *optional*), text_column (`str`, *optional*):
            Columns of audio, and of captions or labels; by default the first there is of the usual names.
        metadata_column (`str`, *optional*):
            A column of text about each track, for the baseline that does not listen.
        label_separator (`str`, *optional*):
            What separates several labels in one string, a comma for instance.
        npy_sampling_rate (`int`, *optional*):
            The rate of audio in `.npy` files, in hertz (Hz).

    Attributes:
        multi_label (`bool`): Whether a track may have any number of labels, and not one.
    """

    def __init__(
        self,
        kind: str,
        dataset: str | None = None,
        preset: str | None = None,
        name: str | None = None,
        audio_column: str | None = None,
        text_column: str | None = None,
        metadata_column: str | None = None,
        label_separator: str | None = None,
        npy_sampling_rate: int | None = None,
    ):
        self.kind, self.audio_column, self.text_column = kind, audio_column, text_column
        self.metadata_column, self.label_separator = metadata_column, label_separator
        self.npy_sampling_rate, self.folders, self.multi_label = npy_sampling_rate, {}, None
        if preset is not None:
            self.name = preset
            dataset = dataset or PRESETS[preset].dataset
            if dataset is None:
                raise ValueError(f"--preset {preset} needs --dataset, the folder it is in. {PRESETS[preset].get}")
            self.raw, self.text_column = PRESETS[preset].read(dataset), kind
            self.multi_label = PRESETS[preset].multi_label
        else:
            self.name = Path(dataset).name if Path(dataset).exists() else dataset
            dataset = str(build_corpus()) if dataset == "default" else dataset
            classes = _class_folders(Path(dataset)) if kind == "labels" and Path(dataset).is_dir() else None
            if classes:
                self.raw, self.text_column = classes, "label"
            else:
                self.raw, self.folders = load_splits(dataset, name)

    def choose(self, split: str | None) -> str:
        """The name of a split that there is; without one the test split, or the only one."""
        if split is None:
            split = "test" if "test" in self.raw or len(self.raw) > 1 else next(iter(self.raw))
        if split not in self.raw:
            raise ValueError(f"{self.name} has no split {split!r}. Its splits: {', '.join(self.raw)}. Name one.")
        return split

    def __getitem__(self, split: str) -> Dataset:
        """
        The columns `path`, `bytes`, `sampling_rate` and `licence` of `muscall.data.sources.load_corpus`, `captions` or
        `labels`, and where they are known `unknown` (labels that nobody looked for) and `metadata`.
        """
        rows, where = flatten(self.raw[split]), f"{self.name} [{split}]"
        if self.kind == "captions":
            texts = {"captions": read_captions(rows, self.text_column, where)}
        else:
            texts = {"labels": self._read_labels(rows, where)}
            if "unknown" in rows.column_names:
                texts["unknown"] = list(rows["unknown"])
        if self.metadata_column is not None:
            column = choose_column(rows.column_names, self.metadata_column, (), "metadata", where)
            texts["metadata"] = [_as_text(value) for value in rows[column]]
        tracks = merge_tracks(rows, self.folders.get(split), self.audio_column, texts, self.npy_sampling_rate, where)
        if self.kind == "labels" and not self.multi_label:
            for number, labels in enumerate(tracks["labels"]):
                if len(names := sorted(set(labels))) != 1:
                    raise ValueError(f"{where}: {tracks[number]['path']} must have one label, got {names}")
        return tracks

    def _read_labels(self, rows: Dataset, where: str) -> list[list[str]]:
        column = choose_column(rows.column_names, self.text_column, LABEL_COLUMNS, "label", where)
        feature, values = rows.features[column], rows[column]
        is_list = isinstance(feature, List)
        if self.multi_label is None:
            self.multi_label = is_list or self.label_separator is not None
        inner = feature.feature if is_list else feature
        if not isinstance(inner, ClassLabel) and inner not in (Value("string"), Value("large_string")):
            raise ValueError(f"{where}: `{column}` must hold names, or a list of names, got {feature}")
        labels = []
        for number, value in enumerate(values):
            row = value if is_list else [value]
            if isinstance(inner, ClassLabel):
                row = [inner.int2str(label) if label is not None and label >= 0 else None for label in row]
            if self.label_separator is not None:
                row = [part.strip() for text in row for part in (text or "").split(self.label_separator)]
                row = [label for label in row if label]
            if not all(isinstance(label, str) and label.strip() for label in row):
                raise ValueError(f"{where}, row {number}: `{column}` must name what the track is, got {value!r}")
            labels.append(row)
        return labels


def _as_text(value) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [str(item) for item in values if item is not None and str(item).strip()]


def _class_folders(folder: Path) -> dict[str, Dataset] | None:
    """The splits of a folder that holds nothing but audio, in one folder for each label."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    files = [path for path in paths if path.suffix.lower() in AUDIO_FILES]
    places = [path.relative_to(folder).parts for path in files]
    depths = {len(parts) for parts in places}
    if any(path.suffix in DATA_FILES for path in paths) or depths not in ({2}, {3}):
        return None
    if depths == {3} and not {parts[0] for parts in places} <= set(SPLITS):
        return None
    rows = {}
    for path, parts in zip(files, places, strict=True):
        split = parts[0] if len(parts) == 3 else "test"
        split = "validation" if split in ("valid", "val", "dev") else split
        rows.setdefault(split, []).append({"audio": str(path), "label": parts[-2]})
    return {split: Dataset.from_list(tracks) for split, tracks in rows.items()}
