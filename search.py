# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
Find music in one's own library by a sentence, by audio, by both.

    python search.py index ~/Music --model runs/default
    python search.py query "calm solo piano at night"
    python search.py query "like this but with strings" --audio song.mp3 --without "drums" --filter "bpm > 120"
    python search.py query                                    # a sentence a line, answered at once
    python search.py query "the drums come in" --segments     # the best passages, several of a track
    python search.py playlist "calm piano" --minutes 60 --m3u calm.m3u8
    python search.py path calm.mp3 wild.mp3 --k 12            # steps from one track to another
    python search.py duplicates                               # files of the same recording
    python search.py stats
    python search.py forget ~/Music/old                       # a folder or a track that is gone
    accelerate launch --num_processes 4 search.py index ...   # sooner; torchrun without a GPU
"""

import argparse
import json
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from muscall.cache import CACHE


if TYPE_CHECKING:
    from muscall.search.query import Library


# OpenMP reads this when torch is imported, which is why the commands import what they need. Threads that wait then
# leave the cores to the threads that read files (1.3x).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

DEFAULT_STORE = CACHE / "library"


def parse_arguments(args: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    index = commands.add_parser("index", help="bring the index up to date with folders of music")
    index.add_argument("folders", nargs="+", type=parse_path, help="folders; tracks of others stay in the index")
    index.add_argument(
        "--model",
        default=str(Path(__file__).parent),
        help="a checkpoint: a folder or a Hub id; default: this checkout",
    )
    index.add_argument("--num_threads", type=int, help="files read at a time (default: one a core, from 2 to 8)")
    index.add_argument(
        "--windows",
        help="how many windows of a track are embedded: a number, evenly spread; all; or auto, 3 of a song and all of "
        "what is longer than 15 minutes. An index keeps what it was made with (default of a new one: auto)",
    )
    index.add_argument(
        "--ray_workers", type=int, help="embed with so many workers of a Ray cluster, or of a local one without any"
    )
    forget = commands.add_parser("forget", help="take a folder or a track out of the index")
    forget.add_argument("path", type=parse_path, help="a folder or a track")
    query = commands.add_parser("query", help="search the index")
    query.add_argument("text", nargs="?", help="a sentence; without any request: one a line from standard input")
    query.add_argument("--segments", action="store_true", help="answer with passages that do not overlap")
    playlist = commands.add_parser("playlist", help="so many minutes of music that fits, in an even order")
    playlist.add_argument("text", nargs="?", help="a sentence")
    playlist.add_argument("--minutes", type=float, default=60, help="how long (default: 60)")
    path = commands.add_parser("path", help="steps from one track to another, even in how they sound")
    path.add_argument("first", help="a track of the index")
    path.add_argument("last", help="a track of the index")
    duplicates = commands.add_parser("duplicates", help="files of the same recording, in whatever format or master")
    stats = commands.add_parser("stats", help="how much music, which tags, which model, what was skipped")
    for command in (query, playlist):
        add_request(command)
    for command, count in ((query, 10), (path, 12)):
        command.add_argument("--k", type=int, default=count, help=f"how many answers (default: {count})")
    for command in (query, playlist, path):
        command.add_argument("--m3u", type=parse_path, metavar="FILE", help="also write a playlist for players")
        command.add_argument("--model", help="where the model of the index is now, if it was moved")
    for command in (query, playlist, path, duplicates, stats):
        command.add_argument("--json", action="store_true", help="print JSON")
    for command in (index, forget, query, playlist, path, duplicates, stats):
        command.add_argument(
            "--store",
            default=str(DEFAULT_STORE),
            help="a folder, or a URI that LanceDB knows, such as s3://bucket/path",
        )
    return parser.parse_args(args)


def add_request(command: argparse.ArgumentParser):
    """Add what a request may consist of, besides the sentence."""
    command.add_argument("--audio", help="an audio file to sound like")
    command.add_argument("--like", metavar="TRACK", action="append", help="a track to sound like; may be repeated")
    command.add_argument("--unlike", metavar="TRACK", action="append", help="a track not to sound like; the same")
    command.add_argument("--without", metavar="TEXT", help="what the tracks must not have")
    command.add_argument("--filter", help="a condition on tags, \"bpm > 120 and genre = 'jazz'\"")
    command.add_argument(
        "--by",
        choices=("both", "sound", "words"),
        default="both",
        help="what the sentence is compared with: how tracks sound, what is written about them, or both (default)",
    )


def request_of(arguments: argparse.Namespace) -> dict:
    """Return the request of a command line, without the sentence."""
    names = ("audio", "like", "unlike", "without", "by")
    return {name: getattr(arguments, name) for name in names} | {"where": arguments.filter}


def parse_path(text: str) -> Path:
    """Return a path; an empty text, which a shell's unset variable leaves, is not the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("expected a path, got an empty text")
    return Path(text)


def run_index(arguments: argparse.Namespace):
    from transformers.utils.logging import disable_progress_bar

    from muscall.encoder import load_encoder
    from muscall.launch import start_accelerator
    from muscall.search.indexing import index_folders
    from muscall.search.windows import parse_windows

    windows = None if arguments.windows is None else parse_windows(arguments.windows)
    disable_progress_bar()  # of loading weights
    accelerator = start_accelerator()
    index_folders(
        arguments.store,
        arguments.folders,
        load_encoder(arguments.model),
        accelerator,
        print,
        arguments.num_threads,
        arguments.ray_workers,
        windows=windows,
    )
    accelerator.end_training()


def run_forget(arguments: argparse.Namespace):
    from muscall.search.indexing import forget

    print(f"{forget(arguments.store, arguments.path)} tracks taken out of {arguments.store}")


def open_library(arguments: argparse.Namespace) -> "Library":
    """Open the index, after a look at the name of the playlist file that is to be written."""
    from muscall.search.quick_imports import quick_imports

    is_server = arguments.store.startswith("db://")
    with nullcontext() if is_server else quick_imports():
        from muscall.search.query import Library
    if arguments.m3u is not None:
        from muscall.search.m3u import check_m3u

        check_m3u(arguments.m3u)
    return Library(arguments.store, arguments.model)


def run_query(arguments: argparse.Namespace):
    is_request = not (arguments.text is None and arguments.audio is None and arguments.like is None)
    if arguments.m3u is not None and not is_request:
        raise ValueError("--m3u is for one request: a sentence, --audio or --like")
    library = open_library(arguments)
    request = request_of(arguments) | {"k": arguments.k, "segments": arguments.segments}
    if is_request:
        finish_answers(library.search(arguments.text, **request), arguments)
        return
    library.search("music", **request)  # loads the model, and says now what is wrong with the other arguments
    answer_sentences(library, request, arguments.json)


def run_playlist(arguments: argparse.Namespace):
    library = open_library(arguments)
    from muscall.search.playlist import make_playlist

    playlist = make_playlist(library, arguments.minutes, text=arguments.text, **request_of(arguments))
    if playlist.remark:
        print(playlist.remark, file=sys.stderr)
    finish_answers(playlist.tracks, arguments)


def run_path(arguments: argparse.Namespace):
    library = open_library(arguments)
    from muscall.search.journey import find_path

    answers = find_path(library, arguments.first, arguments.last, arguments.k)
    if len(answers) < arguments.k:
        print(f"the path has {len(answers)} of {arguments.k} tracks: the library has no more", file=sys.stderr)
    finish_answers(answers, arguments)


def run_duplicates(arguments: argparse.Namespace):
    from muscall.search.duplicates import find_duplicates
    from muscall.search.formatting import format_duplicates, printable
    from muscall.search.store import Store

    duplicates = find_duplicates(Store.open(arguments.store))
    print(json.dumps(duplicates.groups) if arguments.json else format_duplicates(duplicates.groups))
    for path, reason in duplicates.unreadable.items():
        print(f"not listened to: {printable(path)}: {printable(reason)}", file=sys.stderr)


def run_stats(arguments: argparse.Namespace):
    from muscall.search.formatting import format_stats
    from muscall.search.stats import library_stats
    from muscall.search.store import Store

    stats = library_stats(Store.open(arguments.store))
    print(json.dumps(stats) if arguments.json else format_stats(stats))


def finish_answers(answers: list[dict], arguments: argparse.Namespace):
    """Print answers, and write the playlist file that was asked for."""
    print_answers(answers, arguments.json)
    if arguments.m3u is not None:
        from muscall.search.formatting import printable
        from muscall.search.m3u import write_m3u

        for track, reason in write_m3u(arguments.m3u, answers).items():
            print(f"left out of {arguments.m3u}: {printable(track)} {reason}", file=sys.stderr)


def answer_sentences(library: "Library", request: dict, as_json: bool):
    """
    Answer a sentence a line from the keyboard or a pipe. One that is refused gets its error, and the next is answered.

    Raises:
        `ValueError`: at the end, if sentences were refused.
    """
    if sys.stdin is None:
        raise ValueError("ask for something: there is no sentence, and standard input is closed")
    sys.stdin.reconfigure(errors="surrogateescape")  # bytes that are no text reach the search, which refuses them
    count = refused = 0
    while sentence := read_sentence():
        count += 1
        try:
            print_answers(library.search(sentence, **request), as_json)
        except ValueError as error:
            refused += 1
            print(f"error: {error}", file=sys.stderr, flush=True)
    if refused:
        raise ValueError(f"{refused} of {count} sentences were refused")


def read_sentence() -> str | None:
    """Read the next sentence from the keyboard or a pipe; `None` at the end."""
    if sys.stdin.isatty():
        print("> ", end="", flush=True)
    return next((text for line in sys.stdin if (text := line.strip().strip("\ufeff"))), None)


def print_answers(answers: list[dict], as_json: bool):
    from muscall.search.formatting import clock, printable

    if as_json:
        print(json.dumps(answers), flush=True)
        return
    if not answers:
        print("no track passes the filter")
    for rank, answer in enumerate(answers, 1):
        name = " - ".join(answer[tag] for tag in ("artist", "title") if answer[tag]) or Path(answer["track"]).stem
        segment = f"{clock(answer['start'])}-{clock(answer['end'])}"
        parts = ", ".join(f"{part} {share:.0%}" for part, share in answer["parts"].items())
        print(f"{rank:3}  {answer['score']:.3f}  {segment:11}  {printable(name)}  ({parts})")
        remark = {"there": "", "changed": "  (changed since it was indexed)", "missing": "  (no longer there)"}
        for path in (answer["track"], *answer["copies"]):
            print(f"{'':24}{printable(path)}{remark[answer['file']] if path == answer['track'] else ''}")


COMMANDS = {
    "index": run_index,
    "forget": run_forget,
    "query": run_query,
    "playlist": run_playlist,
    "path": run_path,
    "duplicates": run_duplicates,
    "stats": run_stats,
}


def main():
    arguments = parse_arguments()
    if sys.stdout is not None:
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show stops no answer
    try:
        COMMANDS[arguments.command](arguments)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        sys.exit(f"error: {error}")
    except RuntimeError as error:
        if not str(error).startswith("lance error"):
            raise
        sys.exit(f"error: the index {arguments.store} is damaged, delete it and index again: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped: what was written stays, the same command goes on from there")


if __name__ == "__main__":
    main()
