# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
Finds music in one's own library by a sentence, by audio, by both.

    python search.py index ~/Music --model runs/default
    python search.py query "calm solo piano at night"
    python search.py query "like this but with strings" --audio song.mp3 --without "drums" --filter "bpm > 120"
    python search.py query                                    # a sentence a line, answered at once
    python search.py forget ~/Music/old                       # a folder that is gone
    accelerate launch --num_processes 4 search.py index ...   # sooner; torchrun without a GPU
"""

import argparse
import json
import os
import sys
import time
from contextlib import nullcontext
from pathlib import Path


# Read when torch loads OpenMP: its threads shall not spin while the threads that read files need the cores (1.3x).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from transformers.utils.logging import disable_progress_bar

from muscall.search.query import Library, recall
from muscall.search.store import APPROXIMATE_FROM, DEFAULT_STORE, Store


# What a library is asked for: the recall of an approximate index is measured on these.
SENTENCES = [
    f"{mood} {music}"
    for mood in ("calm", "fast", "sad", "happy", "dark", "dreamy", "aggressive", "solemn")
    for music in ("piano", "guitar", "electronic music", "orchestra", "jazz", "rock", "singing", "drums")
]


def parse_arguments(args=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    index = commands.add_parser("index", help="bring the index up to date with folders of music")
    index.add_argument("folders", nargs="+", type=Path, help="folders; tracks of others stay in the index")
    index.add_argument(
        "--model",
        default=str(Path(__file__).parent),
        help="a checkpoint: a folder or a Hub id; default: this checkout",
    )
    index.add_argument("--num_threads", type=int, default=2, help="files read at a time, by each process (default: 2)")
    index.add_argument(
        "--ray_workers", type=int, help="embed with so many workers of a Ray cluster, or of a local one without any"
    )
    forget = commands.add_parser("forget", help="take a folder out of the index, for instance one that is gone")
    forget.add_argument("folder", type=Path)
    query = commands.add_parser("query", help="search the index")
    query.add_argument("text", nargs="?", help="a sentence; without any request: one a line from standard input")
    query.add_argument("--audio", help="an audio file to sound like")
    query.add_argument("--like", metavar="TRACK", help="a track of the index to sound like")
    query.add_argument("--without", metavar="TEXT", help="what the tracks must not have")
    query.add_argument("--filter", help="a condition on tags, \"bpm > 120 and genre = 'jazz'\"")
    query.add_argument("--k", type=int, default=10, help="how many tracks (default: 10)")
    query.add_argument("--json", action="store_true", help="print JSON")
    query.add_argument("--model", help="where the model of the index is now, if it was moved")
    for command in (index, forget, query):
        command.add_argument(
            "--store",
            default=str(DEFAULT_STORE),
            help="a folder, or a URI that LanceDB knows, such as s3://bucket/path",
        )
    return parser.parse_args(args)


def run_index(arguments: argparse.Namespace):
    from muscall.encoder import load_encoder
    from muscall.launch import start_accelerator
    from muscall.search.indexing import Embedder, update_index
    from muscall.search.store import lock

    accelerator = start_accelerator()
    encoder = load_encoder(arguments.model)
    encoder.model.to(accelerator.device)
    with lock(arguments.store) if accelerator.is_main_process else nullcontext():
        if arguments.ray_workers is not None:
            from muscall.search.ray_indexing import update_index_with_ray

            report = update_index_with_ray(arguments.store, arguments.folders, encoder, arguments.ray_workers)
        else:
            embedder = Embedder(encoder, arguments.num_threads)
            report = update_index(arguments.store, arguments.folders, embedder, accelerator)
        if accelerator.is_main_process:
            print_report(report, arguments.store)
            approximate(Store.open(arguments.store), encoder)
    accelerator.end_training()


def print_report(report, store_uri):
    done = [f"{count} {name}" for name, count in report.counts().items() if count]
    print(f"{store_uri}: {report.total} tracks ({', '.join(done) or 'nothing new'}), {report.seconds:.1f} s")
    if report.unreadable:
        print(f"{len(report.unreadable)} files could not be read:")
        for path, reason in report.unreadable:
            print(f"  {printable(path)}: {printable(reason)}")


def approximate(store: Store, encoder):
    """Builds the approximate index of a library that is large enough to need one, and says how good it is."""
    count = store.table.count_rows()
    if count < APPROXIMATE_FROM or store.is_approximate:
        return
    print(f"building an approximate index of {count} windows")
    begin = time.perf_counter()
    store.build_index()
    seconds = time.perf_counter() - begin
    by_text, by_audio = recall(store, encoder.embed_texts(SENTENCES)), recall(store, store.sample(len(SENTENCES)))
    print(f"took {seconds:.0f} s; recall@10 against exact search: {by_text:.3f} by text, {by_audio:.3f} by audio")


def run_forget(arguments: argparse.Namespace):
    from muscall.search.indexing import forget
    from muscall.search.store import lock

    store = Store.open(arguments.store)
    with lock(arguments.store):
        print(f"{forget(store, arguments.folder)} tracks taken out of {arguments.store}")


def run_query(arguments: argparse.Namespace):
    library = Library(arguments.store, arguments.model)
    wishes = {"audio": arguments.audio, "like": arguments.like, "without": arguments.without}
    wishes |= {"where": arguments.filter, "k": arguments.k}
    if arguments.text is not None or arguments.audio is not None or arguments.like is not None:
        print_answers(library.search(arguments.text, **wishes), arguments.json)
        return
    library.search("music", **wishes)  # loads the model, and says now what is wrong with the other arguments
    while sentence := input_line():
        print_answers(library.search(sentence, **wishes), arguments.json)


def input_line() -> str | None:
    """The next sentence from the keyboard or a pipe; `None` at the end."""
    if sys.stdin.isatty():
        print("> ", end="", flush=True)
    return next((line.strip() for line in sys.stdin if line.strip()), None)


def print_answers(answers: list[dict], as_json: bool):
    if as_json:
        print(json.dumps(answers), flush=True)
        return
    if not answers:
        print("no track passes the filter")
    for rank, answer in enumerate(answers, 1):
        name = " - ".join(answer[tag] for tag in ("artist", "title") if answer[tag]) or Path(answer["track"]).stem
        segment = f"{clock(answer['start'])}-{clock(answer['end'])}"
        print(f"{rank:3}  {answer['score']:.3f}  {segment:11}  {printable(name)}")
        remark = {"there": "", "changed": "  (changed since it was indexed)", "missing": "  (no longer there)"}
        for path in (answer["track"], *answer["copies"]):
            print(f"{'':24}{printable(path)}{remark[answer['file']] if path == answer['track'] else ''}")


def clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes}:{seconds:02}"


def printable(text: str) -> str:
    """With control characters spelt out: a tag could otherwise move the cursor, or more."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


if __name__ == "__main__":
    try:
        arguments = parse_arguments()
        disable_progress_bar()  # of loading weights
        {"index": run_index, "forget": run_forget, "query": run_query}[arguments.command](arguments)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except RuntimeError as error:
        if not str(error).startswith("lance error"):
            raise
        sys.exit(f"error: the index {arguments.store} is damaged, delete it and index again: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped: what was written stays, the same command goes on from there")
