# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
Measure search by sound, by words and by both, as search.py ranks, on recordings with their real titles and artists:

    python -m experiments.words . --corpus FOLDER --part validation       # what the rule was chosen on
    python -m experiments.words . --corpus FOLDER                         # the held-out part of the open mix
    python -m experiments.words . --music FOLDER [--set third_set]        # the other sets of experiments/held_out.py

`titles` is the cosine similarity of sentence and title alone, by the text tower's own sentence encoder. Differences
have paired intervals of 95 %, by resampling queries. A library without titles is searched too, and compared with
sound alone.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa

from experiments.held_out import (
    HITS,
    ROOT,
    Questions,
    Ranking,
    rank,
    read_music,
    read_questions,
    read_tracks,
    rounded_interval,
)
from muscall.encoder import Encoder, load_encoder
from muscall.evaluation.report import format_metric
from muscall.search.embedding import make_rows
from muscall.search.query import BY, Library
from muscall.search.store import TAG_COLUMNS, Store
from muscall.search.text_graph import write_text_graph
from muscall.search.words import update_words, without_suffix
from muscall.training.frozen import FrozenTower, WindowCache


def read_validation(corpus: Path) -> list[dict]:
    """Read the validation tracks of the open mix."""
    tracks = []
    folder = corpus / "main" / "validation"
    for line in (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines():
        track = json.loads(line)
        track |= {"path_in_package": track["path"], "path": str(folder / track["file_name"]), "part": "validation"}
        tracks.append(track)
    return tracks


def embed_windows(encoder: Encoder, tracks: list[dict]) -> list[list[tuple[np.ndarray, dict]]]:
    """Embed all windows of tracks; those that were heard before come from the cache."""
    cache = WindowCache(save_all=True)
    if encoder.model.config.model_type == "muscall":
        encoder.model.audio_model = FrozenTower(encoder.model.audio_model, cache)
    chunks = [
        [
            (encoder.embed_windows(windows.pop("input_values")), windows)
            for windows in encoder.feature_extractor.iter_windows(track["path"], windows="all", batch_size=16)
        ]
        for track in tracks
    ]
    cache.save()
    return chunks


def make_library(
    uri: Path, description: dict, encoder: Encoder, tracks: list[dict], chunks: list, has_titles: bool
) -> Library:
    """Write an index of tracks, each under its number, with its title and artist or without."""
    store, tables = Store.open_or_create(uri, description), []
    for number, (track, embedded) in enumerate(zip(tracks, chunks, strict=True)):
        facts = dict.fromkeys(TAG_COLUMNS) | {"track": f"/music/{number}", "hash": str(number), "state": "0 0 0"}
        if has_titles:
            facts |= {"title": track["title"] or None, "artist": track["artist"] or None}
        tables.append(make_rows(facts, embedded))
    store.add(pa.concat_tables(tables))
    update_words(store, ["/music"], encoder.embed_sentences)
    return Library(uri)


def score(library: Library, sentences: list[str], count: int, by: str) -> np.ndarray:
    """Return scores `(sentences, tracks)` that rank as the library does; tracks that are no answer come last, even."""
    scores = np.zeros((len(sentences), count), np.float32)
    for row, sentence in zip(scores, sentences, strict=True):
        for place, answer in enumerate(library.search(sentence, k=count, by=by)):
            row[int(answer["hash"])] = count - place
    return scores


def measure(encoder: Encoder, description: dict, tracks: list[dict], questions: Questions) -> dict:
    """Rank all tracks for each sentence in each way; the results by kind of sentence."""
    chunks, report = embed_windows(encoder, tracks), {}
    write_text_graph(load_encoder(description["path"]), description["weights"])
    _, titles = encoder.embed_sentences([without_suffix(track["title"]) or "untitled" for track in tracks])
    with tempfile.TemporaryDirectory() as folder:
        library = make_library(Path(folder, "titles"), description, encoder, tracks, chunks, True)
        bare = make_library(Path(folder, "bare"), description, encoder, tracks, chunks, False)
        for kind in ("queries", "statements"):
            sentences, relevant = list(questions.get(kind, {})), list(questions.get(kind, {}).values())
            if not sentences:
                continue
            scores = {by: score(library, sentences, len(tracks), by) for by in BY}
            scores["titles"] = 2 + encoder.embed_sentences(sentences)[1] @ titles.T
            without = {by: score(bare, sentences, len(tracks), by) for by in ("both", "sound")}
            same = (without["both"] == without["sound"]).all(axis=1).sum()
            print(f"{kind}, without titles: the order of sound alone for {same} of {len(sentences)} sentences")
            rankings = {by: rank(rows, np.eye(len(tracks)), relevant) for by, rows in scores.items()}
            report[kind] = describe(rankings) | {"same_without_titles": f"{same} of {len(sentences)}"}
    return report


def describe(rankings: dict[str, Ranking]) -> dict:
    """Return and print the metrics of each way, and how much better both together are."""
    entry, samples = {}, {by: ranking.resample() for by, ranking in rankings.items()}
    for by, ranking in rankings.items():
        values = ranking.summarize()
        entry[by] = {name: round(values[name], 2) for name in (*HITS, "MRR", "AUC")}
        entry[by] |= {"queries": len(ranking.statistics), "pool": ranking.pool}
        entry[by]["interval"] = {name: rounded_interval(samples[by][name]) for name in HITS}
        line = ", ".join(f"{name} {format_metric(entry[by], name)}" for name in ("R@1", "R@10"))
        if by != "both":
            entry[by]["both_less_this"] = {
                name: rounded_interval(samples["both"][name] - samples[by][name]) for name in HITS
            }
            low_high = {name: entry[by]["both_less_this"][name] for name in ("R@1", "R@10")}
            line += "; both less this: " + ", ".join(
                f"{k} {low:+.1f} to {high:+.1f}" for k, (low, high) in low_high.items()
            )
        print(f"  {by:7} {line}, MRR {entry[by]['MRR']:.1f} ({len(ranking.statistics)} of {ranking.pool})")
    return entry


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--corpus", type=Path, default=ROOT / "corpus" / "open_mix", help="default: %(default)s")
    parser.add_argument("--part", choices=("validation", "held_out"), default="held_out")
    parser.add_argument("--music", type=Path, help="the recordings of another set, instead of the corpus")
    parser.add_argument("--set", choices=("second_set", "third_set"), default="second_set", help="which that is")
    parser.add_argument("--output", type=Path, help="a JSON file")
    args = parser.parse_args()
    if args.music:
        tracks, questions = read_music(args.music, args.set)
    else:
        tracks = read_validation(args.corpus) if args.part == "validation" else read_tracks(args.corpus)
        questions = read_questions(tracks)
    encoder = load_encoder(args.checkpoint)
    report = measure(encoder, encoder.describe(), tracks, questions)
    if args.output:
        args.output.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
