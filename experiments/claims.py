# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
The paper's claims on open data: runs of train.py that differ in one thing, each with several seeds, measured on the
held-out recordings as results/held_out.py measures a checkpoint.

    python results/claims.py --teacher runs/musicnn --start runs/tag_baseline --text MODEL --rows frozen
    python results/claims.py --teacher runs/musicnn --start runs/tag_baseline --text MODEL --rows resnet --seeds 1

A run that was measured is not started again: `results/claims_runs.jsonl` has the rank and the AUC of each of its
queries. `results/claims.json` and the table on the screen have the means over seeds and what they differ by.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer

from experiments.held_out import embed_checkpoint, interval, measure_all, read_questions, read_tracks
from modeling_muscall import MusCALLModel
from muscall.training.checkpointing import load_last_weights
from processing_muscall import MusCALLFeatureExtractor, MusCALLProcessor


ROOT = Path(__file__).resolve().parents[1]

METRICS = ("R@1", "R@5", "R@10", "MRR", "AUC")
RUNS = Path(__file__).with_name("claims_runs.jsonl")
SHOWN = (("queries", "text_to_audio"), ("queries", "audio_to_text"))
# A ResNet that two cores can train: a block a stage, a quarter of the paper's frames.
SMALL = {"n_fft": 2048, "hop_length": 2048, "depths": [1, 1, 1, 1], "pooling": "average", "hidden_size": 400}


def list_rows(args) -> dict[str, dict[str, list[str]]]:
    """
    For each family of runs, by name, the arguments of each run; the first of a family is what the others are compared
    with. `frozen` trains the layers between two pretrained towers, `text` the text tower as well, `scratch` has no
    tags to start from, `resnet` trains a small ResNet beside frozen MiniLM, and `musicnn` the pretrained audio tower
    itself, on windows of 3 s so that two cores can. A row of two families is run once.
    """

    def settings(epochs: int, batch_size: int, learning_rate: float, weight_decay: float) -> list[str]:
        names = ("num_epochs", "eval_every", "batch_size", "learning_rate", "weight_decay")
        values = (epochs, epochs, batch_size, learning_rate, weight_decay)
        return [word for name, value in zip(names, values, strict=True) for word in (f"--{name}", str(value))]

    learning_text = ["--text_learning_rate", "2e-5"]
    still_text, still_audio = ["--freeze_text_steps", "-1"], ["--freeze_audio_steps", "-1"]
    content = ["--content_weighting", "--sentence_model_name_or_path", args.text]
    start = [*still_audio, "--model_name_or_path", args.start]
    layers, quick = settings(6, 256, 2e-4, 0.05), settings(6, 64, 1e-3, 0.05)
    towers = [*still_audio, "--audio_model_name_or_path", args.teacher]
    towers += ["--model_config", json.dumps({"projection_dim": 384, "projection_hidden_size": 768})]
    minilm = ["--text_model_name_or_path", args.text, *still_text]
    contrastive = [*layers, *start, *still_text]
    resnet = [*settings(6, 64, 1e-3, 0.2), "--model_name_or_path", args.start, *still_text]
    resnet += ["--model_config", json.dumps({"audio_config": SMALL})]
    student = [*resnet, "--distillation_teacher", args.teacher, "--distillation_variants", "1"]
    short = [*settings(2, 64, 2e-4, 0.05), "--model_name_or_path", str(args.output_dir / "short_start"), *still_text]
    return {
        "frozen": {
            "contrastive": contrastive,
            "content-aware weighting": [*contrastive, *content],
            "batches of 64": [*settings(6, 64, 1e-4, 0.05), *start, *still_text],
            "batches of 1,024": [*settings(6, 1024, 4e-4, 0.05), *start, *still_text, "--chunk_size", "256"],
        },
        "text": {
            "contrastive": contrastive,
            "MiniLM learns": [*layers, *start, *learning_text],
            "MiniLM learns in the second half": [*layers, *start, *learning_text, "--freeze_text_steps", "27"],
        },
        "scratch": {
            "layers from random": [*quick, *towers, *minilm],
            "layers from random, text tower from scratch": [*quick, *towers],
        },
        "resnet": {
            "ResNet": resnet,
            "ResNet, content-aware weighting": [*resnet, *content],
            "ResNet, distillation alone": student,
            "ResNet, distillation and contrastive loss": [*student, "--distillation_weight", "0.5"],
            "ResNet, self-supervision": [*resnet, "--ssl_weight", "0.3"],
            "ResNet, both": [*resnet, *content, "--ssl_weight", "0.3"],
        },
        "musicnn": {
            "musicnn, 3 s windows": [*short, *still_audio],
            "musicnn, 3 s windows, learns": [*short, "--audio_learning_rate", "2e-5", "--batch_norm", "frozen"],
        },
    }


def shorten_windows(start: str, folder: Path):
    """The starting point again, with windows of one patch of musicnn, 3 s."""
    model = MusCALLModel.from_pretrained(start, dtype=torch.float32)
    config = model.config.audio_config
    config.window_seconds = config.patch_frames * config.hop_length / config.sampling_rate - 0.01
    model.save_pretrained(folder)
    extractor = MusCALLFeatureExtractor(sampling_rate=config.sampling_rate, window_seconds=config.window_seconds)
    MusCALLProcessor(extractor, AutoTokenizer.from_pretrained(start)).save_pretrained(folder)


def run(folder: Path, seed: int, more: list[str], corpus: Path):
    """
    Trains, where that was not done. The checkpoint has the weights of the last step: those of the best validation may
    be the ones it started from, by the chance of 53 tracks.
    """
    if (folder / "results.json").exists() and not (folder / "checkpoints").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, str(ROOT / "train.py"), "--config", str(ROOT / "recipes" / "claims.yaml")]
    command += ["--dataset", str(corpus / "main"), "--output_dir", str(folder), "--seed", str(seed), *more]
    subprocess.run(command, check=True)
    last = load_last_weights(folder / "checkpoints")
    save_file(last, folder / "model.safetensors", metadata={"format": "pt"})
    shutil.rmtree(folder / "checkpoints")


def read_runs() -> dict[str, dict]:
    """By name and seed, what was measured."""
    lines = RUNS.read_text().splitlines() if RUNS.exists() else []
    return {entry["run"]: entry["places"] for entry in map(json.loads, lines)}


def flatten(measured: dict) -> dict[str, dict[str, list[float]]]:
    """`queries/text_to_audio` -> of each query the rank of the best that it means, and the AUC in per cent."""
    return {
        f"{kind}/{direction}": {
            "ranks": result["ranks"].tolist(),
            "AUC": result["values"]["AUC"].round(1).tolist(),
        }
        for (kind, part), directions in measured.items()
        for direction, result in directions.items()
        if part == "all"
    }


def summarise(runs: list[dict], baseline: list[dict]) -> dict[str, dict]:
    """The mean over seeds, each seed's, and the paired difference to the same seeds of the baseline over queries."""

    def values(runs: list[dict], place: str, metric: str) -> np.ndarray:  # (seeds, queries)
        if metric == "AUC":
            return np.array([one[place]["AUC"] for one in runs])
        ranks = np.array([one[place]["ranks"] for one in runs])
        return 100 / ranks if metric == "MRR" else 100.0 * (ranks <= int(metric.removeprefix("R@")))

    summary = {}
    for place in runs[0]:
        summary[place] = {"MedR": float(np.mean([np.median(one[place]["ranks"]) for one in runs]))}
        for metric in METRICS:
            ours, others = values(runs, place, metric), values(baseline[: len(runs)], place, metric)
            summary[place][metric] = {
                "mean": round(float(ours.mean()), 2),
                "seeds": ours.mean(1).round(2).tolist(),
                "less_baseline": interval(ours.mean(0) - others.mean(0)),
            }
    return summary


def show(rows: dict[str, dict[str, dict]]):
    print("| | " + " | ".join(f"{kind}, {way.replace('_', ' ')}: R@1, R@5, R@10, MedR" for kind, way in SHOWN), end="")
    print(" | zero-shot accuracy, 10 styles |\n|" + "---|" * (len(SHOWN) + 2))
    for name, places in rows.items():
        cells = []
        for kind, way in SHOWN:
            place = places[f"{kind}/{way}"]
            numbers = [f"{place[metric]['mean']:.1f}" for metric in ("R@1", "R@5", "R@10")]
            low, high = place["R@10"]["less_baseline"]
            cells.append(f"{', '.join(numbers)}, {place['MedR']:.0f} ({low:+.1f} to {high:+.1f})")
        zero_shot = places["styles/audio_to_text"]["R@1"]
        low, high = zero_shot["less_baseline"]
        print(f"| {name} | {' | '.join(cells)} | {zero_shot['mean']:.1f} ({low:+.1f} to {high:+.1f}) |")


def write_report(family: str, rows: dict[str, dict[str, dict]]):
    """Rows that are in the report and were not run again stay."""
    path = Path(__file__).with_suffix(".json")
    report = json.loads(path.read_text()) if path.exists() else {}
    report[family] = report.get(family, {}) | rows
    path.write_text(json.dumps(report, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", required=True, help="what convert_musicnn.py wrote")
    parser.add_argument("--start", required=True, help="what corpus/tag_baseline.py wrote")
    parser.add_argument("--text", default="sentence-transformers/all-MiniLM-L6-v2", help="default: %(default)s")
    parser.add_argument("--rows", choices=("frozen", "text", "scratch", "resnet", "musicnn"), required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--corpus", type=Path, default=ROOT / "corpus" / "open_mix", help="default: %(default)s")
    parser.add_argument("--output_dir", type=Path, default=ROOT / "runs" / "claims", help="default: %(default)s")
    args = parser.parse_args()
    if args.rows == "musicnn":
        shorten_windows(args.start, args.output_dir / "short_start")
    tracks = read_tracks(args.corpus)
    questions, runs, known = read_questions(tracks), {}, read_runs()
    table = list_rows(args)[args.rows]
    for seed in range(args.seeds):
        for name, more in table.items():
            label = f"{name.replace(' ', '_').replace(',', '')}-{seed}"
            if label not in known:
                folder = args.output_dir / label
                run(folder, seed, more, args.corpus)
                known[label] = flatten(measure_all(embed_checkpoint(folder, tracks, questions), tracks, questions))
                with RUNS.open("a") as file:
                    file.write(json.dumps({"run": label, "places": known[label]}, separators=(",", ":")) + "\n")
            runs.setdefault(name, []).append(known[label])
            rows = {name: summarise(some, runs[next(iter(table))]) for name, some in runs.items()}
            write_report(args.rows, rows)
    show(rows)


if __name__ == "__main__":
    main()
