# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Song Describer: tracks of up to 2 min with captions; all of them, or the validated ones."""

from functools import partial
from pathlib import Path

from datasets import Audio, Dataset, load_dataset

from muscall.evaluation.presets.base import Preset, build_splits, check_columns, find_file, is_hub_copy, read_csv


COLUMNS = ("path", "caption", "is_valid_subset")


def _read_song_describer(dataset: str, valid: bool) -> dict[str, Dataset]:
    return _read_hub_copy(dataset, valid) if is_hub_copy(dataset) else _read_folder(dataset, valid)


def _read_folder(dataset: str, valid: bool) -> dict[str, Dataset]:
    annotations = find_file(dataset, "song_describer.csv")
    audio = annotations.parent / "audio"
    rows = [
        {"audio": str(audio / Path(row["path"]).with_suffix(".2min.mp3")), "captions": row["caption"]}
        for row in read_csv(annotations, COLUMNS)
        if not valid or row["is_valid_subset"] == "True"  # otherwise "False", or empty where nobody judged
    ]
    return build_splits({"test": rows}, annotations)


def _read_hub_copy(dataset: str, valid: bool) -> dict[str, Dataset]:
    rows = load_dataset(dataset, split="train")
    check_columns(rows.column_names, COLUMNS, dataset)
    if not isinstance(rows.features["path"], Audio):
        raise ValueError(f"{dataset}: `path` must hold the audio, got {rows.features['path']}")
    flags = [flag is True for flag in rows["is_valid_subset"]]
    if not valid and all(flags):
        raise ValueError(
            f"{dataset} holds the validated subset alone: use song_describer_valid, or the files of Zenodo"
        )
    rows = rows.select_columns(["path", "caption"]).rename_columns({"path": "audio", "caption": "captions"})
    rows = rows.cast_column("audio", Audio(decode=False))
    return {"test": rows.select([place for place, flag in enumerate(flags) if flag or not valid])}


def _song_describer(valid: bool, dataset: str | None, more: str) -> Preset:
    return Preset(
        task="retrieval",
        get="A folder with song_describer.csv and audio/00/ and so on, the unpacked audio.zip, from "
        f"https://doi.org/10.5281/zenodo.10072001{more}.",
        read=partial(_read_song_describer, valid=valid),
        dataset=dataset,
    )


PRESETS = {
    "song_describer": _song_describer(False, None, ""),
    "song_describer_valid": _song_describer(
        True, "renumics/song-describer-dataset", "; or the Hub copy renumics/song-describer-dataset"
    ),
}
