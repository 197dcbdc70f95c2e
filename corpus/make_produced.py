"""Makes the shipped slice of produced music: `produced/*.opus` and its rows in `captions.jsonl`.

A maintainer's tool; training only reads what it wrote. Needs `pip install soundfile soxr librosa`. Three stages:

    # 1. cut: PKG/<package>/ is what `apt-get download <package> && dpkg -x <package>_*.deb PKG/<package>` unpacked
    python corpus/make_produced.py --packages PKG
    # 2. tag: a module with `Musicnn(wheel_dir, name)(samples)` and the unpacked `musicnn` wheel, the pseudo-tag teacher
    python corpus/make_produced.py --teacher musicnn_torch.py WHEEL_DIR
    # 3. caption: always runs, from the clips, `produced/tracks.csv` and `produced/pseudo_tags.json`
    python corpus/make_produced.py
"""

import argparse
import csv
import hashlib
import importlib.util
import io
import json
import os
import zipfile
from pathlib import Path

import librosa
import numpy as np
import scipy.signal
import soundfile
import soxr


HERE = Path(__file__).resolve().parent
PRODUCED = HERE / "produced"
RATE = 16000  # hertz
CLIP = 323200  # samples: 20.2 s, so that a 20 s window always fits whatever the codec trims
LEVEL = -20.0  # dBFS, RMS of a clip
PEAK = 0.9  # full scale is 1; leaves room for the codec's overshoot
HIGH_PASS = scipy.signal.butter(2, 25, "highpass", fs=RATE, output="sos")  # two tracks drift below hearing
SOURCE = "produced"


def read_csv(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_atomically(path, text):
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def unit_hash(text):
    """A number in [0, 1) that depends on `text` alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


# Stage 1: cut


def read_mono(root, path):
    """Reads one audio file, also out of a zip (`archive.pk3!member`), as mono `RATE` float32 `(samples,)`."""
    archive, _, member = path.partition("!")
    file = root / archive
    if member:
        with zipfile.ZipFile(file) as bundle:
            file = io.BytesIO(bundle.read(member))
    samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
    return soxr.resample(samples.mean(1), rate, RATE, quality="VHQ")


def patches(clip):
    """Normalised log-mel patches of 5 s of a clip, one every 0.25 s: `(patches, features)`."""
    mel = librosa.feature.melspectrogram(y=clip, sr=RATE, n_fft=1024, hop_length=RATE // 20, n_mels=64)
    mel = librosa.power_to_db(mel, amin=1e-8)
    flat = np.stack([mel[:, i : i + 100] for i in range(0, mel.shape[1] - 99, 5)])
    flat = (flat - flat.mean(2, keepdims=True)).reshape(len(flat), -1)
    return flat / np.linalg.norm(flat, axis=1, keepdims=True)


def likeness(clip, other):
    """How much of `clip` comes back in `other` at any lag, 0 to 1: above 0.6 it is the same loop."""
    return float(np.median((patches(clip)[::10] @ patches(other).T).max(1)))


def choose_starts(track):
    """Where the clips of a track begin, in samples: about two, one per equal part of the track.

    The ends of the track (6%, 1 to 12 s: fades) are left out where it is long enough. Of every part the loudest window
    without silence is taken for the even clips, the one nearest to the track's median level for the odd ones, so that
    the clips of a track differ; where it repeats an earlier clip the next best one is tried, or none is taken.
    """
    step = RATE // 2
    power = np.square(track[: len(track) // step * step]).reshape(-1, step).mean(1)
    level = 10 * np.log10(power + 1e-10)  # dB, one value per half second
    seconds = len(track) / RATE
    margin = min(max(0.06 * seconds, 1.0), 12.0)
    count = 1 if seconds < 44 else 3 if seconds > 450 else 2
    if seconds - 2 * margin < count * 20.5:
        margin = max((seconds - count * 20.5) / 2, 0.0)
    window = -(-CLIP // step)  # half seconds
    edges = np.linspace(2 * margin, min(2 * (seconds - margin), len(level)), count + 1).astype(int)
    median = np.median(level)
    starts = []
    for part, (low, high) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
        merits = {}
        for start in range(low, max(high - window, low) + 1):
            piece = level[start : start + window]
            if start * step + CLIP <= len(track):
                mean = 10 * np.log10(np.mean(10 ** (piece / 10)))
                gap = np.maximum(mean - 25 - piece, 0).mean()  # dB that half seconds lie too deep
                slope = abs(piece[:8].mean() - piece[-8:].mean())  # dB, a fade or a break
                merits[start * step] = (mean if part % 2 == 0 else -abs(mean - median)) - 10 * gap - 0.4 * slope
        while merits:
            start = max(merits, key=merits.get)
            clip = track[start : start + CLIP]
            if all(likeness(clip, track[other : other + CLIP]) < 0.6 for other in starts):
                starts.append(start)
                break
            merits = {other: merit for other, merit in merits.items() if abs(other - start) >= 4 * RATE}
    return starts


def finish_clip(samples):
    """Removes the constant part, sets level and peak, and fades both cut edges over 5 ms."""
    samples = samples - samples.mean()
    gain = 10 ** (LEVEL / 20) / np.sqrt(np.square(samples).mean())
    samples = samples * min(gain, PEAK / np.abs(samples).max())
    fade = np.linspace(0, 1, RATE * 5 // 1000, dtype=np.float32)
    samples[: len(fade)] *= fade
    samples[-len(fade) :] *= fade[::-1]
    return samples


def cut(packages, tracks):
    rows = []
    for old in PRODUCED.glob("*.opus"):
        old.unlink()
    for track in tracks:
        root = packages / track["package"]
        samples = read_mono(root, track["path"])
        if track["stem"]:
            samples = samples + read_mono(root, track["stem"])
        samples = scipy.signal.sosfiltfilt(HIGH_PASS, samples).astype(np.float32)
        for letter, start in zip("abc", choose_starts(samples), strict=False):
            name = f"produced-{track['number']}-{letter}"
            path = PRODUCED / f"{name}.opus"
            temporary = path.with_suffix(".tmp")
            clip = finish_clip(samples[start : start + CLIP])
            soundfile.write(temporary, clip, RATE, format="OGG", subtype="OPUS")
            os.replace(temporary, path)
            rows.append(f"{name},{track['number']},{start / RATE:.1f}")
        print(f"cut {rows[-1].split(',')[0]} {track['title']}", flush=True)
    write_atomically(PRODUCED / "clips.csv", "id,track,start_s\n" + "\n".join(rows) + "\n")


# Stage 2: pseudo-tags


def tag(module_path, wheel):
    """Writes the mean score of every tag over a clip, for both of the teacher's vocabularies."""
    spec = importlib.util.spec_from_file_location("teacher", module_path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    models = {name: module.Musicnn(wheel, f"{name}_musicnn") for name in ("MSD", "MTT")}
    scores = {}
    for clip in read_csv(PRODUCED / "clips.csv"):
        samples, _ = soundfile.read(PRODUCED / f"{clip['id']}.opus", dtype="float32")
        scores[clip["id"]] = {
            name: [round(float(score), 3) for score in model(samples)[0].mean(0)] for name, model in models.items()
        }
        print("tagged", clip["id"], flush=True)
    note = (
        "Pseudo-labels, not human annotation: mean tag scores (0 to 1) over 3 s patches of each clip by the music taggers "
        "MSD_musicnn and MTT_musicnn of the PyPI wheel musicnn 0.1.0 (Jordi Pons, ISC licence; trained on the Million "
        "Song Dataset and MagnaTagATune), run on the shipped clips at 16 kHz."
    )
    lines = [f'"note": {json.dumps(note)}']
    lines.append('"tags": ' + json.dumps({name: model.labels for name, model in models.items()}))
    body = ",\n".join(f" {json.dumps(name)}: {json.dumps(row, separators=(',', ':'))}" for name, row in scores.items())
    lines.append('"clips": {\n' + body + "\n}")
    write_atomically(PRODUCED / "pseudo_tags.json", "{\n" + ",\n".join(lines) + "\n}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=Path, metavar="PKG", help="folder with one unpacked package per sub-folder")
    parser.add_argument("--teacher", nargs=2, metavar=("MODULE.py", "WHEEL_DIR"), help="recompute the pseudo-tags")
    arguments = parser.parse_args()
    tracks = read_csv(PRODUCED / "tracks.csv")
    if arguments.packages:
        cut(arguments.packages, tracks)
    if arguments.teacher:
        tag(*arguments.teacher)


if __name__ == "__main__":
    main()
