# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The sound behind the page: files of the index, passages of what browsers cannot play, and playlists."""

import mimetypes
import tempfile
import threading
from functools import lru_cache

import numpy as np
import soundfile
import soxr
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from muscall.search.files import describe_files
from muscall.search.m3u import format_m3u
from muscall.search.store import FIRST, Store, literal


PLAY_RATE = 44100  # hertz: what every browser plays
PASSAGE_SECONDS = 60  # of a converted passage; the page asks for the next one when it ends
PASSAGES = 50  # converted passages kept on disk, about 1 MB each
WAVEFORMS = 1000  # drawn ones kept in memory, about 2 kB each
BARS = 80  # of a waveform
MOMENT = 0.2  # seconds that are read for a bar: a track of an hour costs no more than one of a minute
GONE = "this track is not in the library, or its file is no longer there"


class Sound:
    """
    What a browser plays of the tracks of an index, which are named by the hashes of their contents.

    Args:
        store ([`Store`]): The index. Nothing but its tracks is served.
    """

    def __init__(self, store: Store):
        self.store = store
        self.folder = tempfile.TemporaryDirectory(prefix="muscall-passages-")
        self.converted = lru_cache(PASSAGES)(self._convert)
        self.drawn = lru_cache(WAVEFORMS)(self._draw)
        self.drawing = threading.Lock()  # one at a time: players and answers go first

    def routes(self) -> list[Route]:
        """Return what is served, for the server of the page."""
        return [
            Route("/tracks/{digest}", self.track),
            Route("/passages/{digest}/{start:int}.mp3", self.passage),
            Route("/waveforms/{digest}.svg", self.waveform),
            Route("/playlist.m3u8", self.playlist),
        ]

    def find(self, digest: str) -> dict:
        """
        Return what the index has of a track: the columns of its first window, `copies` and `file` as of an answer.

        Raises:
            `ValueError`: if it has no such track.
        """
        rows = self.store.rows(f"hash = {literal(digest)} AND {FIRST}").drop_columns(["vector"]).to_pylist()
        if not rows:
            raise ValueError("this track is no longer in the index: load the page again")
        return rows[0] | describe_files({row["track"]: row["state"] for row in rows})

    def track(self, request: Request) -> Response:
        """Return a whole file as it is, or the range of it that a player asks for."""
        try:
            path = self._file(request.path_params["digest"])["track"]
        except (ValueError, OSError):
            return PlainTextResponse(GONE, 404)
        return FileResponse(path, media_type=mimetypes.guess_type(path)[0] or "application/octet-stream")

    def passage(self, request: Request) -> Response:
        """Return the passage that starts at a time, in milliseconds, as MP3."""
        try:
            file = self.converted(request.path_params["digest"], request.path_params["start"])
        except (ValueError, OSError):
            return PlainTextResponse(GONE, 404)
        return FileResponse(file.name, media_type="audio/mpeg")

    def waveform(self, request: Request) -> Response:
        """Return the loudness of a track over its time as a picture."""
        try:
            picture = self.drawn(request.path_params["digest"])
        except (ValueError, OSError):
            return PlainTextResponse(GONE, 404)
        except soundfile.LibsndfileError:  # the strip stays a line
            return Response(status_code=204)
        return Response(picture, media_type="image/svg+xml")

    def playlist(self, request: Request) -> Response:
        """Return the tracks that an address names as a playlist."""
        try:
            rows = [self.find(digest) for digest in request.query_params.getlist("track")]
        except ValueError:
            return PlainTextResponse(GONE, 404)
        headers = {"Content-Disposition": 'attachment; filename="muscall.m3u8"'}
        return Response(format_m3u(rows, folder=None)[0], headers=headers, media_type="application/x-mpegurl")

    def _file(self, digest: str) -> dict:
        row = self.find(digest)
        if row["file"] == "missing":
            raise FileNotFoundError(row["track"])
        return row

    def _draw(self, digest: str) -> str:
        row = self._file(digest)
        with self.drawing:
            return draw_waveform(row["track"], row["duration"])

    def _convert(self, digest: str, start: int):
        """Return a temporary file with the passage that starts at `start` milliseconds."""
        row = self._file(digest)
        if start >= 1000 * row["duration"]:
            raise ValueError(f"{digest} lasts {row['duration']} s, so nothing starts at {start} ms")
        samples = read_stereo(row["track"], start / 1000, PASSAGE_SECONDS)
        file = tempfile.NamedTemporaryFile(dir=self.folder.name, suffix=".mp3")  # noqa: SIM115, lives in the cache
        soundfile.write(file, samples, PLAY_RATE, format="MP3")
        file.flush()
        return file


def read_stereo(path: str, start: float, seconds: float) -> np.ndarray:
    """Return a part of a file as samples `(frames, channels)` at `PLAY_RATE`, with its first two channels."""
    try:
        with soundfile.SoundFile(path) as file:
            file.seek(min(round(start * file.samplerate), file.frames))
            samples = file.read(round(seconds * file.samplerate), dtype="float32", always_2d=True)[:, :2]
            rate = file.samplerate
    except soundfile.LibsndfileError:
        return read_other(path, start, seconds)
    return samples if rate == PLAY_RATE else soxr.resample(samples, rate, PLAY_RATE)


def read_other(path: str, start: float, seconds: float) -> np.ndarray:
    """Return what [`read_stereo`] does, of a file that soundfile cannot read; in mono where torchcodec cannot."""
    try:
        from torchcodec.decoders import AudioDecoder

        decoder = AudioDecoder(path, sample_rate=PLAY_RATE)
        return decoder.get_samples_played_in_range(start, start + seconds).data[:2].numpy().T
    except (ImportError, RuntimeError, ValueError):  # of torchcodec, which is missing or finds no FFmpeg, or of FFmpeg
        from processing_muscall import read_audio  # takes seconds to import

        return read_audio(path, PLAY_RATE, start, seconds)[:, None]


def draw_waveform(path: str, duration: float) -> str:
    """
    Return the loudness of a file over its time as bars, in SVG. A moment is heard for each.

    Raises:
        `soundfile.LibsndfileError`: if only the reader of the model can read it, or its end is missing.
    """
    levels = np.zeros(BARS)
    with soundfile.SoundFile(path) as file:
        for number, second in enumerate(np.linspace(0, duration, BARS, endpoint=False)):
            file.seek(round(second * file.samplerate))
            samples = file.read(round(min(MOMENT, duration / BARS) * file.samplerate), dtype="float32")
            levels[number] = np.sqrt(np.square(np.nan_to_num(samples)).sum() / max(samples.size, 1))
    heights = 6 + 94 * np.sqrt(levels / max(levels.max(), 1e-6))
    bars = "".join(f"M{x}.5 {50 - height / 2:.1f}v{height:.1f}" for x, height in enumerate(heights))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {BARS} 100" preserveAspectRatio="none">'
        f'<path stroke="#000" stroke-width="0.65" d="{bars}"/></svg>'
    )
