# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""All files below a folder, each once, and what is left out of it."""

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path


# Folders that programs keep beside music: with links to it, thumbnails of it, old versions, and what was deleted.
SYSTEM_FOLDERS = {".git", ".cache", ".snapshots", ".stversions", ".trash", ".trashes", ".appledouble"}
SYSTEM_FOLDERS |= {"__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information"}
MACOS_PREFIX = "._"  # of the files in which macOS keeps the attributes of others, under their names and suffixes


@dataclass
class Listing:
    """
    The files below a folder.

    Args:
        files (`list[Path]`):
            Each file once, sorted. Names that begin with a dot are as good as others.
        left_out (`list[tuple[str, str]]`): What is not among them: the kind, and its path.
    """

    files: list[Path] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)

    def leave_out(self, kind: str, path: Path) -> None:
        self.left_out.append((kind, str(path)))

    def leave_out_unreadable(self, error: OSError) -> None:
        self.left_out.append(("folders that cannot be listed", f"{error.filename}: {error.strerror}"))

    def describe_left_out(self) -> str:
        """Return what was left out: of each kind how many there are, and one for instance; empty if nothing was."""
        counts, examples = Counter(kind for kind, _ in self.left_out), dict(reversed(self.left_out))
        return "; ".join(f"{count} {kind} ({examples[kind]})" for kind, count in counts.items())


def list_files(folder: Path) -> Listing:
    """
    List the files below a folder. Links are followed, but no folder and no file is listed twice, by whatever ways it
    can be reached. What has a place of its own below the folder is listed there, and not where a link is.
    """
    listing, seen, places = Listing(), set(), [folder]
    while places:
        place = places.pop(0)
        if place != folder and folder.resolve().is_relative_to(place.resolve()):
            listing.leave_out("links to folders that they are in", place)
        else:
            places += _list_place(place, listing, seen)
    links = {file for file in listing.files if file.is_symlink()}
    own = {file.resolve() for file in listing.files if file not in links} if links else set()
    for link in sorted(file for file in links if file.resolve() in own):
        listing.leave_out("links to files that are listed already", link)
        listing.files.remove(link)
    listing.files.sort()
    return listing


def _list_place(place: Path, listing: Listing, seen: set[tuple[int, int]]) -> list[Path]:
    """List what is below a folder, without following links, and return the links to other folders."""
    links = []
    for parent, folders, names in os.walk(place, onerror=listing.leave_out_unreadable):
        stat = os.stat(parent)
        if (stat.st_dev, stat.st_ino) in seen:
            listing.leave_out("links to folders that are read already", Path(parent))
            folders.clear()
            continue
        seen.add((stat.st_dev, stat.st_ino))
        own = []
        for name in sorted(folders):
            if name.lower() in SYSTEM_FOLDERS or name.lower().startswith(".trash-"):
                listing.leave_out("folders of programs", Path(parent, name))
            elif os.path.islink(os.path.join(parent, name)):
                links.append(Path(parent, name))
            else:
                own.append(name)
        folders[:] = own
        for name in sorted(names):
            file = Path(parent, name)
            if name.startswith(MACOS_PREFIX):
                listing.leave_out("files of attributes that macOS writes", file)
            elif not file.is_file():
                listing.leave_out("links to nothing, or no files", file)
            else:
                listing.files.append(file)
    return links
