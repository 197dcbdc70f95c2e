# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""FMA: the small subset, 8,000 clips of 30 s of eight genres."""

import pandas as pd
from datasets import Dataset

from muscall.evaluation.presets.base import GENRE_PROMPTS, Preset, build_splits, check_columns, find_file


GENRES = ("Electronic", "Experimental", "Folk", "Hip-Hop", "Instrumental", "International", "Pop", "Rock")
LABELS = {genre: genre.lower().replace("-", " ") for genre in GENRES}
BROKEN = (98565, 98567, 98569, 99134, 108925, 133297)  # the first three last 1.6 s or less, the others hold no audio
SPLITS = {"training": "train", "validation": "validation", "test": "test"}


def _read_fma_small(folder: str) -> dict[str, Dataset]:
    annotations, audio = find_file(folder, "fma_metadata/tracks.csv"), find_file(folder, "fma_small")
    tracks = pd.read_csv(annotations, index_col=0, header=[0, 1], low_memory=False)
    columns = [("set", "subset"), ("set", "split"), ("track", "genre_top")]
    check_columns(tracks.columns, columns, str(annotations))
    small = tracks.loc[tracks["set", "subset"] == "small", columns].drop(index=list(BROKEN), errors="ignore")
    rows = {split: [] for split in SPLITS.values()}
    for number, _, split, genre in small.itertuples():
        path = audio / f"{number:06d}"[:3] / f"{number:06d}.mp3"
        rows[SPLITS[split]].append({"audio": str(path), "labels": [genre]})
    return build_splits(rows, annotations)


PRESETS = {
    "fma_small": Preset(
        task="zeroshot",
        get="A folder with fma_metadata/ and fma_small/, the unpacked fma_metadata.zip and fma_small.zip of "
        "https://github.com/mdeff/fma.",
        read=_read_fma_small,
        labels=LABELS,
        prompts=GENRE_PROMPTS,
    ),
}
