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

import muscall
from corpus.build import read_rows, resolve_dataset
from muscall.cache import CACHE
from muscall.checkpoint import resolve
from muscall.extras import require_extra
from muscall.hashing import hash_weights


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


def prepare_index(folder: Path, model: str, store: str | None) -> str:
    """
    Index what is new in a folder.

    Args:
        folder (`Path`): The music.
        model (`str`): A checkpoint: a folder or a Hub id.
        store (`str`, *optional*): The index. Defaults to one in the cache for this folder and model.

    Returns:
        `str`: where the index is.
    """
    from muscall.encoder import load_encoder
    from muscall.launch import start_accelerator
    from muscall.search.files import absolute_path
    from muscall.search.indexing import index_folders

    folder = Path(absolute_path(folder))
    if store is None:
        name = hashlib.sha256(f"{folder} {hash_weights(resolve(model))}".encode(errors="surrogateescape"))
        store = str(CACHE / f"space-{name.hexdigest()[:16]}")
    say(f"Loading the model {model}")
    encoder, accelerator = load_encoder(model), start_accelerator()
    say(f"Indexing {folder}: the first time, each track is heard; later, only what is new")
    index_folders(store, [folder], encoder, accelerator, print)
    accelerator.end_training()
    return store


def main():
    arguments = parse_arguments()
    require_extra("demo", "gradio", "jinja2", "threadpoolctl")
    from transformers.utils.logging import disable_progress_bar

    from muscall.search.query import Library
    from space.page import Demo, launch

    disable_progress_bar()  # of loading weights
    folder, credits = arguments.folder, {}
    if folder is None:
        say("Building the default corpus: the first time, its MIDI files are rendered")
        folder = Path(resolve_dataset("default")) / "test"  # the model was not trained on it
        credits = {str(folder / Path(row["path"]).name): row for row in read_rows() if row["split"] == "test"}
    store = prepare_index(folder, arguments.model, arguments.store)
    say("Drawing the map")
    demo = Demo(Library(store, arguments.model), credits)
    say("Starting the page")
    launch(demo, arguments.port)


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError, ModuleNotFoundError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped")
