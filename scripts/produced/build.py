# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
Make the shipped slice of produced music: `corpus/produced/*.opus` and its rows in `corpus/captions.jsonl`.

A maintainer's tool; training only reads what it wrote. Needs `pip install soundfile soxr librosa`. Three stages:

    # 1. cut: PKG/<package>/ is what `apt-get download <package> && dpkg -x <package>_*.deb PKG/<package>` unpacked
    python -m scripts.produced.build --packages PKG
    # 2. tag: a module with `Musicnn(wheel_dir, name)(samples)` and the unpacked `musicnn` wheel, the teacher
    python -m scripts.produced.build --teacher musicnn_torch.py WHEEL_DIR
    # 3. caption: always runs, from the clips, `tracks.csv` and `pseudo_tags.json` in this folder
    python -m scripts.produced.build
"""

import argparse
import hashlib
import importlib.util
import json
from pathlib import Path
from random import Random

import numpy as np
import soundfile

from corpus.build import CORPUS
from scripts.files import read_csv, replace_rows, replace_text
from scripts.produced.captions import FACTS, describe, measure, write_captions
from scripts.produced.cutting import cut_clips


PRODUCED = CORPUS / "produced"
TRACKS, CLIPS, PSEUDO_TAGS = (
    Path(__file__).with_name(name) for name in ("tracks.csv", "clips.csv", "pseudo_tags.json")
)
SOURCE = "produced"
LICENCES = {
    "CC-BY-SA-3.0": "https://creativecommons.org/licenses/by-sa/3.0/",
    "CC-BY-3.0": "https://creativecommons.org/licenses/by/3.0/",
    "MIT": "LICENSE.md#mit",
    "Public domain": "LICENSE.md#public-domain",
}
ATTRIBUTION_HEAD = """# Attribution

Written by `scripts/produced/build.py` from its `tracks.csv`; files `produced-NUMBER-LETTER.opus` are of track NUMBER.
Changes made to every track: excerpts of 20.2 s starting at the stated seconds, stems (where two files are named) and
channels mixed to mono, high-passed at 25 Hz, resampled to 16 kHz, level set, 5 ms fades at the cuts, encoded as Opus.

| Track | Title | Artist | Licence | Debian package and path in it | Source | Excerpts at (s) |
|---|---|---|---|---|---|---|"""


def cut(packages: Path, tracks: list[dict]) -> None:
    """Cut the clips of all tracks out of unpacked packages, and remove clips that are no longer wanted."""
    rows = []
    for track in tracks:
        starts = cut_clips(packages / track["package"], track, PRODUCED)
        rows += [f"{name},{track['number']},{start:.1f}" for name, start in starts.items()]
        print(f"cut {rows[-1].split(',')[0]} {track['title']}", flush=True)
    for stale in {path.stem for path in PRODUCED.glob("*.opus")} - {row.split(",")[0] for row in rows}:
        (PRODUCED / f"{stale}.opus").unlink()
    replace_text(CLIPS, "id,track,start_s\n" + "\n".join(rows) + "\n")


def read_clip(name: str) -> np.ndarray:
    """Return the samples of a shipped clip."""
    samples, _ = soundfile.read(PRODUCED / f"{name}.opus", dtype="float32")
    return samples


def tag(module_path: str, wheel: str) -> None:
    """Write the mean score of every tag over a clip, for both of the teacher's vocabularies."""
    spec = importlib.util.spec_from_file_location("teacher", module_path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    models = {name: module.Musicnn(wheel, f"{name}_musicnn") for name in ("MSD", "MTT")}
    scores = {}
    for clip in read_csv(CLIPS):
        samples = read_clip(clip["id"])
        scores[clip["id"]] = {
            name: [round(float(score), 3) for score in model(samples)[0].mean(0)] for name, model in models.items()
        }
        print("tagged", clip["id"], flush=True)
    note = (
        "Pseudo-labels, not human annotation: mean tag scores (0 to 1) over 3 s patches of each clip by the taggers "
        "MSD_musicnn and MTT_musicnn of the PyPI wheel musicnn 0.1.0 (Jordi Pons, ISC licence; trained on the Million "
        "Song Dataset and MagnaTagATune), run on the shipped clips at 16 kHz."
    )
    lines = [f'"note": {json.dumps(note)}']
    lines.append('"tags": ' + json.dumps({name: model.labels for name, model in models.items()}))
    body = ",\n".join(f" {json.dumps(name)}: {json.dumps(row, separators=(',', ':'))}" for name, row in scores.items())
    lines.append('"clips": {\n' + body + "\n}")
    replace_text(PSEUDO_TAGS, "{\n" + ",\n".join(lines) + "\n}\n")


def unit_hash(text: str) -> float:
    """Return a number in [0, 1) that depends on `text` alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def assign_splits(tracks: list[dict]) -> dict[str, str]:
    """Return the split of each family of tracks: about 78 / 11 / 11 %, every game in its own proportion."""
    games = {}
    for track in tracks:
        games.setdefault(track["package"].split("-")[0], set()).add(track["family"])
    splits = {}
    for families in games.values():
        order = sorted(families, key=unit_hash)
        test = max(1, round(0.11 * len(order)))
        validation = round(0.11 * len(order))
        for rank, family in enumerate(order):
            splits[family] = "test" if rank < test else "validation" if rank < test + validation else "train"
    return splits


def caption(tracks: list[dict]) -> None:
    """Write the rows of all clips, from what is stated of their tracks, pseudo-tags and measurements."""
    teacher = json.loads(PSEUDO_TAGS.read_text(encoding="utf-8"))
    clips = read_csv(CLIPS)
    facts = {clip["id"]: measure(read_clip(clip["id"])) for clip in clips}
    by_number, splits, rows, used = {track["number"]: track for track in tracks}, assign_splits(tracks), [], set()
    for clip in clips:
        name, track = clip["id"], by_number[clip["track"]]
        scores = teacher["clips"][name].items()
        tags = {
            f"{key}:{tag}": score for key, row in scores for tag, score in zip(teacher["tags"][key], row, strict=True)
        }
        ranks = {key: np.mean([fact[key] < facts[name][key] for fact in facts.values()]) for key in FACTS}
        words, kept = describe(track, tags, facts[name], ranks)
        split = splits[track["family"]]
        row = {"id": name, "path": f"{split}/{name}.flac", "captions": write_captions(Random(name), words, used)}
        row |= {"source": SOURCE} | {key: track[key] for key in ("title", "artist", "licence")}
        row |= {"caption_source": "pseudo", "split": split, "family": track["family"], "package": track["package"]}
        rows.append(row | {"tags": kept})
    replace_rows(SOURCE, rows)


def attribute(tracks: list[dict]) -> None:
    """Write `corpus/produced/ATTRIBUTION.md`: one line per track."""
    lines = [ATTRIBUTION_HEAD]
    clips = read_csv(CLIPS)
    for track in tracks:
        starts = [f"{float(clip['start_s']):.1f}" for clip in clips if clip["track"] == track["number"]]
        licence = f"[{track['licence']}]({LICENCES[track['licence']]})"
        path = track["path"].replace("!", ", ") + (f" + {Path(track['stem']).name}" if track["stem"] else "")
        fields = [track["number"], track["title"], track["artist"], licence, f"{track['package']}: {path}"]
        lines.append("| " + " | ".join([*fields, f"<{track['url']}>", ", ".join(starts)]) + " |")
    replace_text(PRODUCED / "ATTRIBUTION.md", "\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=Path, metavar="PKG", help="folder with one unpacked package per sub-folder")
    parser.add_argument("--teacher", nargs=2, metavar=("MODULE.py", "WHEEL_DIR"), help="recompute the pseudo-tags")
    arguments = parser.parse_args()
    tracks = read_csv(TRACKS)
    if arguments.packages:
        cut(arguments.packages, tracks)
    if arguments.teacher:
        tag(*arguments.teacher)
    caption(tracks)
    attribute(tracks)


if __name__ == "__main__":
    main()
