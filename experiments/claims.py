# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
Test the paper's claims on open data: runs of train.py that differ in one thing, each with several seeds, measured on
the held-out recordings as experiments/held_out.py measures a checkpoint.

    python -m experiments.claims --teacher runs/musicnn --start runs/tag_baseline --text MODEL --rows frozen
    python -m experiments.claims --teacher runs/musicnn --start runs/tag_baseline --text MODEL --rows resnet --seeds 1

A run that was measured is not started again: `experiments/claims_runs.jsonl` has the rank and the AUC of each of its
queries. `experiments/claims.json` and the table on the screen have the means over seeds and what they differ by.
"""

import argparse
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer

from experiments.held_out import (
    METRICS,
    NUM_RESAMPLES,
    Ranking,
    embed_checkpoint,
    measure_all,
    read_questions,
    read_tracks,
    rounded_interval,
    summarize,
)
from modeling_muscall import MusCALLModel
from muscall.evaluation.report import format_metric
from muscall.evaluation.retrieval import load_metric
from muscall.training.checkpointing import load_last_weights
from processing_muscall import MusCALLFeatureExtractor, MusCALLProcessor


ROOT = Path(__file__).resolve().parents[1]
RUNS = Path(__file__).with_name("claims_runs.jsonl")
SHOWN = (("queries", "text_to_audio"), ("queries", "audio_to_text"))
# A ResNet that two cores can train: a block a stage, a quarter of the paper's frames.
SMALL = {"n_fft": 2048, "hop_length": 2048, "depths": [1, 1, 1, 1], "pooling": "average", "hidden_size": 400}
PROJECTION = {"projection_dim": 384, "projection_hidden_size": 768}
FREEZE_AUDIO, FREEZE_TEXT = ["--freeze_audio_steps", "-1"], ["--freeze_text_steps", "-1"]

# The arguments of train.py for each run of a family, by the name of the run.
Rows = dict[str, list[str]]


@dataclass(frozen=True)
class Models:
    """
    The starting points of the runs.

    Args:
        teacher (`str`): The folder that scripts/convert_musicnn.py wrote.
        start (`str`): The folder that scripts/open_mix/tag_baseline.py wrote.
        short_start (`str`): The same with windows of 3 s, as [`shorten_windows`] writes it.
        text (`str`): A Sentence-Transformers model.
    """

    teacher: str
    start: str
    short_start: str
    text: str

    def content_weighting(self) -> list[str]:
        """Return the arguments for content-aware weighting of the loss."""
        return ["--content_weighting", "--sentence_model_name_or_path", self.text]


def schedule(epochs: int, batch_size: int, learning_rate: float, weight_decay: float) -> list[str]:
    """Return the arguments for a schedule that evaluates at its end alone."""
    values = {"num_epochs": epochs, "eval_every": epochs, "batch_size": batch_size, "learning_rate": learning_rate}
    values["weight_decay"] = weight_decay
    return [word for name, value in values.items() for word in (f"--{name}", str(value))]


def contrastive(models: Models, batch_size: int = 256, learning_rate: float = 2e-4) -> list[str]:
    """Return the arguments of a run that trains the layers between two frozen, pretrained towers."""
    start = [*FREEZE_AUDIO, "--model_name_or_path", models.start]
    return [*schedule(6, batch_size, learning_rate, 0.05), *start, *FREEZE_TEXT]


def frozen_rows(models: Models) -> Rows:
    """Return the runs that train the layers between two pretrained towers."""
    return {
        "contrastive": contrastive(models),
        "content-aware weighting": [*contrastive(models), *models.content_weighting()],
        "batches of 64": contrastive(models, 64, 1e-4),
        "batches of 1,024": [*contrastive(models, 1024, 4e-4), "--chunk_size", "256"],
    }


def text_rows(models: Models) -> Rows:
    """Return the runs in which the text tower learns too. Their baseline is a row of [`frozen_rows`] and run once."""
    learns = [*schedule(6, 256, 2e-4, 0.05), *FREEZE_AUDIO, "--model_name_or_path", models.start]
    learns += ["--text_learning_rate", "2e-5"]
    return {
        "contrastive": contrastive(models),
        "MiniLM learns": learns,
        "MiniLM learns in the second half": [*learns, "--freeze_text_steps", "27"],
    }


def scratch_rows(models: Models) -> Rows:
    """Return the runs that have no tags to start from."""
    layers = [*schedule(6, 64, 1e-3, 0.05), *FREEZE_AUDIO, "--audio_model_name_or_path", models.teacher]
    layers += ["--model_config", json.dumps(PROJECTION)]
    return {
        "layers from random": [*layers, "--text_model_name_or_path", models.text, *FREEZE_TEXT],
        "layers from random, text tower from scratch": layers,
    }


def resnet_rows(models: Models) -> Rows:
    """Return the runs that train a small ResNet beside frozen MiniLM."""
    resnet = [*schedule(6, 64, 1e-3, 0.2), "--model_name_or_path", models.start, *FREEZE_TEXT]
    resnet += ["--model_config", json.dumps({"audio_config": SMALL})]
    student = [*resnet, "--distillation_teacher", models.teacher, "--distillation_variants", "1"]
    return {
        "ResNet": resnet,
        "ResNet, content-aware weighting": [*resnet, *models.content_weighting()],
        "ResNet, distillation alone": student,
        "ResNet, distillation and contrastive loss": [*student, "--distillation_weight", "0.5"],
        "ResNet, self-supervision": [*resnet, "--ssl_weight", "0.3"],
        "ResNet, both": [*resnet, *models.content_weighting(), "--ssl_weight", "0.3"],
    }


def musicnn_rows(models: Models) -> Rows:
    """Return the runs that train the pretrained audio tower, on windows of 3 s so that two cores can."""
    short = [*schedule(2, 64, 2e-4, 0.05), "--model_name_or_path", models.short_start, *FREEZE_TEXT]
    return {
        "musicnn, 3 s windows": [*short, *FREEZE_AUDIO],
        "musicnn, 3 s windows, learns": [*short, "--audio_learning_rate", "2e-5", "--batch_norm", "frozen"],
    }


# The first row of a family is what its others are compared with.
FAMILIES = {
    "frozen": frozen_rows,
    "text": text_rows,
    "scratch": scratch_rows,
    "resnet": resnet_rows,
    "musicnn": musicnn_rows,
}


def shorten_windows(start: str, folder: Path):
    """Write the starting point again, with windows of one patch of musicnn, 3 s."""
    model = MusCALLModel.from_pretrained(start, dtype=torch.float32)
    config = model.config.audio_config
    config.window_seconds = config.patch_frames * config.hop_length / config.sampling_rate - 0.01
    model.save_pretrained(folder)
    extractor = MusCALLFeatureExtractor(sampling_rate=config.sampling_rate, window_seconds=config.window_seconds)
    MusCALLProcessor(extractor, AutoTokenizer.from_pretrained(start)).save_pretrained(folder)


def train(folder: Path, seed: int, arguments: list[str], corpus: Path):
    """
    Train, unless `folder` has a finished run. The checkpoint gets the weights of the last step: those of the best
    validation may be the ones it started from, by the chance of 53 tracks.
    """
    if (folder / "results.json").exists() and not (folder / "checkpoints").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, str(ROOT / "train.py"), "--config", str(ROOT / "recipes" / "claims.yaml")]
    command += ["--dataset", str(corpus / "main"), "--output_dir", str(folder), "--seed", str(seed), *arguments]
    subprocess.run(command, check=True)
    last = load_last_weights(folder / "checkpoints")
    save_file(last, folder / "model.safetensors", metadata={"format": "pt"})
    shutil.rmtree(folder / "checkpoints")


def read_runs() -> dict[str, dict]:
    """Read what was measured, by the name and seed of the run."""
    lines = RUNS.read_text().splitlines() if RUNS.exists() else []
    return {entry["run"]: entry["places"] for entry in map(json.loads, lines)}


def append_run(label: str, places: dict[str, dict]):
    """Keep what was measured of one run."""
    with RUNS.open("a") as file:
        file.write(json.dumps({"run": label, "places": places}, separators=(",", ":")) + "\n")


def keep_queries(measured: dict[tuple[str, str], dict[str, Ranking]]) -> dict[str, dict[str, list[float]]]:
    """Return, for `queries/text_to_audio` and so on, each query's rank and its AUC in per cent."""
    return {
        f"{kind}/{direction}": {
            "ranks": ranking.statistics["rank"].tolist(),
            "AUC": (100 * ranking.areas).round(1).tolist(),
        }
        for (kind, part), directions in measured.items()
        for direction, ranking in directions.items()
        if part == "all"
    }


class Seeds:
    """
    The runs of one row on one kind of sentence and direction.

    Args:
        runs (`list[dict]`):
            For each seed the `ranks` and the `AUC` of [`keep_queries`].
    """

    def __init__(self, runs: list[dict]):
        metric = load_metric()
        self.statistics = [metric.statistics_from_ranks(np.array(run["ranks"], np.float64)) for run in runs]
        self.areas = [np.array(run["AUC"]) / 100 for run in runs]

    def by_seed(self) -> list[dict[str, float]]:
        """Compute the metrics of each seed."""
        return [summarize(*seed) for seed in zip(self.statistics, self.areas, strict=True)]

    def mean(self, counts: np.ndarray | None = None) -> dict[str, float | np.ndarray]:
        """Compute the mean of the metrics over seeds; `counts` says how often each query counts."""
        summaries = [summarize(*seed, counts) for seed in zip(self.statistics, self.areas, strict=True)]
        return {name: sum(summary[name] for summary in summaries) / len(summaries) for name in summaries[0]}

    def resample(self) -> dict[str, np.ndarray]:
        """Compute the means over seeds on resamples of the queries, the same ones for every row."""
        return load_metric().bootstrap(self.mean, len(self.areas[0]), NUM_RESAMPLES)


def summarize_runs(runs: list[dict], baseline: list[dict]) -> dict[str, dict]:
    """
    Compute for each kind of sentence and direction the mean over seeds, each seed's value, and the interval of the
    difference to the same seeds of the baseline, paired over queries.
    """
    summary = {}
    for place in runs[0]:
        seeds = Seeds([run[place] for run in runs])
        reference = Seeds([run[place] for run in baseline[: len(runs)]])
        means, by_seed = seeds.mean(), seeds.by_seed()
        samples, other_samples = seeds.resample(), reference.resample()
        summary[place] = {"MedR": float(means["MedR"])}
        for name in METRICS:
            summary[place][name] = {
                "mean": round(float(means[name]), 2),
                "seeds": np.round([values[name] for values in by_seed], 2).tolist(),
                "less_baseline": rounded_interval(samples[name] - other_samples[name]),
            }
    return summary


def format_difference(entry: dict) -> str:
    low, high = entry["less_baseline"]
    return f"({low:+.1f} to {high:+.1f})"


def print_table(rows: dict[str, dict[str, dict]]):
    """Print what [`summarize_runs`] returned for each row, as Markdown."""
    titles = [f"{kind}, {direction.replace('_', ' ')}: R@1, R@5, R@10, MedR" for kind, direction in SHOWN]
    print(f"| | {' | '.join(titles)} | zero-shot accuracy, 10 styles |\n|" + "---|" * (len(SHOWN) + 2))
    for name, places in rows.items():
        cells = []
        for kind, direction in SHOWN:
            place = places[f"{kind}/{direction}"]
            hits = [format_metric({hit: place[hit]["mean"]}, hit) for hit in ("R@1", "R@5", "R@10")]
            cells.append(f"{', '.join(hits)}, {place['MedR']:.0f} {format_difference(place['R@10'])}")
        zero_shot = places["styles/audio_to_text"]["R@1"]
        cells.append(f"{format_metric({'accuracy': zero_shot['mean']}, 'accuracy')} {format_difference(zero_shot)}")
        print(f"| {name} | {' | '.join(cells)} |")


def write_report(family: str, rows: dict[str, dict[str, dict]]):
    """Write the rows of a family into the report. Rows that are in it and were not run again stay."""
    path = Path(__file__).with_suffix(".json")
    report = json.loads(path.read_text()) if path.exists() else {}
    report[family] = report.get(family, {}) | rows
    path.write_text(json.dumps(report, indent=1) + "\n")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", required=True, help="what scripts/convert_musicnn.py wrote")
    parser.add_argument("--start", required=True, help="what scripts/open_mix/tag_baseline.py wrote")
    parser.add_argument("--text", default="sentence-transformers/all-MiniLM-L6-v2", help="default: %(default)s")
    parser.add_argument("--rows", choices=tuple(FAMILIES), required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--corpus", type=Path, default=ROOT / "corpus" / "open_mix", help="default: %(default)s")
    parser.add_argument("--output_dir", type=Path, default=ROOT / "runs" / "claims", help="default: %(default)s")
    return parser.parse_args()


def main():
    args = parse_arguments()
    short_start = args.output_dir / "short_start"
    if args.rows == "musicnn":
        shorten_windows(args.start, short_start)
    rows = FAMILIES[args.rows](Models(args.teacher, args.start, str(short_start), args.text))
    tracks, measured_runs = read_tracks(args.corpus), read_runs()
    questions = read_questions(tracks)
    runs, summaries = {name: [] for name in rows}, {}
    baseline = runs[next(iter(rows))]
    for seed in range(args.seeds):
        for name, arguments in rows.items():
            label = f"{name.replace(' ', '_').replace(',', '')}-{seed}"
            if label not in measured_runs:
                folder = args.output_dir / label
                train(folder, seed, arguments, args.corpus)
                embeds = embed_checkpoint(folder, tracks, questions)
                measured_runs[label] = keep_queries(measure_all(embeds, tracks, questions))
                append_run(label, measured_runs[label])
            runs[name].append(measured_runs[label])
            summaries[name] = summarize_runs(runs[name], baseline)
            write_report(args.rows, summaries)
    print_table(summaries)


if __name__ == "__main__":
    main()
