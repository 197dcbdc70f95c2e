# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
Indexing of a folder of MP3 files, end to end as search.py does it, in tracks per second and in times real time: with
checkpoints of this repository and the windows of a new index, with all windows if asked, and with transformers' CLAP
and all its windows of 10 s, on the same files in the same run. CLAP has its default configuration and random weights,
on which time does not depend. For this repository's models the same work is also timed part by part, one after the
other, for the share of each.

    python -m benchmarks.index_library --model . fast --minutes 4 [--tracks 24] [--windows auto all]
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
from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, ClapProcessor, PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar

from modeling_muscall_tower import MusCALLLogMel
from muscall.encoder import Encoder, MusCALLEncoder, load_encoder
from muscall.hashing import hash_file
from muscall.search.embedding import Embedder, make_rows
from muscall.search.files import file_state
from muscall.search.indexing import update_index
from muscall.search.store import Store
from muscall.search.tags import read_tags
from muscall.search.windows import AUTO, placement


ROOT = Path(__file__).resolve().parents[1]
RATE = 44100  # hertz
CLAP = "transformers' CLAP"


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
    log_mels = [module for module in encoder.model.modules() if isinstance(module, MusCALLLogMel)]
    windows, tables = placement(encoder.feature_extractor, store.windows), []
    for path in paths:
        clock = [time.perf_counter()]
        facts = {"track": str(path), "hash": hash_file(path), "state": file_state(path)} | read_tags(path)
        clock.append(time.perf_counter())
        chunks = list(encoder.feature_extractor.iter_windows(str(path), windows=windows))
        clock.append(time.perf_counter())
        mel_seconds, embedded = 0.0, []
        for chunk in chunks:
            begin = time.perf_counter()
            for log_mel in log_mels:
                log_mel(torch.from_numpy(chunk["input_values"]))
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


def make_clap(folder: str) -> Encoder:
    """Write transformers' CLAP with random weights, and load it. No sentence is timed, so any tokenizer will do."""
    ClapModel(ClapConfig()).save_pretrained(folder)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(ROOT)
    ClapProcessor(ClapFeatureExtractor(truncation="rand_trunc"), tokenizer).save_pretrained(folder)
    return load_encoder(folder)


def measure(encoders: dict[str, Encoder], accelerator: Accelerator, count: int, minutes: int, windows: list[str]):
    """Index `count` files of a length with each model, and print what was measured."""
    rates, cases = {}, [(name, choice) for name in encoders if name != CLAP for choice in windows] + [(CLAP, "all")]
    with tempfile.TemporaryDirectory() as folder:
        music, warm = Path(folder, "music"), Path(folder, "warm")
        for target, number, length in ((music, count, minutes), (warm, 1, 0.5)):
            target.mkdir()
            write_tracks(target, number, length)
        for name, choice in cases:
            encoder, stores = encoders[name], Path(tempfile.mkdtemp(dir=folder))
            update_index(stores / "other", [warm], Embedder(encoder), accelerator, windows=choice)
            report = update_index(stores / "store", [music], Embedder(encoder), accelerator, windows=choice)
            again = update_index(stores / "store", [music], Embedder(encoder), accelerator)
            title, rate = f"{name}, {minutes} min, --windows {choice}", count / report.seconds
            rates[title] = rate
            print(f"{title}: {rate:.2f} tracks/s, {60 * minutes * rate:.0f} times real time", flush=True)
            print(f"  again, with nothing new: {again.seconds:.2f} s", flush=True)
            if isinstance(encoder, MusCALLEncoder):
                store = Store.open_or_create(stores / "parts", encoder.describe() | {"windows": choice})
                spent = time_parts(encoder, sorted(music.iterdir()), store)
                total = sum(spent.values())
                shares = ", ".join(f"{part} {seconds / total:.0%}" for part, seconds in spent.items())
                print(f"  one part after the other takes {total / report.seconds:.2f}x as long: {shares}", flush=True)
    for title, other in list(rates.items())[:-1]:
        print(f"{title}: {other / rate:.1f} times as many tracks a second as {CLAP}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", required=True, help="checkpoints of this repository")
    parser.add_argument("--tracks", type=int, default=24, help="files of each length (default: 24)")
    parser.add_argument("--minutes", type=int, nargs="+", default=[2, 4], help="lengths of the files (default: 2 4)")
    parser.add_argument("--windows", nargs="+", default=[AUTO], help="see search.py; auto and all for both")
    arguments = parser.parse_args()
    disable_progress_bar()
    accelerator = Accelerator(cpu=True)
    with tempfile.TemporaryDirectory() as folder:
        encoders = {name: load_encoder(name) for name in arguments.model} | {CLAP: make_clap(folder)}
        for encoder in encoders.values():
            encoder.use_bfloat16()
        for minutes in arguments.minutes:
            measure(encoders, accelerator, arguments.tracks, minutes, arguments.windows)


if __name__ == "__main__":
    main()
