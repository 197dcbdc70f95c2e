# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The audio files of a music library: where they are, which of them a path means, and whether they changed."""

import os
import stat
import unicodedata
from collections.abc import Collection, Iterable
from pathlib import Path

from muscall.folders import LINKED_FILES, FoundFiles, find_files, is_below


FILE_STATUS = ("there", "changed", "missing")  # of file_status, the best first
# What people keep music in. What soundfile cannot decode is tried with torchcodec, or reported as unreadable.
AUDIO_SUFFIXES = {
    *(".wav", ".wave", ".bwf", ".rf64", ".w64", ".aif", ".aiff", ".aifc", ".caf", ".au", ".snd"),
    *(".flac", ".ogg", ".oga", ".opus", ".spx", ".mp1", ".mp2", ".mp3", ".mpga"),
    *(".m4a", ".m4b", ".m4p", ".mp4", ".aac", ".alac", ".ac3", ".eac3", ".dts", ".wma", ".mka", ".weba", ".webm"),
    *(".ape", ".wv", ".mpc", ".tta", ".tak", ".shn", ".dsf", ".dff"),
}


def find_audio(*folders: str | Path) -> FoundFiles:
    """
    Find the audio files below folders, by suffix, see [`find_files`]. Of several links to one file the first counts.

    Raises:
        `OSError`: if one of the folders named cannot be listed.
    """
    found = find_files(*folders, suffixes=AUDIO_SUFFIXES)
    first = {target: link for link, target in reversed(found.links.items())}
    again = {link for link, target in found.links.items() if first[target] != link}
    for link in found.links:
        if link in again:
            found.leave_out(LINKED_FILES, link)
    found.paths = [path for path in found.paths if path not in again]
    return found


def absolute_path(path: str | Path) -> str:
    """Return a path without `..` from the root on. Links stay in it, unless `..` comes after one."""
    absolute, real = os.path.abspath(path), os.path.realpath(path)
    return absolute if os.path.realpath(absolute) == real else real


def find_tracks(tracks: Iterable[str], path: str | Path, below: bool = False) -> list[str]:
    """
    Return the tracks that a person means by a path: the one of this name, or else those that differ from it by links,
    by the Unicode form (NFC, NFD) or by capitals in the suffix.

    Args:
        tracks (`Iterable[str]`): Absolute paths.
        path (`str` or `Path`): Of a track.
        below (`bool`, *optional*, defaults to `False`): Whether it may be that of a folder of tracks too.
    """
    tracks = sorted(tracks)
    meant = absolute_path(path)
    if meant in tracks:
        return [meant]
    folders = {_normal(meant), _normal(os.path.realpath(meant))}
    files = {_normal_suffix(form) for form in folders}
    found = []
    for track, real in zip(tracks, real_paths(tracks), strict=True):
        forms = {_normal(track), _normal(real)}
        is_meant = any(_normal_suffix(form) in files for form in forms)
        if is_meant or (below and any(is_below(form, folder) for form in forms for folder in folders)):
            found.append(track)
    return found


def _normal(path: str) -> str:
    return unicodedata.normalize("NFC", path)


def _normal_suffix(path: str) -> str:
    root, suffix = os.path.splitext(path)
    return root + suffix.lower()


def real_paths(paths: Iterable[str]) -> list[str]:
    """Return paths with all links followed. Each folder is looked up once."""
    folders: dict[str, str] = {}
    real = []
    for path in paths:
        folder, name = os.path.split(path)
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        file = os.path.join(folders[folder], name)
        real.append(os.path.realpath(file) if os.path.islink(file) else file)
    return real


def known_names(paths: list[str], known: Collection[str]) -> dict[str, str]:
    """
    Return, for files that an index has under another path, that path: its folder was named by a link then, or is now.

    Args:
        paths (`list[str]`): Files that were found, absolute paths.
        known (`Collection[str]`): The tracks of the index.
    """
    others = set(known).difference(paths)
    new = [path for path in paths if path not in known]
    file_names = {_normal(os.path.basename(path)) for path in new}
    # A path on another disk may take long to look up: only those that may be the same file are.
    others = [track for track in sorted(others) if _normal(os.path.basename(track)) in file_names]
    by_real_path = {_normal(real): track for track, real in zip(others, real_paths(others), strict=True)}
    names = {}
    for path, real in zip(new, real_paths(new) if others else new, strict=True):
        track = by_real_path.get(_normal(real))
        if track is not None and _is_same_file(track, path):
            names[path] = track
    return names


def _is_same_file(first: str, second: str) -> bool:
    try:
        return os.path.samefile(first, second)
    except OSError:
        return False


def file_state(path: str | Path) -> str:
    """
    Return a text that differs whenever the content of a file does, without reading it: size, modification time and
    status change time. The last cannot be set back. Copying, moving or touching a file and changing its permissions
    changes it too, and then the hash of the content decides.

    Raises:
        `OSError`: if there is no such file.
        `ValueError`: if it is a pipe, a socket or a device: reading it might never end.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("is no file, but a pipe, a socket, a device or a folder")
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


def file_status(path: str | Path, state: str) -> str:
    """
    Return what has become of a file since it was in a state: `"there"`, `"changed"` or `"missing"`. The time of the
    last status change is not looked at: new permissions leave the content as it was.
    """
    try:
        return "there" if file_state(path).split()[:2] == state.split()[:2] else "changed"
    except (OSError, ValueError):
        return "missing"


def describe_files(states: dict[str, str]) -> dict:
    """
    Return `track`, `copies` and `file` of an answer, for the state of each path of a content: the path to take, the
    others, and what has become of the first.
    """
    files = {path: file_status(path, state) for path, state in sorted(states.items())}
    track = min(files, key=lambda path: FILE_STATUS.index(files[path]))
    return {"track": track, "copies": [path for path in files if path != track], "file": files[track]}
