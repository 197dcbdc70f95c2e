# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The work of an index run, before and after: new, changed, moved and deleted tracks."""

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from muscall.folders import FoundFiles, reason_of
from muscall.search.files import absolute_path, file_state, find_audio, known_names, real_paths
from muscall.search.store import Store, is_utf8


@dataclass
class Report:
    """
    The result of an index run.

    Args:
        total (`int`): Tracks in the index now, in these folders and others.
        new, changed, moved, deleted (`int`): What was done to them.
        unreadable (`list[tuple[str, str]]`): Path and reason of files that could not be read.
        unlisted, left_out: See [`FoundFiles`].
        seconds (`float`): How long it took.
    """

    total: int = 0
    new: int = 0
    changed: int = 0
    moved: int = 0
    deleted: int = 0
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    unlisted: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, Counter] = field(default_factory=dict)
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
        unlisted, left_out: See [`FoundFiles`].
    """

    todo: list[str]
    known: dict[str, dict[str, str]]
    stale: list[tuple[str, str]]
    unreadable: list[tuple[str, str]]
    unlisted: dict[str, str]
    left_out: dict[str, Counter]

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


def make_plan(store: Store, folders: list[Path], files: list[str] | None = None) -> Plan:
    """
    Compare folders with the index. A track below a folder that cannot be looked into stays in the index.

    Args:
        files (`list[str]`, *optional*): The files that are wanted, absolute paths, in these folders and elsewhere, as
            another program lists them. All audio files of the folders by default.

    Raises:
        `ValueError`: if a folder is none, or is empty although the index has tracks of it: its disk may be missing.
        `OSError`: if a folder cannot be listed.
    """
    known, states, unreadable = store.tracks(), {}, []
    folders = [absolute_path(folder) for folder in folders]
    for folder in folders:
        _check_folder(folder, known)
    found = find_audio(*folders) if files is None else FoundFiles(files)
    names, unseen = known_names(found.paths, known), set(found.unlisted)
    for path in found.paths:
        name = names.get(path, path)
        if not is_utf8(name):
            unreadable.append((repr(name), "its name is not valid UTF-8: rename it"))
            continue
        try:
            states[name] = file_state(name)
        except (OSError, ValueError) as error:  # a link to nothing, no permission to look, no file but a pipe
            unreadable.append((name, reason_of(error)))
            unseen.add(name)
    todo = [name for name, state in states.items() if state not in known.get(name, {})]
    gone = _gone_tracks(set(known).difference(states), _with_real_paths(folders), _with_real_paths(unseen))
    stale = [
        (track, state)
        for track, known_states in known.items()
        if track in states or track in gone
        for state in known_states
        if states.get(track) != state
    ]
    return Plan(todo, known, stale, unreadable, found.unlisted, found.left_out)


def _gone_tracks(tracks: set[str], searched: set[str], unseen: set[str]) -> set[str]:
    """
    Return those of the tracks not found that should have been.

    Args:
        tracks (`set[str]`): Tracks of the index that were not found.
        searched (`set[str]`): The folders that were searched.
        unseen (`set[str]`): What could not be looked into or at.
    """
    gone = {track for track in tracks if _is_in(track, searched)}
    others = list(tracks - gone)  # some may be known by a link to a folder that was searched
    real = dict(zip(others, real_paths(others), strict=True))
    gone |= {track for track in others if _is_in(real[track], searched) and not os.path.lexists(real[track])}
    return {track for track in gone if not _is_in(track, unseen) and not _is_in(real.get(track, track), unseen)}


def _with_real_paths(paths: Iterable[str]) -> set[str]:
    return {form for path in paths for form in (path, os.path.realpath(path))}


def _is_in(path: str, folders: set[str]) -> bool:
    """Return whether a path is one of many folders or below one."""
    while path not in folders and path != os.path.dirname(path):
        path = os.path.dirname(path)
    return path in folders


def _check_folder(folder: str, known: dict[str, dict[str, str]]):
    if not os.path.isdir(folder):
        raise ValueError(f"{folder} is no folder: expected one with music in it")
    below = [track for track in known if _is_in(track, _with_real_paths([folder]))]
    if below and not os.listdir(folder):
        raise ValueError(
            f"{folder} is empty, but the index has {len(below)} tracks of it: is its disk mounted? Nothing was "
            "changed. To empty the index, delete it"
        )


def finish(store: Store, plan: Plan, outcomes: list[Outcome]) -> Report:
    """Delete outdated rows of the index, and count what was done."""
    # Of a file that could not even be hashed, nothing says that its content is another than the index has.
    unread = {outcome.path for outcome in outcomes if outcome.reason and not outcome.digest}
    stale = [(track, state) for track, state in plan.stale if track not in unread]
    store.delete(stale)
    store.tidy()
    readable = [outcome for outcome in outcomes if not outcome.reason]
    new = Counter(digest for path, digest, _ in readable if path not in plan.known)
    changed = sum(path in plan.known and digest not in plan.known[path].values() for path, digest, _ in readable)
    gone = {track for track, _ in stale} - {outcome.path for outcome in outcomes}
    # A track that a killed run left in several states counts once, with the last.
    gone_digests = Counter(list(plan.known[track].values())[-1] for track in gone)
    moved = (new & gone_digests).total()
    return Report(
        total=len(store.tracks()),
        new=new.total() - moved,
        changed=changed,
        moved=moved,
        deleted=len(gone) - moved,
        unreadable=sorted(plan.unreadable + [(path, reason) for path, _, reason in outcomes if reason]),
        unlisted=plan.unlisted,
        left_out=plan.left_out,
    )
