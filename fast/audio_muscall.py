# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Audio in any form, files and arrays, read part by part as mono float32 samples."""

import io
import math
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, runtime_checkable

import numpy as np
import torch
from transformers.utils.import_utils import is_torchcodec_usable


if TYPE_CHECKING:
    import soundfile


MAX_CHANNELS = 16  # a first axis longer than this is time or a batch
MAX_PEAK = 100.0  # floats are nominally in [-1, 1]; beyond this they are integer PCM that nobody scaled
FULL_SCALE = {"uint8": 2**7, "int16": 2**15, "int32": 2**31}  # libsndfile's scaling; uint8 is centred on 128
UNKNOWN_LENGTH = 2**40  # frames; a header that claims more (290 days) does not state a length
BLOCK = 2**19  # samples decoded and resampled at once
# soxr HQ for every rate: aliases below -130 dB, flat to 0.01 dB up to 0.9 Nyquist, 4-10 ms for 20 s. torchaudio's
# Kaiser kernel is as clean but 2-20 times slower, and takes 100 s where the rates are coprime (44,101 Hz).
CONTEXT = 512  # samples of the slower rate on either side of a block; the filter reaches less than 256


@runtime_checkable
class Decoder(Protocol):
    """The part of torchcodec's `AudioDecoder` that is used."""

    def get_all_samples(self) -> Any: ...


AudioSource = str | Path | bytes | Mapping[str, Any] | Decoder | np.ndarray | torch.Tensor | list[float]


class AudioReader:
    """
    Mono float32 audio at a given sampling rate, read part by part. Files are decoded only where they are read; a part
    equals the same part of the whole track decoded, downmixed (mean of the channels) and resampled, to 1e-5. It is a
    context manager: leaving it closes the file, entering it again reopens it.

    Args:
        source (`str`, `Path`, `bytes`, `dict`, `AudioDecoder`, `np.ndarray`, `torch.Tensor` or `list[float]`):
            A file's path or content; a `datasets` Audio dict with `bytes` or `path`, or `array` and `sampling_rate`; a
            torchcodec decoder (decoded whole); or samples of shape `(samples,)` or `(channels, samples)`: floats in
            [-1, 1], or int16, int32 or uint8 PCM, which is scaled by its full range.
        sampling_rate (`int`): The rate to read at, in hertz (Hz).
        source_rate (`int`, *optional*):
            The rate of bare samples, in hertz (Hz). A source that states its own rate must agree with it.

    Attributes:
        num_samples (`int`): Length at `sampling_rate`: `frames * sampling_rate / source_rate`, rounded half up.
    """

    def __init__(self, source: AudioSource, sampling_rate: float, source_rate: float | None = None):
        self.sampling_rate = check_sampling_rate(sampling_rate)
        self.name = "the array"
        self._source: str | Path | bytes | None = None  # of a file
        self._file: soundfile.SoundFile | None = None
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
        if isinstance(source, (str, Path, bytes)):
            self.name = f"a file of {len(source)} bytes" if isinstance(source, bytes) else str(source)
            self._file = _open_file(source, self.name)
            if self._file is not None:
                self._source, self._frames = source, _count_frames(self._file, self.name)
                return self._file.samplerate
            source = _torchcodec_decoder(source, self.name)
        if isinstance(source, Decoder):
            decoded = source.get_all_samples()
            source, stated_rate = decoded.data, decoded.sample_rate
        self._array = _to_mono(source, self.name)
        self._frames = len(self._array)
        return stated_rate

    def __enter__(self) -> "AudioReader":
        if self._source is not None and self._file is None:
            self._file = _open_file(self._source, self.name)
        return self

    def __exit__(self, *exception: Any):
        if self._file is not None:
            self._file.close()
            self._file = None

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
        import soundfile

        # After a seek an MP3 decoder lacks its bit reservoir, up to 511 bytes (255 below 32 kHz), which the lowest
        # bitrates spread over 12 frames of 1152 samples (87 of 576). Other formats seek exactly. A single read, as
        # soundfile seeks after every one.
        lead = 0 if self._file.format != "MP3" else 2**14 if self._file.samplerate >= 32000 else 2**16
        lead = min(lead, start)
        try:
            self._file.seek(start - lead)
            samples = self._file.read(stop - start + lead, dtype="float32", always_2d=True)[lead:]
        except soundfile.LibsndfileError as error:
            raise ValueError(f"{self.name} is damaged: decoding fails at {start / self.source_rate:.2f} s") from error
        if len(samples) < stop - start:
            raise ValueError(f"{self.name} is damaged: decoding stops before {stop / self.source_rate:.2f} s")
        return _check_samples(_downmix(samples.T), self.name)


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


def _to_mono(array: Any, name: str) -> np.ndarray:
    if torch.is_tensor(array):
        array = array.detach().cpu()
        array = array.float().numpy() if array.is_floating_point() else array.numpy()
    elif isinstance(array, (list, tuple)):
        array = np.asarray(array)
    if not isinstance(array, np.ndarray):
        raise ValueError(
            "audio is a path, the bytes of a file, an array of samples, a datasets Audio dict or a torchcodec "
            f"AudioDecoder, got {type(array).__name__}"
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
    return _check_samples(array if array.ndim == 1 else _downmix(array), name)


def _downmix(channels: np.ndarray) -> np.ndarray:
    return sum(channels) / len(channels)  # 10 times as fast as mean() on the interleaved channels of a file


def _check_samples(samples: np.ndarray, name: str) -> np.ndarray:
    low, high = samples.min(), samples.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(f"{name} contains NaN or infinite samples")
    if max(-low, high) > MAX_PEAK:
        raise ValueError(
            f"{name} has a peak of {max(-low, high):.0f}, but floating-point samples are in [-1, 1]: divide integer "
            "PCM by its full scale (32768 for 16 bit), or pass it as int16"
        )
    return samples


def _open_file(source: str | Path | bytes, name: str) -> "soundfile.SoundFile | None":
    """Open the path or the bytes of a file with soundfile; `None` where soundfile cannot and torchcodec may."""
    import soundfile

    if name.startswith(("http://", "https://")):
        raise ValueError(f"{name} is a URL: download it, and pass the path or the bytes")

    with _open_stream(source) as stream:
        try:
            file = soundfile.SoundFile(io.BytesIO(source) if isinstance(source, bytes) else source)
        except soundfile.LibsndfileError as error:
            if is_torchcodec_usable("audio"):
                return None
            raise ValueError(
                f"{name} cannot be decoded: it is damaged, or not one of WAV, FLAC, OGG, Opus, MP3 and AIFF; for "
                "other formats install torchcodec and FFmpeg, or convert it"
            ) from error
        tag = _missing_length_tag(stream, file.samplerate) if file.subtype == "MPEG_LAYER_III" else None
    return file if tag is None else soundfile.SoundFile(_TaggedFile(_open_stream(source), *tag))


def _open_stream(source: str | Path | bytes) -> BinaryIO:
    # Python's open() says which path is missing, unreadable or a directory; libsndfile does not.
    return io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb")


def _torchcodec_decoder(source: str | Path | bytes, name: str) -> Decoder:
    try:  # the loader of remote code takes an import outside of a try block for a requirement
        from torchcodec.decoders import AudioDecoder

        return AudioDecoder(source)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{name} cannot be decoded, neither by soundfile nor by torchcodec: {error}") from error


def _missing_length_tag(stream: BinaryIO, rate: int) -> tuple[int, bytes] | None:
    """
    Return where the first frame of an MP3 starts, and a Xing frame of unknown length to put before it; `None` if the
    file states its length. Without a length, libsndfile guesses it by the bitrate of the first frames and reads no
    further: some tracks lose half.
    """
    start = 0
    stream.seek(0)
    while (head := stream.read(64))[:3] == b"ID3":
        start += 10 + sum(byte << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
        stream.seek(start)
    if len(head) < 64 or head[0] != 0xFF or any(tag in head for tag in (b"Xing", b"Info", b"VBRI")):
        return None
    mpeg1, mono = head[1] & 0x18 == 0x18, head[3] >> 6 == 3
    side_info = bytes((17 if mono else 32) if mpeg1 else (9 if mono else 17))
    # A frame of the same kind at the bitrate of index 8, 112 or 64 kbit/s, without a checksum.
    frame = bytes([0xFF, head[1] | 1, 0x80 | head[2] & 0x0C, head[3]]) + side_info + b"Xing\0\0\0\1\x7f\xff\xff\xff"
    return start, frame.ljust(144 * 112000 // rate if mpeg1 else 72 * 64000 // rate, b"\0")


class _TaggedFile(io.RawIOBase):
    """A file for soundfile that is never whole in memory: `tag`, and then `stream` from `start`."""

    def __init__(self, stream: BinaryIO, start: int, tag: bytes):
        self._stream, self._start, self._tag, self._position = stream, start, tag, 0
        self._size = len(tag) + stream.seek(0, io.SEEK_END) - start

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:
        buffer = memoryview(buffer).cast("B")
        head = self._tag[self._position : self._position + len(buffer)]
        buffer[: len(head)] = head
        self._stream.seek(self._start + max(0, self._position - len(self._tag)))
        count = len(head) + self._stream.readinto(buffer[len(head) :])
        self._position += count
        return count

    def close(self) -> None:
        self._stream.close()
        super().close()


def _count_frames(file: "soundfile.SoundFile", name: str) -> int:
    """Count the frames that are there: the header of an MP3 may claim a few too many, or an unknown number."""
    import soundfile

    claimed = file.frames
    if file.format != "MP3" and claimed < UNKNOWN_LENGTH:
        return claimed
    try:
        if claimed < UNKNOWN_LENGTH:
            file.seek(claimed - 1)
            if len(file.read(1)) == 1:
                return claimed
        file.seek(frames := 0)
        while block := len(file.read(BLOCK, dtype="float32")):
            frames += block
    except soundfile.LibsndfileError as error:
        raise ValueError(f"{name} is damaged, or does not state its length: write it again, not to a pipe") from error
    if frames < 0.99 * claimed < UNKNOWN_LENGTH:
        raise ValueError(f"{name} is cut off: {frames / claimed:.0%} of the {claimed} samples it claims are there")
    return frames


__all__ = ["AudioReader", "AudioSource", "check_sampling_rate", "read_audio"]
