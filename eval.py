# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
Measures a checkpoint: retrieval, zero-shot classification and tagging, linear probe; or compares two results.

    python eval.py --model runs/default                                  # retrieval on the default corpus
    python eval.py --model runs/default --task zeroshot --dataset FOLDER --text_column genre
    python eval.py --model runs/default --preset gtzan_filtered --dataset FOLDER
    accelerate launch --num_processes 4 eval.py ...                      # the same numbers, sooner
    python eval.py --compare A.json B.json
"""

import hashlib
import json
import platform
import shlex
import sys
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
from accelerate.utils import broadcast_object_list
from tqdm import tqdm
from transformers import HfArgumentParser

from corpus.build import resolve_dataset
from muscall.captions import CaptionEmbeddings
from muscall.checkpoint import hash_weights, resolve
from muscall.data.tracks import check_readable, hash_track, list_captions
from muscall.encoder import load_encoder
from muscall.evaluation.compare import check_comparable, differences
from muscall.evaluation.diagnostics import diagnose, draw
from muscall.evaluation.embedding import embed_once
from muscall.evaluation.presets import PRESETS
from muscall.evaluation.probe import linear_probe
from muscall.evaluation.report import DIRECTIONS, RETRIEVAL_METRICS, format_metric, table, update_card, write_json
from muscall.evaluation.retrieval import chance_metrics, pool_metrics, retrieval_metrics
from muscall.evaluation.tracks import Tracks
from muscall.evaluation.zero_shot import (
    BANK,
    abstention,
    choose_labels,
    label_embeds,
    read_prompts,
    read_references,
    tag_thresholds,
    zero_shot_metrics,
)
from muscall.launch import start_accelerator


SENTENCE_LOGIT_SCALE = 20.0  # of Sentence-Transformers' contrastive losses
NUM_HITS = 10  # items of each query in the per-query file


@dataclass
class Arguments:
    model: str | None = field(default=None, metadata={"help": "A checkpoint: a folder or a Hub id."})
    task: str | None = field(
        default=None, metadata={"help": "retrieval, zeroshot or probe; default: the preset's, else retrieval."}
    )
    preset: str | None = field(
        default=None, metadata={"help": f"A public set, see evaluation/README.md: {', '.join(PRESETS)}."}
    )
    dataset: str | None = field(
        default=None,
        metadata={
            "help": "default (the corpus that comes with the repository), a Hub id, a file or a folder. For labels "
            "also a folder with a folder of audio for each label. With --preset: where the set is."
        },
    )
    dataset_name: str | None = field(default=None, metadata={"help": "The configuration of a Hub dataset."})
    split: str | None = field(default=None, metadata={"help": "What is reported; default: test, or the only split."})
    train_split: str = field(default="train", metadata={"help": "What the probe is fitted to."})
    validation_split: str | None = field(
        default=None,
        metadata={
            "help": "Zero-shot: where the threshold is chosen below which the model answers nothing. Probe: where the "
            "penalty is chosen; default: validation, or a tenth of the train split."
        },
    )
    audio_column: str | None = field(default=None, metadata={"help": "Column of audio."})
    text_column: str | None = field(default=None, metadata={"help": "Column of captions, or of labels."})
    metadata_column: str | None = field(
        default=None,
        metadata={"help": "Column of text about each track (title, tags): adds a baseline that only reads."},
    )
    label_separator: str | None = field(
        default=None, metadata={"help": "What separates several labels in one string, ',' for instance."}
    )
    npy_sampling_rate: int | None = field(default=None, metadata={"help": "Rate of audio in .npy files, in Hz."})
    windows: str | None = field(
        default=None, metadata={"help": "all, center or a number of windows a track; default: the checkpoint's own."}
    )
    labels: list[str] | None = field(
        default=None, metadata={"help": "The labels to tell apart; default: the preset's, or all there are."}
    )
    prompts: list[str] | None = field(
        default=None,
        metadata={"help": "Templates with one {}, or: label (the bare label), track (A {} track), as in the paper."},
    )
    pool: int | None = field(default=None, metadata={"help": "Retrieval also among this many random tracks."})
    seeds: int = field(default=10, metadata={"help": "How many such pools."})
    baselines: list[str] = field(
        default_factory=list,
        metadata={"help": "Further checkpoints in the same table: of this repository, or transformers' ClapModel."},
    )
    sentence_model_name_or_path: str = field(
        default="sentence-transformers/all-MiniLM-L6-v2", metadata={"help": "What reads --metadata_column."}
    )
    compare: list[str] | None = field(default=None, metadata={"help": "Two result files: only compares these."})
    output: str | None = field(
        default=None, metadata={"help": "The result file; default: runs/eval/MODEL-DATASET-SPLIT-TASK.json."}
    )
    per_query: str | None = field(default=None, metadata={"help": "A JSONL file with the best items of each query."})
    figures: str | None = field(default=None, metadata={"help": "Retrieval: a folder for pictures of the space."})
    update_card: bool = field(default=False, metadata={"help": "Write the results into README.md of the checkpoint."})
    batch_size: int = field(default=16, metadata={"help": "Tracks, or sentences, in a batch on each process."})
    num_workers: int = field(default=0, metadata={"help": "Processes that read audio, for each process."})
    num_resamples: int = field(default=1000, metadata={"help": "Bootstrap resamples of the tracks; 0: no intervals."})

    def __post_init__(self):
        if self.compare is not None:
            if len(self.compare) != 2:
                raise ValueError(f"--compare takes two result files, got {len(self.compare)}")
            return
        if self.model is None:
            raise ValueError("--model is missing: the checkpoint to measure (or --compare: two result files)")
        if self.preset is not None and self.preset not in PRESETS:
            raise ValueError(f"--preset must be one of {', '.join(PRESETS)}; got {self.preset!r}")
        if self.task is None:
            self.task = PRESETS[self.preset].task if self.preset else "retrieval"
        if self.task not in ("retrieval", "zeroshot", "probe"):
            raise ValueError(f"--task must be retrieval, zeroshot or probe, got {self.task!r}")
        if self.preset and (PRESETS[self.preset].task == "retrieval") != (self.task == "retrieval"):
            raise ValueError(f"--preset {self.preset} has {PRESETS[self.preset].task} data, --task is {self.task}")
        if self.preset is None and self.dataset is None:
            self.dataset = "default"
        if self.windows is not None and self.windows.isdigit():
            self.windows = int(self.windows)
        unfit = {"zeroshot": ("pool", "figures"), "probe": ("pool", "figures", "metadata_column", "prompts")}
        for name in unfit.get(self.task, ("labels", "prompts")):
            if getattr(self, name) is not None:
                raise ValueError(f"--{name} is not for --task {self.task}")
        for name in ("batch_size", "seeds"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} must be at least 1, got {getattr(self, name)}")
        if self.update_card:
            if not (Path(self.model) / "README.md").exists():
                raise ValueError(f"--update_card: {self.model} is no local folder with a README.md")
            if self.figures and not Path(self.figures).resolve().is_relative_to(Path(self.model).resolve()):
                raise ValueError(f"--update_card links the pictures: --figures must be a folder within {self.model}")


def name_systems(checkpoints: list[str]) -> dict[str, str]:
    """The name of each checkpoint in the tables -> the checkpoint: that of its folder, where no other has it too."""
    if len(set(checkpoints)) < len(checkpoints):
        raise ValueError(f"--model and --baselines must differ from each other, got {', '.join(checkpoints)}")
    names = [Path(item).resolve().name if Path(item).exists() else item for item in checkpoints]
    names = [name if names.count(name) == 1 else item for name, item in zip(names, checkpoints, strict=True)]
    return dict(zip(names, checkpoints, strict=True))


def retrieval_row(text_embeds, audio_ids, audio_embeds, num_resamples: int) -> dict:
    """The metrics of one system, and what they are means of."""
    metrics = retrieval_metrics(text_embeds, audio_ids, audio_embeds, num_resamples, return_statistics=True)
    statistics = metrics.pop("statistics")
    queries = {direction: rows.tolist() for direction, rows in statistics.items()}
    return {"metrics": metrics, "queries": {"audio_ids": np.asarray(audio_ids).tolist(), **queries}}


def label_row(metrics: dict, scores: np.ndarray, references: np.ndarray) -> dict:
    """As [`retrieval_row`], for labels."""
    if references.ndim == 2:
        return {"metrics": metrics, "queries": {"scores": scores.tolist(), "references": references.tolist()}}
    best = scores == scores.max(axis=1, keepdims=True)
    correct = best[np.arange(len(scores)), references] / best.sum(axis=1)  # ties are neutral, as in the metric
    queries = {"truth": references.tolist(), "answer": scores.argmax(axis=1).tolist(), "correct": correct.tolist()}
    return {"metrics": metrics, "queries": queries}


def compare(paths: list[str], num_resamples: int):
    """Prints how two results differ."""
    one, other = results = [json.loads(Path(path).read_text()) for path in paths]
    check_comparable(*results, tuple(paths))
    for path, result in zip(paths, results, strict=True):
        print(f"{path}: {result['model']}, {result['protocol']}")
    rows = [["metric", "first", "second", "first less second [95 %]"]]
    for name, found in differences(one, other, num_resamples).items():
        cells = [format_metric({name: value}, name) for value in found["values"]]
        difference = format_metric({name: found["difference"], f"{name}_interval": found["interval"]}, name)
        rows.append([name.replace("_", " "), *cells, difference])
    print(f"\n{table(rows)}\n\nPaired bootstrap over tracks, {num_resamples} resamples.")


def print_rows(result: dict, rows: dict[str, dict]):
    """The table of a task: the model, its baselines, chance."""
    if result["task"] == "retrieval":
        for direction in DIRECTIONS:
            lines = [[direction.replace("_", " "), *(key.replace("_", " ") for key in RETRIEVAL_METRICS)]]
            lines += [
                [name, *(format_metric(row["metrics"], f"{direction}_{key}") for key in RETRIEVAL_METRICS)]
                for name, row in rows.items()
            ]
            print(f"\n{table(lines)}")
        for name, (mean, spread) in result.get("pool", {}).get("metrics", {}).items():
            if name.endswith(("R@1", "R@5", "R@10", "MedR")):
                pool = result["pool"]
                print(f"{name.replace('_', ' ')}, {pool['seeds']} pools of {pool['size']}: {mean:.1f} +- {spread:.1f}")
        return
    multi_label = "roc_auc" in result["metrics"]
    keys = ("roc_auc", "pr_auc") if multi_label else ("accuracy", "balanced_accuracy")
    lines = [["", *(key.replace("_", " ") for key in keys)]]
    print(
        f"\n{table(lines + [[name, *(format_metric(row['metrics'], key) for key in keys)] for name, row in rows.items()])}"
    )
    keys = ("roc_auc", "pr_auc", "positives") if multi_label else ("accuracy", "count")
    lines = [["label", *keys]]
    for label, metrics in result["metrics"]["per_label"].items():
        counts = {"positives", "count"}
        cells = [str(metrics[key]) if key in counts else format_metric(metrics, key) for key in keys]
        flag = " (at or below chance)" if label in result["metrics"].get("at_or_below_chance", ()) else ""
        lines.append([label + flag, *cells])
    print(f"\n{table(lines)}")
    if not multi_label:
        labels = result["labels"]
        names = [str(number) for number in range(1, len(labels) + 1)]
        confusion = zip(names, labels, result["metrics"]["confusion"], strict=True)
        lines = [["truth \\ answer", *names]]
        print(f"\n{table(lines + [[f'{n} {label}', *(f'{x:g}' for x in row)] for n, label, row in confusion])}")
    for prompt, metrics in result.get("prompts", {}).items():
        print(f"prompt {prompt!r} alone: {', '.join(f'{key} {value}' for key, value in metrics.items())}")


def main(command_line: list[str] | None = None):
    command_line = sys.argv[1:] if command_line is None else command_line
    parser = HfArgumentParser(Arguments, description=__doc__, allow_abbrev=False)
    (args,) = parser.parse_args_into_dataclasses(command_line)
    if args.compare:
        compare(args.compare, args.num_resamples or 1000)
        return
    started = time.time()

    # Data
    accelerator = start_accelerator()
    preset = PRESETS[args.preset] if args.preset else None
    kind = "captions" if args.task == "retrieval" else "labels"
    with accelerator.local_main_process_first():  # each machine has a disk of its own
        source = Tracks(
            kind,
            args.dataset if args.preset else resolve_dataset(args.dataset),
            args.preset,
            args.dataset_name,
            args.audio_column,
            args.text_column,
            args.metadata_column,
            args.label_separator,
            args.npy_sampling_rate,
            display_name="default" if args.dataset == "default" else None,
        )
        split = source.choose(args.split or (preset.split if preset else None))
        others = {"validation": args.validation_split}
        if args.task == "probe":
            others["train"] = args.train_split
            others["validation"] = others["validation"] or ("validation" if "validation" in source.raw else None)
        if split in others.values():
            raise ValueError(f"the split {split!r} is reported: nothing may be fitted to it or chosen on it")
        splits = {"reported": source[split]}
        splits |= {name: source[source.choose(other)] for name, other in others.items() if other is not None}
        if args.task == "probe" and "validation" not in splits:
            parts = splits["train"].train_test_split(0.1, seed=0)
            splits |= {"train": parts["train"], "validation": parts["test"]}
    tracks = splits["reported"]
    texts, audio_ids, labels, prompts = [], None, {}, []
    if kind == "captions":
        texts, audio_ids = list_captions(tracks)
        audio_ids = audio_ids.numpy()
        if args.pool is not None and not 1 <= args.pool <= len(tracks):
            raise ValueError(f"--pool must be between 1 and the {len(tracks)} tracks there are, got {args.pool}")
    else:
        labels = choose_labels(splits.values(), args.labels, preset.labels if preset else {}, source.multi_label)
        if args.task == "zeroshot":
            prompts = read_prompts(args.prompts or list(preset.prompts if preset else BANK))
            texts = [prompt.format(words) for prompt in prompts for words in labels.values()]
        references = {name: read_references(rows, list(labels), source.multi_label) for name, rows in splits.items()}

    # Embeddings of all systems; every process computes its share, the first one goes on alone
    systems = name_systems([args.model, *args.baselines])
    encoders = {name: load_encoder(checkpoint, args.windows) for name, checkpoint in systems.items()}
    embeds, model, keys = {}, next(iter(systems)), {}
    if accelerator.is_main_process:
        for name, rows in splits.items():
            check_readable(rows, name, encoders[model].feature_extractor.sampling_rate)
            progress = tqdm(rows, f"hashing {name} tracks", leave=False)
            keys[name] = [hash_track(track) for track in progress]
    (keys,) = broadcast_object_list([keys])
    for name, encoder in encoders.items():
        encoder.model.to(accelerator.device)
        options = (accelerator, args.batch_size, args.num_workers)
        audio = {key: embed_once(encoder, "audio", rows, keys[key], *options) for key, rows in splits.items()}
        text = embed_once(encoder, "text", texts, texts, *options) if texts else None
        embeds[name] = (audio, text, encoder.logit_scale)
        encoder.model.to("cpu")
    accelerator.wait_for_everyone()
    if not accelerator.is_main_process:
        accelerator.end_training()
        return
    if args.metadata_column is not None:
        about = {name: [". ".join(row) for row in rows["metadata"]] for name, rows in splits.items()}
        silent = sum(not text for rows in about.values() for text in rows)
        if silent:
            raise ValueError(f"{silent} tracks have nothing in `{args.metadata_column}`: no baseline can read it")
        everything = [text for rows in (*about.values(), texts) for text in rows]
        sentences = CaptionEmbeddings(everything, args.sentence_model_name_or_path)
        audio = {name: sentences[rows] for name, rows in about.items()}
        name = f"text only: {args.metadata_column}"
        embeds[name] = (audio, sentences[texts], SENTENCE_LOGIT_SCALE)

    # Metrics
    digest = "\n".join(f"{key} {sorted(row)}" for key, row in zip(keys["reported"], tracks[kind], strict=True))
    result = {
        "task": args.task,
        "model": model,
        "dataset": source.name,
        "split": split,
        "num_tracks": len(tracks),
        "fingerprint": hashlib.sha256(digest.encode()).hexdigest(),
    }
    rows, extras = {}, {}
    for name, (audio, text, logit_scale) in embeds.items():
        if args.task == "retrieval":
            rows[name] = retrieval_row(text, audio_ids, audio["reported"], args.num_resamples)
            continue
        if args.task == "probe":
            data = {
                "train": (audio["train"], references["train"]),
                "validation": (audio["validation"], references["validation"]),
                "reported": (audio["reported"], references["reported"]),
            }
            probe = linear_probe(data, list(labels), args.num_resamples)
            rows[name] = label_row(probe["metrics"], probe["scores"], references["reported"])
            extras[name] = {"c": probe["c"]}
            continue
        by_prompt = text.reshape(len(prompts), len(labels), -1)
        classes = label_embeds(by_prompt)
        scores = audio["reported"] @ classes.T
        metrics = zero_shot_metrics(scores, references["reported"], labels, args.num_resamples)
        rows[name] = label_row(metrics, scores, references["reported"])
        extra = {"prompts": {}}
        for prompt, embedded in zip(prompts, by_prompt, strict=True):
            metrics = zero_shot_metrics(audio["reported"] @ embedded.T, references["reported"], labels)
            names = ("roc_auc", "pr_auc") if source.multi_label else ("accuracy",)
            extra["prompts"][prompt] = {key: metrics[key] and round(metrics[key], 4) for key in names}
        if "validation" in splits:
            data = (audio["validation"] @ classes.T, references["validation"], scores, references["reported"])
            if source.multi_label:
                extra["tagging_with_thresholds"] = tag_thresholds(*data, list(labels))
            else:
                extra["abstention"] = abstention(*data, logit_scale)
        extras[name] = extra
    if args.task == "retrieval":
        rows["chance"] = {"metrics": chance_metrics(audio_ids)}
    else:
        level = np.ones((len(tracks), len(labels)))
        rows["chance"] = {"metrics": zero_shot_metrics(level, references["reported"], labels)}

    # The result
    own = rows[model]
    result |= {"labels": list(labels), "metrics": own["metrics"], "chance": rows["chance"]["metrics"]}
    result |= extras.get(model, {})
    result["baselines"] = {
        name: {"metrics": row["metrics"], "model_less_baseline": differences(own, row, args.num_resamples or 1000)}
        for name, row in rows.items()
        if name not in (model, "chance")
    }
    audio, text, _ = embeds[model]
    figures = []
    if args.task == "retrieval":
        statistics = {direction: np.asarray(own["queries"][direction]) for direction in DIRECTIONS}
        result["num_captions"] = len(texts)
        result["diagnostics"] = diagnose(text, audio_ids, audio["reported"], texts, statistics["text_to_audio"][:, 4])
        if args.pool is not None:
            pools = pool_metrics(text, audio_ids, audio["reported"], args.pool, args.seeds)
            result["pool"] = {"size": args.pool, "seeds": args.seeds, "metrics": pools}
        if args.figures:
            ranks = {direction: rows_[:, 0] for direction, rows_ in statistics.items()}
            figures = draw(Path(args.figures), text, audio_ids, audio["reported"], ranks)
    result |= {
        "protocol": {
            **encoders[model].protocol(),
            "ties": "neutral",
            "pool": len(tracks) if args.task == "retrieval" else None,
            "prompts": prompts or None,
            "num_resamples": args.num_resamples,
        },
        "checkpoint_sha256": hash_weights(resolve(args.model)),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "transformers", "datasets", "evaluate", "numpy")},
        },
        "device": str(accelerator.device),
        "command": shlex.join(["python", Path(sys.argv[0]).name, *command_line]),
        "seconds": round(time.time() - started, 1),
        "queries": own["queries"],
    }
    default = f"{result['model']}-{result['dataset']}-{split}-{args.task}.json".replace("/", "_")
    output = Path(args.output) if args.output else Path("runs/eval") / default
    write_json(output, result)
    if args.per_query:
        write_queries(Path(args.per_query), result, tracks, texts, audio["reported"], text, list(labels))
    if args.update_card:
        card = Path(args.model) / "README.md"
        update_card(card.resolve(), result, [figure.resolve() for figure in figures])

    # The screen
    captions = f", {len(texts)} captions" if args.task == "retrieval" else f", {len(labels)} labels"
    heard = encoders[model].protocol()
    print(
        f"{args.task}: {result['model']} on {source.name} [{split}], {len(tracks)} tracks{captions}; "
        f"windows of {heard['window_seconds']:g} s: {heard['windows']}; intervals: 95 %, bootstrap over tracks"
    )
    if args.task == "retrieval" and len(tracks) <= 10:
        print(f"Among {len(tracks)} tracks R@10 is 100 % whatever the model does: see chance.")
    print_rows(result, rows)
    for name, baseline in result["baselines"].items():
        for key in ("mean_R@10", "accuracy", "roc_auc"):
            if found := baseline["model_less_baseline"].get(key):
                difference = format_metric({key: found["difference"], f"{key}_interval": found["interval"]}, key)
                print(f"{key.replace('_', ' ')} of the model less that of {name}: {difference}")
    for key in ("abstention", "tagging_with_thresholds", "diagnostics"):
        for name, value in result.get(key, {}).items():
            value = f"{value:.3f}" if isinstance(value, float) else value
            print(f"{name.replace('_', ' ')}: {value}")
    print(f"\nThe result is in {output}")
    accelerator.end_training()


def write_queries(path: Path, result: dict, tracks, texts, audio_embeds, text_embeds, labels):
    """One line a query: for retrieval its rank and the first ten it found, for labels the scores."""
    names = [row or f"track {number}" for number, row in enumerate(tracks["path"])]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        if result["task"] == "retrieval":
            sides = ((texts, text_embeds, names, audio_embeds), (names, audio_embeds, texts, text_embeds))
            for direction, (queries, embeds, items, item_embeds) in zip(DIRECTIONS, sides, strict=True):
                for query, row, statistics in zip(queries, embeds, result["queries"][direction], strict=True):
                    scores = item_embeds @ row
                    best = np.argsort(-scores, kind="stable")[:NUM_HITS]
                    found = [[items[item], round(float(scores[item]), 4)] for item in best]
                    line = {"direction": direction, "query": query, "rank": statistics[0], "found": found}
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")
        else:
            queries = result["queries"]
            for number, (name, row) in enumerate(zip(names, tracks["labels"], strict=True)):
                line = {"track": name, "labels": row}
                if "scores" in queries:
                    line["scores"] = dict(zip(labels, queries["scores"][number], strict=True))
                else:
                    line["answer"] = labels[queries["answer"][number]]
                file.write(json.dumps(line, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
