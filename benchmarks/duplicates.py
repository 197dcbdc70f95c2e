# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
Precision and recall of `search.py duplicates` on recordings of the default corpus: of 20 and 40 seconds, of two to
four minutes, and one of more than a quarter of an hour. Of each there are copies: MP3, Opus and Vorbis at low bit
rates, at a low sampling rate, without a start or an end, after silence, faded out, quieter, limited as a louder master
is, and trimmed, quieter and Vorbis at once. What must not be found are other pieces, other passages of the same piece,
other takes of it (the same notes and instruments, 1 to 3 % slower, with times and velocities as hands play them),
mixes without one instrument, that instrument alone, edits without a part of the middle, and the same songs in another
order. The threshold is chosen on one half of the pieces and reported on the other. Faster copies are shown and not
counted.

    python -m benchmarks.duplicates --models . fast
"""

import argparse
import io
import tempfile
import time
import zipfile
import zlib
from collections import Counter
from pathlib import Path

import mido
import numpy as np
import soundfile
from accelerate import Accelerator

from corpus.build import CORPUS, RATE, SAMPLES, find_soundfont, read_rows, read_soundfont, render
from muscall.encoder import load_encoder
from muscall.search.duplicates import find_candidates, find_duplicates, read_embeds
from muscall.search.embedding import Embedder
from muscall.search.indexing import update_index
from muscall.search.recordings import Listener, read_recordings
from muscall.search.store import Store


PIECES = 16  # of each kind: of two passages, of one passage, rendered
SONGS, LEAST_CLIPS, MOST_CLIPS = 8, 6, 12  # of full length: clips of 20 s of one style
TAKE_SECONDS, TAKE_VELOCITY = 0.015, 8  # standard deviations of how a take's notes differ
BLOCK = 65536  # samples written at a time: libsndfile's Vorbis encoder crashes on many


def write_mp3(path: Path, samples: np.ndarray):
    """Write MP3 at a constant 32 kbit/s."""
    soundfile.write(path.with_suffix(".mp3"), samples, RATE, compression_level=0.85, bitrate_mode="CONSTANT")


def write_opus(path: Path, samples: np.ndarray):
    """Write Opus at about 27 kbit/s."""
    soundfile.write(path.with_suffix(".opus"), samples, RATE, "OPUS", format="OGG", compression_level=0.9)


def write_ogg(path: Path, samples: np.ndarray):
    """Write Vorbis at about 27 kbit/s."""
    with soundfile.SoundFile(
        path.with_suffix(".ogg"), "w", RATE, 1, "VORBIS", format="OGG", compression_level=0.9
    ) as file:
        for start in range(0, len(samples), BLOCK):
            file.write(samples[start : start + BLOCK])


def write_low_rate(path: Path, samples: np.ndarray):
    """Write MP3 at 11 kHz and 16 kbit/s."""
    import soxr

    rate = 11025
    low = soxr.resample(samples, RATE, rate)
    soundfile.write(path.with_suffix(".mp3"), low, rate, compression_level=0.9, bitrate_mode="CONSTANT")


def write_flac(path: Path, samples: np.ndarray):
    """Write FLAC."""
    soundfile.write(path.with_suffix(".flac"), samples, RATE)


def fade(samples: np.ndarray) -> np.ndarray:
    """Return a recording that is faded out over its last 6 s."""
    gain = np.ones(len(samples))
    gain[-6 * RATE :] = np.linspace(1, 0, 6 * RATE) ** 2
    return gain * samples


def speed(samples: np.ndarray, factor: float) -> np.ndarray:
    """Return a recording that is so much faster and higher."""
    import soxr

    return soxr.resample(samples, RATE * factor, RATE)


# Name of a copy -> how its file is written from the samples of the recording.
COPIES = {
    "mp3": write_mp3,
    "opus": write_opus,
    "ogg": write_ogg,
    "low rate": write_low_rate,
    "trimmed": lambda path, samples: write_flac(path, samples[int(1.5 * RATE) :]),
    "without 5 s": lambda path, samples: write_ogg(path, samples[5 * RATE :]),
    "without end": lambda path, samples: write_mp3(path, samples[: -int(2.5 * RATE)]),
    "after silence": lambda path, samples: write_opus(path, np.pad(samples, (2 * RATE, 0))),
    "faded": lambda path, samples: write_flac(path, fade(samples)),
    "quieter": lambda path, samples: write_flac(path, 0.3 * samples),
    "louder": lambda path, samples: write_flac(path, 0.9 * np.tanh(3 * samples)),
    "all": lambda path, samples: write_ogg(path, 0.5 * samples[2 * RATE :]),
}
SPEEDS = {"a little faster": 1.001, "faster": 1.01}


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


def write_full_length(folder: Path):
    """Write songs of several clips of a style, what is like them and no copy, and two long mixes of all songs."""
    soundfont, random, songs = read_soundfont(find_soundfont()), np.random.default_rng(1), []
    styles: dict[str, list[str]] = {}
    for row in read_rows():
        if row["source"] == "mma":
            styles.setdefault(row["family"], []).append(f"{row['id']}.mid")
    styles = {family: sorted(names) for family, names in styles.items() if len(names) >= LEAST_CLIPS}
    with zipfile.ZipFile(CORPUS / "mma" / "midi.zip") as archive:
        for number, place in enumerate(np.linspace(0, len(styles) - 1, SONGS).astype(int)):
            names = styles[sorted(styles)[place]][: LEAST_CLIPS + number % (MOST_CLIPS - LEAST_CLIPS + 1)]
            clips = [archive.read(name) for name in names]
            # The lead is heard above the others, as a voice is.
            lead = find_lead(clips)
            clips = [balance(clip, lead, 1.4, 0.7) for clip in clips]
            piece, song = folder / f"song{number}", join(clips, soundfont)
            write_copies(piece, song)
            for name, factor in SPEEDS.items():
                write_flac(Path(f"{piece} {name}"), speed(song, factor))
            takes = [another_take(clip, random) for clip in clips]
            write_flac(Path(f"{piece} other take"), join(takes, soundfont))
            others = [balance(clip, lead, 0, 1) for clip in clips]
            write_flac(Path(f"{piece} other without lead"), join(others, soundfont))
            alone = [balance(clip, lead, 1, 0) for clip in clips]
            write_flac(Path(f"{piece} other lead alone"), join(alone, soundfont))
            middle = len(song) // 2
            for seconds in (3, 8):
                edit = np.concatenate([song[:middle], song[middle + seconds * RATE :]])
                write_flac(Path(f"{piece} other without {seconds} s of the middle"), edit)
            songs.append(song)
    write_copies(folder / "mix", np.concatenate(songs))
    swapped = [songs[1], songs[0], *songs[2:-2], songs[-1], songs[-2]]
    write_flac(folder / "mix other order", np.concatenate(swapped))


def join(clips: list[bytes], soundfont: bytes) -> np.ndarray:
    """Render clips one after the other; one without a sounding note is silence."""
    parts = []
    for clip in clips:
        notes = (message for track in mido.MidiFile(file=io.BytesIO(clip)).tracks for message in track)
        has_notes = any(message.type == "note_on" and message.velocity for message in notes)
        parts.append(render(clip, soundfont) if has_notes else np.zeros(SAMPLES, np.float32))
    return np.concatenate(parts)


def find_lead(clips: list[bytes]) -> int:
    """Return the channel with the most notes, but for drums."""
    counts = Counter()
    for clip in clips:
        for track in mido.MidiFile(file=io.BytesIO(clip)).tracks:
            counts.update(message.channel for message in track if message.type == "note_on" and message.velocity)
    counts.pop(9, None)
    return counts.most_common(1)[0][0]


def balance(midi: bytes, lead: int, lead_gain: float, others_gain: float) -> bytes:
    """Return a MIDI file with other velocities of one channel and of the others."""
    file = mido.MidiFile(file=io.BytesIO(midi))
    for track in file.tracks:
        for place, message in enumerate(track):
            if message.type == "note_on" and message.velocity:
                gain = lead_gain if message.channel == lead else others_gain
                track[place] = message.copy(velocity=min(127, int(gain * message.velocity)))
    output = io.BytesIO()
    file.save(file=output)
    return output.getvalue()


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
    return piece, name if rest.startswith("other") or rest in SPEEDS else piece


def is_counted(path: str) -> bool:
    """Return whether a file is a copy or none: one of `SPEEDS` is neither."""
    return Path(path).stem.partition(" ")[2] not in SPEEDS


def half_of(piece: str) -> int:
    """Return 0 for pieces that thresholds are chosen by, 1 for those that are reported."""
    return zlib.crc32(piece.encode()) % 2


def score_pairs(store: Store) -> list[dict]:
    """Return all candidates of an index with what they have in common: pairs, and whether they are one recording."""
    digests, durations, embeds = read_embeds(store)
    recordings, listener, scored = read_recordings(store, digests), Listener(), []
    for first, second in find_candidates(durations, embeds):
        pair = recordings[digests[first]], recordings[digests[second]]
        paths = [one.describe()["track"] for one in pair]
        (piece, recording), (_, other) = map(label, paths)
        scores = {"similarity": pair[0].similarity(pair[1]), "agreement": listener.agreement(*pair)}
        facts = {"half": half_of(piece), "is_same": recording == other, "is_counted": all(map(is_counted, paths))}
        scored.append(facts | scores | {"paths": paths})
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
    sizes = Counter(label(track) for track in store.tracks() if is_counted(track))
    copies, wanted = [0, 0], [0, 0]
    for (piece, _), size in sizes.items():
        copies[half_of(piece)] += size * (size - 1) // 2
        wanted[half_of(piece)] += size - 1
    pairs = score_pairs(store)
    chosen, reported = ([pair for pair in pairs if pair["half"] == half and pair["is_counted"]] for half in (0, 1))
    print(f"  pairs: {copies[0]} to choose by, {copies[1]} to report")
    for score in ("similarity", "agreement"):
        threshold = choose(chosen, score, copies[0])
        precision, recall = precision_and_recall(reported, score, threshold, copies[1])
        print(f"  by {score:10} >= {threshold:.3f}: precision {precision:.3f}, recall of pairs {recall:.3f}")
    for half, name in enumerate(("chosen by", "reported")):
        report_groups(duplicates.groups, half, wanted[half], name)
    report_kinds(pairs)


def report_groups(groups: list[list[dict]], half: int, wanted: int, name: str):
    """Print precision and recall of copies as search.py gives them, in groups, at its own thresholds."""
    right = wrong = 0
    for group in groups:
        labels = [label(content["track"]) for content in group if is_counted(content["track"])]
        if labels and half_of(labels[0][0]) == half:
            counts = Counter(labels)
            most = max(counts.values())
            right, wrong = right + most - 1, wrong + len(labels) - most
            if len(counts) > 1:
                print(f"    taken for one: {', '.join(sorted(recording for _, recording in counts))}")
    precision, recall = right / max(right + wrong, 1), right / wanted
    print(f"  groups, half {name}: precision {precision:.3f}, recall {recall:.3f} of {wanted}")


def report_kinds(pairs: list[dict]):
    """Print the lowest, median and highest of what pairs of each kind have in common."""
    kinds: dict[str, list] = {}
    for pair in pairs:
        names = [Path(path).stem for path in pair["paths"]]
        (piece, _), (other, _) = (label(name) for name in names)
        rests = sorted((name.partition(" ")[2] for name in names), key=lambda rest: (not rest.startswith("o"), rest))
        if piece != other:
            kind = "another piece"
        elif not pair["is_same"]:
            kind = next(rest for rest in rests if rest.startswith("other") or rest in SPEEDS)
        else:
            kind = "copies of both" if "" not in rests else max(rests)
        kinds.setdefault(kind, []).append((pair["similarity"], pair["agreement"]))
    for kind, scores in sorted(kinds.items()):
        ranges = [
            " to ".join(f"{value:.2f}" for value in np.quantile(values, (0, 0.5, 1)))
            for values in zip(*scores, strict=True)
        ]
        print(f"    {kind:30} {len(scores):5} pairs: similarity {ranges[0]}, agreement {ranges[1]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=[".", "fast"], help="checkpoints; default: the released ones")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        music = Path(folder, "music")
        music.mkdir()
        write_produced(music)
        write_rendered(music)
        write_full_length(music)
        for number, model in enumerate(arguments.models):
            measure(model, music, Path(folder, f"store{number}"))


if __name__ == "__main__":
    main()
