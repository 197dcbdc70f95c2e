# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The output of eval.py: tables on the screen, a JSON file, and results in a model card."""

import json
from collections.abc import Iterable
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard

from muscall.cache import replace_file


# Metrics in the order of every table, and their digits after the point. R@k and mAP@10 are in per cent.
RETRIEVAL_METRICS = {"R@1": 1, "R@5": 1, "R@10": 1, "MedR": 1, "mean_rank": 1, "MRR": 3, "mAP@10": 1}
LABEL_METRICS = {"accuracy": 1, "balanced_accuracy": 1, "roc_auc": 3, "pr_auc": 3}
DIRECTIONS = ("text_to_audio", "audio_to_text")
MAIN_METRICS = ("mean_R@10", "accuracy", "roc_auc")  # of retrieval, of classification, of tagging
CARD_TASK_TYPES = {
    "retrieval": "audio-text-retrieval",
    "zeroshot": "zero-shot-audio-classification",
    "probe": "audio-classification",
}
CARD_TASK_NAMES = {"probe": "linear probe"}  # where it is not that of eval.py
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


def format_difference(comparison: dict, name: str) -> str:
    """Return the difference of two results in the metric `name`, which [`differences`] computed, with its interval."""
    return format_metric({name: comparison["difference"], f"{name}_interval": comparison["interval"]}, name)


def describe_recall(metrics: dict[str, float], chance: dict[str, float]) -> str:
    """Return R@10 of both directions, in words."""
    return ", ".join(
        f"{direction.replace('_', ' ')} {metrics[f'{direction}_R@10']:.1f} % "
        f"(chance {chance[f'{direction}_R@10']:.1f} %)"
        for direction in DIRECTIONS
    )


def table(rows: list[list[str]]) -> str:
    """Return rows of equal length, the first being the header, as text in aligned columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * (sum(widths) + 2 * len(widths) - 2), *lines[1:]])


def write_json(path: Path, result: dict):
    """Write a result in a readable form, and what it has for each query in one line."""
    head = json.dumps({key: value for key, value in result.items() if key != "queries"}, indent=2)
    with replace_file(path) as partial:
        partial.write_text(head.removesuffix("\n}") + ',\n  "queries": ' + json.dumps(result["queries"]) + "\n}\n")


def write_lines(path: Path, rows: Iterable[dict]):
    """Write a JSONL file, one row a line."""
    with replace_file(path) as partial, partial.open("w") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def heading(result: dict, counted: str) -> str:
    """Return what was measured, on what and how, in one line; `counted` is the number of captions or of labels."""
    protocol, subject = result["protocol"], f"{result['model']} on {result['dataset']} [{result['split']}]"
    windows = f"windows of {protocol['window_seconds']:g} s: {protocol['windows']}"
    size = f"{result['num_tracks']} tracks, {counted}"
    return f"{result['task']}: {subject}, {size}; {windows}; intervals: 95 %, bootstrap over tracks"


def baseline_lines(baselines: dict[str, dict]) -> list[str]:
    """Return a line for each baseline of a result: by how much the model is better in the main metric of the task."""
    return [
        f"{key.replace('_', ' ')} of the model less that of {name}: {format_difference(comparison, key)}"
        for name, baseline in baselines.items()
        for key in MAIN_METRICS
        if (comparison := baseline["model_less_baseline"].get(key))
    ]


def value_lines(values: dict) -> list[str]:
    """Return a line for each of some named values."""
    return [
        f"{name.replace('_', ' ')}: {f'{value:.3f}' if isinstance(value, float) else value}"
        for name, value in values.items()
    ]


def update_card(path: Path, result: dict, figures: list[Path]):
    """
    Put the metrics of a result into the YAML of a model card, in the place of earlier ones of the same task, dataset
    and split, and link its pictures.

    Args:
        path (`Path`):
            The card, a README.md.
        result (`dict`):
            A result of eval.py.
        figures (`list[Path]`):
            Pictures in the folder of the card or below it; without any the card's text stays as it is.
    """
    card = ModelCard.load(path)
    if not card.data.model_name:
        card.data.model_name = result["model"]
    subject = _card_subject(result)
    kept = [entry for entry in card.data.eval_results or [] if not _is_about(entry, subject)]
    card.data.eval_results = kept + _card_entries(result, subject)
    if figures:
        links = "\n".join(f"![{figure.stem}]({figure.relative_to(path.parent).as_posix()})" for figure in figures)
        section = f"{FIGURES[0]}\n\n{links}\n\n{FIGURES[1]}"
        before, marker, rest = card.text.partition(FIGURES[0])
        if marker:
            card.text = before + section + rest.partition(FIGURES[1])[2]
        else:
            card.text = f"{card.text.rstrip()}\n\n{section}\n"
    card.save(path)


def _card_subject(result: dict) -> dict[str, str]:
    return {
        "task_type": CARD_TASK_TYPES[result["task"]],
        "task_name": CARD_TASK_NAMES.get(result["task"], result["task"]),
        "dataset_type": result["dataset"],
        "dataset_name": result["dataset"],
        "dataset_split": result["split"],
    }


def _is_about(entry: EvalResult, subject: dict[str, str]) -> bool:
    fields = vars(entry)
    return all(fields[name] == value for name, value in subject.items())


def _card_entries(result: dict, subject: dict[str, str]) -> list[EvalResult]:
    entries = []
    for name, value in result["metrics"].items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or name.startswith("num_"):
            continue
        arguments = {**result["protocol"], "checkpoint_sha256": result["checkpoint_sha256"]}
        if interval := result["metrics"].get(f"{name}_interval"):
            arguments["interval"] = [round(bound, 4) for bound in interval]
        entry = EvalResult(
            **subject,
            metric_type=name,
            metric_name=name.replace("_to_", " to ").replace("audio_", "audio ").replace("text_", "text "),
            metric_value=round(value, 4),
            metric_args=arguments,
        )
        entries.append(entry)
    return entries
