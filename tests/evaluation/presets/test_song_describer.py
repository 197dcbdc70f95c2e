# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Song Describer on a tiny copy of its folder and of its copy on the Hub."""

from pathlib import Path

import pytest
from datasets import Audio, Value
from preset_helpers import by_name, content, read, write_audio, write_csv, write_parquet

from muscall.evaluation.presets import PRESETS


SONGS = [  # is_valid_subset: whether somebody confirmed the caption, empty where nobody judged
    (1004034, "True", "calm piano", "34/1004034.mp3"),
    (1004034, "", "a slow piece", "34/1004034.mp3"),
    (1093792, "False", "a ballad, slowly", "92/1093792.mp3"),
    (226, "True", "fast folk", "26/226.mp3"),
]


def write_song_describer(folder):
    header = ["caption_id", "track_id", "caption", "is_valid_subset", "familiarity", "artist_id", "album_id", "path"]
    rows = [[n, track, caption, valid, 1, 2, 3, path, 60.0] for n, (track, valid, caption, path) in enumerate(SONGS)]
    write_csv(folder / "song_describer.csv", [[*header, "duration"], *rows])
    write_audio(folder, *(f"audio/{path[:-4]}.2min.mp3" for *_, path in SONGS))


def test_song_describer(tmp_path):
    write_song_describer(tmp_path)
    splits = read("song_describer", tmp_path)
    assert list(splits) == ["test"]
    assert splits["test"]["captions"][:] == ["calm piano", "a slow piece", "a ballad, slowly", "fast folk"]
    names = [str(Path(path).relative_to(tmp_path)) for path in splits["test"]["audio"]]
    assert names == [f"audio/{path[:-4]}.2min.mp3" for *_, path in SONGS]
    rows = read("song_describer_valid", tmp_path)["test"]
    assert by_name(rows, "captions", tmp_path) == {
        "audio/34/1004034.2min.mp3": "calm piano",
        "audio/26/226.2min.mp3": "fast folk",
    }


def test_song_describer_names_what_is_missing(tmp_path):
    write_song_describer(tmp_path)
    (tmp_path / "audio/26/226.2min.mp3").rename(tmp_path / "audio/26/226.mp3")
    with pytest.raises(ValueError, match=r"^1 of the 3 audio files .*226\.2min\.mp3$"):
        PRESETS["song_describer"].read(str(tmp_path))
    (tmp_path / "song_describer.csv").rename(tmp_path / "songs.csv")
    with pytest.raises(ValueError, match=r"has no song_describer\.csv\. It has: audio, songs\.csv"):
        PRESETS["song_describer"].read(str(tmp_path))


def write_song_describer_hub(folder, songs, path_feature):
    """With the columns of renumics/song-describer-dataset, which has the validated subset in a train split."""
    rows = [
        {
            "track_id": track,
            "caption": caption,
            "is_valid_subset": {"True": True, "False": False, "": None}[valid],
            "path": {"path": Path(path).name, "bytes": content(".mp3")} if isinstance(path_feature, Audio) else path,
        }
        for track, valid, caption, path in songs
    ]
    features = {"track_id": Value("int64"), "caption": Value("string"), "is_valid_subset": Value("bool")}
    write_parquet(folder, rows, {**features, "path": path_feature})


def test_song_describer_of_the_hub(tmp_path):
    write_song_describer_hub(tmp_path / "all", SONGS, Audio(decode=False))
    rows = PRESETS["song_describer_valid"].read(str(tmp_path / "all"))["test"]
    assert rows["captions"][:] == ["calm piano", "fast folk"] and rows.features["audio"] == Audio(decode=False)
    assert rows["audio"][1] == {"path": "226.mp3", "bytes": content(".mp3")}
    assert len(PRESETS["song_describer"].read(str(tmp_path / "all"))["test"]) == 4

    write_song_describer_hub(tmp_path / "valid", [song for song in SONGS if song[1] == "True"], Audio(decode=False))
    assert len(PRESETS["song_describer_valid"].read(str(tmp_path / "valid"))["test"]) == 2
    with pytest.raises(ValueError, match="holds the validated subset alone: use song_describer_valid"):
        PRESETS["song_describer"].read(str(tmp_path / "valid"))

    write_song_describer_hub(tmp_path / "names", SONGS, Value("string"))
    with pytest.raises(ValueError, match="`path` must hold the audio, got Value"):
        PRESETS["song_describer_valid"].read(str(tmp_path / "names"))


def test_hub_copy_without_the_columns_is_refused(tmp_path):
    write_parquet(tmp_path, [{"caption": "a"}], {"caption": Value("string")})
    with pytest.raises(ValueError, match="has no column path, is_valid_subset. Its columns: caption"):
        PRESETS["song_describer_valid"].read(str(tmp_path))
