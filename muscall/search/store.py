# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
The index of a music library: a LanceDB table with one row for each window of each track, and one with a row for what
is written about each track.
"""

import json
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import lancedb
import numpy as np
import pyarrow as pa
import pyarrow.compute
from lancedb.index import FTS, BTree, HnswSq
from lancedb.query import FullTextOperator, MatchQuery

from muscall.search.snapshot import Snapshot, vectors


TABLE, WORDS = "windows", "words"
RUNS = "runs"  # what index runs skipped, see stats.save_report
LOCK = ".indexing.lock"
FORMAT = 3  # 1 had no table of words, 1 and 2 always all windows of a track
READABLE = (1, 2, FORMAT)
TAG_COLUMNS = {
    "title": pa.string(),
    "artist": pa.string(),
    "album": pa.string(),
    "genre": pa.string(),
    "year": pa.int32(),
    "bpm": pa.float32(),
    "key": pa.string(),
}
COLUMNS = {
    "track": pa.string(),  # the path
    "hash": pa.string(),  # SHA-256 of the whole file
    "state": pa.string(),  # files.file_state
    "start": pa.float32(),  # of the window, in seconds
    "end": pa.float32(),
    "weight": pa.float32(),  # seconds of its track that the window stands for
    "duration": pa.float32(),  # of the track, in seconds
    **TAG_COLUMNS,
}
# One row of each state of each track: that of the window in the first half of the part that it stands for.
FIRST = "start * 2 < weight"
FILTER_COLUMNS = [name for name in COLUMNS if name not in ("hash", "state", "weight")]
LISTING = f"Columns: {', '.join(FILTER_COLUMNS)}. Example: bpm > 120 and genre = 'jazz'"
# What decides whether vectors of two models are to be compared, and its name in an error.
MODEL_FACTS = {"weights": "weights", "window_seconds": "window length", "sampling_rate": "rate", "dim": "dimensions"}
# Of an approximate index, rows that are compared again with their whole vectors, at least: recall@10 is then near 1.
CANDIDATES = 100
IN_LIST = 500  # tracks named in one condition


class Store:
    """
    An index: a table of windows, and a description of the model that made their vectors.

    Args:
        uri (`str` or `Path`): A folder, or what else LanceDB connects to: an object store, a remote database.
        table (`lancedb.table.Table`): The open table.
    """

    def __init__(self, uri: str | Path, table: lancedb.table.Table):
        self.uri, self.table = uri, table
        self._words: lancedb.table.Table | None = None
        self._snapshots: dict[str, tuple[int, Snapshot | None]] = {}  # of tables by name: version and vectors
        self.model = json.loads(table.schema.metadata[b"muscall"])
        if self.model.pop("format") not in READABLE:
            raise ValueError(f"{uri} was written by another version of search.py: delete it and index again")

    @classmethod
    def open(cls, uri: str | Path) -> "Store":
        """
        Open an index that is there.

        Raises:
            `ValueError`: if there is no index.
        """
        is_missing = is_local(uri) and not Path(uri).exists()
        if is_local(uri) and not is_missing and not Path(uri, f"{TABLE}.lance").is_dir():
            raise ValueError(f"{uri} is no index: expected the folder that search.py index has written")
        # A missing folder is not connected to: that would make it.
        missing = f"there is no index at {uri}: make one with search.py index FOLDER --store {uri}"
        if is_missing:
            raise ValueError(missing)
        try:
            table = _connect(uri).open_table(TABLE)
        except (ValueError, RuntimeError) as error:
            if _is_missing(error, TABLE):
                raise ValueError(missing) from error
            raise ValueError(f"the index {uri} is damaged, delete it and index again: {error}") from error
        if b"muscall" not in (table.schema.metadata or {}):
            raise ValueError(f"{uri} is no index: its table {TABLE!r} was not written by search.py")
        return cls(uri, table)

    @classmethod
    def open_or_create(cls, uri: str | Path, model: dict) -> "Store":
        """
        Open an index, or make one where there is none.

        Args:
            model (`dict`): What makes the vectors, see `muscall.encoder.Encoder.describe`.

        Raises:
            `ValueError`: if there is an index that another model made.
        """
        connection = _connect(uri)
        if TABLE in connection.list_tables().tables:  # not on the path of a query, where this is not imported
            store = cls.open(uri)
            store.check_model(model)
            return store
        metadata = {"muscall": json.dumps(model | {"format": FORMAT})}
        fields = [*COLUMNS.items(), ("vector", pa.list_(pa.float32(), model["dim"]))]
        try:
            return cls(uri, connection.create_table(TABLE, schema=pa.schema(fields, metadata=metadata)))
        except (OSError, RuntimeError) as error:
            raise ValueError(f"{uri} cannot be written to: {error}") from error

    @property
    def windows(self) -> int | str:
        """Which windows of a track the index has, see [`muscall.search.windows.place_windows`]."""
        return self.model.get("windows", "all")

    def check_model(self, model: dict):
        """
        Check that a model may search this index.

        Raises:
            `ValueError`: if vectors of this model are not to be compared with those of the index.
        """
        for key, name in MODEL_FACTS.items():
            if model[key] != self.model[key]:
                raise ValueError(
                    f"the index {self.uri} was made by another model: its {name} are {self.model[key]!s:.16}, those "
                    f"of {model['path']} {model[key]!s:.16}. Use the model it was made by ({self.model['path']}), or "
                    "another --store for this one"
                )

    def tracks(self) -> dict[str, dict[str, str]]:
        """Return the hash of each state of each track; more than one state where a run was killed before its end."""
        rows = self.table.search().where(FIRST).select(["track", "state", "hash"]).to_arrow().to_pydict()
        tracks: dict[str, dict[str, str]] = {}
        for track, state, digest in zip(rows["track"], rows["state"], rows["hash"], strict=True):
            tracks.setdefault(track, {})[state] = digest
        return tracks

    def described_tracks(self) -> list[dict]:
        """Return for each state of each track what its description is made of: path, state, hash and tags."""
        columns = ["track", "state", "hash", *TAG_COLUMNS]
        return self.table.search().where(FIRST).select(columns).to_arrow().to_pylist()

    @property
    def words(self) -> lancedb.table.Table | None:
        """The table of what is written about tracks, `None` where the index is older than that."""
        try:
            if self._words is None:
                self._words = _connect(self.uri).open_table(WORDS)
            return self._words
        except (ValueError, RuntimeError) as error:
            if _is_missing(error, WORDS):
                return None
            raise ValueError(
                f"the index {self.uri} is damaged, delete {WORDS}.lance and index again: {error}"
            ) from error

    def tracks_with_words(self) -> set[tuple[str, str]]:
        """Return the tracks and states that the table of words has."""
        if self.words is None:
            return set()
        rows = self.words.search().select(["track", "state"]).to_arrow().to_pydict()
        return set(zip(rows["track"], rows["state"], strict=True))

    def rows(self, condition: str) -> pa.Table:
        """Return the rows that meet a condition, in SQL."""
        return self.table.search().where(condition).select([*COLUMNS, "vector"]).to_arrow()

    def rows_of(self, digests: Collection[str]) -> Iterator[pa.Table]:
        """Return the rows of contents, given by their hashes, a few hundred contents at a time."""
        return map(self.rows, _conditions_on(digests))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError) as error:  # LanceDB raises both, whatever its storage says
            reason = "its disk is full" if "No space left" in str(error) else str(error)
            raise ValueError(f"{self.uri} cannot be written to, {reason}. What was written before stays") from error

    def add(self, rows: pa.Table):
        """Write rows to the table."""
        with self._writing():
            self.table.add(rows)

    def add_words(self, rows: pa.Table):
        """Write rows to the table of words, and make it with the first ones."""
        with self._writing():
            if self.words is None:
                self._words = _connect(self.uri).create_table(WORDS, data=rows)
            else:
                self.words.add(rows)

    def delete(self, states: list[tuple[str, str]]):
        """Delete all rows of these tracks in these states, and what is written about them."""
        for table in filter(None, (self.words, self.table)):
            self._delete(table, states)

    def delete_words(self, states: Iterable[tuple[str, str]]):
        """Delete what is written about these tracks in these states."""
        if self.words is not None:
            self._delete(self.words, list(states))

    def _delete(self, table: lancedb.table.Table, states: list[tuple[str, str]]):
        for first in range(0, len(states), IN_LIST):
            batch = ", ".join(literal(f"{state} {track}") for track, state in states[first : first + IN_LIST])
            with self._writing():
                table.delete(f"state || ' ' || track IN ({batch})")

    def copy_rows(self, tracks: list[dict]) -> list[pa.Table]:
        """
        Return the rows of tracks whose content the table has already under another path, a table for each. There is
        no table for a track whose content it has not.

        Args:
            tracks (`list[dict]`): The facts of each track, see [`with_facts`].
        """
        rows = pa.concat_tables(self.rows_of(sorted({facts["hash"] for facts in tracks})))
        copies = []
        for facts in tracks:
            same = rows.filter(pa.compute.equal(rows.column("hash"), facts["hash"]))
            if len(same):  # rows of several tracks or states are possible: those of the first are enough
                owners = list(zip(same.column("track").to_pylist(), same.column("state").to_pylist(), strict=True))
                copies.append(with_facts(same.filter(pa.array([owner == owners[0] for owner in owners])), facts))
        return copies

    def tidy(self):
        """Join small files, drop old versions, and bring all indexes up to date: there is one of hashes, at least."""
        with self._writing():
            if self.table.count_rows() and not any("hash" in index.columns for index in self.table.list_indices()):
                self.table.create_index("hash", config=BTree())  # a query asks for the windows of some files
            self.table.optimize(cleanup_older_than=timedelta(hours=1))

    def read_table(self, name: str) -> list[dict]:
        """Return the rows of another table beside the windows, none where there is no such table."""
        connection = _connect(self.uri)
        return connection.open_table(name).to_arrow().to_pylist() if name in connection.list_tables().tables else []

    def replace_table(self, name: str, rows: pa.Table):
        """Write another table beside the windows, in place of the one that is there."""
        with self._writing():
            _connect(self.uri).create_table(name, rows, mode="overwrite")

    def tidy_words(self):
        """Join small files of the table of words, drop its old versions, and bring its full-text index up to date."""
        if self.words is None:
            return
        with self._writing():
            if not self.words.list_indices():
                # ICU knows where words end in scripts without spaces. Stop words are names too: The Who.
                self.words.create_index("text", config=FTS(base_tokenizer="icu", remove_stop_words=False))
            self.words.optimize(cleanup_older_than=timedelta(hours=1))

    @property
    def is_approximate(self) -> bool:
        """`True` if there is an approximate index."""
        return _is_approximate(self.table)

    def build_index(self):
        """Build the approximate index anew."""
        with self._writing():
            self.table.create_index("vector", config=HnswSq(distance_type="dot"), replace=True)

    def search(
        self,
        vector: np.ndarray,
        count: int | None = None,
        condition: str | None = None,
        exact: bool = False,
        columns: Iterable[str] = COLUMNS,
        among: Collection[str] | None = None,
    ) -> list[dict]:
        """
        Return the windows with the highest dot product.

        Args:
            vector (`np.ndarray` of shape `(dim,)`): The query.
            count (`int`, *optional*): How many, all by default.
            condition (`str`, *optional*): A condition on columns, in SQL.
            exact (`bool`, *optional*, defaults to `False`):
                Whether to compare all windows although there is an approximate index. With a condition, all windows
                are always compared.
            columns (`Iterable[str]`, *optional*, defaults to `COLUMNS`): Those to read: fewer are faster.
            among (`Collection[str]`, *optional*): Hashes of the contents whose windows are compared, all by default.

        Returns:
            `list[dict]`: the columns of each row and `score`, best first.
        """
        try:
            snapshot = self._in_memory(self.table)
            if snapshot is not None:
                return snapshot.search(vector, count, columns, condition, among)
            return self._search_on_disk(vector, count, condition, exact, columns, among)
        except Exception as error:  # LanceDB crashes in ways of its own at conditions that it does not support
            if condition is None:
                raise
            reason = str(error).split(", /")[0]  # then comes a path in LanceDB's own source
            raise ValueError(f"the filter does not fit the columns: {reason}. {LISTING}") from error

    def _search_on_disk(self, vector, count, condition, exact, columns, among) -> list[dict]:
        conditions = [condition] if among is None else _conditions_on(among, condition)
        rows, total = [], self.table.count_rows()
        count = max(1, total if count is None else min(count, total))
        for condition in conditions:
            query = self.table.search(vector, vector_column_name="vector").distance_type("dot").limit(count)
            # An approximate index walks past rows that do not meet a condition, and may come back with too few.
            if exact or condition is not None:
                query = query.bypass_vector_index()
            else:
                query = query.refine_factor(max(1, CANDIDATES // count))
            if condition is not None:
                query = query.where(condition, prefilter=True)
            rows += query.select([*columns, "_distance"]).to_arrow().to_pylist()
        for row in rows:
            row["score"] = 1 - row.pop("_distance")
        return sorted(rows, key=lambda row: -row["score"])[:count]

    def load(self):
        """Read the vectors that a query is compared with into memory, those that stay there."""
        for table in filter(None, (self.table, self.words)):
            self._in_memory(table)

    def _in_memory(self, table: lancedb.table.Table) -> Snapshot | None:
        """Return a table in memory as it is now; `None` where there is an approximate index instead."""
        version = table.version
        if self._snapshots.get(table.name, (None, None))[0] != version:
            self._snapshots.pop(table.name, None)  # before the next one takes memory
            snapshot = None if _is_approximate(table) else Snapshot(_connect(self.uri).open_table(table.name), version)
            self._snapshots[table.name] = version, snapshot
        return self._snapshots[table.name][1]

    def search_meaning(
        self, vector: np.ndarray, count: int | None = None, among: Collection[str] | None = None
    ) -> list[dict]:
        """
        Return the tracks whose description is nearest to a sentence.

        Args:
            vector (`np.ndarray` of shape `(sentence_dim,)`): The sentence.
            count (`int`, *optional*): How many, all by default.
            among (`Collection[str]`, *optional*): Hashes of the contents that are compared, all by default.

        Returns:
            `list[dict]`: `hash` and `score` of each row, best first; 0 is the score of a track without a description.
        """
        return self._in_memory(self.words).search(vector, count, ["hash"], among=among)

    def search_words(self, text: str, count: int | None = None, among: Collection[str] | None = None) -> list[str]:
        """Return the hashes of up to `count` tracks in whose text all words stand, the best first (BM25)."""
        total = self.words.count_rows()
        count = total if count is None else min(count, total)
        match, found = MatchQuery(text, "text", operator=FullTextOperator.AND), []
        for condition in [None] if among is None else _conditions_on(among):
            query = self.words.search(match, query_type="fts").limit(count)
            if condition is not None:
                query = query.where(condition, prefilter=True)
            found += query.select(["hash", "_score"]).to_arrow().to_pylist()
        return [row["hash"] for row in sorted(found, key=lambda row: -row["_score"])[:count]]

    def sample(self, count: int) -> np.ndarray:
        """Return vectors `(windows, dim)` of up to `count` windows from all over the table, the same at every call."""
        return self._sample(self.table, count)

    def sample_words(self, count: int) -> np.ndarray:
        """Return vectors `(tracks, sentence_dim)` of up to `count` descriptions, the same at every call."""
        rows = self._sample(self.words, count)
        return rows[rows.any(axis=1)]

    def _sample(self, table: lancedb.table.Table, count: int) -> np.ndarray:
        snapshot = self._in_memory(table)
        total = table.count_rows() if snapshot is None else len(snapshot.vectors)
        offsets = np.unique(np.linspace(0, total - 1, min(count, total)).astype(int))
        if snapshot is not None:
            return snapshot.vectors[offsets]
        return vectors(table.take_offsets(offsets.tolist()).select(["vector"]).to_arrow())


def _is_approximate(table: lancedb.table.Table) -> bool:
    return any("vector" in index.columns for index in table.list_indices())


def _conditions_on(digests: Collection[str], condition: str | None = None) -> Iterator[str]:
    """Return conditions, in SQL, which together name all of the contents; each holds a further one."""
    names = [literal(digest) for digest in digests]
    for first in range(0, len(names), IN_LIST):
        among = f"hash IN ({', '.join(names[first : first + IN_LIST])})"
        yield among if condition is None else f"{among} AND ({condition})"


def _is_missing(error: Exception, table: str) -> bool:
    return f"Table '{table}' was not found" in str(error)


def _connect(uri: str | Path) -> lancedb.DBConnection:
    # Every read sees what is there now: other processes write too.
    return lancedb.connect(str(uri), read_consistency_interval=timedelta(0))


def is_local(uri: str | Path) -> bool:
    """Return whether an index is a folder of this machine."""
    return "://" not in str(uri)


@contextmanager
def lock(uri: str | Path) -> Iterator[None]:
    """
    Keep other indexers away from a local store until the block ends. A remote one is not locked.

    Raises:
        `ValueError`: if another one is at work, or the folder holds something else than an index.
    """
    from filelock import FileLock, Timeout  # no query needs it

    if not is_local(uri):
        yield
        return
    folder, index_names = Path(uri), {LOCK, *(f"{name}.lance" for name in (TABLE, WORDS, RUNS))}
    if folder.exists() and not (folder.is_dir() and {path.name for path in folder.iterdir()} <= index_names):
        raise ValueError(f"{uri} is no index: expected a new or empty folder, or one that holds an index")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / LOCK, blocking=False):
            yield
    except Timeout as error:
        raise ValueError(f"another search.py is indexing into {uri}: start again when it has ended") from error


def with_facts(windows: pa.Table, facts: dict) -> pa.Table:
    """
    Return the rows of one track.

    Args:
        windows (`pa.Table`): The columns that differ from window to window.
        facts (`dict`): The columns that all windows share: path, hash, state and tags.
    """
    columns = {}
    for name, kind in COLUMNS.items():
        columns[name] = pa.array([facts[name]] * len(windows), kind) if name in facts else windows.column(name)
    return pa.table(columns | {"vector": windows.column("vector")})


def literal(text: str) -> str:
    """Return a text as a literal of SQL: whatever is in it stays a text."""
    return "'" + text.replace("'", "''") + "'"


def is_utf8(text: str) -> bool:
    """Return whether a text can be stored: for bytes that are not UTF-8, Python has lone surrogates in it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_text(text: str, kind: str):
    """
    Check that a text from a command line or a pipe is one.

    Args:
        kind (`str`): What it is, for the error.

    Raises:
        `ValueError`: if it was not UTF-8, or holds characters of value 0.
    """
    if not is_utf8(text) or "\0" in text:
        raise ValueError(f"the {kind} {text!r} cannot be read: expected text in UTF-8, without characters of value 0")
