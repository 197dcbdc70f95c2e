# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
Build the open mix: real music under free licences out of Debian packages, cut into clips, with captions.

    python -m scripts.open_mix.build [--output_dir DIR] [--packages a b] [--cache_dir DIR]

`tracks.csv` says what is taken from which package, into which split, and what is known about it. Needs Debian's
`apt-get` and `dpkg-deb`, but no rights. Packages are fetched once; a track that was cut is not cut again, so that a
build that was stopped goes on. Whole packages are held out: `validation`, `test`, and `unseen`, styles that no package
of the training is of. `DIR/rendered` is music rendered here, with true captions. `DIR/main`,
`DIR/unseen` and `DIR/rendered` are Hugging Face audio folders, `DIR/README.md` is a datasheet.
"""

import argparse
import fnmatch
import hashlib
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
from tqdm import tqdm

from corpus.build import find_soundfont
from muscall.cache import replace_file
from scripts.files import is_meant, open_member, read_csv, read_mono, replace_text
from scripts.open_mix.captions import (
    CACHE_DIR,
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
        row (`dict`): What `tracks.csv` says of it.
    """

    package: str
    path: str
    row: dict

    @property
    def id(self) -> str:
        return f"{self.package}-{hashlib.sha256(self.path.encode()).hexdigest()[:8]}"


def read_table() -> list[dict]:
    """Return the rows of `tracks.csv`, each of which has a known split or `-`."""
    rows = read_csv(TABLE)
    for row in rows:
        package, split = row["package"], row["split"]
        if split not in (*FOLDERS, "-"):
            known = ", ".join(FOLDERS)
            raise ValueError(f"{TABLE.name}: the split of {package} must be one of {known} or -, got {split!r}")
    return rows


def read_queries() -> list[tuple[str, list[str]]]:
    """Return sentences that one may search for, and patterns of `package:path` of the held-out tracks they mean."""
    return [(row["query"], row["tracks"].split("; ")) for row in read_csv(QUERIES)]


def fetch(packages: list[str], cache_dir: Path) -> None:
    """
    Download and unpack packages that are missing.

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
    """Return the tracks that the table takes from an unpacked package; the first row that matches a path decides."""
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


def read_tags(root: Path, path: str) -> dict[str, str]:
    """Return title, artist and genre as the file states them."""
    try:
        file = mutagen.File(open_member(root, path), easy=True)
    except mutagen.MutagenError:
        return {}
    tags = (file.tags if file else None) or {}
    return {name: str(tags[name][0]).strip() for name in ("title", "artist", "genre") if tags.get(name)}


def readable_title(title: str) -> str:
    """Return `Dark Castle` for `03_DarkCastle_v2`, and nothing where a title names no more than a number."""
    title = re.sub(r"\(.*?\)|\[.*?\]|\bv?\d+\b|\d+", " ", re.sub(r"[_.\-]+", " ", title))
    title = " ".join(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", title).split())
    return title if len(title) > 3 and not UNTITLED.match(title) else ""


def level(samples: np.ndarray) -> float:
    """Return the RMS of samples in dB below full scale."""
    return 10 * np.log10(np.square(samples, dtype=np.float64).mean() + 1e-12)


def choose_excerpts(samples: np.ndarray, split: str) -> list[np.ndarray]:
    """Return what is taken of a track: the middles of equal parts for training, one longer middle else."""
    size = CLIP_SECONDS * RATE
    if split == "train":
        count = min(MAX_CLIPS, len(samples) // size)
        starts = [(number + 0.5) * len(samples) / count - size / 2 for number in range(count)]
        return [samples[int(start) : int(start) + size] for start in starts]
    length = min(len(samples), HELD_OUT_SECONDS * RATE)
    start = (len(samples) - length) // 2
    return [samples[start : start + length]] if length >= size else []


def cut(track: Track, cache_dir: Path, output_dir: Path) -> list[dict]:
    """Write the clips of one track, and return their rows; the rows are kept beside the clips."""
    split, root = track.row["split"], cache_dir / track.package
    folder = output_dir / FOLDERS[split]
    done = folder / f".{track.id}.json"
    if done.exists():
        return json.loads(done.read_text())
    samples = read_mono(root, track.path, RATE)
    for stem in track.row["stems"].split():
        other = read_mono(root, str(Path(track.path).with_name(stem)), RATE)
        size = min(len(samples), len(other))
        samples = samples[:size] + other[:size]
    tags, rows = read_tags(root, track.path), []
    for number, clip in enumerate(choose_excerpts(samples, split)):
        if level(clip) < QUIET:
            continue
        name = f"{track.id}-{number}.flac"
        with replace_file(folder / name) as partial:
            soundfile.write(partial, PEAK * clip / np.abs(clip).max(), RATE, format="FLAC", subtype="PCM_16")
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
    replace_text(done, json.dumps(rows))
    return rows


def caption(rows: dict[str, list[dict]], output_dir: Path, wheel: Path) -> None:
    """
    Add `captions` and `caption_source` to the rows: `metadata` where all is from the package, else `pseudo`. A
    held-out track of which the package says something has that for its caption, and nothing of the tagger's; what is
    for training has its title and [`write_phrases`] too.
    """
    clips = [(split, row) for split, clips in rows.items() for row in clips]
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
            holds = {word for group in words.values() for word in group}
            row["captions"] += write_phrases(holds, random, PHRASES)
            row["captions"] += [title] if (title := readable_title(row["title"])) else []
        row["caption_source"] = "metadata" if stated or not any(words.values()) else "pseudo"


def write_datasheet(rows: dict[str, list[dict]], output_dir: Path) -> None:
    """Write `README.md`: counts of each split, licences, and what captions name."""
    lines = ["# The open mix\n", "Written by `scripts/open_mix/build.py`.\n"]
    lines += [
        "| split | tracks | clips | hours | packages | captions from metadata | pseudo | of rendered music |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for split, clips in rows.items():
        sources = Counter(row["caption_source"] for row in clips)
        hours = sum(row["seconds"] for row in clips) / 3600
        counts = [len({row["family"] for row in clips}), len(clips), f"{hours:.1f}"]
        counts += [len({row["package"] for row in clips}), *(sources[kind] for kind in SOURCES)]
        lines.append(f"| {split} | " + " | ".join(map(str, counts)) + " |")
    everything = [row for clips in rows.values() for row in clips]
    tracks = {row["family"]: row for row in everything}.values()
    for title, values in (
        ("Licences (tracks, as the packages' copyright files say)", [row["licence"] for row in tracks]),
        (
            "Styles, instruments and moods in captions (clips)",
            [word for row in everything for word in named_words(row)],
        ),
    ):
        lines += [f"\n## {title}\n", "| | |", "|---|---|"]
        lines += [f"| {value} | {count} |" for value, count in Counter(values).most_common(60)]
    lines.append(
        "\nPseudo-captions are guesses of a tagger (musicnn, trained on MagnaTagATune and the Million Song Dataset); "
        "nobody has listened to check them; the phrases of scripts/open_mix/phrases.csv are what one may call "
        "music of such tags, not what anybody heard. Captions of rendered music say what was written into it. "
        "Known gaps: the recordings are music of games: hardly any singing, hip hop, reggae, soul, or acoustic "
        "ensembles."
    )
    replace_text(output_dir / "README.md", "\n".join(lines) + "\n")


def named_words(row: dict) -> list[str]:
    """Return those of the tagger's words that the captions of a clip have."""
    said = f" {re.sub(r'[^a-z ]', ' ', ' '.join(row['captions']).lower())} "
    return [word for word, _, _ in WORDS if f" {word.lower()} " in said]


def cut_packages(
    packages: list[str], table: dict[str, list[dict]], cache_dir: Path, output_dir: Path, num_workers: int | None
) -> dict[str, list[dict]]:
    """Cut the tracks of all packages, and return for each split the rows of its clips."""
    tracks = [track for package in packages for track in find_tracks(package, table[package], cache_dir)]
    rows = {split: [] for split in FOLDERS}
    with ProcessPoolExecutor(num_workers, get_context("spawn")) as pool:  # a fork of torch's threads can hang
        futures = [pool.submit(cut, track, cache_dir, output_dir) for track in tracks]
        for track, future in tqdm(zip(tracks, futures, strict=True), "cutting", len(tracks)):
            rows[track.row["split"]] += future.result()
    return rows


def add_queries(rows: dict[str, list[dict]]) -> None:
    """Add to each row the `queries` that mean it, which for training are none."""
    queries = read_queries()
    for split, clips in rows.items():
        for row in clips:
            name = f"{row['package']}:{row['path']}"
            meaning = [query for query, patterns in queries if split != "train" and is_meant(name, patterns)]
            row["queries"] = "; ".join(meaning)


def write_metadata(rows: list[dict], folder: Path) -> None:
    """Write `metadata.jsonl` of a split, or none where it has no clip: `datasets` cannot read an empty one."""
    path = folder / "metadata.jsonl"
    if not rows:
        path.unlink(missing_ok=True)
        return
    lines = [json.dumps(row | {"facts": json.dumps(row["facts"])}, ensure_ascii=False) for row in rows]
    replace_text(path, "".join(f"{line}\n" for line in lines))


def build(
    output_dir: Path, cache_dir: Path, packages: list[str] | None = None, num_workers: int | None = None
) -> dict[str, list[dict]]:
    """
    Build the open mix, or what is missing of it.

    Args:
        output_dir (`Path`): Where the audio folders go.
        cache_dir (`Path`): Where packages are kept.
        packages (`list[str]`, *optional*): Only these; all of the table, and the rendered music, by default.
        num_workers (`int`, *optional*): Processes; as many as there are cores by default.

    Returns:
        `dict[str, list[dict]]`: for each split the rows of its clips.
    """
    table: dict[str, list[dict]] = {}
    for row in read_table():
        table.setdefault(row["package"], []).append(row)
    if unknown := set(packages or ()) - set(table):
        raise ValueError(f"{TABLE.name} has no package {', '.join(sorted(unknown))}")
    fetch(packages or list(table), cache_dir)
    for folder in FOLDERS.values():
        (output_dir / folder).mkdir(parents=True, exist_ok=True)
    rows = cut_packages(packages or list(table), table, cache_dir, output_dir, num_workers)
    caption(rows, output_dir, fetch_wheel(cache_dir))
    add_queries(rows)
    folders = dict(FOLDERS)
    if not packages:
        fetch([SOUNDFONT[0]], cache_dir)
        soundfonts = [find_soundfont(), cache_dir.joinpath(*SOUNDFONT)]
        for split, clips in build_rendered(output_dir / "rendered", soundfonts, num_workers).items():
            rows[f"rendered {split}"], folders[f"rendered {split}"] = clips, f"rendered/{split}"
    for split, folder in folders.items():
        rows[split] = [row for row in rows[split] if row["captions"]]
        write_metadata(rows[split], output_dir / folder)
    write_datasheet(rows, output_dir)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=ROOT / "corpus" / "open_mix", help="default: %(default)s")
    parser.add_argument("--cache_dir", type=Path, default=CACHE_DIR, help="default: %(default)s")
    parser.add_argument("--packages", nargs="+", help="only these")
    parser.add_argument("--num_workers", type=int, help="processes that cut; one for each core by default")
    args = parser.parse_args()
    rows = build(args.output_dir, args.cache_dir, args.packages, args.num_workers)
    for split, clips in rows.items():
        print(f"{split}: {len(clips)} clips of {len({row['family'] for row in clips})} tracks")


if __name__ == "__main__":
    main()
