# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
Make the rendered half of the default corpus: captioned MIDI clips from the style files of MMA.

    apt-get install mma && pip install mido
    python -m scripts.mma.build /usr/share/mma/lib/stdlib

MMA (Musical MIDI Accompaniment, Bob van der Poel, GPL-2+) turns a groove and a chord progression into MIDI. For every
permitted style file this script compiles `CLIPS_PER_STYLE` clips (`CLIPS_PER_TRAINING_STYLE` in the training split) of
21 s with their own groove, tempo, key, progression and arrangement, adds a melody to two thirds of them, and writes
captions from facts only: instruments are read off the notes that sound in the first 20 s, never off the name of the
style. The result is `corpus/mma/midi.zip` and the rows with source "mma" of `corpus/captions.jsonl`. Everything
follows from `SEED`; the rows of other sources stay as they are.
"""

import argparse
import random
import re
import zipfile
from io import BytesIO
from pathlib import Path

from corpus.build import CORPUS
from muscall.cache import replace_file
from scripts.files import read_csv, replace_rows
from scripts.mma.captions import make_captions
from scripts.mma.clips import SEED, make_clip


STYLES = Path(__file__).with_name("styles.csv")
CLIPS_PER_STYLE = 10
CLIPS_PER_TRAINING_STYLE = 20  # what training sees has more arrangements; it is not measured on
LICENCE = "GPL-2.0-or-later"
FACTS = ("bpm", "metre", "key", "instruments", "drums", "melody")  # of a clip that its row states
SOURCE = "mma"
UNPLAYABLE = re.compile(r"(?i:intro|fill|metronome)|End|end$|-44$")  # grooves for less than a whole clip


def read_styles(folder: Path) -> dict[str, dict]:
    """
    Return for each style what `styles.csv` says of it, and what its file in MMA's stdlib `folder` does: beats in a
    bar, and the grooves that can be played for a whole clip.
    """
    styles = {}
    for row in read_csv(STYLES):
        text = (folder / f"{row['style']}.mma").read_text(encoding="latin-1")
        beats = re.search(r"^\s*Time\s+(\d+)", text, re.M)
        grooves = re.findall(r"^\s*DefGroove\s+(\S+)", text, re.M | re.I)
        styles[row["style"]] = {
            "genres": row["genres"].split(";"),
            "broad": row["broad"].split(";"),
            "bpm": tuple(map(int, row["bpm"].split("-"))),
            "metre": row["metre"],
            "pulse": float(row["pulse"]),
            "idioms": row["progressions"].split(),
            "characters": row["characters"].split(),
            "group": row["sibling"] or row["style"],
            "beats": int(beats[1]) if beats else 4,
            "grooves": [name for name in grooves if not UNPLAYABLE.search(name)],
        }
    return styles


def assign_splits(styles: dict[str, dict]) -> dict[str, str]:
    """
    Return the split of each style: near copies are together, and every stratum (first broad family) is spread over the
    splits.
    """
    rng = random.Random(SEED)
    strata = {style["group"]: styles[style["group"]]["broad"][0] for style in styles.values()}
    order = sorted(strata, key=lambda group: (strata[group], rng.random()))
    common = [group for group in order if list(strata.values()).count(strata[group]) > 2]
    pattern = ["train", "train", "validation", "train", "train", "train", "test", "train"]
    by_group = dict.fromkeys(strata, "train")  # a family of one or two styles has no relatives: nothing to test
    by_group |= {group: pattern[i % len(pattern)] for i, group in enumerate(common)}
    return {name: by_group[style["group"]] for name, style in styles.items()}


def make_row(clip_id: str, name: str, style: dict, split: str, groove: str, facts: dict, used: set[str]) -> dict:
    """Return the row of a clip in `captions.jsonl`; `used` as in [`make_captions`]."""
    captions = make_captions(random.Random(f"{SEED} {clip_id}"), style, facts, used)
    return {
        "id": clip_id,
        "path": f"{split}/{clip_id}.flac",
        "captions": captions,
        "source": SOURCE,
        "title": f"{groove} in {facts['key']}, {facts['bpm']} bpm",
        "licence": LICENCE,
        "artist": "MMA (Bob van der Poel)",
        "caption_source": "metadata",
        "split": split,
        "family": name,
        "genres": style["genres"] + style["broad"],
        **{fact: facts[fact] for fact in FACTS},
    }


def make_clips(styles: dict[str, dict], work: Path) -> tuple[list[dict], bytes]:
    """Return the rows of all clips, and the zip archive of their MIDI files."""
    splits = assign_splits(styles)
    clips = [(name, number) for name in styles for number in range(CLIPS_PER_STYLE)]
    training = [name for name in styles if splits[name] == "train"]
    clips += [(name, number) for name in training for number in range(CLIPS_PER_STYLE, CLIPS_PER_TRAINING_STYLE)]
    rows, used, buffer = [], set(), BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, number in clips:
            style, clip_id = styles[name], f"{SOURCE}-{len(rows):06d}"
            grooves = random.Random(f"{SEED} {name}").sample(style["grooves"], len(style["grooves"]))
            groove = grooves[number % len(grooves)]
            midi, facts = make_clip(number, name, style, groove, work)
            archive.writestr(zipfile.ZipInfo(f"{clip_id}.mid"), midi, zipfile.ZIP_DEFLATED)
            rows.append(make_row(clip_id, name, style, splits[name], groove, facts, used))
    return rows, buffer.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("stdlib", type=Path, help="MMA's stdlib folder, e.g. /usr/share/mma/lib/stdlib")
    parser.add_argument(
        "--work", type=Path, default=Path(".cache/mma"), help="compiled MIDI is kept here between runs"
    )
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    rows, archive = make_clips(read_styles(args.stdlib), args.work)
    with replace_file(CORPUS / "mma" / "midi.zip") as partial:
        partial.write_bytes(archive)
    rows = replace_rows(SOURCE, rows)
    print(f"{len(rows)} rows; midi.zip {len(archive) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
