# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Answers as a playlist file, M3U8, which music servers and players read."""

import os
from pathlib import Path

from muscall.cache import replace_file
from muscall.search.store import is_utf8


M3U_SUFFIXES = (".m3u8", ".m3u")


def check_m3u(path: Path):
    """
    Check that a playlist may be written to a path: by a slip it would replace a track.

    Raises:
        `ValueError`: if it has another suffix than a playlist, or is a folder.
    """
    if path.suffix.lower() not in M3U_SUFFIXES:
        raise ValueError(f"{path} is no name of a playlist: expected one that ends in {' or '.join(M3U_SUFFIXES)}")
    if path.is_dir():
        raise ValueError(f"{path} is a folder: expected the name of a playlist")


def write_m3u(path: Path, answers: list[dict]) -> dict[str, str]:
    """
    Write a playlist in one step: a player finds the old one or the whole new one. Of several passages of a track, the
    track is in it once.

    Args:
        path (`Path`): The file. Tracks are named relative to its folder, so that both can be moved together.
        answers (`list[dict]`): Of [`Library.search`].

    Returns:
        `dict[str, str]`: tracks that are left out, and why.

    Raises:
        `ValueError`: if no track is left, or the path is none of a playlist. Nothing is written then.
    """
    check_m3u(path)
    text, left_out = format_m3u(answers, path.parent)
    if len(left_out) == len({answer["track"] for answer in answers}):
        reasons = "".join(f"; {track} {reason}" for track, reason in left_out.items())
        raise ValueError(f"{path} is not written: no track to write{reasons}")
    with replace_file(path) as partial:
        partial.write_bytes(text.encode())
    return left_out


def format_m3u(answers: list[dict], folder: str | Path | None) -> tuple[str, dict[str, str]]:
    """
    Return the text of a playlist that lies in a folder, and the tracks that it lacks, with the reason for each. Where
    it will lie may be unknown, `None`: its paths are absolute then.
    """
    lines, left_out, seen = ["#EXTM3U"], {}, set()
    for answer in answers:
        track = answer["track"]
        if track in seen:
            continue
        seen.add(track)
        place = track if folder is None else _relative(track, folder)
        if answer["file"] == "missing":
            left_out[track] = "is no longer there"
        elif len(place.splitlines()) > 1:
            left_out[track] = "has a line break in its path, for which the format has no spelling"
        elif not is_utf8(place):
            left_out[track] = "has a path that is not UTF-8"
        else:
            lines += [f"#EXTINF:{round(answer['duration'])},{_title(answer)}", place]
    return "\n".join(lines) + "\n", left_out


def _title(answer: dict) -> str:
    names = [answer[tag] for tag in ("artist", "title") if answer[tag]] if answer["title"] else []
    return " ".join(" - ".join(names or [Path(answer["track"]).stem]).split())  # a line break would end the entry


def _relative(track: str, folder: str | Path) -> str:
    """
    Return the path of a track from a folder, by the names that a person uses where these lead to it. Where a link is
    on the way, `..` may lead elsewhere, and the path is that without links.
    """
    folder = os.path.abspath(folder)
    place = os.path.relpath(track, folder)
    if os.path.realpath(os.path.join(folder, place)) != os.path.realpath(track):
        place = os.path.relpath(os.path.realpath(track), os.path.realpath(folder))
    # A line that begins with # is a comment, and players strip blanks.
    return os.path.join(".", place) if place.startswith("#") or place != place.strip() else place
