# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
Collect the sentences that the small text tower learns from, in one file.

    python -m scripts.distil.texts texts.json.gz --captions musiccaps_train.csv --labels class_labels_indices.csv \\
        --ontology ontology.json --wordnet wordnet --dictionary gcide.dict.dz

Of music: captions and aspects of MusicCaps (a tenth of the captions is kept for validation, and the aspects that no
other caption has), AudioSet's classes and their descriptions, the phrases of the open mix, captions and titles of the
default corpus's training part. Of anything else, since a user may say anything: the definitions and examples of
WordNet (`data.*` in a folder) and of a dictionary in the format of dictd, and the most frequent words of the package
`wordfreq`. No query, style or statement of a held-out set is read.
"""

import argparse
import gzip
import json
import re
from dataclasses import asdict
from pathlib import Path

from corpus.build import CORPUS
from scripts.distil.sentences import Texts, split_sentences, write_texts
from scripts.files import read_csv
from scripts.language import read_captions, read_classes


PHRASES = Path(__file__).parents[1] / "open_mix" / "phrases.csv"
VALIDATION_SHARE = 10  # every tenth caption
FREQUENT_WORDS = 120_000
CAPTION_COUNTS = 3  # a human caption as much as three of the default corpus, which are much alike


def read_wordnet(folder: Path) -> tuple[list[str], list[str]]:
    """Return the nouns of WordNet, and its definitions and examples."""
    nouns, passages = [], []
    for path in sorted(folder.glob("data.*")):
        for line in path.read_text(encoding="utf-8").splitlines():
            entry, bar, gloss = line.partition(" | ")
            if not bar or line.startswith("  "):  # the licence is indented
                continue
            fields = entry.split()
            if path.suffix == ".noun":
                names = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
                nouns += [name.replace("_", " ") for name in names]
            passages += [part.strip(' "') for part in gloss.split(";")]
    return sorted(set(nouns)), [passage for passage in passages if passage]


def read_dictionary(path: Path) -> list[str]:
    """Return the sentences of a dictionary that is compressed by dictzip, without its headwords and sources."""
    with gzip.open(path, "rt", encoding="utf-8", errors="replace") as file:
        text = file.read()
    text = re.sub(r"\[[^\]]*\]|--[A-Z][\w. ]*\.|[{}]", "", text)
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.startswith("   ")]
    sentences = [sentence for paragraph in paragraphs for sentence in split_sentences(paragraph)]
    return [sentence for sentence in sentences if len(sentence.split()) > 2 and "\\" not in sentence]


def read_music(captions: Path, labels: Path, ontology: Path) -> Texts:
    """Return what is said of music, and what is kept for validation."""
    texts, kept = Texts(), []
    for number, caption in enumerate(read_captions(captions)):
        aspects = caption.aspects
        if number % VALIDATION_SHARE:
            texts.captions += [caption.text] * CAPTION_COUNTS
            texts.aspects.append(aspects)
        else:
            texts.validation_captions.append(caption.text)
            kept += aspects
    known = {aspect for aspects in texts.aspects for aspect in aspects}
    texts.validation_phrases = sorted(set(kept) - known)
    classes = read_classes(labels, ontology)
    nodes = json.loads(ontology.read_text(encoding="utf-8"))
    texts.phrases = classes.names + [node["name"].lower() for node in nodes]
    texts.captions += [node["description"] for node in nodes if node["description"]]
    for row in read_csv(PHRASES):
        texts.phrases += [row["words"].replace("+", " "), *row["phrases"].split("; ")]
    rows = map(json.loads, (CORPUS / "captions.jsonl").read_text(encoding="utf-8").splitlines())
    for row in (row for row in rows if row["split"] == "train"):
        texts.captions += row["captions"]
        texts.phrases += [*row.get("genres", []), *row.get("instruments", []), row["title"]]
    texts.phrases = sorted(set(texts.phrases))
    return texts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--captions", type=Path, help="google/MusicCaps from the Hub by default")
    parser.add_argument("--labels", type=Path, required=True, help="class_labels_indices.csv")
    parser.add_argument("--ontology", type=Path, required=True, help="ontology.json")
    parser.add_argument("--wordnet", type=Path, required=True, help="the folder with data.noun and others")
    parser.add_argument("--dictionary", type=Path, required=True, help="gcide.dict.dz, for instance")
    args = parser.parse_args()
    from wordfreq import top_n_list  # of this program alone, and no dependency of the project

    texts = read_music(args.captions, args.labels, args.ontology)
    texts.nouns, texts.passages = read_wordnet(args.wordnet)
    texts.passages += read_dictionary(args.dictionary)
    texts.words = top_n_list("en", FREQUENT_WORDS)
    write_texts(texts, args.output)
    print(", ".join(f"{len(values)} {name}" for name, values in asdict(texts).items()))


if __name__ == "__main__":
    main()
