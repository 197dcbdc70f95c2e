# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
A page to search a library of music by sentence, by audio, by both, and on a map.

    python -m space.app                                  # the test split of the default corpus
    python -m space.app ~/Music --model runs/default     # a folder of music

It indexes the folder first, as `search.py index` does; later starts embed only what is new.
"""

import argparse
import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import muscall
from corpus.build import read_rows, resolve_dataset
from muscall.cache import CACHE
from muscall.extras import require_extra
from muscall.hashing import hash_weights


if TYPE_CHECKING:
    from muscall.search.query import Library

ROOT = Path(muscall.__file__).resolve().parents[1]  # not this file's folder: in a Space this file is at the root


def parse_arguments(args: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="a folder of music; default: the default corpus")
    parser.add_argument("--model", default=str(ROOT), help="a checkpoint: folder or Hub id; default: this checkout")
    parser.add_argument("--store", help="the index, a folder; default: in the Hugging Face cache, one for each folder")
    parser.add_argument("--port", type=int, help="default: 7860, or the next one that is free")
    return parser.parse_args(args)


def say(text: str):
    """Tell on the screen what takes time now."""
    print(f"{text} ...", flush=True)


def find_checkpoint(model: str) -> str:
    """Return the folder of a checkpoint."""
    if Path(model).is_dir():
        return model
    from muscall.checkpoint import resolve  # takes seconds to import, as do the other imports within functions

    return str(resolve(model))


def open_library(folder: Path, model: str, store: str | None) -> "Library":
    """
    Index what is new in a folder. Where nothing is, the model is not loaded before an upload needs it.

    Args:
        folder (`Path`): The music.
        model (`str`): The folder of a checkpoint.
        store (`str`, *optional*): The index. Defaults to one in the cache for this folder and model.
    """
    from muscall.search.files import absolute_path
    from muscall.search.query import Library

    folder = Path(absolute_path(folder))
    if store is None:
        name = hashlib.sha256(f"{folder} {hash_weights(Path(model))}".encode(errors="surrogateescape"))
        store = str(CACHE / f"space-{name.hexdigest()[:16]}")
    say(f"Comparing {folder} with its index")
    library = open_indexed(folder, store, Path(model))
    if library is not None:
        return library
    say(f"Loading the model {model}")
    from transformers.utils.logging import disable_progress_bar

    from muscall.encoder import load_encoder
    from muscall.launch import start_accelerator
    from muscall.search.indexing import index_folders

    disable_progress_bar()  # of loading weights
    encoder, accelerator = load_encoder(model), start_accelerator()
    say(f"Indexing {folder}: the first time, each track is heard; later, only what is new")
    index_folders(store, [folder], encoder, accelerator, print)
    accelerator.end_training()
    library = Library(store, model)
    library.encoder = encoder  # it would load it once more
    return library


def open_indexed(folder: Path, store: str, model: Path) -> "Library | None":
    """Return an index that is of this model and has all of a folder, words and text tower too, or `None`."""
    from muscall.search.plan import make_plan
    from muscall.search.query import Library
    from muscall.search.text_graph import TextGraph

    try:
        library = Library(store, str(model))
        library.text_tower = TextGraph(weights := library.store.model["weights"])  # it would load it once more
    except ValueError:
        return None
    if hash_weights(model) != weights:
        return None
    # The plan of an index run is made again, under the lock that keeps others from changing the index meanwhile.
    plan = make_plan(library.store, [folder])
    states = {(track, state) for track, known in plan.known.items() for state in known}
    return library if not (plan.todo or plan.stale) and states == library.store.tracks_with_words() else None


def main():
    arguments = parse_arguments()
    require_extra("demo", "gradio", "jinja2", "threadpoolctl")
    folder, credits = arguments.folder, {}
    if folder is None:
        say("Building the default corpus: the first time, its MIDI files are rendered")
        folder = Path(resolve_dataset("default")) / "test"  # the model was not trained on it
        credits = {str(folder / Path(row["path"]).name): row for row in read_rows() if row["split"] == "test"}
    library = open_library(folder, find_checkpoint(arguments.model), arguments.store)
    say("Drawing the map")
    from space.page import Demo, launch

    demo = Demo(library, credits)
    say("Starting the page")
    launch(demo, arguments.port)


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError, ModuleNotFoundError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped")
