# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Probe: a linear classifier is fitted to the audio embeddings of the train split."""

from muscall.evaluation.probe import linear_probe
from muscall.evaluation.report import baseline_lines, heading
from muscall.evaluation.systems import SystemEmbeds
from muscall.evaluation.tasks.base import Measurement
from muscall.evaluation.tasks.labels import LabelTask
from muscall.evaluation.tracks import Tracks


class ProbeTask(LabelTask):
    """Classification or tagging by a linear classifier of frozen embeddings."""

    def other_splits(self, source: Tracks) -> dict[str, str | None]:
        validation = self.args.validation_split or ("validation" if "validation" in source.raw else None)
        return {"validation": validation, "train": self.args.train_split}

    def read_splits(self, source: Tracks):
        super().read_splits(source)
        if "validation" not in self.splits:
            parts = self.splits["train"].train_test_split(0.1, seed=0)
            self.splits |= {"train": parts["train"], "validation": parts["test"]}
            self.separate(source)

    def refuse_calibration(self) -> str:
        return "a probe compares tracks with no texts"

    def measure(self, embeds: SystemEmbeds) -> Measurement:
        data = {name: (embeds.audio[name], references) for name, references in self.references.items()}
        probe = linear_probe(data, list(self.labels), self.args.num_resamples)
        return self.measure_scores(probe["metrics"], probe["scores"], {"c": probe["c"]})

    def report(self, result: dict, measurements: dict[str, Measurement]) -> list[str]:
        return [
            heading(result, f"{len(self.labels)} labels"),
            *self.tables(result, measurements),
            *baseline_lines(result["baselines"]),
        ]
