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
from muscall.search.embedding import Embedder, write_copies
from muscall.search.indexing import open_index
from muscall.search.plan import Outcome, Report, finish, make_plan
from muscall.search.store import COLUMNS, TABLE, Store


TRACKS_AT_ONCE = 20_000  # written together; a run that is killed loses no more
BATCH = 16  # tracks that a worker gets at a time
COPY = "copy"  # the problem of a file whose rows the table has under another path


class RayEmbedder:
    """
    The model on a machine of the cluster. It maps paths to rows of the table with one more column, `problem`. A file
    without rows of its own has one row that says why.

    Args:
        model (`str`): The folder of the checkpoint.
        schema (`pa.Schema`): Of the table.
        known (`ray.ObjectRef`): Hashes of contents that the index has.
        windows (`int` or `str`): See [`muscall.search.windows.place_windows`].
    """

    def __init__(self, model: str, schema: pa.Schema, known: ray.ObjectRef, windows: int | str):
        encoder, self.known, self.windows = load_encoder(model), ray.get(known), windows
        encoder.model.to(torch.accelerator.current_accelerator(check_available=True) or "cpu")
        encoder.use_bfloat16()
        self.embedder = Embedder(encoder, num_threads=2)  # as it has one core
        self.schema = schema.append(pa.field("problem", pa.string()))

    def __call__(self, batch: pa.Table) -> pa.Table:
        tables = []
        for file in self.embedder.embed(batch.column("path").to_pylist(), self.known, self.windows):
            rows, problem = file.rows, None
            if rows is None:
                rows = pa.Table.from_pylist([file.facts], pa.schema([(name, COLUMNS[name]) for name in file.facts]))
                problem = file.reason or COPY
            rows = rows.append_column("problem", pa.array([problem] * len(rows), pa.string()))
            missing = [field for field in self.schema if field.name not in rows.column_names]
            for field in missing:
                rows = rows.append_column(field, pa.nulls(len(rows), field.type))
            tables.append(rows.select(self.schema.names).cast(self.schema))
        return pa.concat_tables(tables)


def without_problems(rows: pa.Table) -> pa.Table:
    """Return the rows of the files that were embedded, as the table takes them."""
    return rows.filter(pc.is_null(rows.column("problem"))).drop_columns("problem")


def first_rows(rows: pa.Table) -> pa.Table:
    """Return one row for each file, without its vector."""
    is_first = pc.less(pc.multiply(rows.column("start"), 2), rows.column("weight"))  # as store.FIRST has it
    return rows.filter(pc.or_kleene(pc.is_valid(rows.column("problem")), is_first)).drop_columns("vector")


def update_index_with_ray(
    store_uri: str | Path,
    folders: list[Path],
    encoder: Encoder,
    num_workers: int,
    files: list[str] | None = None,
    windows: int | str | None = None,
) -> Report:
    """
    Bring an index up to date as [`muscall.search.indexing.update_index`] does, embedding on a Ray cluster: the one
    that `RAY_ADDRESS` names, or one started on this machine. Store, music, model and this checkout must have the same
    paths on all its machines.

    Args:
        num_workers (`int`): How many workers embed, each with one core, or one GPU where the cluster has some.
        files (`list[str]`, *optional*): See [`muscall.search.plan.make_plan`].
        windows (`int` or `str`, *optional*): See [`muscall.search.indexing.open_index`].
    """
    if num_workers < 1:
        raise ValueError(f"the number of Ray workers is positive, got {num_workers}")
    begin = time.perf_counter()
    store = open_index(store_uri, encoder, windows)
    plan, outcomes = make_plan(store, folders, files), []
    if not ray.is_initialized():
        ray.init(runtime_env={"env_vars": {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}})
    arguments = str(encoder.folder.absolute()), store.table.schema, ray.put(plan.hashes()), store.windows
    for first in range(0, len(plan.todo), TRACKS_AT_ONCE):
        rows = embed_with_ray(plan.todo[first : first + TRACKS_AT_ONCE], arguments, num_workers)
        outcomes += write_with_ray(store, rows)
    report = finish(store, plan, outcomes)
    report.seconds = time.perf_counter() - begin
    return report


def embed_with_ray(paths: list[str], arguments: tuple, num_workers: int) -> ray.data.Dataset:
    """
    Embed files on the cluster. The rows stay in its memory, or are spilt to its disks.

    Args:
        arguments (`tuple`): See [`RayEmbedder`].
    """
    num_blocks = min(len(paths), max(2 * num_workers, len(paths) // BATCH))
    resources = {"num_gpus": 1} if ray.cluster_resources().get("GPU") else {"num_cpus": 1}
    dataset = ray.data.from_items([{"path": path} for path in paths], override_num_blocks=num_blocks)
    dataset = dataset.map_batches(
        RayEmbedder,
        fn_constructor_args=arguments,
        batch_size=BATCH,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=num_workers),
        **resources,
    )
    return dataset.materialize()


def write_with_ray(store: Store, embedded: ray.data.Dataset) -> list[Outcome]:
    """Write the rows that [`embed_with_ray`] returned to the index."""
    rows = embedded.map_batches(without_problems, batch_format="pyarrow", batch_size=None)
    if rows.count():
        uri = f"{str(store.uri).rstrip('/')}/{TABLE}.lance"
        write_lance(rows, uri, schema=store.table.schema, mode="append")
    files = embedded.map_batches(first_rows, batch_format="pyarrow", batch_size=None).take_all()
    outcomes = [Outcome(file["track"], file["hash"], file["problem"] or "") for file in files]
    reasons = {outcome.digest: outcome.reason for outcome in outcomes if outcome.reason not in ("", COPY)}
    shared = [name for name in COLUMNS if name not in ("start", "end", "weight", "duration")]
    copies = [{name: file[name] for name in shared} for file in files if file["problem"] == COPY]
    outcomes = [outcome for outcome in outcomes if outcome.reason != COPY]
    return outcomes + write_copies(store, copies, reasons) if copies else outcomes
