# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""OpenMIC-2018: clips of 10 s, in each of which 20 instruments are heard, not heard or unknown."""

from datasets import Dataset

from muscall.evaluation.presets.base import INSTRUMENT_PROMPTS, Preset, build_splits, find_file, read_csv, shorten


INSTRUMENTS = (
    "accordion banjo bass cello clarinet cymbals drums flute guitar mallet_percussion mandolin organ piano saxophone "
    "synthesizer trombone trumpet ukulele violin voice"
)
LABELS = {name: name.replace("_", " ") for name in INSTRUMENTS.split()}


def _read_openmic(folder: str) -> dict[str, Dataset]:
    annotations = find_file(folder, "openmic-2018-aggregated-labels.csv")
    relevance = {}
    for row in read_csv(annotations, ("sample_key", "instrument", "relevance")):
        relevance.setdefault(row["sample_key"], {})[row["instrument"]] = float(row["relevance"])
    if unknown := sorted({name for answers in relevance.values() for name in answers} - LABELS.keys()):
        raise ValueError(f"{annotations} has instruments that are not among OpenMIC's 20: {shorten(unknown)}")
    rows = {}
    for split in ("train", "test"):
        keys = find_file(folder, f"partitions/split01_{split}.csv").read_text(encoding="utf-8").split()
        rows[split] = [
            {
                "audio": str(annotations.parent / "audio" / key[:3] / f"{key}.ogg"),
                "labels": [name for name, value in relevance.get(key, {}).items() if value >= 0.5],
                "unknown": [name for name in LABELS if name not in relevance.get(key, {})],
            }
            for key in keys
        ]
    return build_splits(rows, annotations)


PRESETS = {
    "openmic": Preset(
        task="zeroshot",
        get="The folder openmic-2018 of openmic-2018-v1.0.0.tgz, from https://zenodo.org/record/1432913.",
        read=_read_openmic,
        multi_label=True,
        labels=LABELS,
        prompts=INSTRUMENT_PROMPTS,
    ),
}
