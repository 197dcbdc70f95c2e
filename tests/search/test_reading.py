# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Files that processes of their own read for an index."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import PRODUCED


pytest.importorskip("muscall.search")

import muscall.search.reading
from muscall.search.embedding import Embedder
from muscall.search.files import find_audio
from muscall.search.reading import FileParts, read_parts


@pytest.fixture
def paths(music, monkeypatch):
    """Files for two processes; one is damaged, and three have the same content, the first ones of both shares."""
    monkeypatch.setattr(muscall.search.reading, "MANY_FILES", 2)
    (music / "text.mp3").write_text("no audio")
    copies = [str(shutil.copy(PRODUCED[-1], music / f"copy {number}.opus")) for number in range(3)]
    return copies + [path for path in find_audio(music).paths if path not in copies]


def collect(parts):
    """Return for each path its facts, its windows and why it could not be read."""
    files = {}
    for part in parts:
        windows, reasons = files.setdefault(part.facts["track"], (part.facts, [], []))[1:]
        if part.windows is None:
            reasons.append(part.reason)
        else:
            assert not reasons  # the end comes last
            windows.append(part.windows)
    return files


@pytest.mark.slow
def test_processes_read_what_this_process_reads(paths, encoder):
    files = FileParts(paths[2:], {"no content"}, encoder.feature_extractor, "all")
    expected, found = collect(read_parts(files, 0)), collect(read_parts(files, 2))
    assert len(expected) == 7 and found.keys() == expected.keys()
    for path, (facts, windows, reasons) in found.items():
        assert (facts, reasons) == (expected[path][0], expected[path][2]) and len(reasons) == 1
        assert ("cannot be decoded" in reasons[0]) == (not windows) == path.endswith("text.mp3")
        for part, other in zip(windows, expected[path][1], strict=True):
            assert part.keys() == other.keys()
            for name, values in part.items():
                assert values.dtype == np.float32 and np.array_equal(values, other[name])


@pytest.mark.slow
def test_a_content_that_two_processes_read_is_embedded_once(paths, encoder, monkeypatch):
    embed_windows, embedded = encoder.embed_windows, []
    monkeypatch.setattr(
        encoder, "embed_windows", lambda windows: embedded.append(len(windows)) or embed_windows(windows)
    )
    files = list(Embedder(encoder, num_workers=2).embed(paths, set(), "all"))
    assert sorted(file.facts["track"] for file in files) == sorted(paths)
    rows = [len(file.rows) for file in files if file.rows is not None]
    assert len(rows) == 6 and sum(embedded) == sum(rows)
    copies = [file for file in files if Path(file.facts["track"]).name.startswith("copy")]
    assert [file.rows is None for file in copies].count(False) == 1 and not any(file.reason for file in copies)


def test_a_number_of_processes_that_makes_no_sense_is_refused(encoder):
    with pytest.raises(ValueError, match="is 0 or more, got -1"):
        Embedder(encoder, num_workers=-1)
