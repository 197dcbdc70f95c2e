# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The vectors of a table in memory, where a matrix product compares a query with all of them."""

from collections.abc import Collection, Iterable

import lancedb
import numpy as np
import pyarrow as pa


class Snapshot:
    """
    One version of a table, with its vectors in memory.

    A scan by LanceDB reads and decodes the whole column for each query, which takes 20 times as long as the product
    with a matrix that was read once. What is read for the answers alone, such as tags, stays on the disk.

    Args:
        table (`lancedb.table.Table`): The open table, of which no other part of the program has this handle: it is
            kept at this version, so that the numbers of rows stay valid.
        version (`int`): The version.
    """

    def __init__(self, table: lancedb.table.Table, version: int):
        table.checkout(version)
        self.table = table
        rows = table.search().select(["hash", "vector"]).with_row_id(True).to_arrow()
        self.vectors = vectors(rows).astype(np.float32, copy=False)
        self._ids = rows.column("_rowid").to_numpy()
        contents = rows.column("hash").combine_chunks().dictionary_encode()
        self._hashes = contents.dictionary.to_pylist()
        self._contents = contents.indices.to_numpy()  # the number of each row's content
        self._numbers = {digest: number for number, digest in enumerate(self._hashes)}
        # The rows of content n are _order[_ends[n] : _ends[n + 1]].
        self._order = np.argsort(self._contents, kind="stable")
        self._ends = np.searchsorted(self._contents[self._order], np.arange(len(self._hashes) + 1))

    def search(
        self,
        vector: np.ndarray,
        count: int | None,
        columns: Iterable[str],
        condition: str | None = None,
        among: Collection[str] | None = None,
    ) -> list[dict]:
        """Return the rows with the highest dot product; arguments and answers as of `Store.search`."""
        rows = None if among is None else self._rows_of(among)
        if condition is not None:
            meets = self._meets(condition)
            rows = np.flatnonzero(meets) if rows is None else rows[meets[rows]]
        scores = self.vectors @ vector if rows is None else self.vectors[rows] @ vector
        is_part = count is not None and count < len(scores)
        best = np.argpartition(-scores, count)[:count] if is_part else np.arange(len(scores))
        best = best if rows is None else rows[best]
        # The last digit of a matrix product depends on how many rows it has, and that of a sum over one row does not.
        scores = np.einsum("ij,j->i", self.vectors[best], vector)
        order = np.lexsort((best, -scores))
        found = self._read(best[order], list(columns))
        return [row | {"score": score} for row, score in zip(found, scores[order].tolist(), strict=True)]

    def _rows_of(self, digests: Collection[str]) -> np.ndarray:
        numbers = [self._numbers[digest] for digest in digests if digest in self._numbers]
        parts = [self._order[self._ends[number] : self._ends[number + 1]] for number in numbers]
        return np.concatenate([np.empty(0, np.intp), *parts])

    def _meets(self, condition: str) -> np.ndarray:
        """Return for each row whether it meets a condition, in SQL."""
        rows = self.table.search().where(condition).select(["hash"]).with_row_id(True).to_arrow()
        return np.isin(self._ids, rows.column("_rowid").to_numpy())

    def _read(self, rows: np.ndarray, columns: list[str]) -> list[dict]:
        """Return columns of rows, in their order."""
        if columns == ["hash"]:
            return [{"hash": self._hashes[number]} for number in self._contents[rows].tolist()]
        if len(rows) == 0:
            return []
        ids = self._ids[rows].tolist()
        found = self.table.take_row_ids(ids).select(columns).with_row_id().to_arrow().to_pylist()
        by_id = {row.pop("_rowid"): row for row in found}
        return [by_id[row] for row in ids]


def vectors(rows: pa.Table) -> np.ndarray:
    """Return the column `vector` as one array of shape `(rows, dim)`."""
    column = rows.column("vector").combine_chunks()
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(rows), column.type.list_size)
