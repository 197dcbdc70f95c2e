# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
Indexing of a folder of MP3 files of 2 and of 4 minutes, end to end as search.py does it, in tracks per second and in
times real time; and the same work part by part, one after the other, for the share of each.

    python -m benchmarks.index_library --model runs/scratch [--tracks 24]
"""

import argparse
import os
import tempfile
import time
from pathlib import Path


os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in search.py, before torch is imported

import numpy as np
import soundfile
import torch
from accelerate import Accelerator
from transformers.utils.logging import disable_progress_bar

from muscall.encoder import CHUNK, Encoder, load_encoder
from muscall.hashing import hash_file
from muscall.search.embedding import Embedder, make_rows
from muscall.search.files import file_state
from muscall.search.indexing import update_index
from muscall.search.store import Store
from muscall.search.tags import read_tags


RATE = 44100  # hertz


def write_tracks(folder: Path, count: int, minutes: float):
    """Write stereo MP3 files of tones, noise and beats, no two alike, at the encoder's default bitrate."""
    random = np.random.default_rng(0)
    seconds = np.arange(10 * RATE) / RATE
    for number in range(count):
        hertz = random.uniform(60, 2000, 6)
        tones = sum(0.08 * np.sin(2 * np.pi * frequency * seconds) for frequency in hertz)
        beats = 0.3 * random.standard_normal(len(seconds)) * (seconds * random.uniform(1, 3) % 1 < 0.1)
        part = np.stack([tones + beats, np.roll(tones, 99) + beats], axis=1)
        with soundfile.SoundFile(folder / f"{number}.mp3", "w", RATE, 2, format="MP3") as file:
            for _ in range(round(6 * minutes)):
                file.write(part)


@torch.no_grad()
def time_parts(encoder: Encoder, paths: list[Path], store: Store) -> dict[str, float]:
    """Return the seconds that each part of the work takes on its own."""
    spent = dict.fromkeys(("hash and tags", "decode and resample", "log-mel", "network", "write"), 0.0)
    tables = []
    for path in paths:
        clock = [time.perf_counter()]
        facts = {"track": str(path), "hash": hash_file(path), "state": file_state(path)} | read_tags(path)
        clock.append(time.perf_counter())
        chunks = list(encoder.feature_extractor.iter_windows(str(path), windows="all", batch_size=CHUNK))
        clock.append(time.perf_counter())
        mel_seconds, embedded = 0.0, []
        for chunk in chunks:
            begin = time.perf_counter()
            encoder.model.audio_model.log_mel(torch.from_numpy(chunk["input_values"]))
            mel_seconds += time.perf_counter() - begin
            embedded.append((encoder.embed_windows(chunk["input_values"]), chunk))
        clock.append(time.perf_counter())
        tables.append(make_rows(facts, embedded))
        spent["hash and tags"] += clock[1] - clock[0]
        spent["decode and resample"] += clock[2] - clock[1]
        spent["log-mel"] += mel_seconds
        spent["network"] += clock[3] - clock[2] - 2 * mel_seconds  # the model computes its spectrogram itself
    begin = time.perf_counter()
    for table in tables:
        store.add(table)
    store.tidy()
    spent["write"] = time.perf_counter() - begin
    return spent


def measure(encoder: Encoder, accelerator: Accelerator, count: int, minutes: int):
    """Index `count` files of a length, and print what was measured."""
    with tempfile.TemporaryDirectory() as folder:
        music, warm = Path(folder, "music"), Path(folder, "warm")
        for target, number in ((music, count), (warm, 1)):
            target.mkdir()
            write_tracks(target, number, minutes)
        update_index(Path(folder, "other"), [warm], Embedder(encoder), accelerator)
        report = update_index(Path(folder, "store"), [music], Embedder(encoder), accelerator)
        again = update_index(Path(folder, "store"), [music], Embedder(encoder), accelerator)
        store = Store.open_or_create(Path(folder, "parts"), encoder.describe())
        spent = time_parts(encoder, sorted(music.iterdir()), store)
    total = sum(spent.values())
    shares = ", ".join(f"{name} {seconds / total:.0%}" for name, seconds in spent.items())
    print(
        f"{minutes} min: {count / report.seconds:.1f} tracks/s, "
        f"{60 * minutes * count / report.seconds:.0f} times real time; "
        f"again, with nothing new: {again.seconds:.2f} s; "
        f"one part after the other takes {total / report.seconds:.2f}x as long: {shares}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a checkpoint")
    parser.add_argument("--tracks", type=int, default=24, help="files of each length")
    arguments = parser.parse_args()
    disable_progress_bar()
    accelerator, encoder = Accelerator(cpu=True), load_encoder(arguments.model)
    for minutes in (2, 4):
        measure(encoder, accelerator, arguments.tracks, minutes)


if __name__ == "__main__":
    main()
