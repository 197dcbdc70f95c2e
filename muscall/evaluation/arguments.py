# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The options of eval.py."""

from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path

from muscall.evaluation.presets import PRESETS


# The options that a task does not take.
FOREIGN_OPTIONS = {
    "retrieval": ("labels", "prompts", "label_separator", "train_split", "validation_split"),
    "zeroshot": ("pool", "figures", "train_split"),
    "probe": ("pool", "figures", "metadata_column", "prompts", "calibrate"),
}
NEEDS = {"seeds": "pool", "sentence_model_name_or_path": "metadata_column"}  # options of other options


@dataclass
class Arguments:
    """
    The options of eval.py. They are checked when the object is made.

    Raises:
        `ValueError`: if an option is missing or wrong, or does not belong to the task.
    """

    model: str | None = field(default=None, metadata={"help": "A checkpoint: a folder or a Hub id."})
    task: str | None = field(
        default=None, metadata={"help": "retrieval, zeroshot or probe; default: the preset's, else retrieval."}
    )
    preset: str | None = field(
        default=None, metadata={"help": f"A public set, see muscall/evaluation/README.md: {', '.join(PRESETS)}."}
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
    calibrate: bool = field(
        default=True,
        metadata={
            "help": "A second row for each system, whose scores are less the priors of the texts over the pool."
        },
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
        given = self._given()
        if self.compare is not None:
            if unused := sorted(given - {"compare", "num_resamples"}):
                raise ValueError(f"--compare reads two result files: --{unused[0]} would have no effect")
            if len(self.compare) != 2:
                raise ValueError(f"--compare takes two result files, got {len(self.compare)}")
            return
        if self.model is None:
            raise ValueError("--model is missing: the checkpoint to measure (or --compare: two result files)")
        self._choose_task()
        if self.preset is None and self.dataset is None:
            self.dataset = "default"
        if self.windows is not None and self.windows.isdigit():
            self.windows = int(self.windows)
        self._check_options(given)
        if self.update_card:
            self._check_card()

    def _given(self) -> set[str]:
        """Return the names of the options that differ from their defaults."""
        defaults = {
            item.name: item.default if item.default_factory is MISSING else item.default_factory()
            for item in fields(self)
        }
        return {name for name, value in vars(self).items() if value != defaults[name]}

    def _choose_task(self):
        if self.preset is not None and self.preset not in PRESETS:
            raise ValueError(f"--preset must be one of {', '.join(PRESETS)}; got {self.preset!r}")
        if self.task is None:
            self.task = PRESETS[self.preset].task if self.preset else "retrieval"
        if self.task not in FOREIGN_OPTIONS:
            raise ValueError(f"--task must be retrieval, zeroshot or probe, got {self.task!r}")
        if self.preset and (PRESETS[self.preset].task == "retrieval") != (self.task == "retrieval"):
            raise ValueError(f"--preset {self.preset} has {PRESETS[self.preset].task} data, --task is {self.task}")

    def _check_options(self, given: set[str]):
        options = vars(self)
        for name in FOREIGN_OPTIONS[self.task]:
            if name in given:
                raise ValueError(f"--{name} is not for --task {self.task}")
        for name, needed in NEEDS.items():
            if name in given and needed not in given:
                raise ValueError(f"--{name} would have no effect without --{needed}")
        for name in ("dataset_name", "text_column"):
            if self.preset and name in given:
                raise ValueError(f"--preset {self.preset} knows its files and columns: --{name} would have no effect")
        for name in ("batch_size", "seeds"):
            if options[name] < 1:
                raise ValueError(f"--{name} must be at least 1, got {options[name]}")

    def _check_card(self):
        if not (Path(self.model) / "README.md").exists():
            raise ValueError(f"--update_card: {self.model} is no local folder with a README.md")
        if self.figures and not Path(self.figures).resolve().is_relative_to(Path(self.model).resolve()):
            raise ValueError(f"--update_card links the pictures: --figures must be a folder within {self.model}")
