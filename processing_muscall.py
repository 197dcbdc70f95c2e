# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Audio in any form to windows of mono float32 samples, and captions to tokens."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from numbers import Real
from typing import Any

import numpy as np
import torch
from transformers import BatchFeature, PreTrainedTokenizerBase, ProcessorMixin, SequenceFeatureExtractor
from transformers.utils import logging


try:  # as remote code the files are siblings in a package; in the checkout they are top-level modules
    from .audio_muscall import (
        MAX_CHANNELS,
        AudioReader,
        AudioSource,
        check_sampling_rate,
        is_samples_and_rate,
        read_audio,
    )
except ImportError:
    from audio_muscall import (
        MAX_CHANNELS,
        AudioReader,
        AudioSource,
        check_sampling_rate,
        is_samples_and_rate,
        read_audio,
    )


logger = logging.get_logger(__name__)

# A sentence does not end with these: Sentence-Transformers takes a path for a sentence if it does not know the suffix
# or does not find the file.
FILE_NAME = re.compile(r"\.(aac|aiff?|flac|m4[abp]|mp[34]|oga|ogg|opus|wav|wma)\s*$", re.IGNORECASE)
# Arguments that transformers' calling conventions pass to tokenizer and feature extractor alike.
TOKENIZER_KWARGS = {"padding", "truncation", "max_length", "pad_to_multiple_of", "return_attention_mask"}


class MusCALLFeatureExtractor(SequenceFeatureExtractor):
    r"""
    Turn audio into windows of mono waveform for [`MusCALLModel`], which computes the spectrogram itself.

    Args:
        feature_size (`int`, *optional*, defaults to 1): Channels; always 1.
        sampling_rate (`int`, *optional*, defaults to 16000): Rate of the windows, in hertz (Hz).
        window_seconds (`float`, *optional*, defaults to 20.0): Length of a window, in seconds.
        padding_value (`float`, *optional*, defaults to 0.0): What fills a track shorter than one window, at its end.
        windows (`int` or `str`, *optional*, defaults to `"all"`):
            Which windows of a track to take, always the same for the same track:

            - `"all"`: one after the other; the last is aligned to the end of the track and overlaps the one before.
              Each weighs the seconds that it adds.
            - an integer: that many, evenly spread from the start to the end of the track (one: the middle), of equal
              weight; or all, where there are no more.
            - `"center"`: the one in the middle.
    """

    model_input_names = ["input_values", "window_weights"]

    def __init__(
        self,
        feature_size: int = 1,
        sampling_rate: float = 16000,
        window_seconds: float = 20.0,
        padding_value: float = 0.0,
        windows: int | str = "all",
        **kwargs: Any,
    ):
        kwargs.setdefault("return_attention_mask", False)  # `window_weights` marks what is padding
        super().__init__(
            feature_size=feature_size,
            sampling_rate=check_sampling_rate(sampling_rate),
            padding_value=padding_value,
            **kwargs,
        )
        if not round(window_seconds * sampling_rate) > 0:
            raise ValueError(f"window_seconds is a positive number of seconds, got {window_seconds!r}")
        self.window_seconds = window_seconds
        self.windows = _check_windows(windows)

    @property
    def window_samples(self) -> int:
        """Length of a window, in samples at `sampling_rate`."""
        return round(self.window_seconds * self.sampling_rate)

    def __call__(
        self,
        audio: AudioSource | list[AudioSource],
        sampling_rate: float | list[float | None] | None = None,
        windows: int | str | None = None,
        return_window_starts: bool = False,
        return_tensors: str | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """
        Cut tracks into windows.

        Args:
            audio (`str`, `Path`, `bytes`, `np.ndarray`, `torch.Tensor`, `dict`, `tuple`, `AudioDecoder` or a `list`):
                One track or a batch; files, samples of shape `(samples,)` or `(channels, samples)`, pairs of samples
                and their rate, `datasets` Audio dicts or torchcodec decoders, in any mixture and at any rates. A list
                of numbers is one track. An array of shape `(batch, channels, samples)`, or `(batch, samples)` with
                more than 16 tracks, is a batch; one with a first axis of 3 to 16 is refused, as it may be a track.
            sampling_rate (`int` or `list[int]`, *optional*):
                The rate that bare samples were recorded at, in hertz (Hz), which they need: for all, or one for each
                track (`None` for a track that states its own).
            windows (`int` or `str`, *optional*): See the class; defaults to the feature extractor's own setting.
            return_window_starts (`bool`, *optional*, defaults to `False`): Whether to return `window_starts`.
            return_tensors (`str`, *optional*): `"pt"` for PyTorch tensors; NumPy arrays by default.

        Returns:
            [`BatchFeature`] with

            - **input_values** of shape `(batch, windows, samples)`, float32.
            - **window_weights** of shape `(batch, windows)`, float32: seconds; 0 for the windows that pad a batch.
            - **window_starts** of shape `(batch, windows)`, float32, on request: seconds; -1 for padding.
        """
        if unknown := sorted(set(kwargs) - TOKENIZER_KWARGS):
            logger.warning_once(f"MusCALLFeatureExtractor ignores the arguments {', '.join(unknown)}")
        windows = _check_windows(self.windows if windows is None else windows)
        tracks, rates = _as_batch(audio, sampling_rate)
        features = self._read_windows(tracks, rates, windows)
        if not return_window_starts:
            del features["window_starts"]
        return BatchFeature(features, tensor_type=return_tensors)

    def _read_windows(
        self, tracks: list[AudioSource], rates: list[float | None], windows: int | str
    ) -> dict[str, np.ndarray]:
        size = self.window_samples
        readers, layouts = [], []
        for index, (track, rate) in enumerate(zip(tracks, rates, strict=True)):
            with _naming(index), AudioReader(track, self.sampling_rate, rate) as reader:
                readers.append(reader)
                layouts.append(window_layout(reader.num_samples, size, windows))
        shape = (len(tracks), max(len(starts) for starts, _ in layouts))
        input_values = np.full((*shape, size), self.padding_value, dtype=np.float32)
        window_weights = np.zeros(shape, dtype=np.float32)
        window_starts = np.full(shape, -1, dtype=np.float32)
        for index, (reader, (starts, weights)) in enumerate(zip(readers, layouts, strict=True)):
            window_weights[index, : len(starts)] = weights / self.sampling_rate
            window_starts[index, : len(starts)] = starts / self.sampling_rate
            with _naming(index), reader:
                for window, start in zip(input_values[index], starts.tolist(), strict=False):
                    samples = reader.read(start, start + size)
                    window[: len(samples)] = samples
        return {"input_values": input_values, "window_weights": window_weights, "window_starts": window_starts}

    def iter_windows(
        self,
        track: AudioSource,
        sampling_rate: float | None = None,
        windows: int | str | Callable[[int], tuple[np.ndarray, np.ndarray]] | None = None,
        batch_size: int = 16,
    ) -> Iterator[BatchFeature]:
        """
        Yield the windows of one track, a few at a time: a recording of hours needs no more memory than a song. Only
        their parts of a file are decoded.

        Args:
            track: One track, in any form that the call takes.
            sampling_rate (`int`, *optional*): The rate that bare samples were recorded at, in hertz (Hz).
            windows (`int`, `str` or `Callable`, *optional*):
                See the class; defaults to the feature extractor's own setting. A function gets the number of samples
                of the track, and returns where windows begin and how much they weigh as [`window_layout`] does.
            batch_size (`int`, *optional*, defaults to 16): Windows at a time.

        Yields:
            [`BatchFeature`] of NumPy arrays with **input_values** of shape `(windows, samples)` and, in seconds,
            **window_weights**, **window_starts** and **window_ends** of shape `(windows,)`.
        """
        size = self.window_samples
        with AudioReader(track, self.sampling_rate, sampling_rate) as reader:
            if callable(windows):
                starts, weights = windows(reader.num_samples)
            else:
                windows = _check_windows(self.windows if windows is None else windows)
                starts, weights = window_layout(reader.num_samples, size, windows)
            for first in range(0, len(starts), batch_size):
                chosen = slice(first, first + batch_size)
                ends = np.minimum(starts[chosen] + size, reader.num_samples)
                input_values = np.full((len(ends), size), self.padding_value, dtype=np.float32)
                for window, start, end in zip(input_values, starts[chosen].tolist(), ends.tolist(), strict=True):
                    window[: end - start] = reader.read(start, end)
                yield BatchFeature(
                    {
                        "input_values": input_values,
                        "window_weights": (weights[chosen] / self.sampling_rate).astype(np.float32),
                        "window_starts": (starts[chosen] / self.sampling_rate).astype(np.float32),
                        "window_ends": (ends / self.sampling_rate).astype(np.float32),
                    }
                )


def window_layout(num_samples: int, size: int, windows: int | str) -> tuple[np.ndarray, np.ndarray]:
    """
    Return where the windows of a track begin and how much they weigh, both in samples and of shape `(windows,)`.

    Args:
        num_samples (`int`): Length of the track.
        size (`int`): Length of a window.
        windows (`int` or `str`): `"all"`, `"center"` or a number; see [`MusCALLFeatureExtractor`].
    """
    spare = max(0, num_samples - size)
    total = 1 + -(-spare // size)
    if windows != "all" and (windows == "center" or windows < total):
        count = 1 if windows == "center" else windows
        # Fewer windows than "all" has never overlap, so each adds its whole length.
        starts = np.array([spare // 2]) if count == 1 else np.arange(count) * spare // (count - 1)
        return starts, np.full(count, min(size, num_samples))
    starts = np.minimum(np.arange(total) * size, spare)
    return starts, np.diff(starts + size, prepend=0) if total > 1 else np.array([num_samples])


def _check_windows(windows: int | str) -> int | str:
    if windows in ("all", "center") or (isinstance(windows, int) and not isinstance(windows, bool) and windows > 0):
        return windows
    raise ValueError(f'windows is "all", "center" or a positive integer, got {windows!r}')


def _as_batch(
    audio: AudioSource | list[AudioSource], sampling_rate: float | list[float | None] | None
) -> tuple[list[AudioSource], list[float | None]]:
    """Return the tracks of a call and the sampling rate that was given for each."""
    if isinstance(audio, (np.ndarray, torch.Tensor)) and _is_batch(audio, sampling_rate):
        audio = list(audio)
    elif is_samples_and_rate(audio) or not isinstance(audio, (list, tuple)) or (audio and isinstance(audio[0], Real)):
        audio = [audio]
    if len(audio) == 0:
        raise ValueError("audio is an empty list: expected at least one track")
    rates = sampling_rate if isinstance(sampling_rate, (list, tuple)) else [sampling_rate] * len(audio)
    if len(rates) != len(audio):
        raise ValueError(f"got {len(rates)} sampling rates for {len(audio)} tracks: expected one rate for each")
    return audio, rates


def _is_batch(array: np.ndarray | torch.Tensor, sampling_rate: float | list[float | None] | None) -> bool:
    """Tell whether the first axis of an array is a batch; one of 3 to `MAX_CHANNELS` may be either, and is refused."""
    if array.ndim == 3 or (array.ndim == 2 and isinstance(sampling_rate, (list, tuple))):
        return True
    if array.ndim != 2 or array.shape[0] < 3:
        return False
    if array.shape[0] <= MAX_CHANNELS:
        raise ValueError(
            f"an array of shape {tuple(array.shape)} is a track of {array.shape[0]} channels or a batch of tracks: "
            "pass [array] for the one and list(array) for the other"
        )
    return array.shape[0] < array.shape[1]


@contextmanager
def _naming(index: int) -> Iterator[None]:
    """Name the item of the batch that an error is about."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"audio[{index}]: {error}") from error


class MusCALLProcessor(ProcessorMixin):
    r"""
    [`MusCALLFeatureExtractor`] and a tokenizer in one. Captions are padded to the longest of the batch and truncated
    to the tokenizer's `model_max_length`, keeping its last special token.

    Args:
        feature_extractor ([`MusCALLFeatureExtractor`]): Handles `audio`.
        tokenizer ([`PreTrainedTokenizerBase`]): Handles `text`.
    """

    text_kwargs = {"padding": True, "truncation": True}

    def __init__(self, feature_extractor: MusCALLFeatureExtractor, tokenizer: PreTrainedTokenizerBase):
        super().__init__(feature_extractor, tokenizer)

    def __call__(
        self,
        text: str | list[str] | None = None,
        audio: AudioSource | list[AudioSource] | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """
        Prepare captions, tracks or both for the model.

        Args:
            text (`str` or `list[str]`, *optional*): Captions.
            audio (*optional*): One track or several, in any form that [`MusCALLFeatureExtractor`] takes.
            kwargs:
                `sampling_rate`, `windows` and `return_window_starts` (or a dict `audio_kwargs`) go to the feature
                extractor, `return_tensors` to both, all others (or a dict `text_kwargs`) to the tokenizer.

        Returns:
            [`BatchFeature`] with `input_ids` and `attention_mask` of shape `(captions, tokens)` for text, and the
            feature extractor's output for audio.
        """
        if text is None and audio is None:
            raise ValueError("expected text, audio or both")
        audio_names = ("sampling_rate", "windows", "return_window_starts")
        for name in ("images_kwargs", "videos_kwargs"):  # Sentence-Transformers passes them to every processor
            kwargs.pop(name, None)
        common = kwargs.pop("common_kwargs", {})
        return_tensors = kwargs.pop("return_tensors", common.get("return_tensors"))
        nested_text, nested_audio = kwargs.pop("text_kwargs", {}), kwargs.pop("audio_kwargs", {})
        audio_kwargs = {name: kwargs.pop(name) for name in audio_names if name in kwargs} | nested_audio
        text_kwargs = self.text_kwargs | kwargs | nested_text
        if text is None:  # the feature extractor alone can say that an argument is unknown
            audio_kwargs = kwargs | audio_kwargs
        inputs = {}
        if text is not None:
            texts = _check_texts([text] if isinstance(text, str) else text)
            inputs |= self.tokenizer(list(texts), **text_kwargs)
        if audio is not None:
            inputs |= self.feature_extractor(audio, **audio_kwargs)
        return BatchFeature(inputs, tensor_type=return_tensors)


def _check_texts(texts: list[str]) -> list[str]:
    if not isinstance(texts, (list, tuple)) or not all(isinstance(caption, str) for caption in texts):
        raise ValueError(f"text is a string or a list of strings, got {texts!r:.80}")
    if len(texts) == 0:
        raise ValueError("text is an empty list: expected at least one caption")
    if empty := [index for index, caption in enumerate(texts) if not caption.strip()]:
        raise ValueError(f"text[{empty[0]}] is empty: expected words that describe music")
    if named := [index for index, caption in enumerate(texts) if FILE_NAME.search(caption)]:
        raise ValueError(
            f"text[{named[0]}] is {texts[named[0]]!r}, the name of an audio file: expected words that "
            'describe music; pass files as audio (with Sentence-Transformers {"audio": path}), if they exist'
        )
    return texts


MusCALLFeatureExtractor.register_for_auto_class("AutoFeatureExtractor")
MusCALLProcessor.register_for_auto_class("AutoProcessor")

__all__ = ["AudioReader", "MusCALLFeatureExtractor", "MusCALLProcessor", "read_audio", "window_layout"]
