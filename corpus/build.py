# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
Build the default corpus: render the shipped MIDI, decode the shipped recordings, write a Hugging Face audio folder.

    python -m corpus.build [default | default-full] [--output_dir DIR] [--limit N] [--num_workers N]

`default` has all validation and test clips and a few training clips of each style file, `default-full` all there are.
The result is `<output_dir>/{train,validation,test}/` with the clips and a `metadata.jsonl` beside them, which
`datasets.load_dataset("audiofolder", data_dir=output_dir)` reads. Every finished clip is kept: a build that was
interrupted goes on where it stopped, and a clip is rendered again only if its MIDI, the soundfont, the renderer or the
constants below have changed. The same inputs give the same bytes.
"""

import argparse
import hashlib
import importlib.util
import io
import json
import multiprocessing
import os
import shutil
import signal
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from muscall.cache import replace_file


CORPUS = Path(__file__).resolve().parent
RENDERED = CORPUS / "rendered"  # the datasets, each in a folder of its name
SPLITS = ("train", "validation", "test")
# The names that the corpus goes by as a dataset, and how many training clips of a family each has; `None`: all.
DATASETS = {"default": 6, "default-full": None}
RATE = 16000  # hertz
SAMPLES = 20 * RATE  # every rendered clip is exactly 20 s
LEVEL = -20.0  # dB below full scale: the RMS that a rendered clip is brought to, as far as PEAK lets it
PEAK = 0.9  # largest absolute sample; a clip with high peaks is scaled to this and stays below LEVEL
HIGH_PASS = 15, 30  # hertz: nothing below, all above; some saxophones of the soundfont carry a constant offset
SILENCE = -60.0  # dB below full scale: a rendering under this RMS, before any gain, is an error
BUILDER = "1"  # raise it when the rendering below changes its result
PART_SECONDS = 60  # a temporary file older than this belongs to a build that died


def read_rows(limit: int | None = None, train_clips: int | None = None) -> list[dict]:
    """
    Return the rows of `captions.jsonl`, or a subset that is the same every time.

    Args:
        limit (`int`, *optional*): Number of clips, balanced over splits, sources and families.
        train_clips (`int`, *optional*): Training clips of each family (style file, track), at most.

    Raises:
        `ValueError`: if `limit` is less than 1.
    """
    with (CORPUS / "captions.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    nth, place = Counter(), {}
    for row in sorted(rows, key=lambda row: hashlib.sha256(row["id"].encode()).digest()):
        place[row["id"]] = nth[row["family"]]  # first one clip of every family, then a second, ...
        nth[row["family"]] += 1
    if train_clips is not None:
        rows = [row for row in rows if row["split"] != "train" or place[row["id"]] < train_clips]
    if limit is None or limit >= len(rows):
        return rows
    if limit < 1:
        raise ValueError(f"limit must be at least 1 clip, got {limit}")
    group_size = Counter((row["source"], row["split"]) for row in rows)
    ordered, rank, taken = sorted(rows, key=lambda row: (place[row["id"]], row["id"])), {}, Counter()
    ordered.sort(key=lambda row: (place[row["id"]], hashlib.sha256(row["family"].encode()).digest()))
    for row in ordered:
        group = row["source"], row["split"]
        rank[row["id"]] = (taken[group] / group_size[group], *group)
        taken[group] += 1
    chosen = {row["id"] for row in sorted(ordered, key=lambda row: rank[row["id"]])[:limit]}
    return [row for row in rows if row["id"] in chosen]


def find_soundfont() -> Path:
    """Return the path of TimGM6mb.sf2 in the installed `pretty-midi` wheel, which is not imported for it."""
    needed = {"midirenderer": "midirenderer", "soxr": "soxr", "pretty_midi": "pretty-midi"}
    missing = [wheel for module, wheel in needed.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise ImportError(f"rendering the corpus needs these packages: pip install {' '.join(missing)}")
    folder = Path(importlib.util.find_spec("pretty_midi").submodule_search_locations[0])
    soundfonts = sorted(folder.rglob("TimGM6mb.sf2"))
    if not soundfonts:
        raise FileNotFoundError(f"no TimGM6mb.sf2 under {folder}: pip install --force-reinstall pretty-midi")
    return soundfonts[0]


@cache
def read_soundfont(path: Path) -> bytes:
    """Return the content of a soundfont, read once by each process."""
    return path.read_bytes()


def render(midi: bytes, soundfont: bytes) -> np.ndarray:
    """
    Render a MIDI file with a soundfont.

    Returns:
        `np.ndarray`: float32 of shape `(SAMPLES,)`, 20 s at 16 kHz, with an RMS of `LEVEL` dB, or less where a sample
        would pass `PEAK`.

    Raises:
        `ValueError`: if the music is shorter, not finite or silent.
    """
    import midirenderer
    import soxr

    wave, rate = soundfile.read(io.BytesIO(midirenderer.render_wave_from(soundfont, midi)), dtype="float32")
    wave = soxr.resample(wave.mean(axis=1), rate, RATE)[:SAMPLES]
    if len(wave) != SAMPLES or not np.isfinite(wave).all():
        raise ValueError(f"expected {SAMPLES} finite samples, got {len(wave)}")
    low, high = HIGH_PASS
    gain = np.clip((np.fft.rfftfreq(SAMPLES, 1 / RATE) - low) / (high - low), 0, 1)
    wave = np.fft.irfft(np.fft.rfft(wave) * gain, SAMPLES).astype(np.float32)
    rms = float(np.sqrt(np.mean(np.square(wave, dtype=np.float64))))
    if rms < 10 ** (SILENCE / 20):
        raise ValueError(f"silent: RMS {20 * np.log10(max(rms, 1e-9)):.1f} dB")
    return wave * min(10 ** (LEVEL / 20) / rms, PEAK / float(np.abs(wave).max()))


def is_current(path: Path, fingerprint: str) -> bool:
    """Return whether a file is a finished rendering; its fingerprint is the comment in the FLAC header."""
    if not path.exists():
        return False
    try:
        with soundfile.SoundFile(path) as file:
            file.seek(file.frames - 1)  # the last sample is there only in a whole file
            return file.comment == fingerprint and file.frames == SAMPLES and len(file.read(1)) == 1
    except soundfile.LibsndfileError:
        return False


def ignore_interrupts() -> None:
    """Leave Ctrl-C to the parent process, so that a worker finishes the clip that it is writing."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def decode(opus: bytes) -> np.ndarray:
    """Return the samples of a shipped recording, float32 of shape `(SAMPLES,)`, 20 s at 16 kHz."""
    samples, rate = soundfile.read(io.BytesIO(opus), dtype="float32")
    if rate != RATE or samples.ndim != 1 or len(samples) < SAMPLES:
        raise ValueError(f"expected {SAMPLES} mono samples at {RATE} Hz, got {samples.shape} at {rate} Hz")
    return samples[:SAMPLES]


def build_file(path: Path, data: bytes, fingerprint: str, soundfont: Path, twins: list[Path]) -> None:
    """
    Write one clip, from the content of its MIDI or Opus file, to the FLAC file `path`, or copy it from where the
    datasets beside this one have it.
    """
    for twin in twins:
        if is_current(twin, fingerprint):
            with replace_file(path) as partial:
                shutil.copy(twin, partial)
            return
    try:
        wave = render(data, read_soundfont(soundfont)) if data.startswith(b"MThd") else decode(data)
    except ValueError as error:
        raise ValueError(f"{path.stem}: {error}") from error
    flac = io.BytesIO()
    with soundfile.SoundFile(flac, "w", samplerate=RATE, channels=1, format="FLAC", subtype="PCM_16") as file:
        file.comment = fingerprint
        file.write(wave)
    with replace_file(path) as partial:
        partial.write_bytes(flac.getvalue())


def clean(output_dir: Path) -> None:
    """Remove clips that `captions.jsonl` no longer has at this place, and what a build that died left half-written."""
    known = {row["path"] for row in read_rows()}
    for split in SPLITS:
        folder = output_dir / split
        for path in [*folder.glob("mma-*.flac"), *folder.glob("produced-*.*")]:
            if f"{split}/{path.name}" not in known:
                path.unlink()
        for path in folder.glob(".*.part*"):
            if time.time() - path.stat().st_mtime > PART_SECONDS:
                path.unlink(missing_ok=True)


def write_metadata(output_dir: Path, rows: list[dict]) -> None:
    """
    Write one `metadata.jsonl` per split. What only some rows know (bpm, instruments, ...) goes as JSON text into one
    column, `facts`, because `datasets` wants the same column types in every split.
    """
    shared = ("id", "captions", "source", "title", "artist", "licence", "caption_source", "family")
    for split in SPLITS:
        lines = []
        for row in rows:
            if row["split"] == split:
                facts = {name: row[name] for name in row if name not in (*shared, "path", "split")}
                fields = {"file_name": Path(row["path"]).name, **{name: row[name] for name in shared}}
                fields["facts"] = json.dumps(facts, ensure_ascii=False)
                lines.append(json.dumps(fields, ensure_ascii=False) + "\n")
        with replace_file(output_dir / split / "metadata.jsonl") as partial:
            partial.write_bytes("".join(lines).encode("utf-8"))


def read_sources(rows: list[dict]) -> Iterator[bytes]:
    """Yield the content of the MIDI or Opus file of each row."""
    with zipfile.ZipFile(CORPUS / "mma" / "midi.zip") as archive:
        for row in rows:
            if row["source"] == "mma":
                yield archive.read(f"{row['id']}.mid")
            else:
                yield (CORPUS / "produced" / f"{row['id']}.opus").read_bytes()


def build_corpus(output_dir: str | Path, rows: list[dict], num_workers: int | None = None) -> Path:
    """
    Build a folder of the corpus, or what is missing of it.

    Args:
        output_dir (`str` or `Path`): Where the audio folder goes.
        rows (`list[dict]`): The clips, of [`read_rows`].
        num_workers (`int`, *optional*): Rendering processes; as many as this process may use cores by default.

    Returns:
        `Path`: `output_dir`.
    """
    output_dir = Path(output_dir)
    for split in SPLITS:
        (output_dir / split).mkdir(parents=True, exist_ok=True)
    clean(output_dir)
    soundfont = find_soundfont()
    tools = f"{BUILDER} {RATE} {SAMPLES} {LEVEL} {PEAK} {version('midirenderer')} {version('soxr')}".encode()
    tools += hashlib.sha256(soundfont.read_bytes()).digest()
    todo = []
    for row, data in zip(rows, read_sources(rows), strict=True):
        path, fingerprint = output_dir / row["path"], hashlib.sha256(tools + data).hexdigest()
        if not is_current(path, fingerprint):
            twins = [output_dir.parent / name / row["path"] for name in DATASETS]
            todo.append((path, data, fingerprint, soundfont, twins))
    if todo:
        cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
        workers = min(num_workers or cores, len(todo))
        # A fork of a process that has started torch's threads can hang.
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(workers, context, initializer=ignore_interrupts)
        try:
            futures = [pool.submit(build_file, *task) for task in todo]
            done = tqdm(as_completed(futures), "building the corpus", len(rows), initial=len(rows) - len(todo))
            for future in done:
                future.result()
        finally:
            pool.shutdown(cancel_futures=True)
    write_metadata(output_dir, rows)
    return output_dir


def resolve_dataset(dataset: str) -> str:
    """Return the folder of one of `DATASETS`, which is built where it is missing; other names as they are."""
    if dataset not in DATASETS:
        return dataset
    return str(build_corpus(RENDERED / dataset, read_rows(train_clips=DATASETS[dataset])))


def main() -> None:
    parser = argparse.ArgumentParser(description="Render the default corpus into a Hugging Face audio folder.")
    parser.add_argument("dataset", nargs="?", choices=DATASETS, default="default", help="default: %(default)s")
    parser.add_argument("--output_dir", type=Path, help="default: corpus/rendered/DATASET, ignored by git")
    parser.add_argument("--limit", type=int, help="number of clips: a fixed, balanced subset")
    parser.add_argument("--num_workers", type=int, help="rendering processes; default: one per core")
    args = parser.parse_args()
    rows = read_rows(args.limit, DATASETS[args.dataset])
    print(build_corpus(args.output_dir or RENDERED / args.dataset, rows, args.num_workers))


if __name__ == "__main__":
    main()
