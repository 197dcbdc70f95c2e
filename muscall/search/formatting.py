# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Times, names and reports as text for a screen."""

from pathlib import Path

from muscall.folders import describe_kind
from muscall.search.plan import Report


def clock(seconds: float) -> str:
    """Return a time in a track as minutes and seconds, `2:05`."""
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes}:{seconds:02}"


def printable(text: str) -> str:
    """Return a text with its control characters spelt out: printed as they are, they could move the cursor."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def format_report(report: Report, store_uri: str | Path) -> str:
    """Return what an index run did, what could not be read, in a line each, and what was left out, by kind."""
    counts = [f"{count} {name}" for name, count in report.counts().items() if count]
    lines = [f"{store_uri}: {report.total} tracks ({', '.join(counts) or 'nothing new'}), {report.seconds:.1f} s"]
    if report.unreadable:
        lines.append(f"{len(report.unreadable)} files could not be read:")
        lines += [f"  {printable(path)}: {printable(reason)}" for path, reason in report.unreadable]
    if report.unlisted:
        lines.append(f"{len(report.unlisted)} folders or links could not be looked into, their tracks stay:")
        lines += [f"  {printable(path)}: {printable(reason)}" for path, reason in sorted(report.unlisted.items())]
    lines += [f"left out: {printable(describe_kind(kind, names))}" for kind, names in report.left_out.items()]
    return "\n".join(lines)
