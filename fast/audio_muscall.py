# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Audio in any form, files and arrays, read part by part as mono float32 samples."""

import math
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from transformers.utils.import_utils import is_torchcodec_usable


try:  # as remote code the files are siblings in a package; in the checkout they are top-level modules
    from .audio_file_muscall import BLOCK, AudioFile, UnknownFormatError, mix_to_mono
except ImportError:
    from audio_file_muscall import BLOCK, AudioFile, UnknownFormatError, mix_to_mono


MAX_CHANNELS = 16  # a first axis longer than this is time or a batch
FULL_SCALE = {"uint8": 2**7, "int16": 2**15, "int32": 2**31}  # libsndfile's scaling; uint8 is centred on 128
# soxr HQ for every rate: aliases below -130 dB, flat to 0.01 dB up to 0.9 Nyquist, 4-10 ms for 20 s. torchaudio's
# Kaiser kernel is as clean but 2-20 times slower, and takes 100 s where the rates are coprime (44,101 Hz).
CONTEXT = 512  # samples of the slower rate on either side of a block; the filter reaches less than 256


@runtime_checkable
class Decoder(Protocol):
    """The part of torchcodec's `AudioDecoder` that is used."""

    def get_all_samples(self) -> Any: ...


AudioSource = (
    str | Path | bytes | Mapping[str, Any] | Decoder | np.ndarray | torch.Tensor | list[float] | tuple[Any, Any]
)


class AudioReader:
    """
    Mono float32 audio at a given sampling rate, read part by part. Files are decoded only where they are read; a part
    equals the same part of the whole track decoded, downmixed (mean of the channels) and resampled, to 1e-5. Channels
    in antiphase cancel in that mean, which a warning says. It is a context manager: leaving it closes the file,
    entering it again reopens it.

    Args:
        source (`str`, `Path`, `bytes`, `dict`, `AudioDecoder`, `np.ndarray`, `torch.Tensor`, `tuple`, `list[float]`):
            A file's path or content; a `datasets` Audio dict with `bytes` or `path`, or `array` and `sampling_rate`; a
            torchcodec decoder (decoded whole); samples of shape `(samples,)` or `(channels, samples)`: floats in
            [-1, 1], or int16, int32 or uint8 PCM, which is scaled by its full range; or a pair of samples and their
            rate in either order, as soundfile, Gradio and SciPy have it, of which the shorter axis is the channels.
        sampling_rate (`int`): The rate to read at, in hertz (Hz).
        source_rate (`int`, *optional*):
            The rate of bare samples, in hertz (Hz). A source that states its own rate must agree with it.

    Attributes:
        num_samples (`int`): Length at `sampling_rate`: `frames * sampling_rate / source_rate`, rounded half up.
    """

    def __init__(self, source: AudioSource, sampling_rate: float, source_rate: float | None = None):
        self.sampling_rate = check_sampling_rate(sampling_rate)
        self.name = "the array"
        self._file: AudioFile | None = None
        stated_rate = self._open(source)
        if source_rate is None and stated_rate is None:
            raise ValueError("an array needs the sampling rate it was recorded at: pass sampling_rate=..., in Hz")
        self.source_rate = check_sampling_rate(source_rate if stated_rate is None else stated_rate)
        if source_rate is not None and check_sampling_rate(source_rate) != self.source_rate:
            raise ValueError(
                f"{self.name} is at {stated_rate} Hz but sampling_rate={source_rate} was given: leave it out for "
                "audio that states its own rate (resampling is done here)"
            )
        # soxr rounds half up too, so that a part that ends with the track is as long as it would be in the whole.
        self.num_samples = (2 * self._frames * self.sampling_rate + self.source_rate) // (2 * self.source_rate)
        if self.num_samples == 0:
            raise ValueError(f"{self.name} is empty: {self._frames} samples at {self.source_rate} Hz")

    def _open(self, source: AudioSource) -> float | None:
        """Open a file or take the samples of an array; return the rate that the source states, in hertz (Hz)."""
        stated_rate = None
        if isinstance(source, Mapping):
            source, stated_rate = _unpack_audio_dict(source)
        elif is_samples_and_rate(source):
            source, stated_rate = _unpack_pair(source)
        if isinstance(source, (str, Path, bytes)):
            self.name = f"a file of {len(source)} bytes" if isinstance(source, bytes) else str(source)
            if self.name.startswith(("http://", "https://")):
                raise ValueError(f"{self.name} is a URL: download it, and pass the path or the bytes")
            try:
                self._file = AudioFile(source, self.name)
                self._frames = self._file.frames
                return self._file.sampling_rate
            except UnknownFormatError:
                if not is_torchcodec_usable("audio"):
                    raise
            source = _torchcodec_decoder(source, self.name)
        if isinstance(source, Decoder):
            decoded = source.get_all_samples()
            source, stated_rate = decoded.data, decoded.sample_rate
        self._array = _to_mono(source, self.name)
        self._frames = len(self._array)
        return stated_rate

    def __enter__(self) -> "AudioReader":
        if self._file is not None:
            self._file.open()
        return self

    def __exit__(self, *exception: Any):
        if self._file is not None:
            self._file.close()

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """
        Read samples `start` to `stop` (default: the end), counted at `sampling_rate`.

        Returns:
            `np.ndarray` of shape `(samples,)`, float32; fewer than asked for where the track ends.
        """
        stop = self.num_samples if stop is None else min(stop, self.num_samples)
        if not 0 <= start < stop:
            raise ValueError(f"{self.name} has {self.num_samples} samples: cannot read from {start} to {stop}")
        samples = np.empty(stop - start, dtype=np.float32)
        for position in range(start, stop, BLOCK):
            block_stop = min(position + BLOCK, stop)
            samples[position - start : block_stop - start] = self._read_block(position, block_stop)
        return samples

    def _read_block(self, start: int, stop: int) -> np.ndarray:
        if self.source_rate == self.sampling_rate:
            return self._read_source(start, stop)
        import soxr

        divisor = math.gcd(self.source_rate, self.sampling_rate)
        source_step, step = self.source_rate // divisor, self.sampling_rate // divisor
        context = CONTEXT * math.ceil(max(1, self.sampling_rate / self.source_rate))
        # Begin where an input and an output sample coincide: the filter then has the phases it has in the whole track.
        steps = max(0, start - context) // step
        source_stop = min(self._frames, math.ceil((stop + context) * self.source_rate / self.sampling_rate))
        source = self._read_source(steps * source_step, source_stop)
        resampled = soxr.resample(source, self.source_rate, self.sampling_rate, quality="HQ")
        return resampled[start - steps * step : stop - steps * step]

    def _read_source(self, start: int, stop: int) -> np.ndarray:
        if self._file is None:
            return self._array[start:stop]
        return self._file.read(start, stop)


def read_audio(
    source: AudioSource, sampling_rate: int, start: float = 0.0, duration: float | None = None
) -> np.ndarray:
    """
    Read a part of an audio file, decoding only that part.

    Args:
        source: A path, `bytes` or anything else that states its own rate; see [`AudioReader`].
        sampling_rate (`int`): The rate to return, in hertz (Hz).
        start (`float`, *optional*, defaults to 0.0): Where to begin, in seconds.
        duration (`float`, *optional*): How much to read, in seconds; to the end by default.

    Returns:
        `np.ndarray` of shape `(samples,)`, mono float32; shorter than `duration` where the track ends.
    """
    with AudioReader(source, sampling_rate) as reader:
        first = round(start * sampling_rate)
        return reader.read(first, None if duration is None else first + round(duration * sampling_rate))


def check_sampling_rate(rate: float) -> int:
    """Return a sampling rate as an integer, in hertz (Hz)."""
    if isinstance(rate, bool) or not isinstance(rate, Real) or not 1 <= rate < math.inf or rate != int(rate):
        raise ValueError(f"a sampling rate is a positive whole number of Hz, got {rate!r}")
    return int(rate)


def _unpack_audio_dict(audio: Mapping[str, Any]) -> tuple[Any, float | None]:
    for key in ("array", "bytes", "path"):
        if audio.get(key) is not None:
            return audio[key], audio.get("sampling_rate") if key == "array" else None
    raise ValueError(f'an audio dict holds "array" and "sampling_rate", or "bytes", or "path", got {audio!r:.200}')


def is_samples_and_rate(audio: Any) -> bool:
    """Tell whether audio is a pair of samples and their rate, in either order, and no batch of two tracks."""
    if not isinstance(audio, (tuple, list)) or len(audio) != 2:
        return False
    return sorted(isinstance(item, Real) for item in audio) == [False, True] and any(
        isinstance(item, (np.ndarray, torch.Tensor, list)) for item in audio
    )


def _unpack_pair(pair: tuple[Any, Any] | list[Any]) -> tuple[Any, float]:
    array, rate = pair if isinstance(pair[1], Real) else pair[::-1]
    array = np.asarray(array) if isinstance(array, list) else array
    if array.ndim == 2 and array.shape[1] <= MAX_CHANNELS < array.shape[0]:  # (samples, channels)
        array = array.T
    return array, rate


def _to_mono(array: Any, name: str) -> np.ndarray:
    if torch.is_tensor(array):
        array = array.detach().cpu()
        array = array.float().numpy() if array.is_floating_point() else array.numpy()
    elif isinstance(array, (list, tuple)):
        array = np.asarray(array)
    if not isinstance(array, np.ndarray):
        raise ValueError(
            "audio is a path, the bytes of a file, an array of samples, a pair (array, rate) or (rate, array), a "
            f"datasets Audio dict or a torchcodec AudioDecoder, got {type(array).__name__}"
        )
    if array.ndim not in (1, 2) or array.size == 0:
        raise ValueError(f"samples have shape (samples,) or (channels, samples) and are not empty, got {array.shape}")
    if array.ndim == 2 and array.shape[0] > MAX_CHANNELS:
        raise ValueError(
            f"samples have shape (channels, samples), with at most {MAX_CHANNELS} channels, got {array.shape}: "
            "transpose (samples, channels); a batch is a list of arrays"
        )
    if array.dtype == np.int32 and 0 < np.abs(array).max() < 2**15:
        raise ValueError(
            f"int32 PCM has a full scale of 2**31, a peak of {np.abs(array).max()} is silence: pass 16-bit samples as "
            "int16"
        )
    if array.dtype.name in FULL_SCALE:
        offset = 128 if array.dtype == np.uint8 else 0
        array = (array.astype(np.float32) - offset) / np.float32(FULL_SCALE[array.dtype.name])
    elif array.dtype.kind != "f":
        raise ValueError(f"samples are floats in [-1, 1], or {', '.join(FULL_SCALE)} PCM, got {array.dtype}")
    array = array.astype(np.float32, copy=False)
    return mix_to_mono(np.atleast_2d(array), name)


def _torchcodec_decoder(source: str | Path | bytes, name: str) -> Decoder:
    try:  # the loader of remote code takes an import outside of a try block for a requirement
        from torchcodec.decoders import AudioDecoder

        return AudioDecoder(source)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{name} cannot be decoded, neither by soundfile nor by torchcodec: {error}") from error


__all__ = ["MAX_CHANNELS", "AudioReader", "AudioSource", "check_sampling_rate", "is_samples_and_rate", "read_audio"]
