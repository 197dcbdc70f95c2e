# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The index of a music library: a LanceDB table with one row for each window of each track."""

import json
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import lancedb
import numpy as np
import pyarrow as pa
import pyarrow.compute
import sqlglot
from filelock import FileLock, Timeout
from huggingface_hub.constants import HF_HOME
from lancedb.index import HnswSq


DEFAULT_STORE = Path(HF_HOME) / "muscall" / "library"
TABLE = "windows"
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
# From here on an approximate index: an exact search of 100,000 windows of 512 takes 0.2 s on two cores, of a million
# 1.5 s (benchmarks/search_latency.py).
APPROXIMATE_FROM = 100_000
# Candidates per answer that are compared again with their whole vectors; recall@10 is then near 1.
REFINE = 10
IN_LIST = 500  # tracks named in one condition


class Store:
    """
    Args:
        uri (`str` or `Path`): A folder, or what else LanceDB connects to: an object store, a remote database.
        table (`lancedb.table.Table`): The open table.
    """

    def __init__(self, uri, table):
        self.uri, self.table = uri, table
        self.model = json.loads(table.schema.metadata[b"muscall"])
        if self.model.pop("format") != FORMAT:
            raise ValueError(f"{uri} was written by another version of search.py: delete it and index again")

    @classmethod
    def open(cls, uri) -> "Store":
        """
        Raises:
            `ValueError`: if there is no index.
        """
        if is_local(uri) and not Path(uri).exists():
            raise ValueError(f"there is no index at {uri}: make one with search.py index FOLDER --store {uri}")
        if is_local(uri) and not Path(uri, f"{TABLE}.lance").is_dir():
            raise ValueError(f"{uri} is no index: expected the folder that search.py index has written")
        connection = _connect(uri)
        if TABLE not in connection.list_tables().tables:
            raise ValueError(f"there is no index at {uri}: make one with search.py index FOLDER --store {uri}")
        try:
            table = connection.open_table(TABLE)
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"the index {uri} is damaged, delete it and index again: {error}") from error
        if b"muscall" not in (table.schema.metadata or {}):
            raise ValueError(f"{uri} is no index: its table {TABLE!r} was not written by search.py")
        return cls(uri, table)

    @classmethod
    def open_or_create(cls, uri, model: dict) -> "Store":
        """
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
        Raises:
            `ValueError`: if vectors of this model are not to be compared with those of the index.
        """
        names = {"weights": "weights", "window_seconds": "window length", "sampling_rate": "rate", "dim": "dimensions"}
        for key, name in names.items():
            if model[key] != self.model[key]:
                raise ValueError(
                    f"the index {self.uri} was made by another model: its {name} are {self.model[key]!s:.16}, those "
                    f"of {model['path']} {model[key]!s:.16}. Use the model it was made by ({self.model['path']}), or "
                    "another --store for this one"
                )

    @property
    def dim(self) -> int:
        return self.model["dim"]

    def tracks(self) -> dict[str, dict[str, str]]:
        """The hash of each state of each track; more than one state where a run was killed before its end."""
        rows = self.table.search().where("start = 0").select(["track", "state", "hash"]).to_arrow().to_pydict()
        tracks: dict[str, dict[str, str]] = {}
        for track, state, digest in zip(rows["track"], rows["state"], rows["hash"], strict=True):
            tracks.setdefault(track, {})[state] = digest
        return tracks

    def rows(self, condition: str) -> pa.Table:
        return self.table.search().where(condition).select([*COLUMNS, "vector"]).to_arrow()

    @contextmanager
    def _writing(self):
        try:
            yield
        except (OSError, RuntimeError) as error:  # what LanceDB raises, at whatever its storage says
            reason = "its disk is full" if "No space left" in str(error) else str(error)
            raise ValueError(f"{self.uri} cannot be written to, {reason}. What was written before stays") from error

    def add(self, rows: pa.Table):
        with self._writing():
            self.table.add(rows)

    def delete(self, states: list[tuple[str, str]]):
        """All rows of these tracks in these states."""
        for first in range(0, len(states), IN_LIST):
            names = ", ".join(literal(f"{state} {track}") for track, state in states[first : first + IN_LIST])
            with self._writing():
                self.table.delete(f"state || ' ' || track IN ({names})")

    def copy_rows(self, tracks: list[dict]) -> list[pa.Table]:
        """
        For tracks whose content the table has already, the rows they will have; none where it has not.

        Args:
            tracks (`list[dict]`): What is the same in all rows of a track, `hash` and others.
        """
        digests = ", ".join(sorted({literal(facts["hash"]) for facts in tracks}))
        rows = self.rows(f"hash IN ({digests})")
        copies = []
        for facts in tracks:
            same = rows.filter(pa.compute.equal(rows.column("hash"), facts["hash"]))
            if len(same):  # perhaps of several tracks, or states: one is enough
                names = list(zip(same.column("track").to_pylist(), same.column("state").to_pylist(), strict=True))
                copies.append(with_facts(same.filter(pa.array([name == names[0] for name in names])), facts))
        return copies

    def tidy(self):
        """Joins small files, drops old versions, and brings an approximate index up to date."""
        with self._writing():
            self.table.optimize(cleanup_older_than=timedelta(hours=1))

    @property
    def is_approximate(self) -> bool:
        return any("vector" in index.columns for index in self.table.list_indices())

    def build_index(self):
        with self._writing():
            self.table.create_index("vector", config=HnswSq(distance_type="dot"), replace=True)

    def search(self, vector: np.ndarray, count: int, condition: str | None = None, exact: bool = False) -> list[dict]:
        """
        The windows with the highest dot product.

        Args:
            vector (`np.ndarray` of shape `(dim,)`): The query.
            count (`int`): How many.
            condition (`str`, *optional*): A condition on columns, in SQL.
            exact (`bool`, *optional*, defaults to `False`):
                Whether to compare all windows also beside an approximate index, as with a condition is always done.

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
        except (ValueError, RuntimeError) as error:
            if condition is None:
                raise
            reason = str(error).split(", /")[0]  # then comes a path in LanceDB's own source
            raise ValueError(f"the filter does not fit the columns: {reason}. {LISTING}") from error
        for row in rows:
            row["score"] = 1 - row.pop("_distance")
        return rows

    def sample(self, count: int) -> np.ndarray:
        """Vectors of up to `count` windows from all over the table, always the same, of shape `(windows, dim)`."""
        total = self.table.count_rows()
        offsets = np.unique(np.linspace(0, total - 1, min(count, total)).astype(int)).tolist()
        return vectors(self.table.take_offsets(offsets).select(["vector"]).to_arrow())


def _connect(uri):
    # Always what is there now: other processes write too.
    return lancedb.connect(str(uri), read_consistency_interval=timedelta(0))


def is_local(uri) -> bool:
    return "://" not in str(uri)


@contextmanager
def lock(uri):
    """
    One indexer at a time on a local store.

    Raises:
        `ValueError`: if another one is at work, or the folder holds something else than an index.
    """
    if not is_local(uri):
        yield
        return
    folder, ours = Path(uri), {LOCK, f"{TABLE}.lance"}
    if folder.exists() and not (folder.is_dir() and {path.name for path in folder.iterdir()} <= ours):
        raise ValueError(f"{uri} is no index: expected a new or empty folder, or one that holds an index")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / LOCK, blocking=False):
            yield
    except Timeout as error:
        raise ValueError(f"another search.py is indexing into {uri}: start again when it has ended") from error


def vectors(rows: pa.Table) -> np.ndarray:
    """The column `vector` as one array of shape `(rows, dim)`."""
    column = rows.column("vector").combine_chunks()
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(rows), column.type.list_size)


def with_facts(windows: pa.Table, facts: dict) -> pa.Table:
    """Rows of the table: what each window of a track has, and what is the same in all: path, hash, state and tags."""
    columns = {}
    for name, kind in COLUMNS.items():
        columns[name] = pa.array([facts[name]] * len(windows), kind) if name in facts else windows.column(name)
    return pa.table(columns | {"vector": windows.column("vector")})


def literal(text: str) -> str:
    """A string as a condition spells it: whatever is in it stays a string."""
    return "'" + text.replace("'", "''") + "'"


def parse_filter(text: str) -> str:
    """
    A person's filter as a condition on the table: SQL over `FILTER_COLUMNS`, in which text is compared without regard
    to case.

    Raises:
        `ValueError`: if it is no condition, or on columns that there are not.
    """
    try:
        condition = sqlglot.parse_one(text, read="postgres", into=sqlglot.exp.Condition)
    except sqlglot.errors.SqlglotError as error:
        raise ValueError(f"the filter {text!r} is not understood. {LISTING}") from error
    texts = []
    for node in condition.walk():
        if isinstance(node, (sqlglot.exp.Query, sqlglot.exp.Anonymous)):
            raise ValueError(f"the filter {text!r} is not a comparison of columns with values. {LISTING}")
        if isinstance(node, sqlglot.exp.Column):
            if node.name not in FILTER_COLUMNS or node.table:
                raise ValueError(f"the filter {text!r} names an unknown column, {node.sql()}. {LISTING}")
            if COLUMNS[node.name] == pa.string() and not isinstance(node.parent, (sqlglot.exp.Is, sqlglot.exp.Lower)):
                texts.append(node)
        elif isinstance(node, sqlglot.exp.Literal) and node.is_string:
            node.set("this", node.this.lower())
    for node in texts:
        node.replace(sqlglot.exp.Lower(this=node.copy()))
    if not isinstance(condition, (sqlglot.exp.Predicate, sqlglot.exp.Connector, sqlglot.exp.Not, sqlglot.exp.Paren)):
        raise ValueError(f"the filter {text!r} is not a comparison of columns with values. {LISTING}")
    return condition.sql(dialect="postgres", comments=False)
