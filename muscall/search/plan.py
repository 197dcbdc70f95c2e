# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The work of an index run, before and after: new, changed, moved and deleted tracks."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from muscall.search.files import file_state, find_audio
from muscall.search.store import Store


@dataclass
class Report:
    """
    The result of an index run.

    Args:
        total (`int`): Tracks in the index now, in these folders and others.
        new, changed, moved, deleted (`int`): What was done to them.
        unreadable (`list[tuple[str, str]]`): Path and reason of files that could not be read.
        seconds (`float`): How long it took.
    """

    total: int = 0
    new: int = 0
    changed: int = 0
    moved: int = 0
    deleted: int = 0
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0

    def counts(self) -> dict[str, int]:
        """Return how many tracks are new, changed, moved and deleted."""
        return {"new": self.new, "changed": self.changed, "moved": self.moved, "deleted": self.deleted}


@dataclass
class Plan:
    """
    The work that an index run has to do.

    Args:
        todo (`list[str]`): Paths of files to read: new ones, and ones whose state differs.
        known (`dict[str, dict[str, str]]`): The index: for each track, the hash of each state it has rows of.
        stale (`list[tuple[str, str]]`): Tracks and states of the index that are no longer in the folders.
        unreadable (`list[tuple[str, str]]`): Files that cannot even be looked at, and why.
    """

    todo: list[str]
    known: dict[str, dict[str, str]]
    stale: list[tuple[str, str]]
    unreadable: list[tuple[str, str]]

    def hashes(self) -> set[str]:
        """Return the hashes of all files that the index has rows of."""
        return {digest for states in self.known.values() for digest in states.values()}


class Outcome(NamedTuple):
    """
    The result of reading one file.

    Args:
        path (`str`): The file.
        digest (`str`): The hash of its content, empty where it could not be read at all.
        reason (`str`): Why it could not be read, empty where it is in the index.
    """

    path: str
    digest: str
    reason: str


def make_plan(store: Store, folders: list[Path]) -> Plan:
    """
    Compare folders with the index.

    Raises:
        `ValueError`: if a folder is none, or is empty although the index has tracks of it: its disk may be missing.
    """
    known, states, unreadable = store.tracks(), {}, []
    folders = [Path(os.path.abspath(folder)) for folder in folders]
    for folder in folders:
        _check_folder(folder, known)
        for path in find_audio(folder):
            try:
                str(path).encode()
                states[str(path)] = file_state(path)
            except UnicodeEncodeError:
                unreadable.append((repr(str(path)), "its name is not valid UTF-8: rename it"))
            except OSError as error:  # a dangling link, or a file that is gone since the folder was listed
                unreadable.append((str(path), error.strerror))
    todo = [path for path, state in states.items() if state not in known.get(path, {})]
    stale = [
        (track, state)
        for track, known_states in known.items()
        for state in known_states
        if states.get(track) != state and any(Path(track).is_relative_to(folder) for folder in folders)
    ]
    return Plan(todo, known, stale, unreadable)


def _check_folder(folder: Path, known: dict[str, dict[str, str]]):
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder: expected one with music in it")
    below = [track for track in known if Path(track).is_relative_to(folder)]
    if below and not any(folder.iterdir()):
        raise ValueError(
            f"{folder} is empty, but the index has {len(below)} tracks of it: is its disk mounted? Nothing was "
            "changed. To empty the index, delete it"
        )


def finish(store: Store, plan: Plan, outcomes: list[Outcome]) -> Report:
    """Delete outdated rows of the index, and count what was done."""
    store.delete(plan.stale)
    store.tidy()
    readable = [outcome for outcome in outcomes if not outcome.reason]
    new = [digest for path, digest, _ in readable if path not in plan.known]
    changed = sum(path in plan.known and digest not in plan.known[path].values() for path, digest, _ in readable)
    gone = {track for track, _ in plan.stale} - {outcome.path for outcome in outcomes}
    gone_digests = {digest for track in gone for digest in plan.known[track].values()}
    moved = sum(digest in gone_digests for digest in new)
    return Report(
        total=len(store.tracks()),
        new=len(new) - moved,
        changed=changed,
        moved=moved,
        deleted=max(0, len(gone) - moved),
        unreadable=sorted(plan.unreadable + [(path, reason) for path, _, reason in outcomes if reason]),
    )
