# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The index of a music library: a LanceDB table with one row for each window of each track."""

import json
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import lancedb
import numpy as np
import pyarrow as pa
import pyarrow.compute
import sqlglot
from filelock import FileLock, Timeout
from lancedb.index import HnswSq


TABLE = "windows"
RUNS = "runs"  # what index runs skipped, see stats.save_report
LOCK = ".indexing.lock"
FORMAT = 1  # of the table: another number is another set of columns
COLUMNS = {
    "track": pa.string(),  # the path
    "hash": pa.string(),  # SHA-256 of the whole file
    "state": pa.string(),  # files.file_state
    "start": pa.float32(),  # of the window, in seconds
    "end": pa.float32(),
    "weight": pa.float32(),  # seconds that the window adds to its track
    "duration": pa.float32(),  # of the track, in seconds
    "title": pa.string(),
    "artist": pa.string(),
    "album": pa.string(),
    "genre": pa.string(),
    "year": pa.int32(),
    "bpm": pa.float32(),
    "key": pa.string(),
}
FILTER_COLUMNS = [name for name in COLUMNS if name not in ("hash", "state", "weight")]
LISTING = f"Columns: {', '.join(FILTER_COLUMNS)}. Example: bpm > 120 and genre = 'jazz'"
# With a text, in a filter. NOT LIKE and NOT IN are negations of these.
COMPARISONS = sqlglot.exp.EQ, sqlglot.exp.NEQ, sqlglot.exp.Like, sqlglot.exp.ILike, sqlglot.exp.In
# Queries, functions of unknown names, and what LanceDB crashes at: ?, $1, N'text', b'1'.
NOT_IN_FILTERS = (
    *(sqlglot.exp.Query, sqlglot.exp.Anonymous),
    *(sqlglot.exp.Placeholder, sqlglot.exp.Parameter, sqlglot.exp.National, sqlglot.exp.BitString),
)
# What decides whether vectors of two models are to be compared, and its name in an error.
MODEL_FACTS = {"weights": "weights", "window_seconds": "window length", "sampling_rate": "rate", "dim": "dimensions"}
# Candidates per answer that are compared again with their whole vectors; recall@10 is then near 1.
REFINE = 10
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
        self.model = json.loads(table.schema.metadata[b"muscall"])
        if self.model.pop("format") != FORMAT:
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
        if is_missing or TABLE not in _connect(uri).list_tables().tables:
            raise ValueError(f"there is no index at {uri}: make one with search.py index FOLDER --store {uri}")
        try:
            table = _connect(uri).open_table(TABLE)
        except (ValueError, RuntimeError) as error:
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
        if TABLE in connection.list_tables().tables:
            store = cls.open(uri)
            store.check_model(model)
            return store
        metadata = {"muscall": json.dumps(model | {"format": FORMAT})}
        fields = [*COLUMNS.items(), ("vector", pa.list_(pa.float32(), model["dim"]))]
        try:
            return cls(uri, connection.create_table(TABLE, schema=pa.schema(fields, metadata=metadata)))
        except (OSError, RuntimeError) as error:
            raise ValueError(f"{uri} cannot be written to: {error}") from error

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
        rows = self.table.search().where("start = 0").select(["track", "state", "hash"]).to_arrow().to_pydict()
        tracks: dict[str, dict[str, str]] = {}
        for track, state, digest in zip(rows["track"], rows["state"], rows["hash"], strict=True):
            tracks.setdefault(track, {})[state] = digest
        return tracks

    def rows(self, condition: str) -> pa.Table:
        """Return the rows that meet a condition, in SQL."""
        return self.table.search().where(condition).select([*COLUMNS, "vector"]).to_arrow()

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

    def delete(self, states: list[tuple[str, str]]):
        """Delete all rows of these tracks in these states."""
        for first in range(0, len(states), IN_LIST):
            batch = ", ".join(literal(f"{state} {track}") for track, state in states[first : first + IN_LIST])
            with self._writing():
                self.table.delete(f"state || ' ' || track IN ({batch})")

    def copy_rows(self, tracks: list[dict]) -> list[pa.Table]:
        """
        Return the rows of tracks whose content the table has already under another path, a table for each. There is
        no table for a track whose content it has not.

        Args:
            tracks (`list[dict]`): The facts of each track, see [`with_facts`].
        """
        digests = ", ".join(sorted({literal(facts["hash"]) for facts in tracks}))
        rows = self.rows(f"hash IN ({digests})")
        copies = []
        for facts in tracks:
            same = rows.filter(pa.compute.equal(rows.column("hash"), facts["hash"]))
            if len(same):  # rows of several tracks or states are possible: those of the first are enough
                owners = list(zip(same.column("track").to_pylist(), same.column("state").to_pylist(), strict=True))
                copies.append(with_facts(same.filter(pa.array([owner == owners[0] for owner in owners])), facts))
        return copies

    def tidy(self):
        """Join small files, drop old versions, and bring an approximate index up to date."""
        with self._writing():
            self.table.optimize(cleanup_older_than=timedelta(hours=1))

    def read_table(self, name: str) -> list[dict]:
        """Return the rows of another table beside the windows, none where there is no such table."""
        connection = _connect(self.uri)
        return connection.open_table(name).to_arrow().to_pylist() if name in connection.list_tables().tables else []

    def replace_table(self, name: str, rows: pa.Table):
        """Write another table beside the windows, in place of the one that is there."""
        with self._writing():
            _connect(self.uri).create_table(name, rows, mode="overwrite")

    @property
    def is_approximate(self) -> bool:
        """`True` if there is an approximate index."""
        return any("vector" in index.columns for index in self.table.list_indices())

    def build_index(self):
        """Build the approximate index anew."""
        with self._writing():
            self.table.create_index("vector", config=HnswSq(distance_type="dot"), replace=True)

    def search(self, vector: np.ndarray, count: int, condition: str | None = None, exact: bool = False) -> list[dict]:
        """
        Return the windows with the highest dot product.

        Args:
            vector (`np.ndarray` of shape `(dim,)`): The query.
            count (`int`): How many.
            condition (`str`, *optional*): A condition on columns, in SQL.
            exact (`bool`, *optional*, defaults to `False`):
                Whether to compare all windows although there is an approximate index. With a condition, all windows
                are always compared.

        Returns:
            `list[dict]`: the columns of each row and `score`, best first.
        """
        query = self.table.search(vector, vector_column_name="vector").distance_type("dot").limit(count)
        # An approximate index walks past rows that do not meet a condition, and may come back with too few.
        exact = exact or condition is not None
        query = query.bypass_vector_index() if exact else query.refine_factor(REFINE)
        if condition is not None:
            query = query.where(condition, prefilter=True)
        try:
            rows = query.select([*COLUMNS, "_distance"]).to_arrow().to_pylist()
        except Exception as error:  # LanceDB crashes in ways of its own at conditions that it does not support
            if condition is None:
                raise
            reason = str(error).split(", /")[0]  # then comes a path in LanceDB's own source
            raise ValueError(f"the filter does not fit the columns: {reason}. {LISTING}") from error
        for row in rows:
            row["score"] = 1 - row.pop("_distance")
        return rows

    def sample(self, count: int) -> np.ndarray:
        """Return vectors `(windows, dim)` of up to `count` windows from all over the table, the same at every call."""
        total = self.table.count_rows()
        offsets = np.unique(np.linspace(0, total - 1, min(count, total)).astype(int)).tolist()
        return vectors(self.table.take_offsets(offsets).select(["vector"]).to_arrow())


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
    if not is_local(uri):
        yield
        return
    folder, index_names = Path(uri), {LOCK, f"{TABLE}.lance", f"{RUNS}.lance"}
    if folder.exists() and not (folder.is_dir() and {path.name for path in folder.iterdir()} <= index_names):
        raise ValueError(f"{uri} is no index: expected a new or empty folder, or one that holds an index")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / LOCK, blocking=False):
            yield
    except Timeout as error:
        raise ValueError(f"another search.py is indexing into {uri}: start again when it has ended") from error


def vectors(rows: pa.Table) -> np.ndarray:
    """Return the column `vector` as one array of shape `(rows, dim)`."""
    column = rows.column("vector").combine_chunks()
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(rows), column.type.list_size)


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


def parse_filter(text: str) -> str:
    """
    Return a person's filter as a condition on the table: SQL over `FILTER_COLUMNS`, in which text is compared without
    regard to case, and in all its Unicode forms (NFC, NFD): names of files come in each.

    Raises:
        `ValueError`: if it is no condition, or names other columns.
    """
    check_text(text, "filter")
    try:
        condition = sqlglot.parse_one(text, read="postgres", into=sqlglot.exp.Condition)
    except (sqlglot.errors.SqlglotError, RecursionError) as error:  # the last for hundreds of parentheses
        raise ValueError(f"the filter {text!r} is not understood. {LISTING}") from error
    text_columns = []
    for node in condition.walk():
        if isinstance(node, NOT_IN_FILTERS):
            raise ValueError(f"the filter {text!r} is not a comparison of columns with values. {LISTING}")
        if isinstance(node, sqlglot.exp.Column):
            if node.name not in FILTER_COLUMNS or node.table:
                raise ValueError(f"the filter {text!r} names an unknown column, {node.sql()}. {LISTING}")
            if COLUMNS[node.name] == pa.string() and not isinstance(node.parent, (sqlglot.exp.Is, sqlglot.exp.Lower)):
                text_columns.append(node)
    for column in text_columns:
        column.replace(sqlglot.exp.Lower(this=column.copy()))
    if not isinstance(condition, (sqlglot.exp.Predicate, sqlglot.exp.Connector, sqlglot.exp.Not, sqlglot.exp.Paren)):
        raise ValueError(f"the filter {text!r} is not a comparison of columns with values. {LISTING}")
    return condition.transform(_in_all_forms).sql(dialect="postgres", comments=False)


def _in_all_forms(node: sqlglot.exp.Expression) -> sqlglot.exp.Expression:
    """
    Return a part of a condition with its texts in small letters. A comparison with a text that has several Unicode
    forms becomes one with each of them.
    """
    if isinstance(node, sqlglot.exp.Literal) and node.is_string:
        return sqlglot.exp.Literal.string(node.this.lower())
    if not isinstance(node, COMPARISONS):
        return node
    alternatives = {}
    for form in ("NFC", "NFD", None):
        alternative = node.copy()
        for text in alternative.find_all(sqlglot.exp.Literal):
            if text.is_string:
                text.set("this", (text.this if form is None else unicodedata.normalize(form, text.this)).lower())
        alternatives.setdefault(alternative.sql(), alternative)
    if len(alternatives) == 1:
        return alternative
    join = sqlglot.exp.and_ if isinstance(node, sqlglot.exp.NEQ) else sqlglot.exp.or_
    return sqlglot.exp.paren(join(*alternatives.values()))
