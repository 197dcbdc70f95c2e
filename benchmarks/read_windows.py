# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
Read random windows by seeking and by decoding the whole file, in one process, and print the times and their ratio,
and how many windows one core reads a second. `.npy` is mono at the rate of the windows, as the paper's code has it.

    python -m benchmarks.read_windows
    python -m benchmarks.read_windows --minutes 10 --window-seconds 5
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import soxr

from muscall.data.windows import TrainingWindows
from processing_muscall import read_audio


FORMATS = {"mp3": ("MP3", "MPEG_LAYER_III"), "flac": ("FLAC", "PCM_16"), "ogg": ("OGG", "VORBIS")}
FORMATS["wav"] = ("WAV", "PCM_16")


def write_track(path: Path, minutes: float, rate: int, generator: np.random.Generator) -> None:
    """Write a stereo track of tones and noise, at the encoder's default quality."""
    seconds = np.arange(rate * 10) / rate
    tones = sum(0.1 * np.sin(2 * np.pi * hertz * seconds) for hertz in (110, 277, 440, 1318, 3520))
    form, subtype = FORMATS[path.suffix[1:]]
    with soundfile.SoundFile(path, "w", rate, 2, format=form, subtype=subtype) as file:
        for _ in range(round(minutes * 6)):
            part = np.stack([tones, np.roll(tones, 99)], axis=1) + 0.05 * generator.standard_normal((len(tones), 2))
            for start in range(0, len(part), 8192):  # libsndfile's Vorbis encoder overflows on long writes
                file.write(part[start : start + 8192])


def decode_whole(path: Path, sampling_rate: int, start: float, duration: float) -> np.ndarray:
    """Return a window, cut out of the whole decoded file; times are in seconds."""
    samples, rate = soundfile.read(path, dtype="float32")
    samples = soxr.resample(sum(samples.T) / 2, rate, sampling_rate, quality="HQ")
    return samples[round(start * sampling_rate) : round((start + duration) * sampling_rate)]


def time_format(path: Path, args: argparse.Namespace, starts: np.ndarray) -> tuple[float, float, float]:
    """
    Return the median milliseconds that a window takes by seeking and by decoding the whole file, and the largest
    difference of their samples. The first window warms the caches up and is not counted.
    """
    times, difference = {read_audio: [], decode_whole: []}, 0.0
    for start in starts:
        windows = []
        for read in times:  # in turn, so that a busy machine slows both
            begin = time.perf_counter()
            windows.append(read(path, args.sampling_rate, start, args.window_seconds))
            times[read].append(1000 * (time.perf_counter() - begin))
        size = min(len(window) for window in windows)
        difference = max(difference, np.abs(windows[0][:size] - windows[1][:size]).max())
    return *(np.median(times[read][1:]) for read in times), difference


def time_npy(path: Path, args: argparse.Namespace) -> float:
    """Return the median milliseconds that a window of an `.npy` file takes."""
    track = {"path": str(path), "bytes": None, "sampling_rate": args.sampling_rate, "captions": ["noise"]}
    size = round(args.window_seconds * args.sampling_rate)
    windows, times = TrainingWindows([track], args.sampling_rate, size, args.seed), []
    for epoch in range(args.windows + 1):
        windows.set_epoch(epoch)
        begin = time.perf_counter()
        windows[0]
        times.append(1000 * (time.perf_counter() - begin))
    return np.median(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=3.0, help="length of the files")
    parser.add_argument("--rate", type=int, default=44100, help="rate of the files, in Hz")
    parser.add_argument("--sampling-rate", type=int, default=16000, help="rate of the windows, in Hz")
    parser.add_argument("--window-seconds", type=float, default=20.0, help="length of a window")
    parser.add_argument("--windows", type=int, default=5, help="windows read of each file")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    generator = np.random.default_rng(args.seed)
    print(f"{args.window_seconds:g} s windows of {args.minutes:g} min stereo files at {args.rate} Hz, median ms each")
    print(f"{'format':8}{'seek':>8}{'whole':>8}{'ratio':>8}{'max difference':>18}{'windows/s':>12}")
    with tempfile.TemporaryDirectory() as folder:
        for suffix in FORMATS:
            path = Path(folder) / f"track.{suffix}"
            write_track(path, args.minutes, args.rate, generator)
            starts = generator.uniform(0, args.minutes * 60 - args.window_seconds, args.windows + 1)
            seek, whole, difference = time_format(path, args, starts)
            print(f"{suffix:8}{seek:8.1f}{whole:8.1f}{whole / seek:8.1f}{difference:18.1e}{1000 / seek:12.0f}")
        path = Path(folder) / "track.npy"
        np.save(path, generator.standard_normal(round(args.minutes * 60 * args.sampling_rate)).astype(np.float32))
        seek = time_npy(path, args)
        print(f"{'npy':8}{seek:8.1f}{1000 / seek:46.0f}")


if __name__ == "__main__":
    main()
