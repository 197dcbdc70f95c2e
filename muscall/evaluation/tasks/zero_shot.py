# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Zero-shot: tracks get the labels whose sentences they are close to."""

import numpy as np

from muscall.evaluation.calibration import calibrate
from muscall.evaluation.labels import label_metrics
from muscall.evaluation.report import baseline_lines, heading, value_lines
from muscall.evaluation.systems import SystemEmbeds
from muscall.evaluation.tasks.base import Measurement
from muscall.evaluation.tasks.labels import LabelTask
from muscall.evaluation.tracks import Tracks
from muscall.evaluation.zero_shot import BANK, abstention, label_embeds, read_prompts, tag_thresholds


class ZeroShotTask(LabelTask):
    """Classification where tracks have one label each, tagging where they may have several; without training."""

    def prepare(self, source: Tracks):
        super().prepare(source)
        self.prompts = read_prompts(self.args.prompts or list(self.preset.prompts if self.preset else BANK))
        self.texts = [prompt.format(words) for prompt in self.prompts for words in self.labels.values()]

    def measure(self, embeds: SystemEmbeds) -> Measurement:
        by_prompt = self._by_prompt(embeds)
        classes = label_embeds(by_prompt)
        scores = embeds.audio["reported"] @ classes.T
        metrics = label_metrics(scores, self.references["reported"], self.labels, self.args.num_resamples)
        extras = {"prompts": self._measure_prompts(embeds.audio["reported"], by_prompt)}
        if "validation" in self.splits:
            extras |= self._choose_thresholds(embeds.audio["validation"] @ classes.T, scores, embeds.logit_scale)
        return self.measure_scores(metrics, scores, extras)

    def refuse_calibration(self) -> str | None:
        if self.multi_label:
            return "the metrics of tagging rank tracks for each tag, in an order that priors of tags do not change"
        return super().refuse_calibration()

    def measure_calibrated(self, embeds: SystemEmbeds) -> Measurement:
        classes = label_embeds(self._by_prompt(embeds))
        classes, tracks = calibrate(classes, embeds.audio["reported"], embeds.logit_scale)
        scores = tracks @ classes.T
        metrics = label_metrics(scores, self.references["reported"], self.labels, self.args.num_resamples)
        return self.measure_scores(metrics, scores, {})

    def _by_prompt(self, embeds: SystemEmbeds) -> np.ndarray:
        return embeds.text.reshape(len(self.prompts), len(self.labels), -1)

    def _measure_prompts(self, audio_embeds: np.ndarray, by_prompt: np.ndarray) -> dict[str, dict]:
        keys = ("roc_auc", "pr_auc") if self.multi_label else ("accuracy",)
        prompts = {}
        for prompt, text_embeds in zip(self.prompts, by_prompt, strict=True):
            metrics = label_metrics(audio_embeds @ text_embeds.T, self.references["reported"], self.labels)
            prompts[prompt] = {key: metrics[key] and round(metrics[key], 4) for key in keys}
        return prompts

    def _choose_thresholds(self, validation_scores: np.ndarray, scores: np.ndarray, logit_scale: float) -> dict:
        data = (validation_scores, self.references["validation"], scores, self.references["reported"])
        if self.multi_label:
            return {"tagging_with_thresholds": tag_thresholds(*data, list(self.labels))}
        return {"abstention": abstention(*data, logit_scale)}

    def report(self, result: dict, measurements: dict[str, Measurement]) -> list[str]:
        prompt_lines = [
            f"prompt {prompt!r} alone: {', '.join(f'{key} {value}' for key, value in metrics.items())}"
            for prompt, metrics in result["prompts"].items()
        ]
        return [
            heading(result, f"{len(self.labels)} labels"),
            *self.tables(result, measurements),
            *prompt_lines,
            *baseline_lines(result["baselines"]),
            *value_lines(result.get("abstention", {})),
            *value_lines(result.get("tagging_with_thresholds", {})),
        ]
