# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Times, names and reports as text for a screen."""

from collections import Counter
from pathlib import Path

from muscall.folders import describe_kind
from muscall.search.plan import Report


def clock(seconds: float) -> str:
    """Return a time in a track as minutes and seconds, `2:05`, from an hour on as `1:02:05`."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


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


def format_duplicates(groups: list[list[dict]]) -> str:
    """Return the files of each recording that is there more than once, see `muscall.search.duplicates.Duplicates`."""
    count = sum(1 + len(content["copies"]) for group in groups for content in group)
    lines = [f"{len(groups)} recordings in {count} files" if groups else "no recording is there twice"]
    for rank, group in enumerate(groups, 1):
        for place, content in enumerate(group):
            likeness = f"sound {content['agreement']:.2f}" if "agreement" in content else ""
            gone = {"there": "", "changed": "  (changed since it was indexed)", "missing": "  (no longer there)"}
            number = f"{rank:3}" if place == 0 else "   "
            track = f"{printable(content['track'])}{gone[content['file']]}"
            lines.append(f"{number}  {clock(content['duration']):>7}  {likeness:12}  {track}")
            lines += [f"{'':14}{'same content':12}  {printable(copy)}" for copy in content["copies"]]
    return "\n".join(lines)


def format_stats(stats: dict) -> str:
    """Return the figures of a library, see [`muscall.search.stats.library_stats`]."""
    tracks, model = stats["tracks"], stats["model"]
    files = ", ".join(f"{count} {status}" for status, count in stats["files"].items()) or "none"
    tags = ", ".join(f"{name} {count / max(tracks, 1):.0%}" for name, count in stats["tags"].items())
    lines = [
        f"{tracks} tracks ({files}), {stats['recordings']} different ones, {stats['hours']:.1f} hours",
        f"{stats['windows']} windows of {model['window_seconds']:g} s, longest track {clock(stats['longest'])}, "
        f"{'approximate' if stats['approximate'] else 'exact'} search",
        f"tags: {tags}",
        f"model: {model['path']} (weights {model['weights']:.16})",
    ]
    if not stats["runs"]:
        lines.append("what was skipped is not known: this index is older than its record, index again")
    for run in stats["runs"]:
        lines.append(f"skipped at {run['time']} in {', '.join(map(printable, run['folders']))}:")
        skipped = [
            f"  {printable(path)}: {printable(why)}" for path, why in (run["unreadable"] | run["unlisted"]).items()
        ]
        skipped += [f"  {printable(describe_kind(kind, Counter(names)))}" for kind, names in run["left_out"].items()]
        lines += skipped or ["  nothing"]
    return "\n".join(lines)
