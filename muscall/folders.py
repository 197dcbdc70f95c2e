# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The files below folders, each once, and what was not taken."""

import os
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path


# Folders in which systems keep what was deleted, older versions of files, thumbnails and data of their own.
HOUSEKEEPING = {
    *(".trash", ".trashes", ".recycle", "#recycle", "@recycle", "$recycle.bin", ".stversions", ".sync"),
    *(".snapshot", ".snapshots", "#snapshot", "@recently-snapshot", ".zfs", ".git", ".hg", ".svn"),
    *("@eadir", ".@__thumb", ".thumbnails", ".cache", ".appledouble", ".temporaryitems", ".spotlight-v100"),
    *(".fseventsd", ".documentrevisions-v100", "system volume information", "__macosx"),
}
APPLE_DOUBLE = b"\0\x05\x16\x07"  # the first bytes of what macOS keeps beside a file on a foreign disk
LINKED_FILES = "links to files that are listed under another name"
NAMES_SHOWN = 10  # of each kind of what was left out


@dataclass
class FoundFiles:
    """
    The files below some folders, and what was not taken.

    Args:
        paths (`list[str]`): The files, in a fixed order. Names that begin with a dot are as good as others.
        links (`dict[str, str]`): Those of them that are links to files elsewhere -> where the file is.
        unlisted (`dict[str, str]`): Folders and links that could not be looked into, and why.
        left_out (`dict[str, Counter]`): For each kind of what was left out, suffixes, names or paths and their number.
    """

    paths: list[str] = field(default_factory=list)
    links: dict[str, str] = field(default_factory=dict)
    unlisted: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, Counter] = field(default_factory=dict)

    def leave_out(self, kind: str, name: str) -> None:
        """Count something that is left out."""
        self.left_out.setdefault(kind, Counter())[name] += 1


def describe_kind(kind: str, names: Counter) -> str:
    """Return how many things of a kind were left out, and the names of the most frequent ones."""
    shown = [name + (f" {count}" if count > 1 else "") for name, count in names.most_common(NAMES_SHOWN)]
    if len(names) > NAMES_SHOWN:
        shown.append(f"{len(names) - NAMES_SHOWN} other names")
    return f"{names.total()} {kind} ({', '.join(shown)})"


def find_files(*folders: str | Path, suffixes: Collection[str] | None = None) -> FoundFiles:
    """
    Find the files below folders. Links are followed after all folders that are there by themselves, and links to files
    last, so that whatever has a path without links is found under that one, and a file in a linked folder is found
    there. Each folder is looked into once.

    Args:
        folders (`str` or `Path`): The folders.
        suffixes (`Collection[str]`, *optional*): The suffixes that are wanted, in small letters; all by default.

    Raises:
        `OSError`: if one of the folders named cannot be listed.
    """
    finder = Finder([str(folder) for folder in folders], suffixes)
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
    A search for files.

    Args:
        roots (`list[str]`): The folders to search.
        suffixes (`Collection[str]`, *optional*): As of [`find_files`].

    Attributes:
        found ([`FoundFiles`]): The result so far.
        walked (`dict[str, str]`): The real path of each folder that was listed -> the path it was listed under.
    """

    def __init__(self, roots: list[str], suffixes: Collection[str] | None):
        self.roots, self.real_roots = roots, [os.path.realpath(root) for root in roots]
        self.suffixes, self.found, self.walked = suffixes, FoundFiles(), {}

    def walk(self, folder: str) -> list[str]:
        """Take the files below a folder without following links, and return the links."""
        links, todo = [], [(folder, os.path.realpath(folder))]
        while todo:
            folder, real = todo.pop()
            if real in self.walked:
                if self.walked[real] != folder:
                    self.found.leave_out("folders that are listed under another name", folder)
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
                elif self._is_listed(entry.path):
                    subfolders.append((entry.path, os.path.join(real, entry.name)))
            todo += reversed(subfolders)
        return links

    def follow_folder(self, link: str) -> list[str]:
        """Take the files below the folder that a link leads to, and return the links there."""
        target = os.path.realpath(link)
        if any(is_below(root, target) for root in self.real_roots):
            self.found.leave_out("links to folders that they, or folders that were named, are in", link)
        elif self._is_listed(link):
            return self.walk(link)
        return []

    def follow_file(self, link: str) -> None:
        """Take the file that a link leads to, if it leads to one."""
        target = os.path.realpath(link)
        try:
            os.stat(link)
        except OSError as error:
            if self._is_wanted(link):  # it is listed as a file that cannot be read
                self.found.paths.append(link)
            else:
                self.found.unlisted[link] = reason_of(error)
            return
        if os.path.dirname(target) in self.walked and self._is_wanted(target):
            self.found.leave_out(LINKED_FILES, link)
        elif self._take(link):
            self.found.links[link] = target

    def _is_listed(self, folder: str) -> bool:
        name = os.path.basename(folder)
        is_listed = name.lower() not in HOUSEKEEPING and not name.lower().startswith(".trash-")
        if not is_listed:
            self.found.leave_out("folders of deleted files, old versions, thumbnails and the like", name)
        return is_listed

    def _take(self, path: str) -> bool:
        name = os.path.basename(path)
        if not self._is_wanted(path):
            self.found.leave_out("files with other suffixes", _suffix(path) or "no suffix")
        elif name.startswith("._") and _is_apple_double(path):
            self.found.leave_out("files that macOS keeps beside others", name)
        else:
            self.found.paths.append(path)
            return True
        return False

    def _is_wanted(self, path: str) -> bool:
        return self.suffixes is None or _suffix(path) in self.suffixes


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


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


def is_below(path: str, folder: str) -> bool:
    """Return whether a path is that of a folder, or of something in it; both are absolute."""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
