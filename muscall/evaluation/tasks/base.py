# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The interface of a task of eval.py."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from datasets import Dataset

from muscall.data.copies import separate_splits
from muscall.evaluation.arguments import Arguments
from muscall.evaluation.calibration import MIN_TRACKS
from muscall.evaluation.presets import PRESETS
from muscall.evaluation.systems import SystemEmbeds
from muscall.evaluation.tracks import Tracks


@dataclass
class Measurement:
    """
    The scores of one system.

    Args:
        metrics (`dict`):
            Values by name, and intervals by `<name>_interval`.
        queries (`dict`):
            The numbers of each query, of which the metrics are means, for comparing two systems query by query.
        extras (`dict`):
            Further parts of the result file, by key.
    """

    metrics: dict
    queries: dict = field(default_factory=dict)
    extras: dict = field(default_factory=dict)


class Task(ABC):
    """
    One task: [`prepare`] reads its data, [`measure`] scores one system, [`report`] says what came out.

    Args:
        args ([`Arguments`]):
            The options of eval.py.

    Attributes:
        column (`str`): The column of tracks that the task is about, `"captions"` or `"labels"`.
        split (`str`): Name of the split that is reported.
        splits (`dict[str, Dataset]`): The tracks of this split under `"reported"`, and where the task needs them those
            of `"validation"` and `"train"`.
        texts (`list[str]`): The sentences to embed.
        labels (`dict[str, str]`): For each label the words that stand for it in a prompt.
        prompts (`list[str]`): Templates of the sentences.
    """

    column: ClassVar[str]

    def __init__(self, args: Arguments):
        self.args = args
        self.preset = PRESETS[args.preset] if args.preset else None
        self.split, self.splits = "", {}
        self.texts, self.labels, self.prompts = [], {}, []

    @property
    def tracks(self) -> Dataset:
        """The tracks that are reported."""
        return self.splits["reported"]

    def other_splits(self, source: Tracks) -> dict[str, str | None]:
        """Return the names of the splits that serve for `"validation"` and `"train"`, `None` where none does."""
        return {"validation": self.args.validation_split}

    def read_splits(self, source: Tracks):
        """
        Read the tracks.

        Raises:
            `ValueError`: if a split does not exist, or if the split that is reported is asked for as another one too.
        """
        self.split = source.choose(self.args.split or (self.preset.split if self.preset else None))
        others = self.other_splits(source)
        if self.split in others.values():
            raise ValueError(f"the split {self.split!r} is reported: nothing may be fitted to it or chosen on it")
        self.splits = {"reported": source[self.split]}
        self.splits |= {name: source[source.choose(other)] for name, other in others.items() if other is not None}
        self.separate(source)

    def separate(self, source: Tracks):
        """Leave out of the train and validation splits what is also in the reported one, see [`separate_splits`]."""
        names = {"train": "train", "validation": "validation", "test": "reported"}
        splits = {split: self.splits[name] for split, name in names.items() if name in self.splits}
        (splits,) = separate_splits([splits], source.name)
        self.splits |= {names[split]: tracks for split, tracks in splits.items()}

    @abstractmethod
    def prepare(self, source: Tracks):
        """Read the tracks, with [`read_splits`], and the texts or labels. Raise `ValueError` if they do not fit."""

    @abstractmethod
    def measure(self, embeds: SystemEmbeds) -> Measurement:
        """Score one system."""

    def refuse_calibration(self) -> str | None:
        """Return why [`measure_calibrated`] would say nothing about these tracks, `None` where it does."""
        if len(self.tracks) < MIN_TRACKS:
            return f"{len(self.tracks)} tracks are too few for statistics of a pool, which take {MIN_TRACKS}"
        return None

    def measure_calibrated(self, embeds: SystemEmbeds) -> Measurement:
        """Score one system with the priors of the texts taken off, see `muscall.evaluation.calibration`."""
        raise NotImplementedError(f"{type(self).__name__} has no calibrated scores")

    @abstractmethod
    def measure_chance(self) -> Measurement:
        """Score a system to which everything is alike."""

    def describe(self, embeds: SystemEmbeds, measurement: Measurement) -> dict:
        """Return parts of the result file that are only about the model, not about baselines."""
        return {}

    def draw(self, folder: Path, embeds: SystemEmbeds, measurement: Measurement) -> list[Path]:
        """Draw pictures of the model into `folder` and return their paths."""
        return []

    @abstractmethod
    def report(self, result: dict, measurements: dict[str, Measurement]) -> list[str]:
        """Return what the screen shows of a result and of all systems in its tables, line by line."""

    @abstractmethod
    def query_lines(self, embeds: SystemEmbeds, measurement: Measurement) -> Iterator[dict]:
        """Yield what the per-query file says, a line for each query."""

    def track_names(self) -> list[str]:
        """Return what each reported track is called in the per-query file."""
        return [path or f"track {number}" for number, path in enumerate(self.tracks["path"])]
