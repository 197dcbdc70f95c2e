# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Audio in any form to windows of mono float32 samples, and captions to tokens."""

import io
import math
import re
from collections.abc import Mapping
from contextlib import contextmanager
from numbers import Real
from pathlib import Path

import numpy as np
import torch
from transformers import BatchFeature, ProcessorMixin, SequenceFeatureExtractor
from transformers.utils import logging
from transformers.utils.import_utils import is_torchcodec_usable


logger = logging.get_logger(__name__)

MAX_CHANNELS = 16  # a first axis longer than this is time or a batch
MAX_PEAK = 100.0  # floats are nominally in [-1, 1]; beyond this they are integer PCM that nobody scaled
FULL_SCALE = {"uint8": 2**7, "int16": 2**15, "int32": 2**31}  # libsndfile's scaling; uint8 is centred on 128
UNKNOWN_LENGTH = 2**40  # frames; a header that claims more (290 days) does not know
BLOCK = 2**19  # samples decoded and resampled at once
# soxr HQ for every rate: aliases below -130 dB, flat to 0.01 dB up to 0.9 Nyquist, 4-10 ms for 20 s. torchaudio's
# Kaiser kernel is as clean but 2-20 times slower, and takes 100 s where the rates are coprime (44,101 Hz).
CONTEXT = 512  # samples of the slower rate on either side of a block; the filter reaches less than 256
# What a sentence does not end with: Sentence-Transformers takes a path that it does not know, or not find, for one.
FILE_NAME = re.compile(r"\.(aac|aiff?|flac|m4[abp]|mp[34]|oga|ogg|opus|wav|wma)\s*$", re.IGNORECASE)
# Arguments that transformers' calling conventions pass to tokenizer and feature extractor alike.
TOKENIZER_KWARGS = {"padding", "truncation", "max_length", "pad_to_multiple_of", "return_attention_mask"}


class AudioReader:
    """
    Mono float32 audio at a given sampling rate, read part by part. Files are decoded only where they are read; a part
    equals the same part of the whole track decoded, downmixed (mean of the channels) and resampled, to 1e-5. A context
    manager: leaving it closes the file, entering it again reopens it.

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

    def __init__(self, source, sampling_rate, source_rate=None):
        self.sampling_rate = _check_rate(sampling_rate)
        self.name, self._source, self._file, stated_rate = "the array", None, None, None
        if isinstance(source, Mapping):
            source, stated_rate = _unpack_audio_dict(source)
        if isinstance(source, (str, Path, bytes)):
            self.name = f"a file of {len(source)} bytes" if isinstance(source, bytes) else str(source)
            self._file = _open_file(source, self.name)
            if self._file is None:
                source = _torchcodec_decoder(source, self.name)
            else:
                self._source, stated_rate = source, self._file.samplerate
                self._frames = _count_frames(self._file, self.name)
        if self._file is None:
            if hasattr(source, "get_all_samples"):
                decoded = source.get_all_samples()
                source, stated_rate = decoded.data, decoded.sample_rate
            self._array = _to_mono(source, self.name)
            self._frames = len(self._array)
        if source_rate is None and stated_rate is None:
            raise ValueError("an array needs the sampling rate it was recorded at: pass sampling_rate=..., in Hz")
        self.source_rate = _check_rate(source_rate if stated_rate is None else stated_rate)
        if source_rate is not None and _check_rate(source_rate) != self.source_rate:
            raise ValueError(
                f"{self.name} is at {stated_rate} Hz but sampling_rate={source_rate} was given: leave it out for "
                "audio that states its own rate (resampling is done here)"
            )
        # soxr rounds half up too, so that a part that ends with the track is as long as it would be in the whole.
        self.num_samples = (2 * self._frames * self.sampling_rate + self.source_rate) // (2 * self.source_rate)
        if self.num_samples == 0:
            raise ValueError(f"{self.name} is empty: {self._frames} samples at {self.source_rate} Hz")

    def __enter__(self):
        if self._source is not None and self._file is None:
            self._file = _open_file(self._source, self.name)
        return self

    def __exit__(self, *exception):
        if self._file is not None:
            self._file.close()
            self._file = None

    def read(self, start=0, stop=None):
        """
        Reads samples `start` to `stop` (default: the end), counted at `sampling_rate`.

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

    def _read_block(self, start, stop):
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

    def _read_source(self, start, stop):
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


def read_audio(source, sampling_rate, start=0.0, duration=None):
    """
    Reads a part of an audio file, decoding only that part.

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


def _check_rate(rate):
    if isinstance(rate, bool) or not isinstance(rate, Real) or not 1 <= rate < math.inf or rate != int(rate):
        raise ValueError(f"a sampling rate is a positive whole number of Hz, got {rate!r}")
    return int(rate)


def _unpack_audio_dict(audio):
    for key in ("array", "bytes", "path"):
        if audio.get(key) is not None:
            return audio[key], audio.get("sampling_rate") if key == "array" else None
    raise ValueError(f'an audio dict holds "array" and "sampling_rate", or "bytes", or "path", got {audio!r:.200}')


def _to_mono(array, name):
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


def _downmix(channels):
    return sum(channels) / len(channels)  # 10 times as fast as mean() on the interleaved channels of a file


def _check_samples(samples, name):
    low, high = samples.min(), samples.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(f"{name} contains NaN or infinite samples")
    if max(-low, high) > MAX_PEAK:
        raise ValueError(
            f"{name} has a peak of {max(-low, high):.0f}, but floating-point samples are in [-1, 1]: divide integer "
            "PCM by its full scale (32768 for 16 bit), or pass it as int16"
        )
    return samples


def _open_file(source, name):
    """Opens the path or the bytes of a file with soundfile; `None` where soundfile cannot and torchcodec may."""
    import soundfile

    if name.startswith(("http://", "https://")):
        raise ValueError(f"{name} is a URL: download it, and pass the path or the bytes")

    def open_stream():  # Python's open() says which path is missing, unreadable or a directory; libsndfile does not
        return io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb")

    with open_stream() as stream:
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
    return file if tag is None else soundfile.SoundFile(_TaggedFile(open_stream(), *tag))


def _torchcodec_decoder(source, name):
    try:  # the loader of remote code takes an import outside of a try block for a requirement
        from torchcodec.decoders import AudioDecoder

        return AudioDecoder(source)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{name} cannot be decoded, neither by soundfile nor by torchcodec: {error}") from error


def _missing_length_tag(stream, rate):
    """
    For an MP3 that does not state its length: where its first frame starts, and a Xing frame of unknown length to put
    before it; else `None`. libsndfile guesses the length by the bitrate of the first frames, and reads no further:
    some tracks lose half.
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
    """`tag` and then `stream` from `start`: a file for soundfile that is never whole in memory."""

    def __init__(self, stream, start, tag):
        self._stream, self._start, self._tag, self._position = stream, start, tag, 0
        self._size = len(tag) + stream.seek(0, io.SEEK_END) - start

    def seek(self, offset, whence=io.SEEK_SET):
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        return self._position

    def tell(self):
        return self._position

    def readinto(self, buffer):
        buffer = memoryview(buffer).cast("B")
        head = self._tag[self._position : self._position + len(buffer)]
        buffer[: len(head)] = head
        self._stream.seek(self._start + max(0, self._position - len(self._tag)))
        count = len(head) + self._stream.readinto(buffer[len(head) :])
        self._position += count
        return count

    def close(self):
        self._stream.close()
        super().close()


def _count_frames(file, name):
    """Frames that there are: an MP3's header may claim a few too many, or none that are known."""
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


class MusCALLFeatureExtractor(SequenceFeatureExtractor):
    r"""
    Turns audio into windows of mono waveform for [`MusCALLModel`], which computes the spectrogram itself.

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
        return_attention_mask (`bool`, *optional*, defaults to `False`): Unused; `window_weights` marks padding.
    """

    model_input_names = ["input_values", "window_weights"]

    def __init__(
        self,
        feature_size=1,
        sampling_rate=16000,
        window_seconds=20.0,
        padding_value=0.0,
        windows="all",
        return_attention_mask=False,
        **kwargs,
    ):
        super().__init__(
            feature_size=feature_size,
            sampling_rate=_check_rate(sampling_rate),
            padding_value=padding_value,
            return_attention_mask=return_attention_mask,
            **kwargs,
        )
        if not round(window_seconds * sampling_rate) > 0:
            raise ValueError(f"window_seconds is a positive number of seconds, got {window_seconds!r}")
        self.window_seconds = window_seconds
        self.windows = _check_windows(windows)

    @property
    def window_samples(self):
        """Length of a window, in samples at `sampling_rate`."""
        return round(self.window_seconds * self.sampling_rate)

    def __call__(
        self, audio, sampling_rate=None, windows=None, return_window_starts=False, return_tensors=None, **kwargs
    ):
        """
        Args:
            audio (`str`, `Path`, `bytes`, `np.ndarray`, `torch.Tensor`, `dict`, `AudioDecoder` or a `list` of these):
                One track or a batch; files, samples of shape `(samples,)` or `(channels, samples)`, `datasets` Audio
                dicts or torchcodec decoders, in any mixture and at any rates. A list of numbers is one track.
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
        if not isinstance(audio, (list, tuple)) or (len(audio) > 0 and isinstance(audio[0], Real)):
            audio = [audio]
        if len(audio) == 0:
            raise ValueError("audio is an empty list: expected at least one track")
        rates = sampling_rate if isinstance(sampling_rate, (list, tuple)) else [sampling_rate] * len(audio)
        if len(rates) != len(audio):
            raise ValueError(f"got {len(rates)} sampling rates for {len(audio)} tracks: expected one rate for each")

        size = self.window_samples
        readers, layouts = [], []
        for index, (track, rate) in enumerate(zip(audio, rates, strict=True)):
            with _naming(index), AudioReader(track, self.sampling_rate, rate) as reader:
                readers.append(reader)
                layouts.append(window_layout(reader.num_samples, size, windows))
        shape = (len(audio), max(len(starts) for starts, _ in layouts))
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

        features = {"input_values": input_values, "window_weights": window_weights}
        if return_window_starts:
            features["window_starts"] = window_starts
        return BatchFeature(features, tensor_type=return_tensors)

    def iter_windows(self, track, sampling_rate=None, windows=None, batch_size=16):
        """
        The windows of one track, a few at a time: a recording of hours needs no more memory than a song.

        Args:
            track: One track, in any form that the call takes.
            sampling_rate (`int`, *optional*): The rate that bare samples were recorded at, in hertz (Hz).
            windows (`int` or `str`, *optional*): See the class; defaults to the feature extractor's own setting.
            batch_size (`int`, *optional*, defaults to 16): Windows at a time.

        Yields:
            [`BatchFeature`] of NumPy arrays with **input_values** of shape `(windows, samples)` and, in seconds,
            **window_weights**, **window_starts** and **window_ends** of shape `(windows,)`.
        """
        size = self.window_samples
        with AudioReader(track, self.sampling_rate, sampling_rate) as reader:
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


def window_layout(num_samples, size, windows):
    """
    Where the windows of a track begin and how much they weigh, both in samples, as `np.ndarray` of shape `(windows,)`.

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


def _check_windows(windows):
    if windows in ("all", "center") or (isinstance(windows, int) and not isinstance(windows, bool) and windows > 0):
        return windows
    raise ValueError(f'windows is "all", "center" or a positive integer, got {windows!r}')


@contextmanager
def _naming(index):
    """Says which item of the batch an error is about."""
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

    def __init__(self, feature_extractor, tokenizer):
        super().__init__(feature_extractor, tokenizer)

    def __call__(self, text=None, audio=None, **kwargs):
        """
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
        if text is None:  # nobody else would say that an argument is unknown
            audio_kwargs = kwargs | audio_kwargs
        inputs = {}
        if text is not None:
            texts = [text] if isinstance(text, str) else text
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
            inputs |= self.tokenizer(list(texts), **text_kwargs)
        if audio is not None:
            inputs |= self.feature_extractor(audio, **audio_kwargs)
        return BatchFeature(inputs, tensor_type=return_tensors)


MusCALLFeatureExtractor.register_for_auto_class("AutoFeatureExtractor")
MusCALLProcessor.register_for_auto_class("AutoProcessor")

__all__ = ["AudioReader", "MusCALLFeatureExtractor", "MusCALLProcessor", "read_audio", "window_layout"]
