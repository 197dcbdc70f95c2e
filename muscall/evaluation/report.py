# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""What eval.py leaves: tables on the screen, a JSON file, and results in a model card."""

import json
import os
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard


# Metrics in the order of every table, and their digits after the point. R@k and mAP@10 are in per cent.
RETRIEVAL_METRICS = {"R@1": 1, "R@5": 1, "R@10": 1, "MedR": 1, "mean_rank": 1, "MRR": 3, "mAP@10": 1}
LABEL_METRICS = {"accuracy": 1, "balanced_accuracy": 1, "roc_auc": 3, "pr_auc": 3}
DIRECTIONS = ("text_to_audio", "audio_to_text")
FIGURES = ("<!-- figures of eval.py -->", "<!-- end of figures -->")


def format_metric(metrics: dict, name: str) -> str:
    """
    Return a metric as every table shows it, with its interval where there is one.

    Args:
        metrics (`dict`):
            Values by name, and intervals by `<name>_interval`.
        name (`str`):
            A name of `RETRIEVAL_METRICS`, after a direction or alone, or of `LABEL_METRICS`.
    """
    value = metrics[name]
    if value is None:
        return "undefined"
    key = name.removeprefix("text_to_audio_").removeprefix("audio_to_text_")
    digits = (RETRIEVAL_METRICS | LABEL_METRICS).get(key, 1)
    text = f"{value:.{digits}f}"
    if interval := metrics.get(f"{name}_interval"):
        text += f" [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]"
    return text


def table(rows: list[list[str]]) -> str:
    """Rows of equal length, the first being the header, in aligned columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * (sum(widths) + 2 * len(widths) - 2), *lines[1:]])


def write_json(path: Path, result: dict):
    """The result in a readable form, but what it has for each query in one line; complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = json.dumps({key: value for key, value in result.items() if key != "queries"}, indent=2)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    partial.write_text(head.removesuffix("\n}") + ',\n  "queries": ' + json.dumps(result["queries"]) + "\n}\n")
    os.replace(partial, path)


def update_card(path: Path, result: dict, figures: list[Path]):
    """
    Puts the metrics of a result into the YAML of a model card, in the place of earlier ones of the same task, dataset
    and split, and links its pictures.
    """
    card = ModelCard.load(path)
    if not card.data.model_name:
        card.data.model_name = result["model"]
    same = {
        "task_type": {"retrieval": "audio-text-retrieval", "zeroshot": "zero-shot-audio-classification"}.get(
            result["task"], "audio-classification"
        ),
        "task_name": {"probe": "linear probe"}.get(result["task"], result["task"]),
        "dataset_type": result["dataset"],
        "dataset_name": result["dataset"],
        "dataset_split": result["split"],
    }
    new = []
    for name, value in result["metrics"].items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or name.startswith("num_"):
            continue
        arguments = {**result["protocol"], "checkpoint_sha256": result["checkpoint_sha256"]}
        if interval := result["metrics"].get(f"{name}_interval"):
            arguments["interval"] = [round(bound, 4) for bound in interval]
        label = name.replace("_to_", " to ").replace("audio_", "audio ").replace("text_", "text ")
        new.append(
            EvalResult(
                **same, metric_type=name, metric_name=label, metric_value=round(value, 4), metric_args=arguments
            )
        )
    kept = [old for old in card.data.eval_results or [] if any(getattr(old, key) != same[key] for key in same)]
    card.data.eval_results = kept + new
    if figures:
        links = "\n".join(f"![{figure.stem}]({figure.relative_to(path.parent).as_posix()})" for figure in figures)
        section = f"{FIGURES[0]}\n\n{links}\n\n{FIGURES[1]}"
        before, found, rest = card.text.partition(FIGURES[0])
        if found:
            card.text = before + section + rest.partition(FIGURES[1])[2]
        else:
            card.text = f"{card.text.rstrip()}\n\n{section}\n"
    card.save(path)
