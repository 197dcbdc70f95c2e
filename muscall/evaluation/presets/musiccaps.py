# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""MusicCaps: clips of 10 s of AudioSet with a caption each."""

from datasets import Dataset
from transformers.utils import logging

from muscall.evaluation.presets.base import Preset, build_splits, find_file, read_csv


logger = logging.get_logger(__name__)


def _read_musiccaps(folder: str) -> dict[str, Dataset]:
    annotations = find_file(folder, "musiccaps-public.csv")
    paths = [*annotations.parent.glob("*.*"), *annotations.parent.glob("audio/*.*")]
    files = {path.stem: str(path) for path in paths if path.suffix in (".wav", ".flac", ".ogg", ".mp3")}
    rows, missing = {"train": [], "test": []}, {"train": 0, "test": 0}
    for clip in read_csv(annotations, ("ytid", "caption", "is_audioset_eval")):
        split = "test" if clip["is_audioset_eval"] == "True" else "train"
        if clip["ytid"] in files:
            rows[split].append({"audio": files[clip["ytid"]], "captions": clip["caption"]})
        else:
            missing[split] += 1
    # Videos vanish from YouTube, so that nobody has them all.
    for split, count in missing.items():
        if count:
            logger.warning(f"MusicCaps [{split}]: {count} of {count + len(rows[split])} clips are left out: no audio")
    return build_splits(rows, annotations)


PRESETS = {
    "musiccaps": Preset(
        task="retrieval",
        get="A folder with musiccaps-public.csv of the Hub's google/MusicCaps, and in it or in its audio/ the clips "
        "start_s to end_s of the YouTube videos as YTID.wav, .flac, .ogg or .mp3, which are not part of it.",
        read=_read_musiccaps,
    ),
}
