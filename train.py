# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Train MusCALL on an audio-caption corpus.

    accelerate launch train.py                                    the default corpus and recipe, on whatever is here
    accelerate launch train.py --dataset my/corpus                a Hub id, a folder or a file of one's own
    accelerate launch --num_processes 8 train.py --config recipes/paper.yaml --dataset my/corpus
    accelerate launch train.py --resume                           goes on where an interrupted run stopped

Arguments come from the recipe given by `--config` (default: recipes/default.yaml); those on the command line win.
The output folder holds the best model so far, ready for `AutoModel`, with its processor, code, card and results.
"""

import math
import os
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, send_to_device, set_seed
from datasets import Dataset
from safetensors.torch import load_model
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm
from transformers import get_cosine_schedule_with_warmup

from corpus.build import resolve_dataset
from modeling_muscall import MAX_LOGIT_SCALE, MusCALLModel
from muscall.data.fingerprint import fingerprint_corpus
from muscall.data.tracks import has_embeds
from muscall.evaluation.embedding import embed_corpus
from muscall.evaluation.report import describe_recall
from muscall.evaluation.retrieval import chance_metrics, retrieval_metrics
from muscall.launch import errors_in_words
from muscall.training.arguments import (
    DataArguments,
    ModelArguments,
    TrainingArguments,
    deciding_arguments,
    parse_arguments,
)
from muscall.training.batch_norm import synchronise_batch_norm
from muscall.training.building import (
    TrainingData,
    build_accelerator,
    build_data,
    build_model,
    build_objective,
    build_optimizer,
    frozen_towers,
    load_corpora,
)
from muscall.training.checkpointing import TrainState, load_checkpoint, replace_files, save_checkpoint
from muscall.training.gradient_cache import backward
from muscall.training.objectives import Objective
from muscall.training.publishing import collect_results, prepare_output, push_to_hub, write_results
from muscall.training.signals import StopRequest, restore_signals
from muscall.training.tracking import LogInterval, report_unreadable
from processing_muscall import MusCALLProcessor


NUM_RESAMPLES = 1000  # of the test split, for the intervals on the card
NO_AUDIO = "stored embeddings in the place of audio"  # what the card says of the windows then


@dataclass
class Run:
    """
    A training run: what was built for it, and its state.

    Attributes:
        wrapped (`nn.Module`, *optional*): The objective as accelerate returned it, until the run ends.
        started (`float`): When the run would have started had it never been interrupted, in seconds of `time.time`.
    """

    args: TrainingArguments
    data_args: DataArguments
    accelerator: Accelerator
    model: MusCALLModel
    processor: MusCALLProcessor
    data: TrainingData
    objective: Objective
    wrapped: nn.Module | None
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    state: TrainState
    started: float

    @property
    def output_dir(self) -> Path:
        return Path(self.args.output_dir)

    @property
    def max_steps(self) -> int:
        return self.args.num_epochs * self.data.steps_per_epoch

    def say(self, text: str) -> None:
        """Print on the main process."""
        if self.accelerator.is_main_process:
            print(text)


def main(command_line: list[str] | None = None) -> None:
    """Run train.py with the words of a command line; by default those that this process was started with."""
    started = time.time()
    command_line = sys.argv[1:] if command_line is None else command_line
    model_args, data_args, args = parse_arguments(command_line)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the workers of the loader are forks

    # Build: new, or with the newest checkpoint
    run = build_run(model_args, data_args, args, started)
    describe_run(run)

    # Train, with an evaluation and a checkpoint every few epochs
    if not train(run):
        run.say(f"Stopped at step {run.state.step} and saved: the same command with --resume continues.")
        end(run)
        sys.exit(130)

    # Test the best model; from here on there is nothing to save that --resume would not do again
    restore_signals()
    load_best(run)
    metrics, chance = evaluate(run, run.data.splits["test"], NUM_RESAMPLES)

    # Publish
    if run.accelerator.is_main_process:
        figures = {f"test/{name}": value for name, value in metrics.items() if not name.endswith("_interval")}
        run.accelerator.log(figures, step=run.state.step)
        results = collect_results(
            run.output_dir,
            metrics,
            chance,
            run.state,
            data_args.dataset,
            run.data.splits,
            num_resamples=NUM_RESAMPLES,
            windows=NO_AUDIO if has_embeds(run.data.splits["test"]) else run.processor.feature_extractor.windows,
            command=shlex.join(["accelerate", "launch", Path(sys.argv[0]).name, *command_line]),
        )
        write_results(run.output_dir, results)
        run.say(f"test R@10 {describe_recall(metrics, chance)}")
        run.say(f"The model of step {run.state.best['step']} is in {run.output_dir}")
        if args.push_to_hub:
            push_to_hub(run.output_dir, args.push_to_hub, run.state.best["step"])
            run.say(f"and at {args.push_to_hub} on the Hub")
    end(run)


def build_run(model_args: ModelArguments, data_args: DataArguments, args: TrainingArguments, started: float) -> Run:
    """Build all that a run needs; `started` is when its process started."""
    # Accelerator, trackers and output folder
    accelerator = build_accelerator(args)
    prepare_output(accelerator, args)
    arguments = deciding_arguments(model_args, data_args, args, accelerator.num_processes)

    # Model and processor
    set_seed(args.seed)
    model, processor = build_model(model_args)
    if args.gradient_checkpointing:
        model.activation_checkpointing_enable()
    if args.batch_norm == "synchronised" and accelerator.num_processes > 1:
        synchronise_batch_norm(model.audio_model, accelerator.device)

    # Data
    with accelerator.local_main_process_first():  # each machine has a disk of its own
        datasets = [resolve_dataset(name) for name in data_args.dataset]
        splits = load_corpora(datasets, data_args, args.seed)
    data = build_data(splits, model, processor, accelerator, data_args, args)

    # Objective, optimizer and schedule
    objective = build_objective(model, args, has_embeds(splits["train"]))
    optimizer = build_optimizer(objective, args)
    if args.compile:
        model.audio_model.compile()
        model.text_model.compile(dynamic=True)  # captions of every length
    wrapped, optimizer = accelerator.prepare(objective, optimizer)
    max_steps = args.num_epochs * data.steps_per_epoch
    # It counts optimizer steps, so it is not prepared: accelerate would step it once a process.
    scheduler = get_cosine_schedule_with_warmup(optimizer, math.ceil(args.warmup_fraction * max_steps), max_steps)
    accelerator.register_for_checkpointing(scheduler)

    # Resume
    corpus = broadcast_object_list([fingerprint_corpus(splits) if accelerator.is_main_process else None])[0]
    if args.resume:
        state = load_checkpoint(accelerator, Path(args.output_dir) / "checkpoints", arguments, corpus)
    else:
        state = TrainState(arguments=arguments, corpus=corpus)
        set_seed(args.seed, device_specific=True)  # dropout differs between processes
    accelerator.init_trackers("muscall", config={key: str(value) for key, value in arguments.items()})
    built = (accelerator, model, processor, data, objective, wrapped, optimizer, scheduler)
    return Run(args, data_args, *built, state, started - state.seconds)


def describe_run(run: Run) -> None:
    """Print what is trained, on what, and for how long."""
    args, data = run.args, run.data
    num_parameters = sum(parameter.numel() for parameter in run.model.parameters())
    precision = "float32" if run.accelerator.mixed_precision == "no" else run.accelerator.mixed_precision
    if precision != "float32" and args.mixed_precision is None:
        precision += " (--mixed_precision no: float32)"  # a launcher that says no may mean it, or say it by default
    run.say(f"{num_parameters / 1e6:.1f} M parameters in {precision} on {run.accelerator.device}")
    num_test = len(data.splits["test"])
    run.say(f"tracks: {data.num_tracks or 'a stream of'} train, {len(data.validation)} validation, {num_test} test")
    run.say(
        f"{args.num_epochs} epochs of {data.steps_per_epoch} steps of {data.global_batch_size} pairs, "
        f"from step {run.state.step}"
    )


def train(run: Run) -> bool:
    """
    Train to the last step. The loop runs once more than there are steps, so that the same lines evaluate before the
    first step, between epochs and after the last step.

    Returns:
        `bool`: whether the run is complete; if not, it was asked to stop, and saved.
    """
    args, data, state, accelerator = run.args, run.data, run.state, run.accelerator
    stop, unreadable, interval = StopRequest(), {}, LogInterval()
    progress = tqdm(
        total=run.max_steps * data.global_batch_size,
        initial=state.step * data.global_batch_size,
        unit="pair",
        disable=not accelerator.is_main_process,
        smoothing=0.05,
    )
    batches = data.batches(state.step, args.num_epochs)
    run.objective.train()
    is_due, has_stepped = state.best is None, False  # a new run is evaluated first
    while True:
        # Evaluation
        paused = time.time()
        if is_due:
            validate(run)

        # Stop: after the last step of an epoch, evaluation comes first, as a resumed run would skip it
        is_stopped = has_stepped and stop.anywhere(accelerator)

        # Checkpoint
        if is_due or is_stopped:
            save(run)
            interval.since += time.time() - paused  # not part of the pairs per second
        batch = None if is_stopped else next(batches, None)
        if batch is None:
            progress.close()
            return not is_stopped

        # Step
        batch = send_to_device(batch, accelerator.device)
        for index, reason in batch["unreadable"]:
            unreadable.setdefault(index, reason)
        loss, parts, grad_norm = take_step(run, batch)
        interval.losses.append(loss)
        progress.update(data.global_batch_size)

        # Log
        if state.step % args.log_every == 0 or state.step == run.max_steps:
            num_tracks = data.num_tracks or max(1000, state.step * data.global_batch_size)
            report_unreadable(accelerator, unreadable, num_tracks, run.data_args.max_unreadable_fraction)
            figures = interval.figures(
                state.step, data.global_batch_size, run.objective, run.optimizer, parts, grad_norm
            )
            accelerator.log(figures, step=state.step)
            progress.set_postfix(loss=f"{figures['loss']:.3f}", epoch=math.ceil(state.step / data.steps_per_epoch))
            interval = LogInterval()
        epoch, is_inside = divmod(state.step, data.steps_per_epoch)
        is_due, has_stepped = not is_inside and (epoch % args.eval_every == 0 or epoch == args.num_epochs), True


def take_step(run: Run, batch: dict) -> tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor]:
    """Learn from a batch; return the loss, its parts by name, and the norm of the gradient before it was clipped."""
    args, accelerator, objective = run.args, run.accelerator, run.objective
    frozen = frozen_towers(run.state.step, args)
    if frozen != objective.frozen:
        objective.freeze(frozen, args.batch_norm == "frozen")
        if accelerator.num_processes > 1:  # the old one knows only the parameters that learnt when it was made
            run.wrapped = DistributedDataParallel(objective, device_ids=run.wrapped.device_ids)
    loss, parts = backward(accelerator, run.wrapped, batch["inputs"], batch["targets"], args.chunk_size)
    grad_norm = accelerator.clip_grad_norm_(objective.parameters(), args.max_grad_norm)
    run.optimizer.step()
    run.scheduler.step()
    run.optimizer.zero_grad()
    with torch.no_grad():
        run.model.logit_scale.clamp_(max=MAX_LOGIT_SCALE)
    run.state.step += 1
    return loss, parts, grad_norm


def validate(run: Run) -> None:
    """Evaluate the model on the validation tracks, and put it into the output folder if it is the best so far."""
    metrics, chance = evaluate(run, run.data.validation)
    run.objective.train()
    if not run.accelerator.is_main_process:
        return
    state = run.state
    run.accelerator.log({f"validation/{name}": value for name, value in metrics.items()}, step=state.step)
    tqdm.write(f"step {state.step}: validation R@10 {describe_recall(metrics, chance)}")
    # A student that only imitates goes on getting closer, which the few captions of a validation may not show.
    if state.best is None or run.args.only_distils or quality(metrics) > quality(state.best):
        state.best = {"step": state.step, **metrics}
        with replace_files(run.output_dir) as folder:
            run.model.save_pretrained(folder)
            run.processor.save_pretrained(folder)


def evaluate(run: Run, tracks: Dataset, num_resamples: int = 0) -> tuple[dict[str, float], dict[str, float]]:
    """Return the metrics of the model and those of chance; empty but on the main process."""
    with run.objective.evaluated_model() as model:
        embeds = embed_corpus(
            model, run.processor, tracks, run.accelerator, run.args.eval_batch_size, run.args.num_workers
        )
    if not run.accelerator.is_main_process:
        return {}, {}
    return retrieval_metrics(*embeds, num_resamples), chance_metrics(embeds[1])


def quality(metrics: dict[str, float]) -> tuple[float, float]:
    """Return what the best model is chosen by; the second decides where a small pool gives every model one R@10."""
    return metrics["mean_R@10"], metrics["text_to_audio_MRR"] + metrics["audio_to_text_MRR"]


def load_best(run: Run) -> None:
    """Load the weights of the best model from the output folder."""
    # Not by `from_pretrained`, which warns of weights that look unusable: `write_results` loads the folder as a user
    # does, and so warns before anything is published.
    load_model(run.model, run.output_dir / "model.safetensors")


def save(run: Run) -> None:
    """Write a checkpoint, and what frozen towers made of the windows."""
    run.state.seconds = time.time() - run.started
    run.objective.save_caches()
    save_checkpoint(run.accelerator, run.output_dir / "checkpoints", run.state, run.args.keep_checkpoints)


def end(run: Run) -> None:
    """End trackers and processes."""
    run.wrapped = None  # first: as the last owner of gloo's process group it would wait for itself, for good
    run.accelerator.free_memory()
    run.accelerator.end_training()


if __name__ == "__main__":
    with errors_in_words():
        main()
