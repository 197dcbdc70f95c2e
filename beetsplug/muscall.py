# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""A plugin of beets that finds tracks of its library by how they sound: see muscall/search/README.md."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import confuse
from beets import config, plugins, ui
from beets.dbcore.query import FieldQuery
from beets.exceptions import UserError
from beets.library import Album, Item, Library


CHECKOUT = str(Path(__file__).resolve().parents[1])


@contextmanager
def use_checkout() -> Iterator[None]:
    """Make this checkout importable, and have beets show the errors that are meant for people."""
    if CHECKOUT not in sys.path:
        sys.path.insert(0, CHECKOUT)  # before the folder of this file, whose `muscall` is another
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in search.py, before torch is imported
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # those of loading weights
    try:
        yield
    except (ValueError, OSError, ModuleNotFoundError) as error:
        raise UserError(str(error)) from error
    except RuntimeError as error:
        if not str(error).startswith("lance error"):
            raise
        raise UserError(f"the index is damaged, delete {settings()[0]} and index again: {error}") from error


def settings() -> tuple[str, str | None]:
    """Return the index, a URI or a path from beets' own folder on, and the checkpoint, if one is configured."""
    store, model = (config["muscall"][name] for name in ("store", "model"))
    store = store.as_str() if "://" in store.as_str() else store.get(confuse.Filename(in_app_dir=True))
    return store, os.path.expanduser(model.as_str()) if model.get() else None


@cache
def open_index(uri: str, model: str | None):
    """Return an index as a `muscall.search.query.Library`, which loads its model once."""
    from muscall.search import query, store

    if (store.is_local(uri) and not Path(uri).exists()) or store.Store.open(uri).table.count_rows() == 0:
        raise UserError(f"no track of this library is indexed in {uri}: run 'beet muscall-index' first")
    return query.Library(uri, model)


def find_items(lib: Library, sentence: str, query: list[str], count: int | None = None) -> list[tuple[Item, dict]]:
    """Return the items of a query that fit a sentence best, best first, each with the answer of the index."""
    if not sentence.strip():
        raise UserError('give a sentence: beet muscall "calm solo piano", or muscall:"calm solo piano" in a query')
    k = count = config["muscall"]["count"].get(int) if count is None else count
    items = list(lib.items(query))
    with use_checkout():
        from muscall.search.files import real_paths

        index = open_index(*settings())
        by_path = dict(zip(real_paths(os.fsdecode(item.path) for item in items), items, strict=True))
        while True:
            answers = index.search(sentence, k=k)
            paths = [(path, answer) for answer in answers for path in real_paths([answer["track"], *answer["copies"]])]
            found = [(by_path[path], answer) for path, answer in paths if path in by_path]
            if len(found) >= min(count, len(items)) or len(answers) < k:
                return found[:count]
            k *= 4  # some of the best are no items of this query


class SoundQuery(FieldQuery[str]):
    """Match the tracks of the library that fit a sentence best, or the albums that have one of them."""

    best: list[Item] | None = None

    def match(self, obj: Item | Album) -> bool:
        if self.best is None and obj._db is not None:  # what is being imported is in no library yet, and no match
            self.best = [item for item, _ in find_items(obj._db, self.pattern, [])]
        return obj.id in [item.album_id if isinstance(obj, Album) else item.id for item in self.best or ()]


class MuscallPlugin(plugins.BeetsPlugin):
    item_queries = album_queries = {"muscall": SoundQuery}

    def __init__(self):
        super().__init__()
        self.config.add({"store": "muscall", "model": None, "count": 10})

    def commands(self) -> list[ui.Subcommand]:
        index = ui.Subcommand("muscall-index", help="index how the tracks of the library sound")
        search = ui.Subcommand("muscall", ui.CommonOptionsParser("%prog SENTENCE [QUERY]"), "find tracks by sound")
        search.parser.add_path_option()
        search.parser.add_format_option(target="item")
        search.parser.add_option("-l", "--limit", type=int, help="how many tracks")
        index.func, search.func = self.run_index, self.run_search
        return [index, search]

    def run_index(self, lib: Library, options, args: list[str]):
        paths, folder = [os.fsdecode(item.path) for item in lib.items()], os.fsdecode(lib.directory)
        if args or not paths:
            raise UserError("the whole library is indexed: expected no query, and a library with tracks")
        with use_checkout():
            from muscall import encoder, folders, launch
            from muscall.search.indexing import index_folders

            # Tracks of this folder that beets no longer knows leave the index, unless its disk is missing.
            searched = [Path(folder)] if any(folders.is_below(path, folder) for path in paths) else []
            model = encoder.load_encoder(settings()[1] or CHECKOUT)
            index_folders(settings()[0], searched, model, launch.start_accelerator(), ui.print_, files=paths)

    def run_search(self, lib: Library, options, args: list[str]):
        for item, answer in find_items(lib, "".join(args[:1]), args[1:], options.limit):
            item["muscall_score"], item["muscall_start"] = f"{answer['score']:.3f}", f"{answer['start']:.0f}"
            ui.print_(format(item))
            if answer["file"] == "missing":
                self._log.warning("{.filepath} is gone: 'beet update' takes it out of the library", item)
