# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Retrieval: captions find their tracks, and tracks their captions."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from muscall.data.tracks import list_captions
from muscall.evaluation.calibration import calibrate
from muscall.evaluation.compare import read_statistics
from muscall.evaluation.diagnostics import diagnose
from muscall.evaluation.figures import draw_figures
from muscall.evaluation.report import (
    DIRECTIONS,
    RETRIEVAL_METRICS,
    baseline_lines,
    format_metric,
    heading,
    table,
    value_lines,
)
from muscall.evaluation.retrieval import chance_metrics, pool_metrics, retrieval_metrics
from muscall.evaluation.systems import SystemEmbeds
from muscall.evaluation.tasks.base import Measurement, Task
from muscall.evaluation.tracks import Tracks


NUM_ITEMS = 10  # of each query in the per-query file
POOL_METRICS = ("R@1", "R@5", "R@10", "MedR")  # of the pools on the screen; the result file has all


class RetrievalTask(Task):
    """Text to audio and audio to text among all tracks of a split, and among pools of random tracks."""

    column = "captions"

    def prepare(self, source: Tracks):
        self.read_splits(source)
        self.texts, audio_ids = list_captions(self.tracks)
        self.audio_ids = audio_ids.numpy()
        pool, size = self.args.pool, len(self.tracks)
        if pool is not None and not 1 <= pool <= size:
            raise ValueError(f"--pool must be between 1 and the {size} tracks there are, got {pool}")

    def measure(self, embeds: SystemEmbeds) -> Measurement:
        return self._measure(embeds.text, embeds.audio["reported"])

    def measure_calibrated(self, embeds: SystemEmbeds) -> Measurement:
        return self._measure(*calibrate(embeds.text, embeds.audio["reported"], embeds.logit_scale))

    def _measure(self, text_embeds: np.ndarray, audio_embeds: np.ndarray) -> Measurement:
        metrics = retrieval_metrics(
            text_embeds, self.audio_ids, audio_embeds, self.args.num_resamples, return_statistics=True
        )
        statistics = {direction: rows.tolist() for direction, rows in metrics.pop("statistics").items()}
        return Measurement(metrics, {"audio_ids": self.audio_ids.tolist(), **statistics})

    def measure_chance(self) -> Measurement:
        return Measurement(chance_metrics(self.audio_ids))

    def describe(self, embeds: SystemEmbeds, measurement: Measurement) -> dict:
        space = (embeds.text, self.audio_ids, embeds.audio["reported"])
        hits = read_statistics(measurement.queries)["text_to_audio"]["hit@10"]
        parts = {"num_captions": len(self.texts), "diagnostics": diagnose(*space, self.texts, hits)}
        if self.args.pool is not None:
            metrics = pool_metrics(*space, self.args.pool, self.args.seeds)
            parts["pool"] = {"size": self.args.pool, "seeds": self.args.seeds, "metrics": metrics}
        return parts

    def draw(self, folder: Path, embeds: SystemEmbeds, measurement: Measurement) -> list[Path]:
        ranks = {direction: rows["rank"] for direction, rows in read_statistics(measurement.queries).items()}
        return draw_figures(folder, embeds.text, self.audio_ids, embeds.audio["reported"], ranks)

    def report(self, result: dict, measurements: dict[str, Measurement]) -> list[str]:
        lines = [heading(result, f"{len(self.texts)} captions")]
        if len(self.tracks) <= 10:
            lines.append(f"Among {len(self.tracks)} tracks R@10 is 100 % whatever the model does: see chance.")
        for direction in DIRECTIONS:
            rows = [[direction.replace("_", " "), *(key.replace("_", " ") for key in RETRIEVAL_METRICS)]]
            for name, measurement in measurements.items():
                keys = [f"{direction}_{key}" for key in RETRIEVAL_METRICS]
                rows.append([name, *(format_metric(measurement.metrics, key) for key in keys)])
            lines.append(f"\n{table(rows)}")
        if "pool" in result:
            lines += _pool_lines(result["pool"])
        return [*lines, *baseline_lines(result["baselines"]), *value_lines(result["diagnostics"])]

    def query_lines(self, embeds: SystemEmbeds, measurement: Measurement) -> Iterator[dict]:
        texts, names = (self.texts, embeds.text), (self.track_names(), embeds.audio["reported"])
        statistics = read_statistics(measurement.queries)
        for direction, sides in zip(DIRECTIONS, ((texts, names), (names, texts)), strict=True):
            (queries, query_embeds), (items, item_embeds) = sides
            ranks = statistics[direction]["rank"].tolist()
            for query, row, rank in zip(queries, query_embeds, ranks, strict=True):
                scores = item_embeds @ row
                best = np.argsort(-scores, kind="stable")[:NUM_ITEMS]
                found = [[items[item], round(float(scores[item]), 4)] for item in best]
                yield {"direction": direction, "query": query, "rank": rank, "found": found}


def _pool_lines(pool: dict) -> list[str]:
    return [
        f"{name.replace('_', ' ')}, {pool['seeds']} pools of {pool['size']}: {mean:.1f} +- {spread:.1f}"
        for name, (mean, spread) in pool["metrics"].items()
        if name.endswith(POOL_METRICS)
    ]
