# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Figures of a library: how much music, which tags, which model, and what index runs have skipped."""

import json
import time
from collections import Counter
from pathlib import Path

import pyarrow as pa

from muscall.search.files import absolute_path, file_status
from muscall.search.plan import Report
from muscall.search.store import FIRST, RUNS, TAG_COLUMNS, Store


RUN_SCHEMA = pa.schema({"folders": pa.string(), "time": pa.string(), "report": pa.string()})


def save_report(store: Store, folders: list[Path], report: Report):
    """
    Keep what an index run skipped, in a table beside the windows, in place of what an earlier run of these folders, or
    of folders within them, skipped.
    """
    names = sorted(absolute_path(folder) for folder in folders)
    skipped = {"unreadable": dict(report.unreadable), "unlisted": report.unlisted, "left_out": report.left_out}
    runs = [run for run in read_reports(store) if not all(_is_in(folder, names) for folder in run["folders"])]
    runs.append({"folders": names, "time": time.strftime("%Y-%m-%d %H:%M:%S"), **skipped})
    rows = [
        {"folders": json.dumps(run.pop("folders")), "time": run.pop("time"), "report": json.dumps(run)} for run in runs
    ]
    store.replace_table(RUNS, pa.Table.from_pylist(rows, RUN_SCHEMA))


def read_reports(store: Store) -> list[dict]:
    """
    Return what the last run of each set of folders skipped: `folders`, `time`, `unreadable` and `unlisted` (reasons by
    path) and `left_out` (for each kind, a count by name).
    """
    rows = store.read_table(RUNS)
    return [{"folders": json.loads(row["folders"]), "time": row["time"], **json.loads(row["report"])} for row in rows]


def _is_in(path: str, folders: list[str]) -> bool:
    return any(path == folder or Path(folder) in Path(path).parents for folder in folders)


def library_stats(store: Store) -> dict:
    """
    Return figures of an index.

    Returns:
        `dict`: `tracks` (paths), `recordings` (different contents), `windows`, `hours` of all recordings, `longest` in
        seconds, `tags` (for each column, how many tracks have it), `files` (how many are `"there"`, `"changed"` and
        `"missing"`), `model`, `approximate` (whether there is an approximate index), and `runs`, see `read_reports`.
    """
    columns = ["track", "hash", "state", "duration", *TAG_COLUMNS]
    rows = store.table.search().where(FIRST).select(columns).to_arrow().to_pylist()
    tracks = {row["track"]: row for row in rows}
    durations = {row["hash"]: row["duration"] for row in tracks.values()}
    return {
        "tracks": len(tracks),
        "recordings": len(durations),
        "windows": store.table.count_rows(),
        "hours": sum(durations.values()) / 3600,
        "longest": max(durations.values(), default=0.0),
        "tags": {name: sum(row[name] is not None for row in tracks.values()) for name in TAG_COLUMNS},
        "files": dict(Counter(file_status(row["track"], row["state"]) for row in tracks.values())),
        "model": store.model,
        "approximate": store.is_approximate,
        "runs": read_reports(store),
    }
