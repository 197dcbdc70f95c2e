# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The arguments of train.py: what each means, which values it takes, and how recipe and command line go together."""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from accelerate.tracking import get_available_trackers
from transformers import HfArgumentParser

from configuration_muscall import MusCALLConfig
from modeling_muscall import AUDIO_MODELS, MusCALLAudioModel
from muscall.data.tracks import AUDIO_COLUMNS, CAPTION_COLUMNS
from muscall.training.losses import REFERENCE_BATCH_SIZE


ROOT = Path(__file__).resolve().parents[2]
# A resumed run may change these, which do not decide the result.
FREE_ON_RESUME = ("output_dir", "resume", "max_unreadable_fraction", "num_workers", "eval_batch_size")
FREE_ON_RESUME += ("keep_checkpoints", "log_every", "report_to", "compile", "push_to_hub")
# Arguments that have an effect under a condition alone: what they need, in words, and whether the arguments by their
# names fulfil it.
NEEDS: dict[str, tuple[str, Callable[[dict], bool]]] = {
    "steps_per_epoch": ("streaming", lambda values: values["streaming"]),
    "shuffle_buffer": ("streaming", lambda values: values["streaming"]),
    "holdout_fraction": ("no streaming: a stream brings its own splits", lambda values: not values["streaming"]),
    "audio_learning_rate": ("an audio tower that learns", lambda values: values["freeze_audio_steps"] >= 0),
    "batch_norm": ("an audio tower that learns", lambda values: values["freeze_audio_steps"] >= 0),
    "text_learning_rate": ("a text tower that learns", lambda values: values["freeze_text_steps"] >= 0),
    "content_weight_reference_batch": ("content_weighting", lambda values: values["content_weighting"]),
    "sentence_model_name_or_path": ("content_weighting", lambda values: values["content_weighting"]),
    "distillation_weight": ("a distillation_teacher", lambda values: values["distillation_teacher"]),
    "distillation_variants": ("a distillation_teacher", lambda values: values["distillation_teacher"]),
    "content_weighting": ("a distillation_weight below 1", lambda values: not _only_distils(values)),
    "ssl_weight": ("a distillation_weight below 1", lambda values: not _only_distils(values)),
}


def _only_distils(values: dict) -> bool:
    return values["distillation_teacher"] is not None and values["distillation_weight"] == 1


@dataclass
class ModelArguments:
    """The checkpoint, towers and configuration that the model starts from."""

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "A MusCALL checkpoint to start from, instead of random weights."}
    )
    audio_model_name_or_path: str | None = field(
        default=None, metadata={"help": "A pretrained audio tower to start from, see scripts/convert_musicnn.py."}
    )
    text_model_name_or_path: str | None = field(
        default=None,
        metadata={
            "help": "A pretrained text encoder to start from, or a folder with a MusCALL checkpoint that has one; "
            "its tokenizer is used too."
        },
    )
    model_config: dict | str | None = field(
        default=None,
        metadata={"help": "Fields of MusCALLConfig that differ from the paper's; JSON on a command line."},
    )

    def __post_init__(self) -> None:
        if isinstance(self.model_config, str):
            try:
                self.model_config = json.loads(self.model_config)
            except json.JSONDecodeError as error:
                raise ValueError(f"model_config must be JSON, got {self.model_config}: {error}") from error
        self.model_config = self.model_config or {}
        towers = {"audio": self.audio_model_name_or_path, "text": self.text_model_name_or_path}
        if self.model_name_or_path and (any(towers.values()) or set(self.model_config) - {"audio_config"}):
            raise ValueError(
                "model_name_or_path brings its own towers and configuration: give it alone, or with an audio_config "
                "for a new audio tower. (recipes/default.yaml has one, recipes/scratch.yaml has none.)"
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
    """The tracks and captions to train on."""

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
            "help": "Share of the training tracks (of a stream: of 1,000 or all it read) that may be unreadable, "
            "rounded up to a whole track."
        },
    )

    def __post_init__(self) -> None:
        if isinstance(self.dataset, str):
            self.dataset = [self.dataset]
        if self.streaming and (self.steps_per_epoch or 0) < 1:
            raise ValueError("streaming needs steps_per_epoch, at least 1: a stream has no length")


@dataclass
class TrainingArguments:
    """Arguments of the training, and where the run leaves its model."""

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
        metadata={
            "help": "A folder of scripts/convert_musicnn.py whose features and tags the audio tower learns to give."
        },
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
        default=None,
        metadata={"help": "no, bf16 or fp16; default: the launcher's, or bf16 on a GPU that has it, else no."},
    )
    gradient_checkpointing: bool = field(
        default=False,
        metadata={"help": "Recompute activations in the backward pass: less memory, slower steps."},
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

    def __post_init__(self) -> None:
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
        if self.mixed_precision is False:  # as YAML reads `no`
            self.mixed_precision = "no"
        if self.mixed_precision not in (None, "no", "bf16", "fp16"):
            raise ValueError(f"mixed_precision must be no, bf16 or fp16, got {self.mixed_precision!r}.")
        if self.batch_norm not in ("local", "synchronised", "frozen"):
            raise ValueError(f"batch_norm must be local, synchronised or frozen, got {self.batch_norm!r}.")

    @property
    def only_distils(self) -> bool:
        """`True` if the audio tower learns from its teacher alone, and captions play no part."""
        return _only_distils(vars(self))


def parse_arguments(command_line: list[str]) -> tuple[ModelArguments, DataArguments, TrainingArguments]:
    """
    Read the recipe and put the values of the command line over it. A pretrained model or text encoder that the command
    line names replaces what the recipe says of the model or of its text tower.

    Args:
        command_line (`list[str]`):
            The words after the name of the program.

    Raises:
        `ValueError`: if the recipe is no YAML or has an unknown argument, a value is out of range, or an argument
            would have no effect.
        `SystemExit`: if the command line has an unknown argument.
    """
    parser = HfArgumentParser(
        (ModelArguments, DataArguments, TrainingArguments),
        description="Trains MusCALL on an audio-caption corpus.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", default=str(ROOT / "recipes" / "default.yaml"), help="The recipe.")
    given = vars(parser.parse_known_args(command_line)[0])
    recipe = _read_recipe(Path(given["config"]), parser.dataclass_types)
    if given["model_name_or_path"] and "model_name_or_path" not in recipe:
        recipe.pop("model_config", None)
    for name in ("audio", "text"):
        if given[f"{name}_model_name_or_path"]:
            recipe.get("model_config", {}).pop(f"{name}_config", None)
    parser.set_defaults(**recipe)
    *groups, _ = parser.parse_args_into_dataclasses(command_line)
    _check_effects(given, recipe, {name: value for group in groups for name, value in vars(group).items()})
    return tuple(groups)


def _read_recipe(path: Path, groups: tuple[type, ...]) -> dict:
    """Read a recipe, whose arguments must be fields of one of the groups."""
    try:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no YAML: {error}") from error
    if not isinstance(recipe, dict):
        raise ValueError(f"{path}: expected a line for each argument, `name: value`, got a {type(recipe).__name__}")
    known = {item.name for group in groups for item in dataclasses.fields(group)}
    if unknown := sorted(map(str, set(recipe) - known)):
        raise ValueError(f"{path}: unknown arguments {', '.join(unknown)}. Known are: {', '.join(sorted(known))}.")
    return recipe


def _check_effects(command_line: dict, recipe: dict, values: dict) -> None:
    """
    Refuse an argument that differs from its default and has no effect. One of a recipe that has what it needs may lose
    it to the command line.

    Args:
        command_line (`dict`): The arguments of the command line, with defaults for those that it does not have.
        recipe (`dict`): The arguments of the recipe.
        values (`dict`): The arguments of the run.
    """
    groups = (DataArguments, TrainingArguments)
    defaults = {item.name: item.default for group in groups for item in dataclasses.fields(group)}
    for name, (need, is_met) in NEEDS.items():
        if is_met(values):
            continue
        if command_line[name] != defaults[name] or (
            recipe.get(name, defaults[name]) != defaults[name] and not is_met(defaults | recipe)
        ):
            raise ValueError(f"{name} {values[name]} would have no effect: it needs {need}.")


def deciding_arguments(
    model_args: ModelArguments, data_args: DataArguments, args: TrainingArguments, num_processes: int
) -> dict:
    """Return the arguments that decide the result, and so must be the same when a run is resumed, by their names."""
    values = dataclasses.asdict(model_args) | dataclasses.asdict(data_args) | dataclasses.asdict(args)
    values = {name: value for name, value in values.items() if name not in FREE_ON_RESUME}
    values["num_processes"] = num_processes
    if data_args.streaming:
        values["num_workers"] = args.num_workers  # which share the stream
    return values
