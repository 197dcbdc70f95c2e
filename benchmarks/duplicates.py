# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
Precision and recall of `search.py duplicates` on recordings of the default corpus. Of each there are copies: MP3, Opus
and Vorbis at low bit rates, one trimmed at its start, one quieter, one limited as a louder master is, and one that is
trimmed, quieter and Vorbis at once. What must not be found are other pieces, other passages of the same piece, and
other takes of it: the same notes and instruments, 1 to 3 % slower, with times and velocities as hands play them.
The threshold is chosen on one half of the pieces and reported on the other.

    python -m benchmarks.duplicates --models . fast
"""

import argparse
import io
import tempfile
import time
import zipfile
import zlib
from pathlib import Path

import mido
import numpy as np
import soundfile
from accelerate import Accelerator

from corpus.build import CORPUS, RATE, find_soundfont, read_soundfont, render
from muscall.encoder import load_encoder
from muscall.search.duplicates import find_candidates, find_duplicates, read_embeds
from muscall.search.embedding import Embedder
from muscall.search.indexing import update_index
from muscall.search.recordings import Listener, read_recordings
from muscall.search.store import Store


PIECES = 24  # of each kind: of two passages, of one passage, rendered
TAKE_SECONDS, TAKE_VELOCITY = 0.015, 8  # standard deviations of how a take's notes differ


def write_mp3(path: Path, samples: np.ndarray):
    """Write MP3 at a constant 32 kbit/s."""
    soundfile.write(path.with_suffix(".mp3"), samples, RATE, compression_level=0.85, bitrate_mode="CONSTANT")


def write_opus(path: Path, samples: np.ndarray):
    """Write Opus at about 27 kbit/s."""
    soundfile.write(path.with_suffix(".opus"), samples, RATE, "OPUS", format="OGG", compression_level=0.9)


def write_ogg(path: Path, samples: np.ndarray):
    """Write Vorbis at about 27 kbit/s."""
    soundfile.write(path.with_suffix(".ogg"), samples, RATE, "VORBIS", compression_level=0.9)


def write_flac(path: Path, samples: np.ndarray):
    """Write FLAC."""
    soundfile.write(path.with_suffix(".flac"), samples, RATE)


# Name of a copy -> how its file is written from the samples of the recording.
COPIES = {
    "mp3": write_mp3,
    "opus": write_opus,
    "ogg": write_ogg,
    "trimmed": lambda path, samples: write_flac(path, samples[int(1.5 * RATE) :]),
    "quieter": lambda path, samples: write_flac(path, 0.3 * samples),
    "louder": lambda path, samples: write_flac(path, 0.9 * np.tanh(3 * samples)),
    "all": lambda path, samples: write_ogg(path, 0.5 * samples[2 * RATE :]),
}


def write_produced(folder: Path):
    """Write recordings of two passages with their copies, and of one passage with copies and the other passage."""
    passages = sorted((CORPUS / "produced").glob("*-a.opus"))
    passages = [path for path in passages if path.with_name(path.name.replace("-a", "-b")).exists()]
    chosen = [passages[place] for place in np.linspace(0, len(passages) - 1, 2 * PIECES).astype(int)]
    for number, path in enumerate(chosen):
        first, other = (soundfile.read(file)[0] for file in (path, path.with_name(path.name.replace("-a", "-b"))))
        piece = folder / path.name[:13]
        if number % 4 < 2:  # pairs of a kind, so that both halves have both kinds
            write_copies(piece, np.concatenate([first, other]))
        else:
            write_copies(piece, first)
            write_flac(Path(f"{piece} other passage"), other)


def write_rendered(folder: Path):
    """Write rendered pieces with their copies and another take."""
    soundfont = read_soundfont(find_soundfont())
    random = np.random.default_rng(0)
    with zipfile.ZipFile(CORPUS / "mma" / "midi.zip") as archive:
        names = sorted(archive.namelist())
        for place in np.linspace(0, len(names) - 1, PIECES).astype(int):
            midi = archive.read(names[place])
            piece = folder / Path(names[place]).stem
            write_copies(piece, render(midi, soundfont))
            write_flac(Path(f"{piece} other take"), render(another_take(midi, random), soundfont))


def another_take(midi: bytes, random: np.random.Generator) -> bytes:
    """Return a MIDI file of the same music, slower, with times and velocities that differ from note to note."""
    file = mido.MidiFile(file=io.BytesIO(midi))
    slower, ticks = random.uniform(1.01, 1.03), file.ticks_per_beat
    for track in file.tracks:
        place, messages = 0, []
        for message in track:
            place += message.time
            time = place
            if message.type == "set_tempo":
                message = message.copy(tempo=int(slower * message.tempo))
            elif message.type == "note_on" and message.velocity:
                velocity = int(np.clip(message.velocity + TAKE_VELOCITY * random.standard_normal(), 1, 127))
                message = message.copy(velocity=velocity)
                time = max(0, place + int(2 * TAKE_SECONDS * ticks * random.standard_normal()))  # at 120 bpm
            messages.append((time, message))
        messages.sort(key=lambda item: item[0])
        times = np.diff([0, *(time for time, _ in messages)])
        track[:] = [message.copy(time=int(time)) for time, (_, message) in zip(times, messages, strict=True)]
    output = io.BytesIO()
    file.save(file=output)
    return output.getvalue()


def write_copies(piece: Path, samples: np.ndarray):
    """Write a recording and its copies."""
    write_flac(piece, samples)
    for name, write in COPIES.items():
        write(Path(f"{piece} {name}"), samples)


def label(path: str) -> tuple[str, str]:
    """Return the piece of a file, and the name of the recording of it."""
    name = Path(path).stem
    piece, _, rest = name.partition(" ")
    return piece, f"{piece} {rest}" if rest.startswith("other") else piece


def score_pairs(store: Store) -> list[dict]:
    """Return all candidates of an index with what they have in common: pairs, and whether they are one recording."""
    digests, durations, embeds = read_embeds(store)
    recordings, listener, scored = read_recordings(store, digests), Listener(), []
    for first, second in find_candidates(durations, embeds):
        pair = recordings[digests[first]], recordings[digests[second]]
        (piece, recording), (_, other) = (label(one.describe()["track"]) for one in pair)
        scores = {"similarity": pair[0].similarity(pair[1]), "agreement": listener.agreement(*pair)}
        scored.append({"half": zlib.crc32(piece.encode()) % 2, "is_same": recording == other, **scores, "pair": pair})
    return scored


def precision_and_recall(pairs: list[dict], score: str, threshold: float, copies: int) -> tuple[float, float]:
    """Return both over pairs; the recall is of all `copies` that there are, candidates or not."""
    found = [pair["is_same"] for pair in pairs if pair[score] >= threshold]
    return sum(found) / max(len(found), 1), sum(found) / copies


def choose(pairs: list[dict], score: str, copies: int) -> float:
    """Return the middle of the thresholds with the best harmonic mean of precision and recall."""
    grid = np.linspace(0, 1, 201)
    means = []
    for threshold in grid:
        precision, recall = precision_and_recall(pairs, score, threshold, copies)
        means.append(2 * precision * recall / max(precision + recall, 1e-9))
    return float(np.median(grid[np.array(means) >= max(means) - 1e-9]))


def measure(model: str, folder: Path, store_uri: Path):
    """Index the files with a model, and print what is found."""
    report = update_index(store_uri, [folder], Embedder(load_encoder(model)), Accelerator())
    store = Store.open(store_uri)
    begin = time.perf_counter()
    duplicates = find_duplicates(store)
    print(f"\n{model}: {report.total} files, duplicates found in {time.perf_counter() - begin:.0f} s")
    names = {label(track) for track in store.tracks()}
    copies = len(COPIES) * (len(COPIES) + 1) // 2  # pairs of a recording that is there with its copies
    halves = [0, 0]
    for piece, recording in names:
        halves[zlib.crc32(piece.encode()) % 2] += copies * (piece == recording)
    pairs = score_pairs(store)
    chosen, reported = ([pair for pair in pairs if pair["half"] == half] for half in (0, 1))
    print(f"  pairs: {halves[0]} to choose by, {halves[1]} to report")
    for score in ("similarity", "agreement"):
        threshold = choose(chosen, score, halves[0])
        precision, recall = precision_and_recall(reported, score, threshold, halves[1])
        print(f"  by {score:10} >= {threshold:.3f}: precision {precision:.3f}, recall of pairs {recall:.3f}")
    for half, name in enumerate(("chosen by", "reported")):
        report_groups(duplicates.groups, half, halves[half] // copies, name)
    report_kinds(pairs)


def report_groups(groups: list[list[dict]], half: int, count: int, name: str):
    """Print precision and recall of copies as search.py gives them, in groups, at its own thresholds."""
    right = wrong = 0
    for group in groups:
        labels = [label(content["track"]) for content in group]
        if zlib.crc32(labels[0][0].encode()) % 2 == half:
            most = max(labels.count(one) for one in labels)
            right, wrong = right + most - 1, wrong + len(labels) - most
    total = count * len(COPIES)
    print(
        f"  groups, half {name}: precision {right / max(right + wrong, 1):.3f}, recall {right / total:.3f} of {total}"
    )


def report_kinds(pairs: list[dict]):
    """Print the lowest, median and highest of what pairs of each kind have in common."""
    kinds: dict[str, list] = {}
    for pair in pairs:
        names = [Path(one.describe()["track"]).stem for one in pair["pair"]]
        (piece, _), (other, _) = (label(name) for name in names)
        rests = sorted((name.partition(" ")[2] for name in names), key=lambda rest: (not rest.startswith("o"), rest))
        if piece != other:
            kind = "another piece"
        elif not pair["is_same"]:
            kind = next(rest for rest in rests if rest.startswith("other"))
        else:
            kind = "copies of both" if "" not in rests else max(rests)
        kinds.setdefault(kind, []).append((pair["similarity"], pair["agreement"]))
    for kind, scores in sorted(kinds.items()):
        ranges = [
            " to ".join(f"{value:.2f}" for value in np.quantile(values, (0, 0.5, 1)))
            for values in zip(*scores, strict=True)
        ]
        print(f"    {kind:16} {len(scores):5} pairs: similarity {ranges[0]}, agreement {ranges[1]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=[".", "fast"], help="checkpoints; default: the released ones")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        music = Path(folder, "music")
        music.mkdir()
        write_produced(music)
        write_rendered(music)
        for number, model in enumerate(arguments.models):
            measure(model, music, Path(folder, f"store{number}"))


if __name__ == "__main__":
    main()
