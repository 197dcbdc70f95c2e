# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The parts that zero-shot and the probe share: labels of tracks, and the tables of their metrics."""

from collections.abc import Iterator

import numpy as np

from muscall.evaluation.labels import choose_labels, label_metrics, load_metric, read_references
from muscall.evaluation.report import format_metric, table
from muscall.evaluation.systems import SystemEmbeds
from muscall.evaluation.tasks.base import Measurement, Task
from muscall.evaluation.tracks import Tracks


COUNTS = ("positives", "count")  # metrics of a label that are whole numbers


class LabelTask(Task):
    """
    Tracks with one label each, or with any number of them.

    Attributes:
        multi_label (`bool`): Whether a track may have any number of labels.
        references (`dict[str, np.ndarray]`): For each split the labels of its tracks, see [`read_references`].
    """

    column = "labels"

    def prepare(self, source: Tracks):
        self.read_splits(source)
        phrases = self.preset.labels if self.preset else {}
        self.multi_label = source.multi_label
        self.labels = choose_labels(self.splits.values(), self.args.labels, phrases, self.multi_label)
        self.references = {
            name: read_references(tracks, list(self.labels), self.multi_label) for name, tracks in self.splits.items()
        }

    def measure_scores(self, metrics: dict, scores: np.ndarray, extras: dict) -> Measurement:
        """Return the measurement of `scores` of shape `(num_tracks, num_labels)`, of which `metrics` are known."""
        references = self.references["reported"]
        if self.multi_label:
            queries = {"scores": scores.tolist(), "references": references.tolist()}
        else:
            correct = load_metric().right_shares(scores, references)
            answers = scores.argmax(axis=1)
            queries = {"truth": references.tolist(), "answer": answers.tolist(), "correct": correct.tolist()}
        return Measurement(metrics, queries, extras)

    def measure_chance(self) -> Measurement:
        alike = np.ones((len(self.tracks), len(self.labels)))
        return Measurement(label_metrics(alike, self.references["reported"], self.labels))

    def query_lines(self, embeds: SystemEmbeds, measurement: Measurement) -> Iterator[dict]:
        names = list(self.labels)
        for number, (track, labels) in enumerate(zip(self.track_names(), self.tracks["labels"], strict=True)):
            line = {"track": track, "labels": labels}
            if self.multi_label:
                line["scores"] = dict(zip(names, measurement.queries["scores"][number], strict=True))
            else:
                line["answer"] = names[measurement.queries["answer"][number]]
            yield line

    def tables(self, result: dict, measurements: dict[str, Measurement]) -> list[str]:
        """Return the tables of all systems, of the model's labels and, with one label a track, of its confusions."""
        keys = ("roc_auc", "pr_auc") if self.multi_label else ("accuracy", "balanced_accuracy")
        rows = [["", *(key.replace("_", " ") for key in keys)]]
        for name, measurement in measurements.items():
            rows.append([name, *(format_metric(measurement.metrics, key) for key in keys)])
        tables = [rows, self._list_labels(result["metrics"])]
        if not self.multi_label:
            tables.append(_list_confusions(result["labels"], result["metrics"]["confusion"]))
        return [f"\n{table(rows)}" for rows in tables]

    def _list_labels(self, metrics: dict) -> list[list[str]]:
        keys = ("roc_auc", "pr_auc", "positives") if self.multi_label else ("accuracy", "count")
        weak = metrics["at_or_below_chance"] if self.multi_label else ()
        rows = [["label", *keys]]
        for label, values in metrics["per_label"].items():
            cells = [str(values[key]) if key in COUNTS else format_metric(values, key) for key in keys]
            rows.append([f"{label} (at or below chance)" if label in weak else label, *cells])
        return rows


def _list_confusions(labels: list[str], confusion: list[list[float]]) -> list[list[str]]:
    numbers = [str(number) for number in range(1, len(labels) + 1)]
    rows = [["truth \\ answer", *numbers]]
    for number, label, counts in zip(numbers, labels, confusion, strict=True):
        rows.append([f"{number} {label}", *(f"{count:g}" for count in counts)])
    return rows
