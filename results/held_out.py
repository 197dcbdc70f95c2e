# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
Checkpoints on the held-out recordings of the open mix, styles that training heard and styles that it did not:

    python results/held_out.py . runs/tag_baseline --corpus corpus/open_mix

- `statements`: what the packages say of their tracks, in this repository's words, sentence to track and back
- `queries`: free-form sentences that somebody may search for, of corpus/open_mix_queries.csv
- `pseudo`: captions written from the teacher's tags, of tracks of which nothing is stated; a model that was trained on
  such captions does well on them whether they are true or not

A sentence may mean several tracks: the best of them counts. Every checkpoint after the first is compared with the
first: the difference with its paired interval of 95 %, by resampling queries (of `audio_to_text`: tracks).
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from accelerate import Accelerator


ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from evaluation.embedding import embed, load_encoder  # noqa: E402, found through the path above
from training.hashing import hash_weights  # noqa: E402


NUM_RESAMPLES = 10_000


def read_tracks(corpus: Path) -> list[dict]:
    """The held-out tracks, and whether training heard such styles."""
    rows = []
    for folder, part in (("main/validation", "seen"), ("main/test", "seen"), ("unseen/test", "unseen")):
        for line in (corpus / folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            path = str(corpus / folder / row["file_name"])
            rows.append({**row, "path": path, "bytes": None, "sampling_rate": None, "part": part})
    return rows


def read_questions(tracks: list[dict]) -> dict[str, dict[str, list[int]]]:
    """For each kind of sentence, the sentences and the tracks that each means."""
    questions = {"statements": {}, "queries": {}, "pseudo": {}}
    for number, track in enumerate(tracks):
        kind = "statements" if track["caption_source"] == "metadata" else "pseudo"
        questions[kind].setdefault(track["captions"][0], []).append(number)
        for query in filter(None, track["queries"].split("; ")):
            questions["queries"].setdefault(query, []).append(number)
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
    """Per-query values of both directions; of audio to text for the tracks that some sentence means."""
    relevant = np.zeros((len(meant), len(audio_embeds)), dtype=bool)
    for row, tracks in zip(relevant, meant, strict=True):
        row[tracks] = True
    scores, results = text_embeds @ audio_embeds.T, {}
    some = relevant.any(0)
    for direction, s, r in (("text_to_audio", scores, relevant), ("audio_to_text", scores.T[some], relevant.T[some])):
        ranks, areas = best_ranks(s, r)
        results[direction] = {"values": {"R@10": 100.0 * (ranks <= 10), "MRR": 100 / ranks, "AUC": 100 * areas}}
        results[direction] |= {"chance_R@10": 100 * chance(r), "queries": len(s), "pool": s.shape[1]}
    return results


def compare(ours: np.ndarray, theirs: np.ndarray) -> list[float]:
    draws = np.random.default_rng(0).integers(len(ours), size=(NUM_RESAMPLES, len(ours)))
    return np.percentile((ours - theirs)[draws].mean(1), (2.5, 97.5)).round(2).tolist()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="+", type=Path)
    parser.add_argument("--corpus", type=Path, default=ROOT / "corpus" / "open_mix", help="default: %(default)s")
    parser.add_argument("--output", type=Path, help="a JSON file")
    parser.add_argument("--show_queries", action="store_true", help="the rank of each query's best track, too")
    args = parser.parse_args()
    tracks, accelerator, measured, report = read_tracks(args.corpus), Accelerator(cpu=True), {}, {}
    questions = read_questions(tracks)
    for folder in args.checkpoints:
        encoder = load_encoder(folder)
        audio_embeds = embed(encoder, "audio", tracks, accelerator, 4).numpy()
        for kind, sentences in questions.items():
            text_embeds = embed(encoder, "text", list(sentences), accelerator, 64).numpy()
            parts = {"all": list(sentences)}
            for part in ("seen", "unseen") if kind != "pseudo" else ():
                parts[part] = [s for s, meant in sentences.items() if all(tracks[i]["part"] == part for i in meant)]
            for part, chosen in parts.items():
                places = [list(sentences).index(sentence) for sentence in chosen]
                meant = [sentences[sentence] for sentence in chosen]
                measured[folder, kind, part] = measure(text_embeds[places], audio_embeds, meant)
            if args.show_queries and kind == "queries":
                ranks = 100 / measured[folder, kind, "all"]["text_to_audio"]["values"]["MRR"]
                for sentence, rank in sorted(zip(sentences, ranks, strict=True), key=lambda pair: pair[1]):
                    print(f"{rank:4.0f}  {sentence}")
    first = args.checkpoints[0]
    for (folder, kind, part), directions in measured.items():
        for direction, result in directions.items():
            means = {name: round(float(values.mean()), 2) for name, values in result["values"].items()}
            entry = {"checkpoint_sha256": hash_weights(folder), **means}
            entry |= {name: round(result[name], 2) for name in ("chance_R@10", "queries", "pool")}
            line = ", ".join(f"{name} {value:.1f}" for name, value in means.items())
            if folder != first:
                ours = measured[first, kind, part][direction]["values"]
                entry["first_less_this"] = {
                    name: compare(ours[name], values) for name, values in result["values"].items()
                }
                line += "; first less this: " + ", ".join(
                    f"{name} {low:+.1f} to {high:+.1f}" for name, (low, high) in entry["first_less_this"].items()
                )
            report.setdefault(str(folder), {}).setdefault(kind, {}).setdefault(part, {})[direction] = entry
            print(
                f"{folder} | {kind}, {part}, {direction}: {line} (chance R@10 {entry['chance_R@10']:.1f}; "
                f"{entry['queries']} queries, pool {entry['pool']})"
            )
    if args.output:
        args.output.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
