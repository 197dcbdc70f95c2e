# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Audio files read by soundfile, with the length that they have, whatever their headers claim."""

import io
import itertools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from transformers.utils import logging


try:  # as remote code the files are siblings in a package; in the checkout they are top-level modules
    from .audio_headers_muscall import (
        TAGS,
        Info,
        Pieces,
        Run,
        SplicedFile,
        byte_size,
        find_links,
        find_run,
        find_runs,
        flac_ends,
        last_page_samples,
        pieces_to_end,
        read_at,
        read_flac_header,
        read_info,
        skip_id3,
        write_info,
    )
except ImportError:
    from audio_headers_muscall import (
        TAGS,
        Info,
        Pieces,
        Run,
        SplicedFile,
        byte_size,
        find_links,
        find_run,
        find_runs,
        flac_ends,
        last_page_samples,
        pieces_to_end,
        read_at,
        read_flac_header,
        read_info,
        skip_id3,
        write_info,
    )


if TYPE_CHECKING:
    import soundfile


logger = logging.get_logger(__name__)

BLOCK = 2**19  # samples decoded at once
CANCELLED = 0.01  # of the peak of the channels; a mix below it is 40 dB too quiet
MAX_PEAK = 100.0  # floats are nominally in [-1, 1]; beyond this they are integer PCM that nobody scaled
VORBIS_BLOCK = 2**13  # samples, the largest block of the format
WHOLE = 0.99  # a file with less of what it claims is cut off


class UnknownFormatError(ValueError):
    """A file that soundfile cannot decode."""


@dataclass
class _Part:
    file: "soundfile.SoundFile | None"  # None while it is closed
    frames: int
    pieces: Pieces | None  # of the file that make up this part; None: the file as it is
    last_page: int = 0  # of a Vorbis stream: how many samples stand in its last page


class AudioFile:
    """
    An audio file that is decoded only where it is read. A header that claims a length is believed where the file bears
    it out, at no cost for well-formed files; else the frames are counted, and what is no audio is left out. Files that
    were joined from several are read from the first to the last.

    Args:
        source (`str`, `Path` or `bytes`): A file's path or content.
        name (`str`): What error messages call it.

    Attributes:
        sampling_rate (`int`): In hertz (Hz).
        frames (`int`): Length, in samples at `sampling_rate`.
    """

    def __init__(self, source: str | Path | bytes, name: str):
        self.name, self._source = name, source
        with self._open_stream() as stream:
            self._parts = self._find_parts(stream)
        self.sampling_rate = self._parts[0].file.samplerate
        self.frames = sum(part.frames for part in self._parts)
        if len(rates := {part.file.samplerate for part in self._parts}) > 1:
            parts = ", ".join(f"{part.frames / part.file.samplerate:.2f} s" for part in self._parts)
            raise ValueError(
                f"{name} is joined from parts at {' and '.join(map(str, sorted(rates)))} Hz, of {parts}: expected one "
                "sampling rate; split the file, or write it again at one rate"
            )

    def open(self) -> None:
        """Open the file again after `close`."""
        for part in self._parts:
            part.file = part.file or self._open(part.pieces)

    def close(self) -> None:
        """Close the file."""
        for part in self._parts:
            if part.file is not None:
                part.file.close()
                part.file = None

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return samples `start` to `stop`, mono: `np.ndarray` of shape `(samples,)`, float32."""
        samples, first = [], 0
        for part in self._parts:
            begin, end = max(start - first, 0), min(stop - first, part.frames)
            if begin < end:
                samples.append(self._read_part(part, begin, end, first))
            first += part.frames
        return samples[0] if len(samples) == 1 else np.concatenate(samples)

    def _read_part(self, part: _Part, start: int, stop: int, first: int) -> np.ndarray:
        import soundfile

        lead = self._lead(part, start)
        cause, samples = None, np.empty((0, 1), dtype=np.float32)
        try:
            if part.file.subtype == "VORBIS" and 0 < start - lead - part.file.tell() <= 2 * self.sampling_rate:
                # libsndfile skips up to 2 s without decoding, and is then off by up to a block, unless it has decoded
                # nothing since it was opened or went back.
                part.file.seek(0)
            if part.file.seek(start - lead) == start - lead:
                samples = part.file.read(stop - start + lead, dtype="float32", always_2d=True)[lead:]
        except soundfile.LibsndfileError as error:
            cause = error
        if len(samples) < stop - start:
            begin, end, whole = ((first + frame) / self.sampling_rate for frame in (start, stop, self.frames - first))
            raise ValueError(
                f"{self.name} is damaged: decoding fails between {begin:.2f} and {end:.2f} s of {whole:.2f} s"
            ) from cause
        return mix_to_mono(samples.T, self.name)

    def _lead(self, part: _Part, start: int) -> int:
        """Return how many samples before `start` to begin with, so that those from `start` on are right."""
        lead = 0
        if part.file.format == "MP3":
            # After a seek the decoder lacks its bit reservoir, up to 511 bytes (255 below 32 kHz), which the lowest
            # bitrates spread over 12 frames of 1152 samples (87 of 576).
            lead = 2**14 if self.sampling_rate >= 32000 else 2**16
        elif part.file.subtype == "VORBIS":
            # libsndfile is wrong by up to a block where it seeks into the last page. Other formats seek exactly.
            lead = max(0, start - max(0, part.frames - part.last_page - VORBIS_BLOCK))
        return min(lead, start)

    def _open_stream(self, buffering: int = -1) -> BinaryIO:
        # Python's open() says which path is missing, unreadable or a directory; libsndfile does not.
        return io.BytesIO(self._source) if isinstance(self._source, bytes) else open(self._source, "rb", buffering)

    def _open(self, pieces: Pieces | None) -> "soundfile.SoundFile":
        import soundfile

        if pieces is not None:
            return soundfile.SoundFile(SplicedFile(self._open_stream(), pieces))
        return soundfile.SoundFile(io.BytesIO(self._source) if isinstance(self._source, bytes) else self._source)

    def _open_part(self, pieces: Pieces | None) -> _Part | None:
        """Open a part whose last sample can be read; `None` if there is none."""
        import soundfile

        try:
            file = self._open(pieces)
        except soundfile.LibsndfileError:
            return None
        return _Part(file, file.frames, pieces) if has_last_sample(file) else None

    def _find_parts(self, stream: BinaryIO) -> list[_Part]:
        import soundfile

        start = skip_id3(stream)
        may_be_mpeg = read_at(stream, start, 1) == b"\xff" or (start > 0 and read_at(stream, start, 4) != b"fLaC")
        if may_be_mpeg and (parts := self._find_mpeg_parts(stream, start, 0.0)):
            return parts
        try:
            file = self._open(None)
        except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: samples without a header, named .raw
            if (pieces := pieces_to_end(stream)) is not None and (part := self._open_part(pieces)) is not None:
                return [part]
            if not may_be_mpeg and (parts := self._find_mpeg_parts(stream, start, 0.5)):
                return parts
            raise UnknownFormatError(
                f"{self.name} cannot be decoded: it is damaged, or not one of WAV, FLAC, OGG, Opus, MP3 and AIFF; for "
                "other formats install torchcodec and FFmpeg, or convert it"
            ) from error
        as_it_is = _Part(file, file.frames, None)
        if file.format == "MP3":
            if not may_be_mpeg and (parts := self._find_mpeg_parts(stream, start, 0.5)):
                return parts
            as_it_is.frames = self._count_frames(file)
            return [as_it_is]
        if file.format == "OGG":
            links, size = find_links(stream), byte_size(stream)
            parts = self._open_links(links, size) if len(links) > 1 else [as_it_is]
            for part, stop in zip(parts, [*links[1:], size], strict=True):
                if part.file.subtype == "VORBIS":
                    part.last_page = last_page_samples(stream, stop)
            return parts
        if file.format == "FLAC":
            return [self._find_flac_end(stream, as_it_is)]
        pieces = pieces_to_end(stream)
        return [as_it_is] if pieces is None else [self._open_part(pieces) or as_it_is]

    def _open_links(self, links: list[int], size: int) -> list[_Part]:
        return self._decoded([self._open_part([span]) for span in itertools.pairwise([*links, size])])

    def _find_flac_end(self, stream: BinaryIO, as_it_is: _Part) -> _Part:
        header = read_flac_header(stream)
        ends = [] if header is None else flac_ends(stream, header)
        if header is None or (header.samples > 0 and ends[:1] in ([], [header.samples])):
            return as_it_is
        for end in ends:
            part = self._open_part(header.pieces(end, byte_size(stream)))
            if part is not None:
                if end != ends[0]:  # the last frame is not whole, else the header is wrong
                    self._check_whole(end, header.samples, as_it_is.file.samplerate)
                return part
        self._check_whole(0, header.samples, as_it_is.file.samplerate)
        raise ValueError(f"{self.name} is damaged: none of its frames is whole")

    def _check_whole(self, frames: int, claimed: int, rate: int) -> None:
        if frames < WHOLE * claimed:
            raise ValueError(
                f"{self.name} is cut off: {frames / rate:.2f} s of the {claimed / rate:.2f} s that it claims are there"
            )

    def _decoded(self, parts: list[_Part | None]) -> list[_Part]:
        if None in parts:
            seconds = sum(part.frames / part.file.samplerate for part in parts if part is not None)
            raise ValueError(
                f"{self.name} is damaged: {parts.count(None)} of the {len(parts)} parts that it is joined from cannot "
                f"be decoded, the others have {seconds:.2f} s"
            )
        return parts

    def _find_mpeg_parts(self, stream: BinaryIO, start: int, least: float) -> list[_Part]:
        """
        Return the parts of an MP3, of which there are several where the number of channels or the rate changes; none
        where less than a share `least` from the first frame to the last is frames: they are the sound of a film.
        """
        info = read_info(stream, start)
        if info is not None and (part := self._believe(stream, start, info)) is not None:
            return [part]
        runs = find_runs(stream)
        if not runs or sum(run.stop - run.start for run in runs) < least * (runs[-1].stop - runs[0].start):
            return []
        kinds = itertools.groupby(runs, key=lambda run: run.kind)
        parts = [self._join_runs(stream, list(group)) for _, group in kinds]
        return self._decoded(parts) if any(parts) else []

    def _believe(self, stream: BinaryIO, start: int, info: Info) -> _Part | None:
        """Open an MP3 whose first frame claims a length; `None` if the claim is wrong."""
        import soundfile

        if not info.frames or not info.size or info.rest is None:
            return None
        size, end = byte_size(stream), start + info.size
        # Where the size is far off, the decoder would print a warning that does not name the file.
        tags_follow = read_at(stream, end, 8).startswith(TAGS)
        if abs(size - end) > size // 100 or (size - end > len(info.frame) and not tags_follow):
            return None
        with self._open_stream(buffering=0) as own:
            # A copy of a file's descriptor shares its position, and reads faster than one of Python's objects.
            handle = io.BytesIO(self._source) if isinstance(own, io.BytesIO) else own
            try:
                file = soundfile.SoundFile(handle if isinstance(own, io.BytesIO) else os.dup(own.fileno()))
            except soundfile.LibsndfileError:
                return None
            is_long_enough, behind = has_last_sample(file), handle.tell()
        if not is_long_enough or behind > end + len(info.frame):
            return None  # it is shorter than it claims, or something else stands between the frames
        # Frames behind the last sample hold the encoder's padding.
        padding = (info.frames * info.kind.frame_samples - file.frames) // info.kind.frame_samples
        return _Part(file, file.frames, None) if find_run(stream, behind, padding + 1) is None else None

    def _join_runs(self, stream: BinaryIO, runs: list[Run]) -> _Part | None:
        """Open the frames of one kind, without what stands between them, behind a header that states their number."""
        kind, count = runs[0].kind, sum(run.count for run in runs)
        spans = [(run.start, run.stop) for run in runs]
        heads = [write_info(kind, read_at(stream, runs[0].start, 4), count)]
        if (info := read_info(stream, runs[0].start)) is not None:
            count, spans[0] = count - 1, (spans[0][0] + len(info.frame), spans[0][1])
            self._check_claim(info, count, runs[-1].stop - runs[0].start)
            heads = [write_info(kind, info.frame[:4], count)]
            if info.rest is not None:
                size = len(info.frame) + sum(stop - start for start, stop in spans)
                heads.insert(0, info.rewrite(count, size))
        for head in heads:
            part = self._open_part([head, *spans])
            if part is not None and 0 <= count * kind.frame_samples - part.frames < 2**14:
                return part
        return None

    def _check_claim(self, info: Info, frames: int, size: int) -> None:
        """Tell a file that is cut off from one whose header is wrong: the former has frames as long as it claims."""
        claimed = info.frames or 0
        if info.size is None or (size < WHOLE * info.size and 0.5 < info.size * frames / (size * max(1, claimed)) < 2):
            samples = info.kind.frame_samples
            self._check_whole(frames * samples, claimed * samples, info.kind.rate)

    def _count_frames(self, file: "soundfile.SoundFile") -> int:
        """Count the frames that are there: the length of an MP3 may be guessed."""
        import soundfile

        if has_last_sample(file):
            return file.frames
        try:
            file.seek(frames := 0)
            while block := len(file.read(BLOCK, dtype="float32")):
                frames += block
        except soundfile.LibsndfileError as error:
            raise ValueError(f"{self.name} is damaged: decoding fails at {frames / file.samplerate:.2f} s") from error
        self._check_whole(frames, file.frames, file.samplerate)
        return frames


def has_last_sample(file: "soundfile.SoundFile") -> bool:
    """Tell whether the last sample that a file claims can be read."""
    import soundfile

    try:
        return file.seek(file.frames - 1) == file.frames - 1 and len(file.read(1)) == 1
    except soundfile.LibsndfileError:
        return False


def mix_to_mono(channels: np.ndarray, name: str) -> np.ndarray:
    """
    Return the mean of channels of shape `(channels, samples)`, checked. A warning says if they cancel: channels in
    antiphase leave silence. Another mix would not do, as a part must equal the same part of the whole track.
    """
    samples = sum(channels) / len(channels)  # 10 times as fast as mean() on the interleaved channels of a file
    low, high = samples.min(), samples.max()
    peak = max(-low, high)
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(f"{name} contains NaN or infinite samples")
    if peak > MAX_PEAK:
        raise ValueError(
            f"{name} has a peak of {peak:.0f}, but floating-point samples are in [-1, 1]: divide integer PCM by its "
            "full scale (32768 for 16 bit), or pass it as int16"
        )
    if len(channels) > 1 and peak < CANCELLED and peak < CANCELLED * np.abs(channels).max():
        logger.warning_once(
            f"{name}: the channels cancel in the mix to mono, of which 1 % or less is left: they are in antiphase. "
            "Invert one of them, or pass one channel alone"
        )
    return samples
