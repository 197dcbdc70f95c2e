# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
Measure checkpoints on the held-out recordings of the open mix, styles that training heard and styles that it did not:

    python -m experiments.held_out . runs/tag_baseline --titles sentence-transformers/all-MiniLM-L6-v2

- `statements`: what the packages say of their tracks, in this repository's words, sentence to track and back
- `queries`: free-form sentences that somebody may search for, of scripts/open_mix/queries.csv
- `styles`: those of scripts/open_mix/styles.csv, as prompts; from track to style, R@1 is the accuracy of zero-shot
  classification
- `pseudo`: captions written from the teacher's tags, of tracks of which nothing is stated; a model that was trained on
  such captions does well on them whether they are true or not

A sentence may mean several tracks: the best of them counts. Every checkpoint after the first is compared with the
first: the difference with its paired interval of 95 %, by resampling queries (of `audio_to_text`: tracks). It is
measured a second time, calibrated to the pool ([`muscall.evaluation.calibration`]). `--titles` adds a baseline that
hears nothing: a Sentence-Transformers model reads the titles of the tracks.

    python -m experiments.held_out . runs/tag_baseline --music FOLDER [--set third_set]

does so with the queries of experiments/second_set.csv, or of third_set.csv, on other recordings: FOLDER has the files
that experiments/second_set_tracks.csv, or third_set_tracks.csv, names, at most 90 s of each track.
"""

import argparse
import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from accelerate import Accelerator

from muscall.encoder import Encoder, load_encoder
from muscall.evaluation.calibration import calibrate
from muscall.evaluation.embedding import embed
from muscall.evaluation.report import RETRIEVAL_METRICS, format_metric
from muscall.evaluation.retrieval import load_metric
from muscall.hashing import hash_weights
from muscall.training.frozen import FrozenTower, WindowCache
from scripts.files import is_meant


ROOT = Path(__file__).resolve().parents[1]
STYLES = ROOT / "scripts" / "open_mix" / "styles.csv"
SETS = Path(__file__).parent  # where the queries and tracks of the other sets are named

HITS = tuple(name for name in RETRIEVAL_METRICS if name.startswith("R@"))
METRICS = (*HITS, "MRR", "AUC")  # means over queries, all in per cent
NUM_RESAMPLES = 10_000
TITLES = "titles"  # the name of the baseline that reads them
CALIBRATED = " (calibrated)"
PROMPTS = ("{}", "{} music", "A {} track")  # of a style; their embeddings are averaged

# For each kind of sentence: the sentences, and the tracks that each means.
Questions = dict[str, dict[str, list[int]]]
# The tracks, `(num_tracks, dim)`, and each kind of sentence, `(num_sentences, dim)`.
Embeds = tuple[np.ndarray, dict[str, np.ndarray]]


def read_tracks(corpus: Path) -> list[dict]:
    """Read the held-out tracks of the open mix, and whether training heard such styles."""
    tracks = []
    for folder, part in (("main/validation", "seen"), ("main/test", "seen"), ("unseen/test", "unseen")):
        for line in (corpus / folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines():
            track = json.loads(line)
            track |= {"path_in_package": track["path"], "path": str(corpus / folder / track["file_name"])}
            tracks.append(track | {"part": part, "bytes": None, "sampling_rate": None})
    return tracks


def read_music(folder: Path, name: str) -> tuple[list[dict], Questions]:
    """Read what is known of the recordings of the set `name`, in `folder`, and which of them each query means."""
    with (SETS / f"{name}_tracks.csv").open(newline="", encoding="utf-8") as file:
        tracks = [row | {"part": "all", "bytes": None, "sampling_rate": None} for row in csv.DictReader(file)]
    for track in tracks:
        track["path"] = str(folder / track["file_name"])
    with (SETS / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        patterns = {row["query"]: row["tracks"].split("; ") for row in csv.DictReader(file)}
    queries = {
        query: [number for number, track in enumerate(tracks) if is_meant(track["file_name"], wanted)]
        for query, wanted in patterns.items()
    }
    return tracks, {"queries": queries}


def read_questions(tracks: list[dict]) -> Questions:
    """Collect the sentences about the tracks of [`read_tracks`]."""
    with STYLES.open(newline="", encoding="utf-8") as file:
        styles = {row["style"]: row["tracks"].split("; ") for row in csv.DictReader(file)}
    questions = {"statements": {}, "queries": {}, "styles": {}, "pseudo": {}}
    for number, track in enumerate(tracks):
        kind = "statements" if track["caption_source"] == "metadata" else "pseudo"
        questions[kind].setdefault(track["captions"][0], []).append(number)
        for query in filter(None, track["queries"].split("; ")):
            questions["queries"].setdefault(query, []).append(number)
        for style, patterns in styles.items():
            if is_meant(f"{track['package']}:{track['path_in_package']}", patterns):
                questions["styles"].setdefault(style, []).append(number)
    return questions


def embed_checkpoint(folder: Path, tracks: list[dict], questions: Questions) -> tuple[Embeds, float]:
    """Embed the tracks and the sentences, and return the logit scale too."""
    encoder, accelerator = load_encoder(folder), Accelerator(cpu=True)
    cache = WindowCache(save_all=True)
    if encoder.model.config.model_type == "muscall":  # checkpoints that share a tower hear the tracks once
        encoder.model.audio_model = FrozenTower(encoder.model.audio_model, cache)
    audio_embeds = embed(encoder, "audio", tracks, accelerator, 4).numpy()
    cache.save()
    text_embeds = embed_questions(partial(embed_texts, encoder, accelerator), questions)
    return (audio_embeds, text_embeds), encoder.logit_scale


def embed_texts(encoder: Encoder, accelerator: Accelerator, texts: list[str]) -> np.ndarray:
    """Embed texts by a checkpoint, in batches."""
    return embed(encoder, "text", texts, accelerator, 64).numpy()


def embed_titles(model_name_or_path: str, tracks: list[dict], questions: Questions) -> Embeds:
    """Embed the titles of the tracks and the sentences by a Sentence-Transformers model, as [`embed_checkpoint`]."""
    from sentence_transformers import SentenceTransformer  # takes seconds to import

    model = SentenceTransformer(model_name_or_path)
    read = partial(model.encode, normalize_embeddings=True, show_progress_bar=False)
    return read([track["title"] for track in tracks]), embed_questions(read, questions)


def embed_questions(read: Callable[[list[str]], np.ndarray], questions: Questions) -> dict[str, np.ndarray]:
    """Embed each kind of sentence by `read`, a style as the mean of its prompts."""
    embeds = {}
    for kind, sentences in questions.items():
        prompts = PROMPTS if kind == "styles" else ("{}",)
        embeddings = read([prompt.format(sentence) for prompt in prompts for sentence in sentences])
        mean = embeddings.reshape(len(prompts), len(sentences), -1).mean(0)
        embeds[kind] = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    return embeds


@dataclass(frozen=True)
class Ranking:
    """
    The results of each query of one direction.

    Args:
        statistics (`np.ndarray` of shape `(num_queries,)`):
            The columns of `query_statistics` in `metrics/cross_modal_retrieval`.
        areas (`np.ndarray` of shape `(num_queries,)`):
            What [`areas_under_curve`] returned.
        chance (`np.ndarray` of shape `(num_queries,)`):
            As `statistics`, of a model to which all items are equal.
        pool (`int`):
            Items that each query ranks.
    """

    statistics: np.ndarray
    areas: np.ndarray
    chance: np.ndarray
    pool: int

    def summarize(self, counts: np.ndarray | None = None) -> dict[str, float | np.ndarray]:
        """Compute `METRICS` and `MedR`, as [`summarize`]."""
        return summarize(self.statistics, self.areas, counts)

    def resample(self) -> dict[str, np.ndarray]:
        """Compute the metrics on resamples of the queries, the same ones for every system that is asked the same."""
        return load_metric().bootstrap(self.summarize, len(self.statistics), NUM_RESAMPLES)


def summarize(
    statistics: np.ndarray, areas: np.ndarray, counts: np.ndarray | None = None
) -> dict[str, float | np.ndarray]:
    """Compute `METRICS` in per cent, and `MedR`; `counts` says how often each query counts, by default once."""
    metric = load_metric()
    metrics = metric.summarize(statistics, counts)
    values = {name: metrics[name] for name in HITS}
    return values | {"MRR": 100 * metrics["MRR"], "AUC": 100 * metric.mean(areas, counts), "MedR": metrics["MedR"]}


def areas_under_curve(scores: np.ndarray, relevant: list[list[int]]) -> np.ndarray:
    """
    Compute for each query the probability that a relevant item comes before another one (ROC-AUC); a tie counts half.

    Args:
        scores (`np.ndarray` of shape `(num_queries, num_items)`):
            Similarities.
        relevant (`list[list[int]]` of length `num_queries`):
            The relevant items of each query.
    """
    areas = []
    for row, items in zip(scores, relevant, strict=True):
        values, others = row[items][:, None], np.delete(row, items)
        areas.append((values > others).mean() + (values == others).mean() / 2)
    return np.array(areas)


def rank(queries: np.ndarray, items: np.ndarray, relevant: list[list[int]]) -> Ranking:
    """Rank all items for each query by cosine similarity; arguments as of `query_statistics`."""
    metric = load_metric()
    queries, items = queries.astype(np.float32), items.astype(np.float32)
    equal = [np.ones((len(rows), 1), np.float32) for rows in (queries, items)]
    # A matrix product rounds equal columns differently at its edges: with each item scored once, copies tie.
    distinct, source = np.unique(items, axis=0, return_inverse=True)
    return Ranking(
        statistics=metric.query_statistics(queries, items, relevant),
        areas=areas_under_curve((queries @ distinct.T)[:, source], relevant),
        chance=metric.query_statistics(*equal, relevant),
        pool=len(items),
    )


def measure(
    text_embeds: np.ndarray, audio_embeds: np.ndarray, relevant: list[list[int]], logit_scale: float | None = None
) -> dict[str, Ranking]:
    """
    Rank in both directions: all tracks for each sentence, and all sentences for each track that some sentence means.
    With a `logit_scale` both are calibrated to all these tracks.

    Args:
        text_embeds (`np.ndarray` of shape `(num_sentences, dim)`), audio_embeds (`np.ndarray` of shape
        `(num_tracks, dim)`):
            L2-normalised embeddings.
        relevant (`list[list[int]]` of length `num_sentences`):
            The tracks that each sentence means.
    """
    if logit_scale is not None:
        text_embeds, audio_embeds = calibrate(text_embeds, audio_embeds, logit_scale)
    sentences_of = {track: [] for track in sorted({track for tracks in relevant for track in tracks})}
    for sentence, tracks in enumerate(relevant):
        for track in tracks:
            sentences_of[track].append(sentence)
    return {
        "text_to_audio": rank(text_embeds, audio_embeds, relevant),
        "audio_to_text": rank(audio_embeds[list(sentences_of)], text_embeds, list(sentences_of.values())),
    }


def measure_all(
    embeds: Embeds, tracks: list[dict], questions: Questions, logit_scale: float | None = None
) -> dict[tuple[str, str], dict[str, Ranking]]:
    """
    Measure each kind of sentence: all of it, and where a kind has both the sentences about styles that training heard
    and those about styles that it did not. `logit_scale` is that of [`measure`].
    """
    audio_embeds, text_embeds = embeds
    measured = {}
    for kind, sentences in questions.items():
        parts = {"all": list(sentences)}
        for part in sorted({track["part"] for track in tracks}) if kind in ("statements", "queries") else ():
            parts[part] = [
                sentence for sentence, meant in sentences.items() if all(tracks[i]["part"] == part for i in meant)
            ]
        for part, chosen in parts.items():
            if chosen:
                places = [list(sentences).index(sentence) for sentence in chosen]
                relevant = [sentences[sentence] for sentence in chosen]
                measured[kind, part] = measure(text_embeds[kind][places], audio_embeds, relevant, logit_scale)
    return measured


def rounded_interval(samples: np.ndarray) -> list[float]:
    """Return the 95 % interval of a metric's values on resamples, or of their differences, to two digits."""
    return np.round(load_metric().interval(samples), 2).tolist()


def describe(ranking: Ranking, first: Ranking | None) -> dict:
    """Return what the report has of one ranking; `first` is that of another checkpoint to compare it with."""
    metrics, samples = ranking.summarize(), ranking.resample()
    chance = load_metric().summarize(ranking.chance)
    entry = {name: round(metrics[name], 2) for name in (*METRICS, "MedR")}
    entry |= {"queries": len(ranking.statistics), "pool": ranking.pool}
    entry |= {f"chance_{name}": round(chance[name], 2) for name in HITS}
    entry["interval"] = {name: rounded_interval(samples[name]) for name in METRICS}
    if first is not None:
        reference = first.resample()
        entry["first_less_this"] = {name: rounded_interval(reference[name] - samples[name]) for name in METRICS}
    return entry


def print_entry(place: str, entry: dict):
    """Print one line of the report."""
    line = ", ".join(f"{name} {format_metric(entry, name)}" for name in ("R@1", "R@10", "AUC"))
    if "first_less_this" in entry:
        low, high = entry["first_less_this"]["R@10"]
        line += f"; first less this: R@10 {low:+.1f} to {high:+.1f}"
    print(f"{place}: {line} ({entry['queries']} queries of {entry['pool']})")


def print_queries(queries: dict[str, list[int]], ranking: Ranking):
    """Print the rank of each query's best track, the best first."""
    ranks = ranking.statistics["rank"]
    for sentence, place in sorted(zip(queries, ranks, strict=True), key=lambda pair: pair[1]):
        print(f"{place:4.0f}  {sentence}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="+", type=Path)
    parser.add_argument("--titles", help="the Sentence-Transformers model of a baseline that reads titles")
    parser.add_argument("--corpus", type=Path, default=ROOT / "corpus" / "open_mix", help="default: %(default)s")
    parser.add_argument("--music", type=Path, help="the recordings of another set, instead of the corpus")
    parser.add_argument("--set", choices=("second_set", "third_set"), default="second_set", help="which that is")
    parser.add_argument("--output", type=Path, help="a JSON file")
    parser.add_argument("--show_queries", action="store_true", help="the rank of each query's best track, too")
    return parser.parse_args()


def main():
    args = parse_arguments()
    if args.music:
        tracks, questions = read_music(args.music, args.set)
    else:
        tracks = read_tracks(args.corpus)
        questions = read_questions(tracks)

    measured = {}
    for folder in args.checkpoints:
        embeds, logit_scale = embed_checkpoint(folder, tracks, questions)
        measured[str(folder)] = measure_all(embeds, tracks, questions)
        measured[f"{folder}{CALIBRATED}"] = measure_all(embeds, tracks, questions, logit_scale)
        if args.show_queries:
            print_queries(questions["queries"], measured[str(folder)]["queries", "all"]["text_to_audio"])
    if args.titles:
        measured[TITLES] = measure_all(embed_titles(args.titles, tracks, questions), tracks, questions)

    report, first = {}, str(args.checkpoints[0])
    for name, parts in measured.items():
        folder = name.removesuffix(CALIBRATED)
        report[name] = {} if name == TITLES else {"checkpoint_sha256": hash_weights(Path(folder))}
        for (kind, part), directions in parts.items():
            for direction, ranking in directions.items():
                reference = None if name == first else measured[first][kind, part][direction]
                entry = describe(ranking, reference)
                report[name].setdefault(kind, {}).setdefault(part, {})[direction] = entry
                print_entry(f"{name} | {kind}, {part}, {direction}", entry)
    if args.output:
        args.output.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
