# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Indexing a catalogue as a Ray Data job: the workers of a cluster embed, and lance-ray writes the same table."""

import time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import ray
import torch
from lance_ray import write_lance

from muscall.encoder import Encoder, load_encoder
from muscall.search.indexing import Embedder, Report, finish, make_plan
from muscall.search.store import COLUMNS, TABLE, Store


TRACKS_AT_ONCE = 20_000  # written together; a run that is killed loses no more
BATCH = 16  # tracks that a worker gets at a time
COPY = "copy"  # instead of rows: the table has them under another path


class RayEmbedder:
    """
    On a machine of the cluster: paths to rows of the table, with one more column, `problem`. A file without rows of
    its own has one that says why.
    """

    def __init__(self, model: str, schema: pa.Schema, known: "ray.ObjectRef"):
        encoder, self.known = load_encoder(model), ray.get(known)
        encoder.model.to(torch.accelerator.current_accelerator(check_available=True) or "cpu")
        self.embedder = Embedder(encoder)
        self.schema = schema.append(pa.field("problem", pa.string()))

    def __call__(self, batch: pa.Table) -> pa.Table:
        tables = []
        for facts, rows, reason in self.embedder.embed(batch.column("path").to_pylist(), self.known):
            if rows is None:
                rows = pa.Table.from_pylist([facts], pa.schema([(name, COLUMNS[name]) for name in facts]))
            problem = reason or (COPY if "start" not in rows.column_names else None)
            rows = rows.append_column("problem", pa.array([problem] * len(rows), pa.string()))
            missing = [field for field in self.schema if field.name not in rows.column_names]
            for field in missing:
                rows = rows.append_column(field, pa.nulls(len(rows), field.type))
            tables.append(rows.select(self.schema.names).cast(self.schema))
        return pa.concat_tables(tables)


def without_problems(rows: pa.Table) -> pa.Table:
    return rows.filter(pc.is_null(rows.column("problem"))).drop_columns("problem")


def heads(rows: pa.Table) -> pa.Table:
    """One row for each file, without its vector."""
    first = pc.or_kleene(pc.is_valid(rows.column("problem")), pc.equal(rows.column("start"), 0))
    return rows.filter(first).drop_columns("vector")


def update_index_with_ray(store_uri, folders: list[Path], encoder: Encoder, num_workers: int) -> Report:
    """
    As [`muscall.search.indexing.update_index`], embedding on a Ray cluster: the one that `RAY_ADDRESS` names, or one
    started on this machine. Store, music, model and this checkout must have the same paths on all its machines.

    Args:
        num_workers (`int`): How many workers embed, each with one core, or one GPU where the cluster has some.
    """
    if num_workers < 1:
        raise ValueError(f"the number of Ray workers is positive, got {num_workers}")
    begin = time.perf_counter()
    store = Store.open_or_create(store_uri, encoder.describe())
    plan, outcomes = make_plan(store, folders), []
    if not ray.is_initialized():
        ray.init(runtime_env={"env_vars": {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}})
    known, schema = ray.put(plan.hashes()), store.table.schema
    resources = {"num_gpus": 1} if ray.cluster_resources().get("GPU") else {"num_cpus": 1}
    for first in range(0, len(plan.todo), TRACKS_AT_ONCE):
        paths = [{"path": path} for path in plan.todo[first : first + TRACKS_AT_ONCE]]
        num_blocks = min(len(paths), max(2 * num_workers, len(paths) // BATCH))
        dataset = ray.data.from_items(paths, override_num_blocks=num_blocks).map_batches(
            RayEmbedder,
            fn_constructor_args=(str(encoder.folder.absolute()), schema, known),
            batch_size=BATCH,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=num_workers),
            **resources,
        )
        dataset = dataset.materialize()  # the rows of these tracks, in the cluster's memory or spilt to its disks
        rows = dataset.map_batches(without_problems, batch_format="pyarrow", batch_size=None)
        if rows.count():
            write_lance(rows, f"{str(store_uri).rstrip('/')}/{TABLE}.lance", schema=schema, mode="append")
        files = dataset.map_batches(heads, batch_format="pyarrow", batch_size=None).take_all()
        copies = [file for file in files if file["problem"] == COPY]
        if copies:
            names = [name for name in COLUMNS if name not in ("start", "end", "weight", "duration")]
            store.add(pa.concat_tables(store.copy_rows([{name: file[name] for name in names} for file in copies])))
        outcomes += [
            (file["track"], file["hash"], "" if file["problem"] in (None, COPY) else file["problem"]) for file in files
        ]
    report = finish(store, plan, outcomes)
    report.seconds = time.perf_counter() - begin
    return report
