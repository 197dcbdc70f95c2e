# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Tables of text: what is read, and what an error says of the others."""

import json

import pytest

from muscall.data.tables import load_table


CSV = "file_name,caption\na.wav,Café\nb.wav,calm\n"
JSONL = '{"file_name": "a.wav", "caption": "Café"}\n{"file_name": "b.wav", "caption": "calm"}\n'
TEXTS = {".csv": CSV, ".jsonl": JSONL, ".json": json.dumps([json.loads(line) for line in JSONL.splitlines()])}


def load(file, content, encoding="utf-8"):
    file.write_bytes(content.encode(encoding))
    return [tuple(row[name] for name in ("file_name", "caption")) for row in load_table(file, streaming=False)]


@pytest.mark.parametrize("name", ["a.csv", "b.jsonl", "c.json", "D.CSV", "[2020] e.csv"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_utf8(tmp_path, name, encoding):
    file = tmp_path / name
    assert load(file, TEXTS[file.suffix.lower()], encoding) == [("a.wav", "Café"), ("b.wav", "calm")]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_empty_lines(tmp_path, suffix):
    content = TEXTS[suffix].replace("\n", "\r\n\r\n")
    assert load(tmp_path / f"corpus{suffix}", content) == [("a.wav", "Café"), ("b.wav", "calm")]


def test_lines_that_end_as_on_old_macs(tmp_path):
    assert load(tmp_path / "corpus.csv", CSV.replace("\n", "\r")) == [("a.wav", "Café"), ("b.wav", "calm")]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-16-le", "utf-16-be"])
def test_other_encodings_are_named(tmp_path, suffix, encoding):
    words = r"line \d: expected text in UTF-8, got the byte 0xe9" if encoding == "latin-1" else "got UTF-16"
    with pytest.raises(ValueError, match=rf"corpus\{suffix}.*{words}.*Save it as UTF-8"):
        load(tmp_path / f"corpus{suffix}", TEXTS[suffix], encoding)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", CSV.replace(",", ";"), "expected columns with commas between them, got semicolons"),
        ("a.csv", CSV.replace(",", "\t"), "expected columns with commas between them, got tabs"),
        ("a.csv", CSV.replace("calm", "calm, slow"), "line 3: expected 2 columns, got 3. A text with a comma"),
        ("a.csv", CSV.replace("Café", "Café, x").replace("calm", "calm, x"), "line 2: expected 2 columns, got 3"),
        ("a.csv", "file_name,caption,caption\na.wav,b,c\n", "names the column `caption` twice"),
        ("a.csv", "file_name,caption\n", "has no rows"),
        ("a.csv", CSV.replace("calm", '"calm'), "cannot be read: .*EOF inside string"),
        ("a.jsonl", "\n", "has no rows"),
        ("a.jsonl", JSONL[:-9], "line 2: expected a JSON object"),
        ("a.jsonl", JSONL.replace('{"file_name": "b', '{file_name: "b'), "line 2: expected a JSON object"),
        ("a.json", JSONL.replace(":", ""), "cannot be read"),
        ("a.json", "[]", "cannot be read"),
        ("a.parquet", "PAR1", "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, name, content, words):
    with pytest.raises(ValueError, match=f"{name}.*{words}"):
        load(tmp_path / name, content)
