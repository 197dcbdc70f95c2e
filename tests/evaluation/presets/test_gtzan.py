# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""GTZAN on a tiny copy of its folder and of its copy on the Hub."""

from pathlib import Path

import pytest
from datasets import Audio, ClassLabel, Value
from preset_helpers import content, read, write_audio, write_parquet
from torchaudio.datasets.gtzan import filtered_test, filtered_train, filtered_valid, gtzan_genres

from muscall.evaluation.presets import PRESETS


@pytest.fixture(scope="module", params=["genres", "genres_original"])
def gtzan(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gtzan")
    names = [f"{request.param}/{genre}/{genre}.{number:05d}.wav" for genre in gtzan_genres for number in range(100)]
    write_audio(folder, *names)
    (folder / request.param / "jazz/jazz.00054.wav").write_bytes(b"not a WAV file")  # as it is distributed
    return folder


def test_gtzan_is_all_but_the_broken_file(gtzan):
    splits = read("gtzan", gtzan)
    assert list(splits) == ["test"] and len(splits["test"]) == 999
    labels = [label for (label,) in splits["test"]["labels"]]
    assert {genre: labels.count(genre) for genre in gtzan_genres} == {**dict.fromkeys(gtzan_genres, 100), "jazz": 99}
    assert all(Path(path).name.startswith(label) for path, label in zip(splits["test"]["audio"], labels, strict=True))


def test_gtzan_filtered_has_the_published_splits(gtzan):
    splits = read("gtzan_filtered", gtzan)
    assert {split: len(rows) for split, rows in splits.items()} == {"train": 442, "validation": 197, "test": 290}
    assert [Path(path).stem for path in splits["test"]["audio"]] == filtered_test


def test_gtzan_counts_absent_files_and_names_some(gtzan):
    path = next(gtzan.glob("*/blues/blues.00012.wav"))
    path.rename(path.with_suffix(".away"))
    try:
        with pytest.raises(ValueError, match=r"^1 of the 999 audio files .*blues\.00012\.wav$"):
            PRESETS["gtzan"].read(str(gtzan))
    finally:
        path.with_suffix(".away").rename(path)


@pytest.fixture(scope="module")
def gtzan_hub(tmp_path_factory):
    """With the columns of sanchit-gandhi/gtzan, which has the 999 excerpts in one split."""
    folder = tmp_path_factory.mktemp("gtzan-hub")
    names = [f"{genre}.{number:05d}" for genre in gtzan_genres for number in range(100)]
    names.remove("jazz.00054")
    rows = [
        {
            "file": f"/root/.cache/huggingface/genres/{name.split('.')[0]}/{name}.wav",
            "audio": {"path": f"{name}.wav", "bytes": content(".wav") + name.encode()},
            "genre": gtzan_genres.index(name.split(".")[0]),
        }
        for name in names
    ]
    features = {"file": Value("string"), "audio": Audio(sampling_rate=32000), "genre": ClassLabel(names=gtzan_genres)}
    write_parquet(folder, rows, features)
    return folder


def test_gtzan_of_the_hub(gtzan_hub):
    rows = PRESETS["gtzan"].read(str(gtzan_hub))["test"]
    assert len(rows) == 999 and not rows.features["audio"].decode
    splits = PRESETS["gtzan_filtered"].read(str(gtzan_hub))
    lists = {"train": [name for name in filtered_train if name != "jazz.00054"], "validation": filtered_valid}
    for split, names in {**lists, "test": filtered_test}.items():
        assert [row["audio"]["bytes"] for row in splits[split]] == [content(".wav") + name.encode() for name in names]
        assert splits[split]["labels"][:] == [[name.split(".")[0]] for name in names]


def test_gtzan_of_the_hub_with_other_names_is_refused(tmp_path):
    rows = [{"file": "0.wav", "audio": {"path": "0.wav", "bytes": content(".wav")}}]
    write_parquet(tmp_path, rows, {"file": Value("string"), "audio": Audio(decode=False)})
    with pytest.raises(ValueError, match=r"lacks 999 excerpts: blues\.00000, .* Its `file` has: 0$"):
        PRESETS["gtzan"].read(str(tmp_path))


def test_hub_copy_without_the_columns_is_refused(tmp_path):
    write_parquet(tmp_path, [{"caption": "a"}], {"caption": Value("string")})
    with pytest.raises(ValueError, match="has no column file, audio. Its columns: caption"):
        PRESETS["gtzan"].read(str(tmp_path))
