# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The audio files of a music library: where they are, whether they changed, and what their tags say."""

import os
from collections.abc import Iterator
from pathlib import Path

import mutagen
from mutagen.id3 import ID3
from mutagen.mp4 import MP4Tags


# What people keep music in. What soundfile cannot decode is tried with torchcodec, or reported as unreadable.
AUDIO_SUFFIXES = {
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff"),
    *(".m4a", ".m4b", ".m4p", ".mp4", ".aac", ".wma", ".ape", ".wv", ".mpc", ".alac"),
}
# For each column of the index, its name in Vorbis comments (FLAC, OGG, Opus), in ID3 (MP3, WAV, AIFF) and in MP4.
TAG_NAMES = {
    "title": ("title", "TIT2", "\xa9nam"),
    "artist": ("artist", "TPE1", "\xa9ART"),
    "album": ("album", "TALB", "\xa9alb"),
    "genre": ("genre", "TCON", "\xa9gen"),
    "year": ("date", "TDRC", "\xa9day"),
    "bpm": ("bpm", "TBPM", "tmpo"),
    "key": ("initialkey", "TKEY", "----:com.apple.iTunes:initialkey"),
}
MAX_TAG = 500  # characters; longer ones are lyrics in the wrong place, or an attack


def find_audio(folder: Path) -> Iterator[Path]:
    """
    Yield the audio files below a folder, by suffix, in a fixed order. Hidden files and folders are left out.

    Raises:
        `OSError`: if a folder cannot be listed: its tracks would otherwise pass for deleted.
    """
    for parent, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES:
                yield Path(parent, name)


def _raise(error: OSError):
    raise error


def file_state(path: Path) -> str:
    """
    Return a text that differs whenever the content of a file does, without reading it: size, modification time and
    status change time. The last cannot be set back. Copying, moving or touching a file changes it too, and then the
    hash of the content decides.
    """
    stat = path.stat()
    return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"


def read_tags(path: Path) -> dict[str, str | int | float | None]:
    """Return the columns of `TAG_NAMES`, `None` where the file has none: text, but numbers for `year` and `bpm`."""
    try:
        file = mutagen.File(path)
    except mutagen.MutagenError:  # audio that can be decoded may still have damaged tags
        file = None
    tags = None if file is None else file.tags
    columns = {column: _read_tag(tags, *names) for column, names in TAG_NAMES.items()}
    columns["year"] = _parse_number(int, columns["year"] and columns["year"][:4], 1, 9999)
    columns["bpm"] = _parse_number(float, columns["bpm"], 1, 1000)
    return columns


def _read_tag(tags: mutagen.Tags | None, vorbis_name: str, id3_name: str, mp4_name: str) -> str | None:
    """Return the values of a tag as one text of at most `MAX_TAG` characters, `None` where there is none."""
    name = id3_name if isinstance(tags, ID3) else mp4_name if isinstance(tags, MP4Tags) else vorbis_name
    if not tags or name not in tags:
        return None
    values = tags[name]
    if isinstance(tags, ID3):
        values = values.genres if name == "TCON" else values.text
    texts = [value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in values]
    text = "; ".join(texts).replace("\0", "").strip()[:MAX_TAG]
    return text.encode(errors="replace").decode() or None


def _parse_number(kind: type, text: str | None, low: float, high: float) -> int | float | None:
    """Return a tag as a number, `None` where it is none between `low` and `high`."""
    try:
        number = kind(text)
    except (TypeError, ValueError):
        return None
    return number if low <= number <= high else None
