# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
The paper's claims on open data: runs of train.py that differ in one thing, each with several seeds, measured on the
held-out recordings as results/held_out.py measures a checkpoint.

    python results/claims.py --teacher runs/musicnn --start runs/tag_baseline --text MODEL --rows frozen
    python results/claims.py --teacher runs/musicnn --start runs/tag_baseline --text MODEL --rows resnet --seeds 1

A run that was measured is not started again. `results/claims.json` and the table on the screen have all there are.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np


ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from results.held_out import embed_checkpoint, interval, measure_all, read_questions, read_tracks  # noqa: E402


METRICS = ("R@1", "R@5", "R@10", "MRR", "AUC")
SHOWN = (("queries", "text_to_audio"), ("queries", "audio_to_text"), ("statements", "text_to_audio"))
# A ResNet that two cores can train: 10 s windows, a block a stage, half the frames.
SMALL = {"window_seconds": 10, "n_fft": 2048, "hop_length": 1024, "depths": [1, 1, 1, 1]}


def list_rows(args) -> dict[str, dict[str, list[str]]]:
    """For each family of runs, by name, what a run adds to the family's own arguments; the first is the baseline."""
    frozen = ["--freeze_audio_steps", "-1", "--num_epochs", "4", "--learning_rate", "2e-4", "--weight_decay", "0.05"]
    frozen += ["--eval_every", "2", "--batch_size", "256"]
    start = ["--model_name_or_path", args.start, "--freeze_text_steps", "-1"]
    towers = ["--audio_model_name_or_path", args.teacher]
    minilm = [*towers, "--text_model_name_or_path", args.text]
    projection = ["--model_config", json.dumps({"projection_dim": 384, "projection_hidden_size": 768})]
    content = ["--content_weighting", "--sentence_model_name_or_path", args.text]
    resnet = ["--text_model_name_or_path", args.text, "--freeze_text_steps", "-1", "--num_epochs", "6"]
    resnet += ["--batch_size", "64", "--learning_rate", "1e-3", "--weight_decay", "0.2", "--eval_every", "3"]
    resnet += ["--model_config", json.dumps({"audio_config": SMALL, "projection_dim": 384})]
    return {
        "frozen": {
            "contrastive": [*frozen, *start],
            "content-aware weighting": [*frozen, *start, *content],
            "batches of 64": [*frozen, *start, "--batch_size", "64"],
            "batches of 1,024": [*frozen, *start, "--batch_size", "1024", "--chunk_size", "256"],
            "layers from random": [*frozen, *minilm, *projection, "--freeze_text_steps", "-1"],
            "MiniLM learns": [*frozen, "--model_name_or_path", args.start, "--text_learning_rate", "2e-5"],
            "MiniLM learns in the second half": [
                *frozen,
                *start[:2],
                *["--text_learning_rate", "2e-5", "--freeze_text_steps", "18"],
            ],
            "text tower from scratch": [*frozen, *towers, *projection],
        },
        "resnet": {
            "ResNet": resnet,
            "ResNet, content-aware weighting": [*resnet, *content],
            "ResNet, self-supervision": [*resnet, "--ssl_weight", "0.3"],
            "ResNet, both": [*resnet, *content, "--ssl_weight", "0.3"],
        },
    }


def run(name: str, seed: int, more: list[str], corpus: Path, output_dir: Path) -> Path:
    """Trains, where that was not done, and returns the folder of the checkpoint."""
    folder = output_dir / f"{name.replace(' ', '_').replace(',', '')}-{seed}"
    if not (folder / "results.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        command = [sys.executable, str(ROOT / "train.py"), "--config", str(ROOT / "recipes" / "claims.yaml")]
        command += ["--dataset", str(corpus / "main"), "--output_dir", str(folder), "--seed", str(seed), *more]
        subprocess.run(command, check=True)
        shutil.rmtree(folder / "checkpoints")
    return folder


def flatten(measured: dict) -> dict[str, dict[str, list[float]]]:
    """`queries/all/text_to_audio` -> the values of each metric, a number a query."""
    return {
        f"{kind}/{part}/{direction}": {metric: result["values"][metric].round(3).tolist() for metric in METRICS}
        | {"MedR": result["MedR"], "chance_R@10": result["chance_R@10"], "pool": result["pool"]}
        for (kind, part), directions in measured.items()
        for direction, result in directions.items()
    }


def summarise(runs: list[dict], baseline: list[dict]) -> dict[str, dict]:
    """The mean over seeds, the range of the seeds' means, and the paired difference to the baseline over queries."""
    summary = {}
    for place in runs[0]:
        summary[place] = {"MedR": float(np.mean([one[place]["MedR"] for one in runs]))}
        for metric in METRICS:
            values = np.array([one[place][metric] for one in runs])  # (seeds, queries)
            others = np.array([one[place][metric] for one in baseline])
            summary[place][metric] = {
                "mean": round(float(values.mean()), 2),
                "seeds": values.mean(1).round(2).tolist(),
                "less_baseline": interval(values.mean(0) - others.mean(0)),
            }
    return summary


def show(rows: dict[str, dict[str, dict]]):
    print("| | " + " | ".join(f"{kind}, {way.replace('_', ' ')}: R@1, R@5, R@10, MedR" for kind, way in SHOWN), end="")
    print(" | zero-shot accuracy, 10 styles |\n|" + "---|" * (len(SHOWN) + 2))
    for name, places in rows.items():
        cells = []
        for kind, way in SHOWN:
            place = places[f"{kind}/all/{way}"]
            numbers = [f"{place[metric]['mean']:.1f}" for metric in ("R@1", "R@5", "R@10")]
            low, high = place["R@10"]["less_baseline"]
            cells.append(f"{', '.join(numbers)}, {place['MedR']:.0f} ({low:+.1f} to {high:+.1f})")
        zero_shot = places["styles/all/audio_to_text"]["R@1"]
        low, high = zero_shot["less_baseline"]
        print(f"| {name} | {' | '.join(cells)} | {zero_shot['mean']:.1f} ({low:+.1f} to {high:+.1f}) |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", required=True, help="what convert_musicnn.py wrote")
    parser.add_argument("--start", required=True, help="what corpus/tag_baseline.py wrote")
    parser.add_argument("--text", default="sentence-transformers/all-MiniLM-L6-v2", help="default: %(default)s")
    parser.add_argument("--rows", choices=("frozen", "resnet"), required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--corpus", type=Path, default=ROOT / "corpus" / "open_mix", help="default: %(default)s")
    parser.add_argument("--output_dir", type=Path, default=ROOT / "runs" / "claims", help="default: %(default)s")
    args = parser.parse_args()
    tracks = read_tracks(args.corpus)
    questions, runs = read_questions(tracks), {}
    table = list_rows(args)[args.rows]
    for seed in range(args.seeds):
        for name, more in table.items():
            folder = run(name, seed, more, args.corpus, args.output_dir)
            kept = folder / "held_out.json"
            if not kept.exists():
                measured = measure_all(embed_checkpoint(folder, tracks, questions), tracks, questions)
                kept.write_text(json.dumps(flatten(measured)))
            runs.setdefault(name, []).append(json.loads(kept.read_text()))
    baseline = next(iter(runs.values()))
    rows = {name: summarise(some, baseline[: len(some)]) for name, some in runs.items()}
    show(rows)
    path = Path(__file__).with_suffix(".json")
    report = json.loads(path.read_text()) if path.exists() else {}
    report[args.rows] = {"seeds": args.seeds, "rows": rows}
    path.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
