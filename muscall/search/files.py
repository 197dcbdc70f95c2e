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
# A column of the index, and where it comes from: Vorbis comments (FLAC, OGG, Opus), ID3 (MP3, WAV, AIFF) and MP4.
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
    The audio files below a folder, by suffix, in a fixed order; hidden files and folders are left out.

    Raises:
        `OSError`: if a folder cannot be listed: its tracks would otherwise pass for deleted.
    """

    def fail(error):
        raise error

    for parent, folders, names in os.walk(folder, onerror=fail):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES:
                yield Path(parent, name)


def file_state(path: Path) -> str:
    """
    Differs whenever the content does, and costs no reading: size, modification and status change time. The last can
    not be set back; copying, moving or touching a file changes it too, and then the content's hash decides.
    """
    stat = path.stat()
    return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"


def read_tags(path: Path) -> dict:
    """The columns of `TAG_NAMES`, `None` where the file does not say: text, but a number for `year` and `bpm`."""
    try:
        file = mutagen.File(path)
    except mutagen.MutagenError:  # audio that decodes may still have tags that do not
        file = None
    tags = None if file is None else file.tags
    kind = 1 if isinstance(tags, ID3) else 2 if isinstance(tags, MP4Tags) else 0
    columns = dict.fromkeys(TAG_NAMES)
    for column, names in TAG_NAMES.items():
        if tags and names[kind] in tags:
            values = tags[names[kind]]
            values = values.genres if names[kind] == "TCON" else values.text if kind == 1 else values
            texts = [value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in values]
            text = "; ".join(texts).replace("\0", "").strip()[:MAX_TAG]
            columns[column] = text.encode(errors="replace").decode() or None
    columns["year"] = _number(int, columns["year"] and columns["year"][:4], 1, 9999)
    columns["bpm"] = _number(float, columns["bpm"], 1, 1000)
    return columns


def _number(kind, text, low, high):
    """What a tag says, or `None` where it is no number of a sensible size."""
    try:
        number = kind(text)
    except (TypeError, ValueError):
        return None
    return number if low <= number <= high else None
