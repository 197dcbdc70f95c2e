# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Trains MusCALL on an audio-caption corpus.

    accelerate launch train.py                                    the default corpus and recipe, on whatever is here
    accelerate launch train.py --dataset my/corpus                a Hub id, a folder or a file of one's own
    accelerate launch --num_processes 8 train.py --config recipes/paper.yaml --dataset my/corpus
    accelerate launch train.py --resume                           goes on where an interrupted run stopped

Arguments come from the recipe given by `--config` (default: recipes/default.yaml); those on the command line win.
The output folder holds the best model so far, ready for `AutoModel`, with its processor, code, card and results.
"""

import dataclasses
import itertools
import json
import math
import os
import shlex
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import torch
import yaml
from accelerate import Accelerator, DataLoaderConfiguration, skip_first_batches
from accelerate.tracking import get_available_trackers
from accelerate.utils import ProjectConfiguration, gather_object, send_to_device, set_seed
from datasets import Dataset
from huggingface_hub import HfApi
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import (
    AutoProcessor,
    AutoTokenizer,
    CLIPTokenizer,
    HfArgumentParser,
    PreTrainedConfig,
    get_cosine_schedule_with_warmup,
)
from transformers.utils import logging

from configuration_muscall import MusCALLConfig
from corpus.build import resolve_dataset
from modeling_muscall import (
    AUDIO_MODELS,
    MAX_LOGIT_SCALE,
    MusCALLAudioModel,
    MusCALLModel,
    MusCALLPreTrainedModel,
)
from muscall.captions import CaptionEmbeddings
from muscall.checkpoint import hash_weights, with_code, write_golden
from muscall.data.sources import load_corpus, mix_corpora
from muscall.data.tracks import AUDIO_COLUMNS, CAPTION_COLUMNS, check_readable
from muscall.data.windows import TrainingCollator, TrainingStream, TrainingWindows
from muscall.evaluation.embedding import embed_corpus
from muscall.evaluation.retrieval import chance_metrics, retrieval_metrics
from muscall.launch import start_accelerator
from muscall.training.checkpointing import (
    JSONLTracker,
    leave_signals_to_the_main_process,
    list_checkpoints,
    load_checkpoint,
    replace_files,
    save_checkpoint,
)
from muscall.training.distillation import Distillation, FunctionMatchingWindows
from muscall.training.losses import REFERENCE_BATCH_SIZE
from muscall.training.objectives import ContrastiveObjective, backward, synchronise_batch_norm
from muscall.training.publishing import write_card
from processing_muscall import MusCALLFeatureExtractor, MusCALLProcessor


ROOT = Path(__file__).resolve().parent
FREE_ON_RESUME = ("output_dir", "resume", "max_unreadable_fraction", "num_workers", "eval_batch_size")
FREE_ON_RESUME += ("keep_checkpoints", "log_every", "report_to", "compile", "push_to_hub")
NOT_PUBLISHED = ["checkpoints/*", "tensorboard/*", "log.jsonl", ".partial/*"]
NUM_RESAMPLES = 1000  # of the test split, for the intervals on the card
logger = logging.get_logger("train")


@dataclass
class ModelArguments:
    model_name_or_path: str | None = field(
        default=None, metadata={"help": "A MusCALL checkpoint to start from, instead of random weights."}
    )
    audio_model_name_or_path: str | None = field(
        default=None, metadata={"help": "A pretrained audio tower to start from, see convert_musicnn.py."}
    )
    text_model_name_or_path: str | None = field(
        default=None, metadata={"help": "A pretrained text encoder to start from; its tokenizer is used too."}
    )
    model_config: dict | str | None = field(
        default=None,
        metadata={"help": "Fields of MusCALLConfig that differ from the paper's; JSON on a command line."},
    )

    def __post_init__(self):
        if isinstance(self.model_config, str):
            self.model_config = json.loads(self.model_config)
        self.model_config = self.model_config or {}
        towers = {"audio": self.audio_model_name_or_path, "text": self.text_model_name_or_path}
        if self.model_name_or_path and (any(towers.values()) or set(self.model_config) - {"audio_config"}):
            raise ValueError(
                "model_name_or_path brings its own towers and configuration: give it alone, or with an audio_config "
                "for a new audio tower."
            )
        for name, tower in towers.items():
            if tower and f"{name}_config" in self.model_config:
                raise ValueError(
                    f"{name}_model_name_or_path brings its own {name}_config: leave it out of model_config."
                )
        audio_config = self.model_config.get("audio_config", {})
        audio_class = AUDIO_MODELS.get(audio_config.get("model_type"), MusCALLAudioModel).config_class
        for config_class, values in ((MusCALLConfig, self.model_config), (audio_class, audio_config)):
            known = {"model_type", *(item.name for item in dataclasses.fields(config_class))}
            if unknown := sorted(set(values) - known):
                raise ValueError(f"{config_class.__name__} has no field {', '.join(unknown)}.")


@dataclass
class DataArguments:
    dataset: list[str] = field(
        default_factory=lambda: ["default"],
        metadata={
            "help": "'default' (the corpus built from this repository), a Hub id, a folder or a file; or several."
        },
    )
    dataset_weights: list[float] | None = field(
        default=None,
        metadata={"help": "How often each of several datasets is drawn from; default: each track once an epoch."},
    )
    dataset_name: str | None = field(default=None, metadata={"help": "Configuration of a Hub dataset."})
    audio_column: str | None = field(
        default=None, metadata={"help": f"Column of audio; default: the first there is of {', '.join(AUDIO_COLUMNS)}."}
    )
    caption_column: str | None = field(
        default=None,
        metadata={"help": f"Column of captions; default: the first there is of {', '.join(CAPTION_COLUMNS)}."},
    )
    npy_sampling_rate: int | None = field(
        default=None, metadata={"help": "Sampling rate in Hz of audio in .npy files, which these do not state."}
    )
    streaming: bool = field(
        default=False,
        metadata={"help": "Read the train split row by row while training; an epoch is then steps_per_epoch long."},
    )
    steps_per_epoch: int | None = field(default=None, metadata={"help": "With streaming: steps in an epoch."})
    shuffle_buffer: int = field(
        default=1000, metadata={"help": "With streaming: rows among which each worker draws the next one."}
    )
    holdout_fraction: float = field(
        default=0.1, metadata={"help": "Share of the tracks held out for each missing split, validation and test."}
    )
    max_validation_tracks: int = field(
        default=1000, metadata={"help": "Tracks, chosen once by the seed, that are evaluated during training."}
    )
    max_unreadable_fraction: float = field(
        default=0.01,
        metadata={
            "help": "Share of the training tracks (of a stream: of 1,000 or all it read) that may be unreadable."
        },
    )

    def __post_init__(self):
        if isinstance(self.dataset, str):
            self.dataset = [self.dataset]
        if self.streaming and (self.steps_per_epoch or 0) < 1:
            raise ValueError("streaming needs steps_per_epoch, at least 1: a stream has no length")


@dataclass
class TrainingArguments:
    output_dir: str = field(default="runs/default", metadata={"help": "Where model, card, logs and checkpoints go."})
    resume: bool = field(default=False, metadata={"help": "Go on from the newest checkpoint in output_dir."})
    seed: int = field(default=0, metadata={"help": "Seed of weights, order, windows and captions."})
    batch_size: int = field(default=64, metadata={"help": "Pairs in a batch on each process."})
    num_epochs: int = field(default=10, metadata={"help": "Passes over the training tracks."})
    learning_rate: float = field(default=5e-5, metadata={"help": "Peak learning rate of AdamW."})
    weight_decay: float = field(default=0.2, metadata={"help": "Not on norms, biases and the logit scale."})
    adam_beta1: float = field(default=0.9, metadata={"help": "First beta of AdamW."})
    adam_beta2: float = field(default=0.98, metadata={"help": "Second beta of AdamW."})
    adam_epsilon: float = field(default=1e-6, metadata={"help": "Epsilon of AdamW."})
    warmup_fraction: float = field(default=0.1, metadata={"help": "Share of the steps with a rising rate."})
    max_grad_norm: float = field(default=1.0, metadata={"help": "The gradient is scaled down to this norm."})
    audio_learning_rate: float | None = field(
        default=None, metadata={"help": "Peak learning rate of the audio tower, if it has one of its own."}
    )
    text_learning_rate: float | None = field(
        default=None, metadata={"help": "Peak learning rate of the text tower, if it has one of its own."}
    )
    freeze_audio_steps: int = field(
        default=0,
        metadata={"help": "The audio tower learns from this step on, its projection always; -1: never."},
    )
    freeze_text_steps: int = field(
        default=0, metadata={"help": "The text tower learns from this step on, its projection always; -1: never."}
    )
    content_weighting: bool = field(
        default=False, metadata={"help": "Weigh each pair by the likeness of its caption to the others of the batch."}
    )
    sentence_model_name_or_path: str = field(
        default="sentence-transformers/all-MiniLM-L6-v2",
        metadata={"help": "The Sentence-Transformers model that content_weighting compares captions with."},
    )
    content_weight_reference_batch: int | None = field(
        default=REFERENCE_BATCH_SIZE,
        metadata={"help": "The batch whose spread of weights any batch gets; 0: as the formula has it, literally."},
    )
    ssl_weight: float = field(
        default=0.0, metadata={"help": "Share of audio self-supervision in the loss, in [0, 1); 0.3 in the paper."}
    )
    distillation_teacher: str | None = field(
        default=None,
        metadata={"help": "A folder of convert_musicnn.py whose features and tags the audio tower learns to give."},
    )
    distillation_weight: float = field(
        default=1.0, metadata={"help": "Share of the distillation in the loss, in (0, 1]; at 1 it is alone."}
    )
    distillation_variants: int = field(
        default=4, metadata={"help": "Ways in which the teacher hears each track, one an epoch, the first unchanged."}
    )
    chunk_size: int | None = field(
        default=None,
        metadata={"help": "Pairs whose activations are in memory at a time (gradient caching); default: the batch."},
    )
    batch_norm: str = field(
        default="local",
        metadata={
            "help": "What batch norm takes its statistics from: local (the pairs, or chunk, of each process), "
            "synchronised (those of all processes) or frozen (the starting checkpoint)."
        },
    )
    mixed_precision: str | None = field(
        default=None, metadata={"help": "no, bf16 or fp16; default: bf16 on a GPU that has it, else no."}
    )
    gradient_checkpointing: bool = field(
        default=False,
        metadata={"help": "Recompute activations: smaller, slower; batch-norm statistics then move twice a step."},
    )
    num_workers: int = field(default=2, metadata={"help": "Processes that read audio, for each training process."})
    eval_every: int = field(default=1, metadata={"help": "Epochs between two evaluations and checkpoints."})
    eval_batch_size: int = field(default=16, metadata={"help": "Tracks in an evaluation batch on each process."})
    keep_checkpoints: int = field(default=2, metadata={"help": "Newest checkpoints kept for --resume."})
    log_every: int = field(default=10, metadata={"help": "Steps between two entries in the logs."})
    report_to: list[str] = field(
        default_factory=lambda: ["tensorboard"],
        metadata={"help": "Trackers of accelerate (tensorboard, trackio, wandb, ...), beside log.jsonl."},
    )
    compile: bool = field(default=False, metadata={"help": "torch.compile both towers: minutes once, faster steps."})
    push_to_hub: str | None = field(
        default=None, metadata={"help": "The Hub repository that gets weights, code, processor and card at the end."}
    )

    def __post_init__(self):
        for name in ("batch_size", "num_epochs", "eval_every", "eval_batch_size", "keep_checkpoints", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.chunk_size is not None and self.chunk_size < 1:
            raise ValueError(f"chunk_size must be at least 1, got {self.chunk_size}.")
        if not 0 <= self.ssl_weight < 1:
            raise ValueError(f"ssl_weight must be in [0, 1), got {self.ssl_weight}.")
        if not 0 < self.distillation_weight <= 1:
            raise ValueError(f"distillation_weight must be in (0, 1], got {self.distillation_weight}.")
        if self.distillation_variants < 1:
            raise ValueError(f"distillation_variants must be at least 1, got {self.distillation_variants}.")
        if self.distillation_teacher and self.freeze_audio_steps:
            raise ValueError("distillation_teacher teaches the audio tower: leave freeze_audio_steps at 0.")
        installed = {str(tracker.value) for tracker in get_available_trackers()}
        if missing := sorted(set(self.report_to) - installed):
            raise ValueError(
                f"report_to: {', '.join(missing)} is not installed or not known to accelerate; there is: "
                f"{', '.join(sorted(installed)) or 'none'}. log.jsonl is written in any case."
            )
        if self.batch_norm not in ("local", "synchronised", "frozen"):
            raise ValueError(f"batch_norm must be local, synchronised or frozen, got {self.batch_norm!r}.")


def parse_arguments(command_line: list[str]) -> tuple[ModelArguments, DataArguments, TrainingArguments]:
    """
    The recipe's values under those of the command line. An unknown name in either is an error. A pretrained model or
    text encoder named on the command line replaces what the recipe says of the model or of its text tower.
    """
    parser = HfArgumentParser(
        (ModelArguments, DataArguments, TrainingArguments), description=__doc__.split("\n\n")[0], allow_abbrev=False
    )
    parser.add_argument("--config", default=str(ROOT / "recipes" / "default.yaml"), help="The recipe.")
    given = parser.parse_known_args(command_line)[0]
    config, recipe = given.config, yaml.safe_load(Path(given.config).read_text()) or {}
    known = {item.name for group in parser.dataclass_types for item in dataclasses.fields(group)}
    if unknown := sorted(set(recipe) - known):
        raise ValueError(f"{config}: unknown arguments {', '.join(unknown)}. Known are: {', '.join(sorted(known))}.")
    if given.model_name_or_path and "model_name_or_path" not in recipe:
        recipe.pop("model_config", None)
    for name in ("audio", "text"):
        if getattr(given, f"{name}_model_name_or_path"):
            recipe.get("model_config", {}).pop(f"{name}_config", None)
    parser.set_defaults(**recipe)
    *groups, namespace = parser.parse_args_into_dataclasses(command_line)
    return tuple(groups)


def load_audio_model(name_or_path: str) -> MusCALLPreTrainedModel:
    model_type = PreTrainedConfig.get_config_dict(name_or_path)[0].get("model_type")
    if model_type not in AUDIO_MODELS:
        raise ValueError(
            f"{name_or_path} is no audio tower: expected one of {', '.join(AUDIO_MODELS)}, got {model_type!r}"
        )
    return AUDIO_MODELS[model_type].from_pretrained(name_or_path, dtype=torch.float32)


def replace_audio_tower(model: MusCALLModel, audio_config: dict) -> MusCALLFeatureExtractor:
    """Gives a model a new audio tower at random; returns the feature extractor that it needs."""
    size = model.config.audio_config.hidden_size
    model.config.audio_config = MusCALLConfig(audio_config=audio_config).audio_config
    model.audio_model = AUDIO_MODELS[model.config.audio_config.model_type](model.config.audio_config)
    if model.config.audio_config.hidden_size != size:
        raise ValueError(
            f"the new audio tower's features must be as wide as those of the old one, {size}, got "
            f"{model.config.audio_config.hidden_size}: set hidden_size"
        )
    return MusCALLFeatureExtractor(
        sampling_rate=model.config.audio_config.sampling_rate, window_seconds=model.config.audio_config.window_seconds
    )


def build_model(args: ModelArguments) -> tuple[MusCALLModel, MusCALLProcessor]:
    # Where the weights come from, in this order:
    # 1. --resume: a checkpoint of this run replaces, later, whatever is built here
    # 2. a MusCALL checkpoint, with a new audio tower where the recipe has an audio_config
    # 3. a pretrained text encoder, a pretrained audio tower, or both, the rest at random
    # 4. everything at random
    if args.model_name_or_path:
        model = MusCALLModel.from_pretrained(args.model_name_or_path, dtype=torch.float32)
        processor = AutoProcessor.from_pretrained(**with_code(args.model_name_or_path), trust_remote_code=True)
        if "audio_config" in args.model_config:
            processor.feature_extractor = replace_audio_tower(model, args.model_config["audio_config"])
        return model, processor
    audio_model, model_config = None, args.model_config
    if args.audio_model_name_or_path:
        audio_model = load_audio_model(args.audio_model_name_or_path)
        model_config = model_config | {"audio_config": audio_model.config}
    if args.text_model_name_or_path:
        model = MusCALLModel.from_text_pretrained(args.text_model_name_or_path, **model_config)
        tokenizer = AutoTokenizer.from_pretrained(args.text_model_name_or_path)
    else:
        model = MusCALLModel(MusCALLConfig(**model_config))
        tokenizer = CLIPTokenizer.from_pretrained(ROOT / "clip_tokenizer")
    if audio_model is not None:
        model.audio_model = audio_model
    audio_config, text_config = model.config.audio_config, model.config.text_config
    if len(tokenizer) > text_config.vocab_size:
        raise ValueError(f"The tokenizer has {len(tokenizer)} tokens, the text encoder {text_config.vocab_size}.")
    if "max_position_embeddings" in text_config.to_dict():  # T5 has relative positions, and so no such limit
        tokenizer.model_max_length = min(tokenizer.model_max_length, text_config.max_position_embeddings)
    feature_extractor = MusCALLFeatureExtractor(
        sampling_rate=audio_config.sampling_rate, window_seconds=audio_config.window_seconds
    )
    return model, MusCALLProcessor(feature_extractor, tokenizer)


def build_optimizer(objective: ContrastiveObjective, args: TrainingArguments) -> torch.optim.AdamW:
    """AdamW with a group for each tower and the rest, with and without weight decay; the groups have names."""
    rates = {"audio_model": args.audio_learning_rate, "text_model": args.text_learning_rate}
    groups = {}
    for name, parameter in objective.named_parameters():
        part = next((tower for tower in rates if name.startswith(f"model.{tower}.")), "other")
        decayed = parameter.ndim >= 2  # not norms, biases and the logit scale
        groups.setdefault((part, decayed), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "name": f"{part}/{'decayed' if decayed else 'not_decayed'}",
                "params": parameters,
                "lr": rates.get(part) or args.learning_rate,
                "weight_decay": args.weight_decay if decayed else 0.0,
            }
            for (part, decayed), parameters in groups.items()
        ],
        betas=(args.adam_beta1, args.adam_beta2),
        eps=args.adam_epsilon,
        fused=True,
    )


class StopRequest:
    """Turns the first Ctrl-C or SIGTERM into a request to save and stop; a second one kills as usual."""

    def __init__(self):
        self.received = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._receive)

    def _receive(self, number, frame):
        self.received = True
        signal.signal(number, signal.SIG_DFL)

    def anywhere(self, accelerator: Accelerator) -> bool:
        """Whether any process was asked to stop: all must leave the loop at the same step."""
        if accelerator.num_processes == 1:
            return self.received
        return bool(accelerator.reduce(torch.tensor(int(self.received), device=accelerator.device), "sum"))


def main(command_line: list[str] | None = None):
    command_line = sys.argv[1:] if command_line is None else command_line
    model_args, data_args, args = parse_arguments(command_line)
    output_dir = Path(args.output_dir)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the workers of the loader are forks
    started = time.time()

    # Accelerator and trackers
    mixed_precision = args.mixed_precision
    if mixed_precision is None:
        mixed_precision = "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "no"
    accelerator = start_accelerator(
        mixed_precision=mixed_precision,
        log_with=[JSONLTracker(output_dir / "log.jsonl"), *args.report_to],
        project_config=ProjectConfiguration(str(output_dir), logging_dir=str(output_dir / "tensorboard")),
        dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True),
    )
    say = print if accelerator.is_main_process else lambda *_: None
    checkpoints = output_dir / "checkpoints"
    if not args.resume and (list_checkpoints(checkpoints) or (output_dir / "config.json").exists()):
        raise ValueError(f"{output_dir} holds a run: --resume continues it, --output_dir names another folder.")
    if args.push_to_hub and accelerator.is_main_process:
        HfApi().create_repo(args.push_to_hub, exist_ok=True)  # now, so that a missing token is known before training
    accelerator.wait_for_everyone()
    # What decides the result, and so must be the same when the run is resumed.
    arguments = dataclasses.asdict(model_args) | dataclasses.asdict(data_args) | dataclasses.asdict(args)
    arguments = {name: value for name, value in arguments.items() if name not in FREE_ON_RESUME}
    arguments["num_processes"] = accelerator.num_processes
    if data_args.streaming:
        arguments["num_workers"] = args.num_workers  # which share the stream

    # Model and processor
    set_seed(args.seed)
    try:
        model, processor = build_model(model_args)
    except OSError as error:
        names = (getattr(model_args, f"{tower}model_name_or_path") for tower in ("", "audio_", "text_"))
        missing = ", ".join(name for name in names if name and not Path(name).is_dir())
        if not missing:
            raise
        raise OSError(
            f"There is no folder {missing}, and the Hub gave nothing of that name. The first lines of "
            "a recipe say how to make what it starts from."
        ) from error
    if args.gradient_checkpointing:
        model.activation_checkpointing_enable()
    if args.batch_norm == "synchronised" and accelerator.num_processes > 1:
        synchronise_batch_norm(model)
    audio_config = model.config.audio_config

    # Data
    with accelerator.local_main_process_first():  # each machine has a disk of its own
        corpora = [
            load_corpus(
                resolve_dataset(dataset),
                data_args.dataset_name,
                data_args.audio_column,
                data_args.caption_column,
                data_args.holdout_fraction,
                args.seed,
                data_args.npy_sampling_rate,
                data_args.streaming,
            )
            for dataset in data_args.dataset
        ]
        corpus = mix_corpora(corpora, data_args.dataset_weights, args.seed)
    global_batch_size = args.batch_size * accelerator.num_processes
    if not data_args.streaming and len(corpus["train"]) < global_batch_size:
        raise ValueError(
            f"The corpus has {len(corpus['train'])} training tracks, fewer than the batch of {global_batch_size} "
            f"({args.batch_size} pairs on each of {accelerator.num_processes} processes): lower --batch_size."
        )
    validation = corpus["validation"].shuffle(seed=args.seed)
    validation = validation.select(range(min(len(validation), data_args.max_validation_tracks)))
    check_readable(validation, "validation", audio_config.sampling_rate)
    check_readable(corpus["test"], "test", audio_config.sampling_rate)
    shape = (audio_config.sampling_rate, audio_config.window_samples, args.seed)
    if data_args.streaming and args.distillation_teacher:
        raise ValueError("distillation_teacher hears each track several times: it goes without streaming")
    if data_args.streaming:
        place = (accelerator.process_index, accelerator.num_processes)
        windows = TrainingStream(corpus["train"], *shape, *place, data_args.shuffle_buffer)
    elif args.distillation_teacher:
        windows = FunctionMatchingWindows(corpus["train"], *shape, args.distillation_variants)
    else:
        windows = TrainingWindows(corpus["train"], *shape)
    caption_embeds = None
    if args.content_weighting:
        if data_args.streaming:
            raise ValueError("content_weighting embeds all captions before training: it goes without streaming")
        with accelerator.local_main_process_first():  # each machine has a disk of its own
            captions = [caption for row in corpus["train"]["captions"] for caption in row]
            caption_embeds = CaptionEmbeddings(captions, args.sentence_model_name_or_path)
    loader = DataLoader(
        windows,
        args.batch_size,
        shuffle=None if data_args.streaming else True,
        drop_last=True,  # a smaller or padded batch would change the negatives
        collate_fn=TrainingCollator(processor.tokenizer, caption_embeds),
        num_workers=args.num_workers,
        worker_init_fn=leave_signals_to_the_main_process,
        generator=torch.Generator(),  # of its own: a loader that starts in mid-epoch must not move dropout's
    )
    if not data_args.streaming:  # a stream has shared itself out already
        loader = accelerator.prepare(loader)
    steps_per_epoch = data_args.steps_per_epoch if data_args.streaming else len(loader)

    # Optimizer and schedule; the scheduler counts optimizer steps, so it is not prepared (accelerate would step it
    # once a process)
    distillation = None
    if args.distillation_teacher:
        distillation = Distillation(args.distillation_teacher, model.audio_model)
    objective = ContrastiveObjective(
        model,
        args.content_weighting,
        args.content_weight_reference_batch or None,
        args.ssl_weight,
        distillation=distillation,
        distillation_weight=args.distillation_weight if distillation else 0.0,
    )
    optimizer = build_optimizer(objective, args)
    objective.freeze(frozen_at(0, args), args.batch_norm == "frozen")
    if args.compile:
        model.audio_model.compile()
        model.text_model.compile(dynamic=True)  # captions of every length
    wrapped, optimizer = accelerator.prepare(objective, optimizer)
    max_steps = args.num_epochs * steps_per_epoch
    scheduler = get_cosine_schedule_with_warmup(optimizer, math.ceil(args.warmup_fraction * max_steps), max_steps)
    accelerator.register_for_checkpointing(scheduler)

    # Resume
    state = {"step": 0, "best": None, "seconds": 0.0, "arguments": arguments}
    if args.resume:
        state = load_checkpoint(accelerator, checkpoints, arguments)
    else:
        set_seed(args.seed, device_specific=True)  # dropout differs between processes
    accelerator.init_trackers("muscall", config={key: str(value) for key, value in arguments.items()})

    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    precision = "float32" if mixed_precision == "no" else mixed_precision
    say(f"{num_parameters / 1e6:.1f} M parameters in {precision} on {accelerator.device}")
    num_tracks = None if data_args.streaming else len(corpus["train"])
    say(f"tracks: {num_tracks or 'a stream of'} train, {len(validation)} validation, {len(corpus['test'])} test")
    say(f"{args.num_epochs} epochs of {steps_per_epoch} steps of {global_batch_size} pairs, from step {state['step']}")

    def evaluate(tracks, num_resamples=0) -> tuple[dict[str, float], dict[str, float]]:
        """The metrics of the model and those of chance; empty but on the main process."""
        embeds = embed_corpus(model, processor, tracks, accelerator, args.eval_batch_size, args.num_workers)
        if not accelerator.is_main_process:
            return {}, {}
        return retrieval_metrics(*embeds, num_resamples), chance_metrics(embeds[1])

    def describe(metrics, chance) -> str:
        return ", ".join(
            f"{direction.replace('_', ' ')} {metrics[f'{direction}_R@10']:.1f} % "
            f"(chance {chance[f'{direction}_R@10']:.1f} %)"
            for direction in ("text_to_audio", "audio_to_text")
        )

    seconds_before = state["seconds"]

    def save():
        state["seconds"] = seconds_before + time.time() - started
        for tower in filter(None, (objective.frozen_tower, distillation and distillation.teacher)):
            tower.save()
        save_checkpoint(accelerator, checkpoints, state, args.keep_checkpoints)

    def quality(metrics) -> tuple[float, float]:
        """What the best model is chosen by; the second decides where a small pool gives everybody the same R@10."""
        return metrics["mean_R@10"], metrics["text_to_audio_MRR"] + metrics["audio_to_text_MRR"]

    def evaluate_and_save():
        """Validates, keeps the best model in the output folder, and writes a checkpoint."""
        metrics, chance = evaluate(validation)
        if accelerator.is_main_process:
            accelerator.log({f"validation/{name}": value for name, value in metrics.items()}, step=state["step"])
            tqdm.write(f"step {state['step']}: validation R@10 {describe(metrics, chance)}")
            # A student that only imitates goes on getting closer, which the few captions of a validation may not show.
            alone = objective.distillation_weight == 1
            if state["best"] is None or alone or quality(metrics) > quality(state["best"]):
                state["best"] = {"step": state["step"], **metrics}
                with replace_files(output_dir) as folder:
                    model.save_pretrained(folder)
                    processor.save_pretrained(folder)
        save()

    def end():
        """The wrapper goes first: as the last owner of gloo's process group it would wait for itself, for good."""
        nonlocal wrapped
        wrapped = None
        accelerator.free_memory()
        accelerator.end_training()

    def save_and_stop():
        save()
        progress.close()
        say(f"Stopped at step {state['step']} and saved: the same command with --resume continues.")
        end()
        sys.exit(130)

    # Training
    stop = StopRequest()
    unreadable = {}
    progress = tqdm(
        total=max_steps * global_batch_size,
        initial=state["step"] * global_batch_size,
        unit="pair",
        disable=not accelerator.is_main_process,
        smoothing=0.05,
    )
    if state["best"] is None:
        evaluate_and_save()
    log = {"loss": [], "since": time.time()}
    for epoch in range(state["step"] // steps_per_epoch, args.num_epochs):
        windows.set_epoch(epoch)
        objective.train()
        done = state["step"] - epoch * steps_per_epoch
        if data_args.streaming:
            batches = itertools.islice(loader, done, steps_per_epoch)
        else:
            loader.set_epoch(epoch)
            batches = skip_first_batches(loader, done) if done else loader
        for batch in batches:
            batch = send_to_device(batch, accelerator.device)
            for index, reason in batch["unreadable"]:
                unreadable.setdefault(index, reason)
            if frozen_at(state["step"], args) != objective.frozen:
                objective.freeze(frozen_at(state["step"], args), args.batch_norm == "frozen")
                objective.train()
                if accelerator.num_processes > 1:  # it knows only the parameters that learnt when it was made
                    wrapped = DistributedDataParallel(objective, device_ids=wrapped.device_ids)
            loss, parts = backward(accelerator, wrapped, batch["inputs"], batch["targets"], args.chunk_size)
            grad_norm = accelerator.clip_grad_norm_(objective.parameters(), args.max_grad_norm)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            with torch.no_grad():
                model.logit_scale.clamp_(max=MAX_LOGIT_SCALE)

            state["step"] += 1
            log["loss"].append(loss)
            progress.update(global_batch_size)
            if state["step"] % args.log_every == 0 or state["step"] == max_steps:
                seen = num_tracks or max(1000, state["step"] * global_batch_size)
                report_unreadable(accelerator, unreadable, seen, data_args.max_unreadable_fraction)
                mean_loss = torch.stack(log["loss"]).mean().item()
                if not math.isfinite(mean_loss):
                    raise ValueError(f"The loss is {mean_loss} at step {state['step']}: lower --learning_rate.")
                accelerator.log(
                    {
                        "loss": mean_loss,
                        **{name: value.item() for name, value in parts.items()},
                        **{
                            f"learning_rate/{group['name'].split('/')[0]}": group["lr"]
                            for group in optimizer.param_groups
                        },
                        "logit_scale": model.logit_scale.exp().item(),
                        "grad_norm": float(grad_norm),
                        **{f"{name}_norm": value.item() for name, value in objective.embedding_norms.items()},
                        "pairs_per_second": len(log["loss"]) * global_batch_size / (time.time() - log["since"]),
                    },
                    step=state["step"],
                )
                progress.set_postfix(loss=f"{mean_loss:.3f}", epoch=epoch + 1)
                log = {"loss": [], "since": time.time()}
            # After the last step of an epoch, evaluation comes first: a resumed run would skip it.
            if state["step"] % steps_per_epoch and stop.anywhere(accelerator):
                save_and_stop()
        if (epoch + 1) % args.eval_every == 0 or epoch + 1 == args.num_epochs:
            before = time.time()
            evaluate_and_save()
            log["since"] += time.time() - before  # not part of the pairs per second
        if stop.anywhere(accelerator):
            save_and_stop()
    progress.close()

    # Test: the best model, on the held-out split
    model.load_state_dict(MusCALLModel.from_pretrained(output_dir).state_dict())
    metrics, chance = evaluate(corpus["test"], NUM_RESAMPLES)
    if accelerator.is_main_process:
        numbers = {f"test/{name}": value for name, value in metrics.items() if not name.endswith("_interval")}
        accelerator.log(numbers, step=state["step"])
        results = {
            "split": "test",
            "test": metrics,
            "chance": chance,
            "validation": state["best"],
            "dataset": [Path(dataset).name if Path(dataset).exists() else dataset for dataset in data_args.dataset],
            "fingerprint": {split: rows._fingerprint for split, rows in corpus.items() if isinstance(rows, Dataset)},
            "num_tracks": {split: len(rows) for split, rows in corpus.items() if isinstance(rows, Dataset)},
            "licences": Counter(
                licence or "not stated"
                for rows in corpus.values()
                if isinstance(rows, Dataset)
                for licence in rows["licence"]
            ),
            "num_resamples": NUM_RESAMPLES,
            "windows": processor.feature_extractor.windows,
            "arguments": arguments,
            "command": shlex.join(["accelerate", "launch", Path(sys.argv[0]).name, *command_line]),
            "training_seconds": round(state["seconds"]),
            "checkpoint_sha256": hash_weights(output_dir),
            "versions": {name: version(name) for name in ("torch", "transformers", "accelerate", "datasets")},
        }
        (output_dir / "results.json").write_text(json.dumps(results, indent=2) + "\n")
        write_card(output_dir, results)
        write_golden(output_dir)
        say(f"test R@10 {describe(metrics, chance)}")
        say(f"The model of step {state['best']['step']} is in {output_dir}")
        if args.push_to_hub:
            HfApi().upload_folder(
                repo_id=args.push_to_hub,
                folder_path=output_dir,
                ignore_patterns=NOT_PUBLISHED,
                commit_message=f"Step {state['best']['step']} of a run of train.py",
            )
            say(f"and at {args.push_to_hub} on the Hub")
    end()


def frozen_at(step: int, args: TrainingArguments) -> set[str]:
    """The towers that do not learn at this step."""
    steps = {"audio_model": args.freeze_audio_steps, "text_model": args.freeze_text_steps}
    return {tower for tower, first in steps.items() if first < 0 or step < first}


def report_unreadable(accelerator: Accelerator, unreadable: dict[int, str], num_tracks: int, max_fraction: float):
    """Names each unreadable file once; stops on every process when there are too many."""
    for index, reason in unreadable.items():
        if reason is not None:
            logger.warning(f"unreadable, replaced by another track: {reason}")
            unreadable[index] = None
    count = len(set(gather_object(list(unreadable))))  # in another epoch another process may have met the same file
    if count > max_fraction * num_tracks:
        raise ValueError(
            f"{count} of {num_tracks} training tracks are unreadable (named above), more than "
            f"max_unreadable_fraction={max_fraction}."
        )


if __name__ == "__main__":
    main()
