# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The files of a corpus in a folder, and what is left out of it."""

import os
from pathlib import Path

from muscall.folders import FoundFiles, describe_kind, find_files


def list_files(folder: Path) -> tuple[list[Path], FoundFiles]:
    """Return the files below a folder, sorted, and what [`find_files`] says. Pipes and dead links are left out."""
    found = find_files(folder)
    files = []
    for path in found.paths:
        if os.path.isfile(path):
            files.append(Path(path))
        else:
            found.leave_out("links to nothing, or no files", path)
    return sorted(files), found


def describe_left_out(found: FoundFiles) -> str:
    """Return what was left out, by kind, and what could not be looked into; empty if nothing was."""
    kinds = [describe_kind(kind, names) for kind, names in found.left_out.items()]
    return "; ".join(kinds + [f"{path}: {reason}" for path, reason in sorted(found.unlisted.items())])
