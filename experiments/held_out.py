# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
Checkpoints on the held-out recordings of the open mix, styles that training heard and styles that it did not:

    python results/held_out.py . runs/tag_baseline --titles sentence-transformers/all-MiniLM-L6-v2

- `statements`: what the packages say of their tracks, in this repository's words, sentence to track and back
- `queries`: free-form sentences that somebody may search for, of corpus/open_mix_queries.csv
- `styles`: those of corpus/open_mix_styles.csv, as prompts; from track to style, R@1 is the accuracy of zero-shot
  classification
- `pseudo`: captions written from the teacher's tags, of tracks of which nothing is stated; a model that was trained on
  such captions does well on them whether they are true or not

A sentence may mean several tracks: the best of them counts. Every checkpoint after the first is compared with the
first: the difference with its paired interval of 95 %, by resampling queries (of `audio_to_text`: tracks). `--titles`
adds a baseline that hears nothing: a Sentence-Transformers model reads the titles of the tracks.

    python results/held_out.py . runs/tag_baseline --music FOLDER

does so with the queries of results/second_set.csv on other recordings: FOLDER has the files that
results/second_set_tracks.csv names, at most 90 s of each track.
"""

import argparse
import csv
import json
from pathlib import Path

import numpy as np
from accelerate import Accelerator

from muscall.checkpoint import hash_weights
from muscall.encoder import load_encoder
from muscall.evaluation.embedding import embed
from muscall.training.frozen import FrozenTower
from scripts.open_mix.build import is_meant


ROOT = Path(__file__).resolve().parents[1]

NUM_RESAMPLES = 10_000
TITLES = "titles"  # what the baseline that reads them is called
STYLES = ROOT / "scripts" / "open_mix" / "styles.csv"
SECOND_SET, SECOND_TRACKS = (ROOT / "experiments" / name for name in ("second_set.csv", "second_set_tracks.csv"))
PROMPTS = ("{}", "{} music", "A {} track")  # of a style; their embeddings are averaged


def read_tracks(corpus: Path) -> list[dict]:
    """The held-out tracks, and whether training heard such styles."""
    rows = []
    for folder, part in (("main/validation", "seen"), ("main/test", "seen"), ("unseen/test", "unseen")):
        for line in (corpus / folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            row |= {"path_in_package": row["path"], "path": str(corpus / folder / row["file_name"]), "part": part}
            rows.append(row | {"bytes": None, "sampling_rate": None})
    return rows


def read_music(folder: Path) -> tuple[list[dict], dict[str, dict[str, list[int]]]]:
    """The recordings of the second set, which are in this folder, and for each of its queries those that it means."""
    with SECOND_TRACKS.open(newline="", encoding="utf-8") as file:
        tracks = [row | {"part": "all", "bytes": None, "sampling_rate": None} for row in csv.DictReader(file)]
    for row in tracks:
        row["path"] = str(folder / row["file_name"])
    with SECOND_SET.open(newline="", encoding="utf-8") as file:
        queries = {row["query"]: row["tracks"].split("; ") for row in csv.DictReader(file)}
    names = [track["file_name"] for track in tracks]
    meant = {query: [i for i, name in enumerate(names) if is_meant(name, some)] for query, some in queries.items()}
    return tracks, {"queries": meant}


def read_questions(tracks: list[dict]) -> dict[str, dict[str, list[int]]]:
    """For each kind of sentence, the sentences and the tracks that each means."""
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


def best_ranks(scores: np.ndarray, relevant: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    Args:
        scores (`np.ndarray` of shape `(queries, items)`), relevant (`np.ndarray` of shape `(queries, items)`)

    Returns:
        The rank of the best relevant item of each query, 1 the first, ties counted against it; and the probability
        that a relevant item comes before another (ROC-AUC).
    """
    ranks, areas = [], []
    for row, meant in zip(scores, relevant, strict=True):
        others = row[~meant]
        ranks.append(1 + (others >= row[meant].max()).sum())
        areas.append((row[meant][:, None] > others).mean() + (row[meant][:, None] == others).mean() / 2)
    return np.array(ranks), np.array(areas)


def chance(relevant: np.ndarray, k: int = 10) -> float:
    """The share of queries with one of their items among `k` random ones."""
    items, meant = relevant.shape[1], relevant.sum(1)
    return float(
        1
        - np.prod([np.clip(items - meant - draw, 0, None) / (items - draw) for draw in range(min(k, items))], 0).mean()
    )


def measure(text_embeds: np.ndarray, audio_embeds: np.ndarray, meant: list[list[int]]) -> dict[str, dict]:
    """Per-query ranks and values of both directions; of audio to text for the tracks that some sentence means."""
    relevant = np.zeros((len(meant), len(audio_embeds)), dtype=bool)
    for row, tracks in zip(relevant, meant, strict=True):
        row[tracks] = True
    scores, results = text_embeds @ audio_embeds.T, {}
    some = relevant.any(0)
    for direction, s, r in (("text_to_audio", scores, relevant), ("audio_to_text", scores.T[some], relevant.T[some])):
        ranks, areas = best_ranks(s, r)
        values = {f"R@{k}": 100.0 * (ranks <= k) for k in (1, 5, 10)} | {"MRR": 100 / ranks, "AUC": 100 * areas}
        results[direction] = {"ranks": ranks, "values": values, "MedR": float(np.median(ranks))}
        results[direction] |= {"queries": len(s), "pool": s.shape[1]}
        results[direction] |= {f"chance_R@{k}": 100 * chance(r, k) for k in (1, 5, 10)}
    return results


def interval(values: np.ndarray) -> list[float]:
    """Of the mean, 95 %, by resampling."""
    draws = np.random.default_rng(0).integers(len(values), size=(NUM_RESAMPLES, len(values)))
    return np.percentile(values[draws].mean(1), (2.5, 97.5)).round(2).tolist()


def embed_checkpoint(folder: Path, tracks: list[dict], questions: dict) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The embeddings of the tracks, and of each kind of sentence."""
    encoder, accelerator = load_encoder(folder), Accelerator(cpu=True)
    tower = None
    if encoder.model.config.model_type == "muscall":  # checkpoints that share a tower hear the tracks once
        tower = FrozenTower(encoder.model.audio_model, save_all=True)
        tower.install()
    audio_embeds = embed(encoder, "audio", tracks, accelerator, 4).numpy()
    if tower is not None:
        tower.save()
    return audio_embeds, embed_sentences(
        lambda sentences: embed(encoder, "text", sentences, accelerator, 64).numpy(), questions
    )


def embed_titles(model_name_or_path: str, tracks: list[dict], questions: dict):
    """As [`embed_checkpoint`], of one that reads the titles of the tracks."""
    from sentence_transformers import SentenceTransformer  # takes seconds to import

    model = SentenceTransformer(model_name_or_path)

    def read(sentences):
        return model.encode(sentences, normalize_embeddings=True, show_progress_bar=False)

    return read([track["title"] for track in tracks]), embed_sentences(read, questions)


def embed_sentences(read, questions: dict) -> dict[str, np.ndarray]:
    embeds = {}
    for kind, sentences in questions.items():
        prompts = PROMPTS if kind == "styles" else ("{}",)
        embeddings = read([prompt.format(sentence) for prompt in prompts for sentence in sentences])
        mean = embeddings.reshape(len(prompts), len(sentences), -1).mean(0)
        embeds[kind] = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    return embeds


def measure_all(embeds: tuple, tracks: list[dict], questions: dict) -> dict[tuple[str, str], dict]:
    """For each kind of sentence, and of it all, those for styles that training heard, and for those it did not."""
    audio_embeds, text_embeds = embeds
    measured = {}
    for kind, sentences in questions.items():
        parts = {"all": list(sentences)}
        for part in sorted({track["part"] for track in tracks}) if kind in ("statements", "queries") else ():
            parts[part] = [s for s, meant in sentences.items() if all(tracks[i]["part"] == part for i in meant)]
        for part, chosen in parts.items():
            if chosen:
                places = [list(sentences).index(sentence) for sentence in chosen]
                meant = [sentences[sentence] for sentence in chosen]
                measured[kind, part] = measure(text_embeds[kind][places], audio_embeds, meant)
    return measured


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="+", type=Path)
    parser.add_argument("--titles", help="the Sentence-Transformers model of a baseline that reads titles")
    parser.add_argument("--corpus", type=Path, default=ROOT / "corpus" / "open_mix", help="default: %(default)s")
    parser.add_argument("--music", type=Path, help="the recordings of the second set, instead of the corpus")
    parser.add_argument("--output", type=Path, help="a JSON file")
    parser.add_argument("--show_queries", action="store_true", help="the rank of each query's best track, too")
    args = parser.parse_args()
    measured, report = {}, {}
    if args.music:
        tracks, questions = read_music(args.music)
    else:
        tracks = read_tracks(args.corpus)
        questions = read_questions(tracks)
    for folder in args.checkpoints:
        measured[str(folder)] = measure_all(embed_checkpoint(folder, tracks, questions), tracks, questions)
        if args.show_queries:
            ranks = measured[str(folder)]["queries", "all"]["text_to_audio"]["ranks"]
            for sentence, rank in sorted(zip(questions["queries"], ranks, strict=True), key=lambda pair: pair[1]):
                print(f"{rank:4.0f}  {sentence}")
    if args.titles:
        measured[TITLES] = measure_all(embed_titles(args.titles, tracks, questions), tracks, questions)
    first = str(args.checkpoints[0])
    for name, parts in measured.items():
        report[name] = {} if name == TITLES else {"checkpoint_sha256": hash_weights(Path(name))}
        for (kind, part), directions in parts.items():
            for direction, result in directions.items():
                values = result["values"]
                entry = {metric: round(float(some.mean()), 2) for metric, some in values.items()}
                entry |= {name: round(value, 2) for name, value in result.items() if name not in ("ranks", "values")}
                entry["interval"] = {metric: interval(some) for metric, some in values.items()}
                line = ", ".join(f"{metric} {values[metric].mean():.1f}" for metric in ("R@1", "R@10", "AUC"))
                if name != first:
                    ours = measured[first][kind, part][direction]["values"]
                    entry["first_less_this"] = {
                        metric: interval(ours[metric] - some) for metric, some in values.items()
                    }
                    low, high = entry["first_less_this"]["R@10"]
                    line += f"; first less this: R@10 {low:+.1f} to {high:+.1f}"
                report[name].setdefault(kind, {}).setdefault(part, {})[direction] = entry
                print(f"{name} | {kind}, {part}, {direction}: {line} ({entry['queries']} queries of {entry['pool']})")
    if args.output:
        args.output.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
