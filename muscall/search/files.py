# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The audio files of a music library: where they are, which of them a path means, and whether they changed."""

import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path


# What people keep music in. What soundfile cannot decode is tried with torchcodec, or reported as unreadable.
AUDIO_SUFFIXES = {
    *(".wav", ".wave", ".bwf", ".rf64", ".w64", ".aif", ".aiff", ".aifc", ".caf", ".au", ".snd"),
    *(".flac", ".ogg", ".oga", ".opus", ".spx", ".mp1", ".mp2", ".mp3", ".mpga"),
    *(".m4a", ".m4b", ".m4p", ".mp4", ".aac", ".alac", ".ac3", ".eac3", ".dts", ".wma", ".mka", ".weba", ".webm"),
    *(".ape", ".wv", ".mpc", ".tta", ".tak", ".shn", ".dsf", ".dff"),
}
# Folders in which systems keep what was deleted, older versions of files, thumbnails and data of their own.
HOUSEKEEPING = {
    *(".trash", ".trashes", ".recycle", "#recycle", "@recycle", "$recycle.bin", ".stversions", ".sync"),
    *(".snapshot", ".snapshots", "#snapshot", "@recently-snapshot", ".zfs", ".git", ".hg", ".svn"),
    *("@eadir", ".@__thumb", ".thumbnails", ".cache", ".appledouble", ".temporaryitems", ".spotlight-v100"),
    *(".fseventsd", ".documentrevisions-v100", "system volume information"),
}
APPLE_DOUBLE = b"\0\x05\x16\x07"  # the first bytes of what macOS keeps beside a file on a foreign disk


@dataclass
class AudioFiles:
    """
    The audio files below some folders, and what was not taken.

    Args:
        paths (`list[str]`): The files, in a fixed order.
        unlisted (`dict[str, str]`): Folders and links that could not be looked into, and why.
        left_out (`dict[str, Counter]`): For each kind of what was left out, suffixes, names or paths and their number.
    """

    paths: list[str] = field(default_factory=list)
    unlisted: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, Counter] = field(default_factory=dict)


def find_audio(*folders: str | Path) -> AudioFiles:
    """
    Find the audio files below folders, by suffix. Links are followed after all folders that are there by themselves,
    and links to files last, so that whatever has a path without links is found under that one, and a file in a linked
    folder is found there. Each folder is looked into once.

    Raises:
        `OSError`: if one of the folders named cannot be listed.
    """
    finder = Finder([str(folder) for folder in folders])
    links = []
    for folder in finder.roots:
        os.scandir(folder).close()
        links += finder.walk(folder)
    file_links = []
    for link in links:  # the list grows: there are links in linked folders
        if os.path.isdir(link):
            links += finder.follow_folder(link)
        else:
            file_links.append(link)
    for link in file_links:
        finder.follow_file(link)
    return finder.found


class Finder:
    """
    A search for audio files.

    Args:
        roots (`list[str]`): The folders to search.

    Attributes:
        found ([`AudioFiles`]): The result so far.
        walked (`dict[str, str]`): The real path of each folder that was listed -> the path it was listed under.
        linked (`set[str]`): Real paths of files that were found by links to them.
    """

    def __init__(self, roots: list[str]):
        self.roots, self.real_roots = roots, [os.path.realpath(root) for root in roots]
        self.found, self.walked, self.linked = AudioFiles(), {}, set()

    def walk(self, folder: str) -> list[str]:
        """Take the audio files below a folder without following links, and return the links."""
        links, todo = [], [(folder, os.path.realpath(folder))]
        while todo:
            folder, real = todo.pop()
            if real in self.walked:
                if self.walked[real] != folder:
                    self._leave_out("folders that are indexed under another name", folder)
                continue
            try:
                with os.scandir(folder) as listing:
                    entries = sorted(listing, key=lambda entry: entry.name)
            except OSError as error:
                self.found.unlisted[folder] = reason_of(error)
                continue
            self.walked[real] = folder
            subfolders = []
            for entry in entries:
                try:
                    is_link, is_folder = entry.is_symlink(), entry.is_dir(follow_symlinks=False)
                except OSError as error:
                    self.found.unlisted[entry.path] = reason_of(error)
                    continue
                if is_link:
                    links.append(entry.path)
                elif not is_folder:
                    self._take(entry.path)
                elif self._is_music(entry.path):
                    subfolders.append((entry.path, os.path.join(real, entry.name)))
            todo += reversed(subfolders)
        return links

    def follow_folder(self, link: str) -> list[str]:
        """Take the audio files below the folder that a link leads to, and return the links there."""
        target = os.path.realpath(link)
        if any(is_below(root, target) for root in self.real_roots):
            self._leave_out("links to a folder that a folder to index is in", link)
        elif self._is_music(link):
            return self.walk(link)
        return []

    def follow_file(self, link: str):
        """Take the file that a link leads to, if it leads to one."""
        target = os.path.realpath(link)
        try:
            os.stat(link)
        except OSError as error:
            if _is_audio(link):  # it is listed as a file that cannot be read
                self.found.paths.append(link)
            else:
                self.found.unlisted[link] = reason_of(error)
            return
        if target in self.linked or (os.path.dirname(target) in self.walked and _is_audio(target)):
            self._leave_out("links to files that are indexed under another name", link)
        else:
            self.linked.add(target)
            self._take(link)

    def _is_music(self, folder: str) -> bool:
        name = os.path.basename(folder)
        is_music = name.lower() not in HOUSEKEEPING and not name.lower().startswith(".trash-")
        if not is_music:
            self._leave_out("folders of deleted files, old versions, thumbnails and the like", name)
        return is_music

    def _take(self, path: str):
        name = os.path.basename(path)
        if not _is_audio(path):
            self._leave_out("files that are not audio by their suffix", _suffix(path) or "no suffix")
        elif name.startswith("._") and _is_apple_double(path):
            self._leave_out("files that macOS keeps beside others", name)
        else:
            self.found.paths.append(path)

    def _leave_out(self, kind: str, name: str):
        self.found.left_out.setdefault(kind, Counter())[name] += 1


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _is_audio(path: str) -> bool:
    return _suffix(path) in AUDIO_SUFFIXES


def _is_apple_double(path: str) -> bool:
    if not os.path.isfile(path):  # opening a pipe might never end
        return False
    try:
        with open(path, "rb") as file:
            return file.read(4) == APPLE_DOUBLE
    except OSError:  # it is then listed as a file that cannot be read
        return False


def reason_of(error: Exception) -> str:
    """Return what an error says in words, with its kind where that is not one of a file that cannot be read."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, (OSError, ValueError)) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error}"


def absolute_path(path: str | Path) -> str:
    """Return a path without `..` from the root on. Links stay in it, unless `..` comes after one."""
    absolute, real = os.path.abspath(path), os.path.realpath(path)
    return absolute if os.path.realpath(absolute) == real else real


def is_below(path: str, folder: str) -> bool:
    """Return whether a path is that of a folder, or of something in it; both are absolute."""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


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
