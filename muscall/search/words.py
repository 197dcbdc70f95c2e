# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""What is written about tracks, in tags and names of files: a text to find words in, and a vector of its meaning."""

import re
import unicodedata
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

from muscall.folders import is_below
from muscall.search.files import AUDIO_SUFFIXES, file_status
from muscall.search.store import Store
from muscall.search.tags import read_comment


WRITTEN_TAGS = ("title", "artist", "album", "genre", "year")
FOLDERS = 2  # names of folders that count: those of the artist and the album
BATCH = 64  # texts that are embedded together
TRACKS_AT_ONCE = 4096  # whose rows are written together
TRACK_NUMBER = re.compile(
    r"^\s*(?:(?:cd|disc)?\s*\d{1,2}\s*[-._ ]\s*)?(?:\d{1,3}|[a-d]\d{1,2})(?:\s*[-._)\]]+\s*|\s+|$)", re.I
)
AUDIO_SUFFIX = re.compile(rf"(?:(?:{'|'.join(map(re.escape, sorted(AUDIO_SUFFIXES)))})\s*)+$", re.I)
# Words of names that people did not choose.
GENERIC = re.compile(
    r"(?:audio|track|titel|title|piste|pista|traccia|untitled|unknown|unbekannt|artist|album|various|artists|cd|disc|"
    r"disk|side|music|musik|mp3|flac|ogg|wav|opus|recording|new|file|copy|data|download|downloads)",
    re.I,
)


def clean_name(name: str) -> str:
    """
    Return the words of a file's or folder's name: without track number, underscores, and what no person reads, such as
    hashes. A name that says nothing, such as `Track 03`, is empty.
    """
    words = re.split(r"[\s.+~()\[\]{}-]+", TRACK_NUMBER.sub("", spaced(name)))
    words = [word.strip(",;") for word in words]
    words = [word for word in words if word and not _is_code(word)]
    if not any(char.isalpha() for word in words for char in word if not GENERIC.fullmatch(word)):
        return ""
    return " ".join(words)


def spaced(name: str) -> str:
    """Return a file's or folder's name with spaces where it has other characters in their place."""
    return unicodedata.normalize("NFC", name).replace("_", " ").replace("%20", " ")


def _is_code(word: str) -> bool:
    """Return whether a word is a number of many digits, or goes back and forth between digits and letters."""
    kinds = [char.isdigit() for char in word]
    return sum(kinds) > 4 or sum(kind != other for kind, other in pairwise(kinds)) > 2


def describe_track(facts: dict, comment: str | None, folder: str | None) -> tuple[str, str]:
    """
    Return what is written about a track, in two parts: its title, and all else. The name of the file is the title of a
    track without one.

    Args:
        facts (`dict`): Columns of the index: `track` and the tags.
        comment (`str`, *optional*): The comment among the tags.
        folder (`str`, *optional*): The folder that was indexed; names of folders above it say nothing about a track.
    """
    path = Path(facts["track"])
    title = clean_name(facts["title"] or "") and facts["title"] or clean_name(path.stem)
    parents = path.parent.relative_to(folder).parts if folder is not None else path.parent.parts[1:]
    parts = [str(facts[tag]) for tag in WRITTEN_TAGS if facts[tag] is not None] + [comment or ""]
    parts += [clean_name(name) for name in parents[-FOLDERS:]]
    seen, rest = title.casefold(), []
    for part in parts:
        if part and part.casefold() not in seen:
            rest.append(part)
            seen += f", {part.casefold()}"
    return title, ", ".join(rest)


def is_described(facts: dict, comment: str | None) -> bool:
    """
    Return whether somebody has written about a track. Names of folders alone are found by their words, but their
    meaning is no description: of a library of numbered files, it would say the same of many tracks.
    """
    tags = [facts[tag] for tag in WRITTEN_TAGS if tag not in ("title", "year")]
    return bool(comment or any(tags) or clean_name(facts["title"] or "") or clean_name(Path(facts["track"]).stem))


def update_words(store: Store, folders: list[str], embed: Callable[[list[str]], tuple[np.ndarray, np.ndarray]]) -> int:
    """
    Bring the words of an index in step with its windows, without reading audio, and return how many tracks are new.

    Args:
        store ([`Store`]): The index.
        folders (`list[str]`): Those that were indexed, absolute paths.
        embed (`Callable`): See [`muscall.encoder.Encoder.embed_sentences`].
    """
    tracks = store.described_tracks()
    known = store.tracks_with_words()
    present = {(facts["track"], facts["state"]) for facts in tracks}
    new = [facts for facts in tracks if (facts["track"], facts["state"]) not in known]
    for rows in make_rows(new, folders, embed):
        store.add_words(rows)
    store.delete_words(known - present)
    store.tidy_words()
    return len(new)


def make_rows(
    tracks: list[dict], folders: list[str], embed: Callable[[list[str]], tuple[np.ndarray, np.ndarray]]
) -> Iterator[pa.Table]:
    """Return the rows of tracks, a few thousand at a time; arguments as of [`update_words`]."""
    for first in range(0, len(tracks), TRACKS_AT_ONCE):
        part = tracks[first : first + TRACKS_AT_ONCE]
        texts, vectors = [], []
        for facts in part:
            is_there = file_status(facts["track"], facts["state"]) == "there"
            comment = read_comment(facts["track"]) if is_there else None
            roots = [folder for folder in folders if is_below(facts["track"], folder)]
            title, rest = describe_track(facts, comment, max(roots, key=len, default=None))
            texts.append(", ".join(filter(None, (title, rest))))
            vectors.append([title, rest] if is_described(facts, comment) else ["", ""])
        columns = {name: pa.array([facts[name] for facts in part]) for name in ("track", "state", "hash")}
        columns["text"] = pa.array(texts)
        embeds = embed_descriptions(vectors, embed).astype(np.float16)
        columns["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(embeds.ravel()), embeds.shape[1])
        yield pa.table(columns)


def embed_descriptions(
    descriptions: list[list[str]], embed: Callable[[list[str]], tuple[np.ndarray, np.ndarray]]
) -> np.ndarray:
    """
    Embed the two parts of descriptions, and return the mean of both, L2-normalised, `(tracks, dim)`; zeros where both
    parts are empty. In one text, a long rest would drown a short title.
    """
    descriptions = [[without_suffix(text) for text in parts] for parts in descriptions]
    texts = sorted({text for parts in descriptions for text in parts if text}, key=lambda text: (len(text), text))
    batches = [embed(texts[first : first + BATCH])[1] for first in range(0, len(texts), BATCH)]
    dim = embed(["music"])[1].shape[1]
    places = {"": len(texts)} | {text: place for place, text in enumerate(texts)}
    embeds = np.concatenate([*batches, np.zeros((1, dim), np.float32)])
    total = sum(embeds[[places[parts[number]] for parts in descriptions]] for number in (0, 1))
    return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-6)


def without_suffix(text: str) -> str:
    """Return a text without the suffix of an audio file at its end: the processor takes that for a mistake."""
    return AUDIO_SUFFIX.sub("", text).strip()
