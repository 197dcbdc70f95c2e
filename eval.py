# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
Measure a checkpoint: retrieval, zero-shot classification and tagging, linear probe; or compare two results.

    python eval.py --model runs/default                                  # retrieval on the default corpus
    python eval.py --model runs/default --task zeroshot --dataset FOLDER --text_column genre
    python eval.py --model runs/default --preset gtzan_filtered --dataset FOLDER
    accelerate launch --num_processes 4 eval.py ...                      # the same numbers, sooner
    python eval.py --compare A.json B.json
"""

import hashlib
import platform
import shlex
import sys
import time
from importlib.metadata import version
from pathlib import Path

import torch
from transformers import HfArgumentParser

from corpus.build import DATASETS, resolve_dataset
from muscall.encoder import Encoder, load_encoder
from muscall.evaluation.arguments import Arguments
from muscall.evaluation.compare import compare_files, differences
from muscall.evaluation.report import update_card, write_json, write_lines
from muscall.evaluation.systems import SystemEmbeds, embed_metadata, embed_system, hash_splits, name_systems
from muscall.evaluation.tasks.base import Measurement, Task
from muscall.evaluation.tasks.probe import ProbeTask
from muscall.evaluation.tasks.retrieval import RetrievalTask
from muscall.evaluation.tasks.zero_shot import ZeroShotTask
from muscall.evaluation.tracks import Tracks
from muscall.hashing import hash_weights
from muscall.launch import errors_in_words, start_accelerator


TASKS = {"retrieval": RetrievalTask, "zeroshot": ZeroShotTask, "probe": ProbeTask}
LIBRARIES = ("torch", "transformers", "datasets", "evaluate", "numpy")  # whose versions a result file states


def open_tracks(args: Arguments, column: str) -> Tracks:
    """Open the dataset, whose tracks must have `column`, `"captions"` or `"labels"`."""
    return Tracks(
        column,
        args.dataset if args.preset else resolve_dataset(args.dataset),
        args.preset,
        args.dataset_name,
        args.audio_column,
        args.text_column,
        args.metadata_column,
        args.label_separator,
        args.npy_sampling_rate,
        display_name=args.dataset if args.dataset in DATASETS else None,
    )


def describe_subject(args: Arguments, task: Task, model: str, dataset: str, keys: list[str]) -> dict:
    """Return the part of the result file about what was measured; `keys` are the hashes of the reported tracks."""
    contents = "\n".join(f"{key} {sorted(row)}" for key, row in zip(keys, task.tracks[task.column], strict=True))
    return {
        "task": args.task,
        "model": model,
        "dataset": dataset,
        "split": task.split,
        "num_tracks": len(task.tracks),
        "fingerprint": hashlib.sha256(contents.encode()).hexdigest(),
    }


def describe_scores(task: Task, model: str, measurements: dict[str, Measurement], num_resamples: int) -> dict:
    """Return the part of the result file about the model's scores, those of chance, and those of the baselines."""
    own, chance = measurements[model], measurements["chance"]
    baselines = {name: row for name, row in measurements.items() if row is not own and row is not chance}
    return {
        "labels": list(task.labels),
        "metrics": own.metrics,
        "chance": chance.metrics,
        **own.extras,
        "baselines": {
            name: {"metrics": row.metrics, "model_less_baseline": differences(vars(own), vars(row), num_resamples)}
            for name, row in baselines.items()
        },
    }


def describe_calibration(args: Arguments, task: Task) -> str:
    """Return which figures of the result are calibrated, and why none are where none are."""
    reason = task.refuse_calibration() if args.calibrate else "switched off"
    if reason is not None:
        return f"none: {reason}"
    return f"rows called (calibrated): cosines less the priors of the texts over the {len(task.tracks)} tracks"


def measure_systems(task: Task, systems: dict[str, SystemEmbeds], with_calibration: bool) -> dict[str, Measurement]:
    """Return the scores of all systems by name; with calibration each system has a second row, after its own."""
    measurements = {}
    for name, embeds in systems.items():
        measurements[name] = task.measure(embeds)
        if with_calibration and task.refuse_calibration() is None:
            measurements[f"{name} (calibrated)"] = task.measure_calibrated(embeds)
    return measurements


def describe_run(
    args: Arguments, task: Task, encoder: Encoder, device: torch.device, command_line: list[str], started: float
) -> dict:
    """Return the part of the result file about how the model was measured, with what, and how long since `started`."""
    return {
        "protocol": {
            **encoder.protocol(),
            "ties": "neutral",
            "pool": len(task.tracks) if args.task == "retrieval" else None,
            "prompts": task.prompts or None,
            "calibration": describe_calibration(args, task),
            "num_resamples": args.num_resamples,
        },
        "checkpoint_sha256": hash_weights(encoder.folder),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
        "device": str(device),
        "command": shlex.join(["python", Path(sys.argv[0]).name, *command_line]),
        "seconds": round(time.time() - started, 1),
    }


def main(command_line: list[str] | None = None):
    command_line = sys.argv[1:] if command_line is None else command_line
    parser = HfArgumentParser(Arguments, description=__doc__, allow_abbrev=False)
    (args,) = parser.parse_args_into_dataclasses(command_line)
    if args.compare:
        print("\n".join(compare_files(args.compare, args.num_resamples or 1000)))
        return
    started = time.time()
    accelerator = start_accelerator()

    # Tracks and texts
    task = TASKS[args.task](args)
    with accelerator.local_main_process_first():  # each machine has a disk of its own
        source = open_tracks(args, task.column)
        task.prepare(source)

    # Embeddings of all systems: every process computes its share, then the first one goes on alone
    checkpoints = name_systems([args.model, *args.baselines])
    encoders = {name: load_encoder(checkpoint, args.windows) for name, checkpoint in checkpoints.items()}
    model, encoder = next(iter(encoders.items()))
    keys = hash_splits(task.splits, encoder.feature_extractor.sampling_rate, accelerator)
    inputs = (task.splits, keys, task.texts, accelerator, args.batch_size, args.num_workers)
    systems = {name: embed_system(encoder, *inputs) for name, encoder in encoders.items()}
    accelerator.wait_for_everyone()
    if not accelerator.is_main_process:
        accelerator.end_training()
        return
    if args.metadata_column is not None:
        reader = embed_metadata(task.splits, task.texts, args.metadata_column, args.sentence_model_name_or_path)
        systems[f"text only: {args.metadata_column}"] = reader

    # Metrics
    measurements = measure_systems(task, systems, args.calibrate)
    own, embeds = measurements[model], systems[model]
    measurements["chance"] = task.measure_chance()
    result = describe_subject(args, task, model, source.name, keys["reported"])
    result |= describe_scores(task, model, measurements, args.num_resamples or 1000)
    result |= task.describe(embeds, own)
    figures = task.draw(Path(args.figures), embeds, own) if args.figures else []
    result |= describe_run(args, task, encoder, accelerator.device, command_line, started)
    result["queries"] = own.queries

    # Files
    default = f"{model}-{source.name}-{task.split}-{args.task}.json".replace("/", "_")
    output = Path(args.output) if args.output else Path("runs/eval") / default
    write_json(output, result)
    if args.per_query:
        write_lines(Path(args.per_query), task.query_lines(embeds, own))
    if args.update_card:
        update_card((Path(args.model) / "README.md").resolve(), result, [figure.resolve() for figure in figures])

    # The screen
    print("\n".join(task.report(result, measurements)))
    print(f"calibration: {result['protocol']['calibration']}")
    print(f"\nThe result is in {output}")
    accelerator.end_training()


if __name__ == "__main__":
    with errors_in_words():
        main()
