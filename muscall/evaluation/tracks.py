# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Tracks with captions or labels, of any layout, for evaluation."""

from pathlib import Path
from typing import Any

from datasets import ClassLabel, Dataset, List, Value

from muscall.data.sources import label_folders, load_splits
from muscall.data.texts import parse_list
from muscall.data.tracks import choose_column, flatten, has_embeds, merge_tracks, read_captions
from muscall.evaluation.presets import PRESETS


LABEL_COLUMNS = ("label", "labels", "genre", "genres", "tags", "tag", "instrument", "instruments", "mood", "class")


class Tracks:
    """
    The splits of a dataset, one row per track: its audio, and its captions or labels.

    Args:
        kind (`str`):
            What each track must have: `"captions"` or `"labels"`.
        dataset (`str`, *optional*, defaults to the preset's):
            What `muscall.data.sources.load_corpus` takes or, for labels, `muscall.data.sources.label_folders`.
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
        display_name (`str`, *optional*, defaults to the name of the preset, the folder or the file):
            What the dataset is called in messages and results.

    Attributes:
        name (`str`): That name.
        raw (`dict[str, Dataset]`): The splits as the dataset has them.
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
        display_name: str | None = None,
    ):
        self.kind, self.audio_column, self.text_column = kind, audio_column, text_column
        self.metadata_column, self.label_separator = metadata_column, label_separator
        self.npy_sampling_rate, self.folders, self.multi_label = npy_sampling_rate, {}, None
        if preset is not None:
            self.name = display_name or preset
            dataset = dataset or PRESETS[preset].dataset
            if dataset is None:
                raise ValueError(f"--preset {preset} needs --dataset, the folder it is in. {PRESETS[preset].get}")
            self.raw, self.text_column = PRESETS[preset].read(dataset), kind
            self.multi_label = PRESETS[preset].multi_label
        else:
            self.name = display_name or (Path(dataset).name if Path(dataset).exists() else dataset)
            labelled = label_folders(dataset) if kind == "labels" else None
            if labelled is None:
                self.raw, self.folders = load_splits(dataset, name)
            else:
                self.raw, self.text_column = labelled, "label"

    def choose(self, split: str | None) -> str:
        """Return the name of a split that exists: the one asked for, else the test split, or the only one."""
        if split is None:
            split = "test" if "test" in self.raw or len(self.raw) > 1 else next(iter(self.raw))
        if split not in self.raw:
            raise ValueError(f"{self.name} has no split {split!r}. Its splits: {', '.join(self.raw)}. Name one.")
        return split

    def __getitem__(self, split: str) -> Dataset:
        """
        Return the tracks of a split with the columns `path`, `bytes`, `sampling_rate` and `licence` of
        `muscall.data.sources.load_corpus`, `captions` or `labels`, and where they are known `unknown` (labels that
        nobody looked for) and `metadata`.
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
        if has_embeds(tracks):
            raise ValueError(f"{where} has stored embeddings in the place of audio: there is nothing to hear")
        if self.kind == "labels" and not self.multi_label:
            for number, labels in enumerate(tracks["labels"]):
                if len(names := sorted(set(labels))) != 1:
                    raise ValueError(f"{where}: {tracks[number]['path']} must have one label, got {names}")
        return tracks

    def _read_labels(self, rows: Dataset, where: str) -> list[list[str]]:
        column = choose_column(rows.column_names, self.text_column, LABEL_COLUMNS, "label", where)
        feature, values = rows.features[column], list(rows[column])
        wanted = [f"{where}, row {number}: `{column}` must name what the track is" for number in range(len(values))]
        if self.label_separator is None:
            cells = zip(values, wanted, strict=True)
            values = [parse_list(value, words) if isinstance(value, str) else value for value, words in cells]
        is_list = isinstance(feature, List) or any(isinstance(value, list) for value in values)
        if self.multi_label is None:
            self.multi_label = is_list or self.label_separator is not None
        inner = feature.feature if isinstance(feature, List) else feature
        if not isinstance(inner, ClassLabel) and inner not in (Value("string"), Value("large_string")):
            raise ValueError(f"{where}: `{column}` must hold names, or a list of names, got {feature}")
        labels = []
        for number, value in enumerate(values):
            row = value if isinstance(value, list) else [value]
            if isinstance(inner, ClassLabel):
                row = [inner.int2str(label) if label is not None and label >= 0 else None for label in row]
            if self.label_separator is not None:
                row = [part.strip() for text in row for part in (text or "").split(self.label_separator)]
                row = [label for label in row if label]
            if not all(isinstance(label, str) and label.strip() for label in row):
                raise ValueError(f"{wanted[number]}, got {value!r}")
            labels.append(row)
        return labels


def _as_text(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [str(item) for item in values if item is not None and str(item).strip()]
