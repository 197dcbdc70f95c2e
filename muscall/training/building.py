# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Build the parts of a run from its arguments: accelerator, model and processor, data, objective and optimizer."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator, DataLoaderConfiguration, skip_first_batches
from accelerate.utils import ProjectConfiguration
from datasets import Dataset, IterableDataset
from huggingface_hub.errors import StrictDataclassError
from torch.utils.data import DataLoader
from transformers import AutoProcessor, AutoTokenizer, CLIPTokenizer, PreTrainedConfig

from configuration_muscall import MusCALLConfig
from modeling_muscall import AUDIO_MODELS, MusCALLAudioTower, MusCALLModel
from muscall.captions import CaptionEmbeddings
from muscall.checkpoint import damaged_weights_in_words, resolve
from muscall.data.sources import load_corpus, load_splits, mix_corpora
from muscall.data.tracks import EMBEDS_COLUMN, check_readable, has_embeds
from muscall.data.windows import TrainingCollator, TrainingStream, TrainingWindows
from muscall.launch import launcher_precision, start_accelerator
from muscall.training.arguments import ROOT, DataArguments, ModelArguments, TrainingArguments
from muscall.training.distillation import DistillationTask, FunctionMatchingWindows
from muscall.training.objectives import ContrastiveTask, Objective, SelfSupervisionTask, Task
from muscall.training.signals import leave_signals_to_the_main_process
from muscall.training.tracking import JSONLTracker
from processing_muscall import MusCALLFeatureExtractor, MusCALLProcessor


def build_accelerator(args: TrainingArguments) -> Accelerator:
    """Return the accelerator of a run, with its trackers; `args` get the precision that the launcher names."""
    args.mixed_precision = mixed_precision = args.mixed_precision or launcher_precision()
    if mixed_precision is None:
        mixed_precision = "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "no"
    output_dir = Path(args.output_dir)
    return start_accelerator(
        mixed_precision=mixed_precision,
        log_with=[JSONLTracker(output_dir / "log.jsonl"), *args.report_to],
        project_config=ProjectConfiguration(str(output_dir), logging_dir=str(output_dir / "tensorboard")),
        dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True),
    )


def build_model(args: ModelArguments) -> tuple[MusCALLModel, MusCALLProcessor]:
    """
    Return the model that the training starts from, and its processor. The weights come, in this order, from

    1. a MusCALL checkpoint, with a new audio tower where the recipe has an `audio_config`
    2. a pretrained text encoder, a pretrained audio tower, or both, the rest at random
    3. the random state.

    With `--resume` a checkpoint of the run replaces them later.

    Raises:
        `OSError`: if a checkpoint is neither here nor on the Hub.
        `ValueError`: if the parts do not fit together.
    """
    names = (args.model_name_or_path, args.audio_model_name_or_path, args.text_model_name_or_path)
    try:
        with damaged_weights_in_words(" or ".join(name for name in names if name)):
            return _load_model(args) if args.model_name_or_path else _compose_model(args)
    except StrictDataclassError as error:
        raise ValueError(f"model_config: {' '.join(str(error).split())}") from error
    except OSError as error:
        missing = ", ".join(name for name in names if name and not Path(name).is_dir())
        if not missing:
            raise
        raise OSError(
            f"There is no folder {missing}, and the Hub gave nothing of that name. The first lines of "
            "a recipe say how to make what it starts from."
        ) from error


def _load_model(args: ModelArguments) -> tuple[MusCALLModel, MusCALLProcessor]:
    """Load a MusCALL checkpoint, and give it a new audio tower where the configuration asks for one."""
    folder = resolve(args.model_name_or_path)
    model = MusCALLModel.from_pretrained(folder, dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    if "audio_config" in args.model_config:
        replace_audio_tower(model, args.model_config["audio_config"])
        processor.feature_extractor = build_feature_extractor(model)
    return model, processor


def _compose_model(args: ModelArguments) -> tuple[MusCALLModel, MusCALLProcessor]:
    """Put pretrained towers, where they are named, and random weights together."""
    audio_model, model_config = None, args.model_config
    if args.audio_model_name_or_path:
        audio_model = load_audio_tower(args.audio_model_name_or_path)
        model_config = model_config | {"audio_config": audio_model.config}
    if args.text_model_name_or_path:
        model = MusCALLModel.from_text_pretrained(args.text_model_name_or_path, **model_config)
        tokenizer = AutoTokenizer.from_pretrained(args.text_model_name_or_path)
    else:
        model = MusCALLModel(MusCALLConfig(**model_config))
        tokenizer = CLIPTokenizer.from_pretrained(ROOT / "clip_tokenizer")
    if audio_model is not None:
        model.audio_model = audio_model
    text_config = model.config.text_config
    if len(tokenizer) > text_config.vocab_size:
        raise ValueError(f"The tokenizer has {len(tokenizer)} tokens, the text encoder {text_config.vocab_size}.")
    if "max_position_embeddings" in text_config.to_dict():  # T5 has relative positions, and so no such limit
        tokenizer.model_max_length = min(tokenizer.model_max_length, text_config.max_position_embeddings)
    return model, MusCALLProcessor(build_feature_extractor(model), tokenizer)


def load_audio_tower(name_or_path: str) -> MusCALLAudioTower:
    """Load a pretrained audio tower of any kind in float32."""
    model_type = PreTrainedConfig.get_config_dict(name_or_path)[0].get("model_type")
    if model_type not in AUDIO_MODELS:
        raise ValueError(
            f"{name_or_path} is no audio tower: expected one of {', '.join(AUDIO_MODELS)}, got {model_type!r}"
        )
    tower = AUDIO_MODELS[model_type].from_pretrained(name_or_path, dtype=torch.float32)
    tower.config.name_or_path = ""  # neither its path nor where its code lies means anything in the folder of a model
    vars(tower.config).pop("auto_map", None)
    return tower


def replace_audio_tower(model: MusCALLModel, audio_config: dict) -> None:
    """Give a model a new audio tower with random weights, whose features are as wide as those of the old one."""
    size = model.config.audio_config.hidden_size
    model.config.audio_config = MusCALLConfig(audio_config=audio_config).audio_config
    model.audio_model = AUDIO_MODELS[model.config.audio_config.model_type](model.config.audio_config)
    if model.config.audio_config.hidden_size != size:
        raise ValueError(
            f"the new audio tower's features must be as wide as those of the old one, {size}, got "
            f"{model.config.audio_config.hidden_size}: set hidden_size"
        )


def build_feature_extractor(model: MusCALLModel) -> MusCALLFeatureExtractor:
    """Return the feature extractor that cuts windows for the audio tower of a model."""
    config = model.config.audio_config
    return MusCALLFeatureExtractor(sampling_rate=config.sampling_rate, window_seconds=config.window_seconds)


@dataclass
class TrainingData:
    """
    The tracks of a run, and the batches that they are trained in.

    Attributes:
        splits (`dict[str, Dataset | IterableDataset]`): `train`, `validation` and `test`, the first perhaps a stream.
        validation (`Dataset`): The tracks of the validation split that are evaluated during training.
        windows (`TrainingWindows` or `TrainingStream`): The items of `loader`.
        loader (`DataLoader`): The batches of this process.
        steps_per_epoch (`int`): Batches in an epoch.
        global_batch_size (`int`): Pairs in the batches of all processes together.
    """

    splits: dict[str, Dataset | IterableDataset]
    validation: Dataset
    windows: TrainingWindows | TrainingStream
    loader: DataLoader
    steps_per_epoch: int
    global_batch_size: int

    @property
    def num_tracks(self) -> int | None:
        """Training tracks; `None` of a stream."""
        return len(self.splits["train"]) if isinstance(self.splits["train"], Dataset) else None

    def batches(self, step: int, num_epochs: int) -> Iterator[dict]:
        """Yield the batches from a step on, epoch after epoch."""
        for epoch in range(step // self.steps_per_epoch, num_epochs):
            self.windows.set_epoch(epoch)
            done = max(0, step - epoch * self.steps_per_epoch)
            if self.num_tracks is None:
                yield from itertools.islice(self.loader, done, self.steps_per_epoch)
            else:
                self.loader.set_epoch(epoch)
                yield from skip_first_batches(self.loader, done) if done else self.loader


def load_corpora(datasets: list[str], data_args: DataArguments, seed: int) -> dict[str, Dataset | IterableDataset]:
    """
    Load datasets, each a Hub id, a folder or a file, and mix them: `train`, `validation` and `test`.

    Raises:
        `ValueError`: if an argument about the data has no effect on these datasets, or if they cannot be mixed.
    """
    if data_args.holdout_fraction != DataArguments.holdout_fraction and not data_args.streaming:
        split_names = [load_splits(dataset, data_args.dataset_name)[0].keys() for dataset in datasets]
        if all({"validation", "test"} <= names for names in split_names):
            raise ValueError(
                f"holdout_fraction {data_args.holdout_fraction} would have no effect: {' and '.join(datasets)} brings "
                "its own validation and test splits."
            )
    corpora = [
        load_corpus(
            dataset,
            data_args.dataset_name,
            data_args.audio_column,
            data_args.caption_column,
            data_args.holdout_fraction,
            seed,
            data_args.npy_sampling_rate,
            data_args.streaming,
        )
        for dataset in datasets
    ]
    if len({has_embeds(tracks) for corpus in corpora for tracks in corpus.values()}) > 1:
        raise ValueError(
            f"{' and '.join(datasets)}: some have audio and some stored embeddings, which cannot be mixed"
        )
    splits = mix_corpora(corpora, data_args.dataset_weights, seed)
    known = [tracks for tracks in splits.values() if isinstance(tracks, Dataset)]
    if data_args.npy_sampling_rate and not any(any(tracks["sampling_rate"]) for tracks in known):
        raise ValueError(
            f"npy_sampling_rate {data_args.npy_sampling_rate} would have no effect: {' and '.join(datasets)} has no "
            ".npy files."
        )
    return splits


def build_data(
    splits: dict[str, Dataset | IterableDataset],
    model: MusCALLModel,
    processor: MusCALLProcessor,
    accelerator: Accelerator,
    data_args: DataArguments,
    args: TrainingArguments,
) -> TrainingData:
    """
    Return the batches of a run over the splits of [`load_corpora`], and the tracks that it is evaluated on.

    Raises:
        `ValueError`: if there are fewer training tracks than pairs in a batch, if a track that will be evaluated
            cannot be read, or if a loss needs what a stream, or stored embeddings, do not give.
    """
    if has_embeds(splits["train"]):
        check_embeds(splits["train"], model, args)
    batch_size = args.batch_size * accelerator.num_processes
    if not data_args.streaming and len(splits["train"]) < batch_size:
        raise ValueError(
            f"The corpus has {len(splits['train'])} training tracks, fewer than the batch of {batch_size} "
            f"({args.batch_size} pairs on each of {accelerator.num_processes} processes): lower --batch_size."
        )
    sampling_rate = model.config.audio_config.sampling_rate
    validation = splits["validation"].shuffle(seed=args.seed)
    validation = validation.select(range(min(len(validation), data_args.max_validation_tracks)))
    check_readable(validation, "validation", sampling_rate)
    check_readable(splits["test"], "test", sampling_rate)
    windows = build_windows(splits["train"], model, accelerator, data_args, args)
    caption_embeds = build_caption_embeddings(splits["train"], accelerator, data_args, args)
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
    return TrainingData(splits, validation, windows, loader, steps_per_epoch, batch_size)


def check_embeds(tracks: Dataset, model: MusCALLModel, args: TrainingArguments) -> None:
    """
    Check that a model can learn from stored embeddings.

    Raises:
        `ValueError`: if they are of another size than those of the model, or if something is to learn from audio.
    """
    size, expected = len(tracks[0][EMBEDS_COLUMN]), model.config.projection_dim
    if size != expected:
        raise ValueError(
            f"the stored embeddings have {size} numbers, those of the model {expected}: set projection_dim"
        )
    if args.freeze_audio_steps >= 0 or args.ssl_weight:
        raise ValueError(
            "the corpus has stored embeddings, from which the audio tower cannot learn: set freeze_audio_steps to -1 "
            "and leave out ssl_weight and distillation_teacher"
        )


def build_windows(
    tracks: Dataset | IterableDataset,
    model: MusCALLModel,
    accelerator: Accelerator,
    data_args: DataArguments,
    args: TrainingArguments,
) -> TrainingWindows | TrainingStream:
    """Return the windows of the train split: of a stream, augmented for a student, or plain."""
    config = model.config.audio_config
    settings = (config.sampling_rate, config.window_samples, args.seed)
    if data_args.streaming and args.distillation_teacher:
        raise ValueError("distillation_teacher hears each track several times: it goes without streaming")
    if data_args.streaming:
        place = (accelerator.process_index, accelerator.num_processes)
        return TrainingStream(tracks, *settings, *place, data_args.shuffle_buffer)
    if args.distillation_teacher:
        return FunctionMatchingWindows(tracks, *settings, args.distillation_variants)
    return TrainingWindows(tracks, *settings)


def build_caption_embeddings(
    tracks: Dataset | IterableDataset, accelerator: Accelerator, data_args: DataArguments, args: TrainingArguments
) -> CaptionEmbeddings | None:
    """Return the embeddings of all captions of the train split where the loss needs them."""
    if not args.content_weighting:
        return None
    if data_args.streaming:
        raise ValueError("content_weighting embeds all captions before training: it goes without streaming")
    with accelerator.local_main_process_first():  # each machine has a disk of its own
        captions = [caption for row in tracks["captions"] for caption in row]
        return CaptionEmbeddings(captions, args.sentence_model_name_or_path)


def build_objective(model: MusCALLModel, args: TrainingArguments, stored_embeds: bool = False) -> Objective:
    """Return the model with the tasks that it learns, towers frozen as at the first step."""
    tasks: list[Task] = []
    if not args.only_distils:
        reference_batch_size = args.content_weight_reference_batch or None
        tasks.append(ContrastiveTask(model, args.content_weighting, reference_batch_size, stored_embeds))
    if args.ssl_weight:
        tasks.append(SelfSupervisionTask(model.config.audio_config.hidden_size, args.ssl_weight))
    if args.distillation_teacher:
        tasks.append(DistillationTask(args.distillation_teacher, model, args.distillation_weight))
    objective = Objective(model, tasks)
    objective.freeze(frozen_towers(0, args), args.batch_norm == "frozen")
    return objective


def frozen_towers(step: int, args: TrainingArguments) -> set[str]:
    """Return the names of the towers that do not learn at a step."""
    first_steps = {"audio_model": args.freeze_audio_steps, "text_model": args.freeze_text_steps}
    return {tower for tower, first_step in first_steps.items() if first_step < 0 or step < first_step}


def build_optimizer(objective: Objective, args: TrainingArguments) -> torch.optim.AdamW:
    """Return AdamW with a group for each tower and the rest, with and without weight decay; the groups have names."""
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
                "lr": args.learning_rate if rates.get(part) is None else rates[part],
                "weight_decay": args.weight_decay if decayed else 0.0,
            }
            for (part, decayed), parameters in groups.items()
        ],
        betas=(args.adam_beta1, args.adam_beta2),
        eps=args.adam_epsilon,
        fused=True,
    )
