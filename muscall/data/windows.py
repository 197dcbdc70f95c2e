# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Random windows and captions of tracks, and the batches that training takes of them."""

import itertools
from collections.abc import Iterator

import numpy as np
import torch
from datasets import Dataset, IterableDataset
from datasets.distributed import split_dataset_by_node
from transformers import PreTrainedTokenizerBase

from muscall.captions import CaptionEmbeddings
from muscall.data.tracks import EMBEDS_COLUMN, audio_source, caption_id, track_id
from processing_muscall import AudioReader


MAX_FAILURES = 100  # tracks in a row that cannot be read


class TrainingWindows(torch.utils.data.Dataset):
    """
    A random window and a random caption of each track, the same for the same seed, epoch and track. Where the corpus
    has stored embeddings in the place of audio, the embedding stands in the place of the window.

    A file that cannot be read is replaced by another random track and named in the item, so that the caller can report
    it and stop when there are too many.

    Args:
        tracks (`Dataset`): A split of [`load_corpus`].
        sampling_rate (`int`): Rate of the windows in hertz (Hz).
        window_samples (`int`): Length of a window in samples; shorter tracks are padded with zeros at the end.
        seed (`int`): Seed of all choices.
    """

    def __init__(self, tracks: Dataset, sampling_rate: int, window_samples: int, seed: int):
        self.tracks, self.sampling_rate, self.window_samples, self.seed = tracks, sampling_rate, window_samples, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.tracks)

    def __getitem__(self, index: int) -> dict:
        return self.read(index, np.random.default_rng((self.seed, self.epoch, index)))

    def read(self, index: int, random: np.random.Generator) -> dict:
        """
        Return a random window and a random caption of a track, or of another where this one cannot be read.

        Returns:
            `dict`: `input_values` `(window_samples,)` or `audio_embeds` `(projection_dim,)`, `caption`, `track_id`,
            the `index` that was read, and the `unreadable` tracks: pairs of an index and a reason.
        """
        unreadable = []
        while True:
            track = self.tracks[index]
            try:
                item = _read_window(track, self.sampling_rate, self.window_samples, random)
                return {**item, "index": index, "unreadable": unreadable}
            except (ValueError, OSError) as error:
                unreadable.append((index, _describe_failure(track, error, f"track {index}")))
                _limit_failures(unreadable, error)
                index = int(random.integers(len(self.tracks)))


class TrainingStream(torch.utils.data.IterableDataset):
    """
    Random windows and captions of a streamed corpus, without end: pass after pass, each in another order. The shards
    of the corpus are shared out over the processes and their workers, so that each row is read once a pass; where the
    number of shards is no multiple of the processes, each process reads all and keeps its share of the rows.

    A row that cannot be read is left out and named in the next item.

    Args:
        tracks (`IterableDataset`): The train split of [`load_corpus`] with `streaming`.
        sampling_rate (`int`): Rate of the windows in hertz (Hz).
        window_samples (`int`): Length of a window in samples; shorter tracks are padded with zeros at the end.
        seed (`int`): Seed of all choices.
        process_index (`int`, *optional*, defaults to 0), num_processes (`int`, *optional*, defaults to 1):
            This process, and how many share the stream.
        buffer_size (`int`, *optional*, defaults to 1000): Rows among which the next one is drawn.
    """

    def __init__(
        self,
        tracks: IterableDataset,
        sampling_rate: int,
        window_samples: int,
        seed: int,
        process_index: int = 0,
        num_processes: int = 1,
        buffer_size: int = 1000,
    ):
        self.tracks, self.sampling_rate, self.window_samples, self.seed = tracks, sampling_rate, window_samples, seed
        self.process_index, self.num_processes, self.buffer_size = process_index, num_processes, buffer_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def one_pass(self, number: int) -> Iterator[dict]:
        """Yield the items of this process and worker in pass `number` of an epoch."""
        # `IterableDataset.set_epoch` would also change the order of workers that are still in the last epoch.
        order = int(np.random.default_rng((self.seed, self.epoch, number)).integers(2**63))
        tracks = self.tracks.shuffle(order, buffer_size=self.buffer_size)
        tracks = split_dataset_by_node(tracks, self.process_index, self.num_processes)
        worker = torch.utils.data.get_worker_info()
        place = (self.seed, self.epoch, number, self.process_index, worker.id if worker else 0)
        unreadable = []
        for row, track in enumerate(tracks):
            random = np.random.default_rng((*place, row))
            try:
                item = _read_window(track, self.sampling_rate, self.window_samples, random)
            except (ValueError, OSError) as error:
                reason = _describe_failure(track, error, f"row {row}")
                unreadable.append((track["path"] or reason, reason))
                _limit_failures(unreadable, error)
                continue
            yield {**item, "unreadable": unreadable}
            unreadable = []

    def __iter__(self) -> Iterator[dict]:
        for number in itertools.count():
            item = None
            for item in self.one_pass(number):
                yield item
            if item is None:  # more workers than shards
                return


def _read_window(track: dict, sampling_rate: int, window_samples: int, random: np.random.Generator) -> dict:
    """Read a random window and a random caption of a track."""
    if embeds := track.get(EMBEDS_COLUMN):
        column, values = EMBEDS_COLUMN, np.asarray(embeds, np.float32)
        content = values.tobytes()
    else:
        column, values = "input_values", _read_samples(track, sampling_rate, window_samples, random)
        content = track["path"] if track["bytes"] is None else track["bytes"]
    caption = track["captions"][random.integers(len(track["captions"]))]
    return {column: values, "caption": caption, "track_id": track_id(content)}


def _read_samples(track: dict, sampling_rate: int, window_samples: int, random: np.random.Generator) -> np.ndarray:
    """Read a random window of a track, `(window_samples,)`."""
    source = audio_source(track)
    if isinstance(source, dict) and source["sampling_rate"] == sampling_rate:  # read no more of it than is needed
        start = int(random.integers(max(0, source["array"].shape[-1] - window_samples) + 1))
        source["array"] = source["array"][..., start : start + window_samples]
    with AudioReader(source, sampling_rate) as reader:
        start = int(random.integers(max(0, reader.num_samples - window_samples) + 1))
        samples = reader.read(start, start + window_samples)
    return np.pad(samples, (0, window_samples - len(samples)))


def _describe_failure(track: dict, error: Exception, place: str) -> str:
    name = track["path"] or place
    return str(error) if name in str(error) else f"{name}: {error}"


def _limit_failures(unreadable: list[tuple], error: Exception) -> None:
    if len(unreadable) > MAX_FAILURES:
        raise ValueError(
            f"{MAX_FAILURES} random tracks in a row are unreadable, the last: {unreadable[-1][1]}"
        ) from error


class TrainingCollator:
    """
    Make a batch of items of [`TrainingWindows`] or [`TrainingStream`]: `inputs` for the model, captions padded to the
    longest of the batch; `targets` for the loss; and the `unreadable` tracks.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): The tokenizer of the text tower.
        caption_embeds (`CaptionEmbeddings`, *optional*): Adds the captions' embeddings to the targets.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, caption_embeds: CaptionEmbeddings | None = None):
        self.tokenizer, self.caption_embeds = tokenizer, caption_embeds

    def __call__(self, items: list[dict]) -> dict:
        captions = [item["caption"] for item in items]
        text = self.tokenizer(captions, padding=True, truncation=True, return_tensors="pt")
        targets = {
            "track_ids": torch.tensor([item["track_id"] for item in items]),
            "caption_ids": torch.tensor([caption_id(caption) for caption in captions]),
        }
        if self.caption_embeds is not None:
            targets["caption_embeds"] = torch.from_numpy(self.caption_embeds[captions])
        audio = EMBEDS_COLUMN if EMBEDS_COLUMN in items[0] else "input_values"
        return {
            "inputs": {audio: torch.from_numpy(np.stack([item[audio] for item in items])), **text},
            "targets": targets,
            "unreadable": [failure for item in items for failure in item["unreadable"]],
        }
