# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The publication of a run: results, model card, and the folder on the Hub."""

import json
import platform
from collections import Counter
from importlib.metadata import version
from pathlib import Path

from accelerate import Accelerator
from datasets import Dataset, IterableDataset
from huggingface_hub import HfApi

from muscall.checkpoint import write_golden
from muscall.evaluation.report import DIRECTIONS, RETRIEVAL_METRICS, format_metric
from muscall.hashing import hash_weights
from muscall.training.arguments import TrainingArguments
from muscall.training.checkpointing import TrainState, list_checkpoints


NOT_PUBLISHED = ["checkpoints/*", "tensorboard/*", "log.jsonl", ".partial/*"]
DATASET_NAMES = {"default": "a part of the default corpus", "default-full": "the default corpus"}
CARD = """---
library_name: transformers
pipeline_tag: feature-extraction
license: apache-2.0
tags:
- muscall
- music
- audio
- text-to-audio-retrieval
- zero-shot-audio-classification
- custom_code
---

# MusCALL trained on {dataset}

A dual encoder that puts music and sentences into one space
([Contrastive Audio-Language Learning for Music](https://arxiv.org/abs/2208.12208), ISMIR 2022), trained with
the model code in this folder. The licence above is the code's; the weights are bound by the corpus they learnt from,
and by all that they started from.

```python
from transformers import AutoModel, AutoProcessor

model = AutoModel.from_pretrained("PATH_OR_ID", trust_remote_code=True)
processor = AutoProcessor.from_pretrained("PATH_OR_ID", trust_remote_code=True)
inputs = processor(text=["calm solo piano", "fast samba with brass"], audio="song.mp3", return_tensors="pt")
print(model(**inputs).logits_per_audio.softmax(-1))
```

## Results

Test split, {num_audio} tracks and {num_text} captions, all of them in the pool; windows: {windows}; ties counted
neutrally. R@k and mAP@10 in per cent; in brackets the 95 % bootstrap interval over tracks ({num_resamples} resamples).

{table}

## Training

The start: {start}. {num_train} tracks (fingerprint `{fingerprint}`); licences of all splits: {licences}.
{seconds:.0f} s on {machine} with {versions}:

```bash
{command}
```

which stands for these arguments:

```json
{arguments}
```

The weights are those of step {best_step}, the best by mean R@10 on the {num_validation} validation tracks.
"""


def prepare_output(accelerator: Accelerator, args: TrainingArguments) -> None:
    """
    Check that the output folder is free, or that of the run to resume, and that the Hub takes the model.

    Raises:
        `ValueError`: if the folder holds a run, and it is not to be resumed.
    """
    folder = Path(args.output_dir)
    if not args.resume and (list_checkpoints(folder / "checkpoints") or (folder / "config.json").exists()):
        raise ValueError(f"{folder} holds a run: --resume continues it, --output_dir names another folder.")
    if args.push_to_hub and accelerator.is_main_process:
        HfApi().create_repo(args.push_to_hub, exist_ok=True)  # now, so that a missing token is known before training
    accelerator.wait_for_everyone()


def collect_results(
    folder: Path,
    metrics: dict,
    chance: dict,
    state: TrainState,
    datasets: list[str],
    splits: dict[str, Dataset | IterableDataset],
    num_resamples: int,
    windows: str | int,
    command: str,
) -> dict:
    """
    Return what `results.json` holds.

    Args:
        folder (`Path`):
            The folder of the run, with the best model.
        metrics (`dict`), chance (`dict`):
            Those of the test split, and those of random ranks.
        state ([`TrainState`]):
            That of the end of the run.
        datasets (`list[str]`):
            As the arguments name them; of a path only the last part is published.
        splits (`dict[str, Dataset | IterableDataset]`):
            The tracks. Of a stream nothing is known.
        num_resamples (`int`), windows (`str` or `int`):
            Bootstrap resamples behind the intervals, and which windows of a track were heard.
        command (`str`):
            What started the run.
    """
    known = {split: tracks for split, tracks in splits.items() if isinstance(tracks, Dataset)}
    return {
        "split": "test",
        "test": metrics,
        "chance": chance,
        "validation": state.best,
        "dataset": [Path(dataset).name if Path(dataset).exists() else dataset for dataset in datasets],
        "fingerprint": {split: tracks._fingerprint for split, tracks in known.items()},
        "num_tracks": {split: len(tracks) for split, tracks in known.items()},
        "licences": Counter(licence or "not stated" for tracks in known.values() for licence in tracks["licence"]),
        "num_resamples": num_resamples,
        "windows": windows,
        "arguments": state.arguments,
        "command": command,
        "training_seconds": round(state.seconds),
        "checkpoint_sha256": hash_weights(folder),
        "versions": {name: version(name) for name in ("torch", "transformers", "accelerate", "datasets")},
    }


def write_results(folder: Path, results: dict) -> None:
    """Write `results.json` as [`collect_results`] returns it, the model card, and the golden outputs of the model."""
    (folder / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    write_card(folder, results)
    write_golden(folder)


def push_to_hub(folder: Path, repository: str, step: int) -> None:
    """Upload the folder of a run, whose model is that of a step, to the Hub; checkpoints and logs stay here."""
    HfApi().upload_folder(
        repo_id=repository,
        folder_path=folder,
        ignore_patterns=NOT_PUBLISHED,
        commit_message=f"Step {step} of a run of train.py",
    )


def write_card(folder: Path, results: dict) -> None:
    """Write `README.md` from what a run measured; `results.json` beside it has the same in full."""
    metrics = results["test"]
    card = CARD.format(
        dataset=" and ".join(DATASET_NAMES.get(dataset, dataset) for dataset in results["dataset"]),
        start=_describe_start(results["arguments"]),
        num_audio=metrics["num_audio"],
        num_text=metrics["num_text"],
        windows=results["windows"],
        table=_metrics_table(metrics, results["chance"]),
        num_train=results["num_tracks"].get("train", "streamed"),
        num_validation=results["num_tracks"]["validation"],
        num_resamples=results["num_resamples"],
        fingerprint=results["fingerprint"].get("train", "none"),
        licences=", ".join(f"{licence} ({count})" for licence, count in results["licences"].most_common()),
        seconds=results["training_seconds"],
        machine=platform.machine(),
        versions=", ".join(f"{name} {version}" for name, version in results["versions"].items()),
        command=results["command"],
        arguments=json.dumps(results["arguments"], indent=2),
        best_step=results["validation"]["step"],
    )
    (folder / "README.md").write_text(card)


def _describe_start(arguments: dict) -> str:
    """Return what the weights were before the run, and which towers still are."""
    names = [arguments[f"{part}model_name_or_path"] for part in ("", "audio_", "text_")]
    start = " and ".join(f"`{name}`" for name in names if name) or "random weights"
    frozen = [tower for tower in ("audio", "text") if arguments[f"freeze_{tower}_steps"] < 0]
    if not frozen:
        return start
    return f"{start}; its {' and '.join(frozen)} {'towers' if len(frozen) > 1 else 'tower'} did not learn"


def _metrics_table(metrics: dict, chance: dict) -> str:
    """Return the metrics of both directions, and those of chance, as a table in Markdown."""
    rows = [
        ["direction", *(name.replace("_", " ") for name in RETRIEVAL_METRICS)],
        ["---"] * (1 + len(RETRIEVAL_METRICS)),
    ]
    for direction in DIRECTIONS:
        for label, values in (("", metrics), (", chance", chance)):
            cells = [format_metric(values, f"{direction}_{name}") for name in RETRIEVAL_METRICS]
            rows.append([direction.replace("_", " ") + label, *cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
