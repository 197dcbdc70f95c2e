# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Keep an index in step with folders of music: new, changed, moved and deleted tracks, each content embedded once."""

import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from tqdm import tqdm

from muscall.encoder import Encoder
from muscall.extras import require_extra
from muscall.search.embedding import Embedder, write_files
from muscall.search.files import absolute_path, find_tracks
from muscall.search.formatting import format_report, printable
from muscall.search.plan import Report, finish, make_plan
from muscall.search.query import recall
from muscall.search.stats import save_report
from muscall.search.store import Store, lock
from muscall.search.text_graph import write_text_graph
from muscall.search.windows import AUTO, parse_windows
from muscall.search.words import update_words


# From here on an approximate index: an exact search reads all vectors at the first query, which takes about a second
# for so many.
APPROXIMATE_FROM = 100_000
# What people ask a library for: the recall of an approximate index is measured on these.
SENTENCES = [
    f"{mood} {music}"
    for mood in ("calm", "fast", "sad", "happy", "dark", "dreamy", "aggressive", "solemn")
    for music in ("piano", "guitar", "electronic music", "orchestra", "jazz", "rock", "singing", "drums")
]


def index_folders(
    store_uri: str | Path,
    folders: list[Path],
    encoder: Encoder,
    accelerator: Accelerator,
    show: Callable[[str], None],
    num_threads: int | None = None,
    ray_workers: int | None = None,
    files: list[str] | None = None,
    windows: int | str | None = None,
) -> Report:
    """
    Bring an index up to date with folders, one indexer at a time, and make it approximate when it is large.

    Args:
        store_uri (`str` or `Path`): See [`Store`].
        folders (`list[Path]`): What lies elsewhere stays as it is in the index.
        encoder ([`Encoder`]): The model, which is moved to the accelerator's device; see [`Encoder.use_bfloat16`].
        accelerator (`Accelerator`): Shares the work over its processes.
        show (`Callable[[str], None]`): Called in the main process with what a person should read, as soon as it is
            known: `print`, for instance.
        num_threads (`int`, *optional*): See [`Embedder`].
        ray_workers (`int`, *optional*): Embed with so many workers of a Ray cluster instead.
        files (`list[str]`, *optional*): See [`make_plan`].
        windows (`int` or `str`, *optional*): See [`open_index`].

    Raises:
        `ValueError`: if another indexer is at work, a folder is missing, or the index was made by another model or
            with other windows.
    """
    encoder.model.to(accelerator.device)
    encoder.use_bfloat16()
    with lock(store_uri) if accelerator.is_main_process else nullcontext():
        if ray_workers is None:
            report = update_index(store_uri, folders, Embedder(encoder, num_threads), accelerator, files, windows)
        else:
            require_extra("cluster", "ray", "lance_ray")
            from muscall.search.ray_indexing import update_index_with_ray

            report = update_index_with_ray(store_uri, folders, encoder, ray_workers, files, windows)
        if accelerator.is_main_process:
            show(format_report(report, store_uri))
            store = Store.open(store_uri)
            save_report(store, folders, report)
            describe(store, folders, encoder, show)
            approximate(store, encoder, show)
    return report


def open_index(store_uri: str | Path, encoder: Encoder, windows: int | str | None = None) -> Store:
    """
    Open the index that is to be brought up to date, or make one where there is none.

    Args:
        store_uri (`str` or `Path`): See [`Store`].
        encoder ([`Encoder`]): The model.
        windows (`int` or `str`, *optional*):
            Which windows of a track it has, see [`muscall.search.windows.place_windows`]. By default those of the
            index that is there, `"auto"` of a new one.

    Raises:
        `ValueError`: if there is an index of another model or of other windows.
    """
    wanted = AUTO if windows is None else parse_windows(windows)
    store = Store.open_or_create(store_uri, encoder.describe() | {"windows": wanted})
    if windows is not None and store.windows != wanted:
        raise ValueError(
            f"the index {store_uri} was made with --windows {store.windows}, which cannot be changed to {wanted}: "
            "leave --windows out to go on with it, or make an index of its own with another --store"
        )
    return store


def update_index(
    store_uri: str | Path,
    folders: list[Path],
    embedder: Embedder,
    accelerator: Accelerator,
    files: list[str] | None = None,
    windows: int | str | None = None,
) -> Report:
    """
    Bring an index up to date with folders; every process of the accelerator embeds its share. Rows are written every
    few seconds, so that a run that is killed goes on where it was, and outdated ones are deleted at the end.

    Args:
        store_uri (`str` or `Path`): See [`Store`].
        folders (`list[Path]`): What lies elsewhere stays as it is in the index.
        embedder ([`Embedder`]): The model.
        accelerator (`Accelerator`): Shares the work over its processes.
        files (`list[str]`, *optional*): See [`make_plan`].
        windows (`int` or `str`, *optional*): See [`open_index`].
    """
    begin = time.perf_counter()
    shared = [None]
    if accelerator.is_main_process:
        shared = [make_plan(open_index(store_uri, embedder.encoder, windows), folders, files)]
    broadcast_object_list(shared)
    plan, store = shared[0], Store.open(store_uri)
    share = plan.todo[accelerator.process_index :: accelerator.num_processes]
    outcomes = []
    bar = tqdm(total=len(share), unit=" tracks", disable=not accelerator.is_main_process or not share)
    with bar, closing(write_files(store, embedder, share, plan.hashes())) as written:
        for outcome in written:
            outcomes.append(outcome)
            bar.set_postfix_str(printable(Path(outcome.path).name), refresh=False)
            bar.update()
    outcomes = gather_object(outcomes)
    report = finish(store, plan, outcomes) if accelerator.is_main_process else Report()
    report.seconds = time.perf_counter() - begin
    return report


def describe(store: Store, folders: list[Path], encoder: Encoder, show: Callable[[str], None]):
    """Add what is written about the tracks, and the graph of the text tower, to an index that lacks them."""
    count = update_words(store, [absolute_path(folder) for folder in folders], encoder.embed_sentences)
    if count:
        show(f"what is written about {count} tracks was added")
    try:
        write_text_graph(encoder, store.model["weights"])
    except OSError as error:
        show(f"the graph of the text tower could not be written, queries will load the checkpoint: {error}")


def approximate(store: Store, encoder: Encoder, show: Callable[[str], None]):
    """Build the approximate index of a library that is large enough to need one, and show how good it is."""
    count = store.table.count_rows()
    if count < APPROXIMATE_FROM or store.is_approximate:
        return
    show(f"building an approximate index of {count} windows")
    begin = time.perf_counter()
    store.build_index()
    seconds = time.perf_counter() - begin
    by_text, by_audio = recall(store, encoder.embed_texts(SENTENCES)), recall(store, store.sample(len(SENTENCES)))
    show(f"took {seconds:.0f} s; recall@10 against exact search: {by_text:.3f} by text, {by_audio:.3f} by audio")


def forget(store_uri: str | Path, path: str | Path) -> int:
    """
    Take a folder or a track out of an index, whether it is still there or not, and return how many tracks that were.

    Raises:
        `ValueError`: if the index has none of this name.
    """
    store = Store.open(store_uri)
    with lock(store_uri):
        tracks = store.tracks()
        below = find_tracks(tracks, path, below=True)
        if not below:
            raise ValueError(f"{absolute_path(path)} is no track of the index {store_uri}, and no folder of any")
        store.delete([(track, state) for track in below for state in tracks[track]])
        store.tidy()
    return len(below)
