# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The tags of audio files, whichever container they are in, as columns of the index."""

import os
import re
import struct
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mutagen
import soundfile
from mutagen.aac import AAC
from mutagen.apev2 import APEBinaryValue, APEExtValue, APEv2
from mutagen.asf import ASFBaseAttribute
from mutagen.flac import FLAC
from mutagen.id3 import COMM, ID3, TCON, TXXX, Frames, Frames_2_2, TextFrame
from mutagen.mp3 import MP3
from mutagen.mp4 import AtomDataType, MP4FreeForm


# For each column of the index, the names that it has in files, in lower case; the first that says something counts.
# They are those of Vorbis comments, APEv2, ID3's TXXX, MP4's free form and of RIFF INFO as soundfile names it; then of
# ID3, of MP4 and of ASF (WMA).
TAG_NAMES = {
    "title": ("title", "tit2", "\xa9nam"),
    "artist": ("artist", "tpe1", "\xa9art", "author"),
    "album": ("album", "talb", "\xa9alb", "wm/albumtitle"),
    "genre": ("genre", "tcon", "\xa9gen", "wm/genre"),
    "year": (
        *("date", "year", "tdrc", "tyer", "\xa9day", "wm/year"),
        *("releasedate", "tdrl", "originaldate", "originalyear", "tdor", "tory", "wm/originalreleaseyear"),
    ),
    "bpm": ("bpm", "tbpm", "tmpo", "wm/beatsperminute", "tempo", "fbpm"),
    "key": ("initialkey", "tkey", "wm/initialkey", "key", "initial key"),
}
COMMENT_NAMES = ("comment", "description", "comm", "\xa9cmt", "desc", "\xa9des", "wm/description")
MAX_TAG = 500  # characters; longer ones are lyrics in the wrong place, or an attack
FREE_FORM = "----:com.apple.itunes:"  # of MP4, in lower case; those of other programs are not meant for people
INFO_NAMES = {b"INAM": "title", b"IART": "artist", b"IPRD": "album", b"IGNR": "genre", b"ICRD": "date"}
INFO_NAMES |= {b"ICMT": "comment"}
INFO_SUFFIXES = {".wav", ".wave", ".bwf", ".rf64", ".w64", ".aif", ".aiff", ".aifc", ".caf"}
# Four digits that stand alone, begin a date of digits only (199912, 19991231, 19991231235959), or end one (31121999,
# 12311999).
YEAR = re.compile(
    r"(?<!\d)(?:(\d{4})(?:(?:0\d|1[0-2])(?:[0-3]\d(?:\d{6})?)?)?|(?:[0-3]\d[01]\d|[01]\d[0-3]\d)(\d{4}))(?!\d)"
)
FIRST_YEAR, LAST_YEAR = 1000, 9999  # to mutagen, 31.12.1999 is a day of the year 0031
MAX_BPM = 1000
# mutagen makes times of these, and drops what it does not take for one. Here they are texts.
FRAMES = Frames_2_2 | Frames | {name: type(name, (TextFrame,), {}) for name in ("TDRC", "TDRL", "TDOR")}


def read_tags(path: str | Path) -> dict[str, str | int | float | None]:
    """Return the columns of `TAG_NAMES`, `None` where the file has none: text, but numbers for `year` and `bpm`."""
    containers = _read_containers(str(path))
    parsers = {"year": _parse_year, "bpm": _parse_bpm}
    return {column: _find(names, containers, parsers.get(column, _parse_text)) for column, names in TAG_NAMES.items()}


def read_comment(path: str | Path) -> str | None:
    """Return what a person wrote about a track in its tags, besides the columns of `TAG_NAMES`."""
    return _find(COMMENT_NAMES, _read_containers(str(path)), _parse_text)


def _find(names: tuple[str, ...], containers: list[dict[str, list[str]] | None], parse: Callable[[list[str]], Any]):
    """Return the first value under one of these names that can be parsed, `None` if there is none."""
    values = (parse(tags[name]) for tags in containers if tags for name in names if name in tags)
    return next((value for value in values if value is not None), None)


def _read_containers(path: str) -> list[dict[str, list[str]] | None]:
    """
    Return what `_texts_by_name` returns for each container of tags in a file, the one to trust most first, and `None`
    for a damaged one.
    """
    file = _attempt(mutagen.File, path)
    # ID3 may be sound where the audio is not, and stand before AAC, of which mutagen reads nothing else.
    reader = ID3 if file is None or isinstance(file, AAC) else type(file)
    tags = _attempt(ID3, path) if reader is ID3 else file.tags
    containers = [_attempt(_texts_by_name, tags)]
    if isinstance(tags, ID3) and _find(TAG_NAMES["year"], containers, _parse_year) is None:
        again = _attempt(reader, path, translate=False, known_frames=FRAMES)
        containers.append(_attempt(_texts_by_name, again if reader is ID3 or again is None else again.tags))
    if reader is FLAC:  # some programs put ID3 before or after it
        containers.append(_attempt(_texts_by_name, _attempt(ID3, path)))
    if reader in (ID3, MP3):
        ape = _attempt(_texts_by_name, _attempt(APEv2, path))
        # ID3v1 cuts texts off after 30 characters.
        is_short = isinstance(tags, ID3) and tags.version < (2,)
        containers.insert(0 if is_short else len(containers), ape)
    if Path(path).suffix.lower() in INFO_SUFFIXES:
        containers.append(_attempt(_read_info, path))
    return containers


def _attempt(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Return what a function of mutagen or soundfile returns, `None` where it raises an error."""
    try:
        return function(*arguments, **options)
    except Exception:  # parsers raise whatever damaged bytes lead them to: that costs the tags, never the track
        return None


def _read_info(path: str) -> dict[str, list[str]]:
    """Return the texts of RIFF INFO, or what is like it in AIFF and CAF, which mutagen does not read."""
    with soundfile.SoundFile(path) as file:
        texts = file.copy_metadata()
    if any("\N{REPLACEMENT CHARACTER}" in text for text in texts.values()):  # not UTF-8: soundfile keeps no bytes
        texts |= _read_windows_info(path)
    return {name: [text] for name, text in texts.items()}


def _read_windows_info(path: str) -> dict[str, str]:
    """Return the texts of RIFF INFO in the encoding that programs of Windows wrote before UTF-8."""
    texts = {}
    with open(path, "rb") as file:
        file.seek(12)  # RIFF, its size, WAVE
        while len(head := file.read(8)) == 8:
            name, size = struct.unpack("<4sI", head)
            if name == b"LIST":
                file.seek(4, os.SEEK_CUR)  # INFO, and its texts follow as chunks
            elif name in INFO_NAMES:
                text = file.read(size).split(b"\0")[0]
                texts[INFO_NAMES[name]] = text.decode("cp1252", errors="replace")
                file.seek(size % 2, os.SEEK_CUR)
            else:
                file.seek(size + size % 2, os.SEEK_CUR)
    return texts


def _texts_by_name(tags: mutagen.Tags | None) -> dict[str, list[str]]:
    """Return the texts of the tags that `TAG_NAMES` and `COMMENT_NAMES` name, by name in lower case."""
    texts: dict[str, list[str]] = {}
    if tags is None:
        return texts
    known = {*COMMENT_NAMES, *(name for names in TAG_NAMES.values() for name in names)}
    for key, value in tags.items():
        name = value.desc if isinstance(value, TXXX) else key
        if isinstance(value, COMM) and not value.desc:  # programs write their own data into those with a description
            name = "comm"
        name = name.lower().removeprefix(FREE_FORM)
        if name in known:
            texts.setdefault(name, []).extend(_texts(value))
    return texts


def _texts(value: Any) -> list[str]:
    """Return the texts of a tag's value, none where it is binary."""
    if isinstance(value, TCON):
        return value.genres
    if isinstance(value, (APEBinaryValue, APEExtValue)):
        return []
    values = value.text if isinstance(value, TextFrame) else value
    values = [values] if isinstance(values, (str, int)) else values
    texts = []
    for part in values:
        part = part.value if isinstance(part, ASFBaseAttribute) else part
        if isinstance(part, MP4FreeForm) and part.dataformat == AtomDataType.INTEGER:
            part = int.from_bytes(part, "big", signed=True)
        elif isinstance(part, MP4FreeForm):
            part = part.decode("utf-16-be" if part.dataformat == AtomDataType.UTF16 else "utf-8", errors="replace")
        if not isinstance(part, (bytes, bool)):
            texts.append(str(part))
    return texts


def _parse_text(texts: list[str]) -> str | None:
    """Return texts as one of at most `MAX_TAG` characters in Unicode's composed form, `None` where there is none."""
    parts = (part.strip() for text in texts for part in text.split("\0"))
    text = unicodedata.normalize("NFC", "; ".join(part for part in parts if part))[:MAX_TAG].rstrip()
    return text.encode(errors="replace").decode() or None


def _parse_year(texts: list[str]) -> int | None:
    """Return the year of the first date that has one, in any spelling."""
    years = (int(match[1] or match[2]) for text in texts for match in YEAR.finditer(text))
    return next((year for year in years if FIRST_YEAR <= year <= LAST_YEAR), None)


def _parse_bpm(texts: list[str]) -> float | None:
    """Return the first text that is a tempo: `128`, `128,5` or `128 BPM`."""
    for text in texts:
        try:
            bpm = float(text.lower().replace("bpm", "").strip("\0 :~").replace(",", "."))
        except ValueError:
            continue
        if 1 <= bpm <= MAX_BPM:
            return bpm
    return None
