# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""MusicCaps on a tiny copy of its folder."""

import logging

import pytest
from preset_helpers import by_name, read, write_audio, write_csv

from muscall.evaluation.presets import PRESETS


def write_musiccaps(folder):
    header = ["ytid", "start_s", "end_s", "audioset_positive_labels", "aspect_list", "caption", "author_id"]
    rows = [
        ["-0Gj8-vB1q4", 30, 40, "/m/0140xf", "['low quality']", "The low quality, soft song.\nWith a harp.", 4],
        ["-0SdAVK79lg", 30, 40, "/m/0155w", "['guitar song']", "This song features an electric guitar.", 0],
        ["-0vPFx-wRRI", 30, 40, "/m/025_jnm", "['amateur']", "A male voice sings.", 6],
        ["vanished_00", 30, 40, "/m/025_jnm", "['gone']", "Nobody has this.", 6],
    ]
    flags = [("False", "True"), ("False", "False"), ("True", "True"), ("False", "True")]
    rows = [[*row, *flag] for row, flag in zip(rows, flags, strict=True)]
    write_csv(folder / "musiccaps-public.csv", [[*header, "is_balanced_subset", "is_audioset_eval"], *rows])


def test_musiccaps_leaves_out_what_vanished_and_says_so(tmp_path, caplog):
    write_musiccaps(tmp_path)
    write_audio(tmp_path, "-0Gj8-vB1q4.wav", "audio/-0SdAVK79lg.flac", "audio/-0vPFx-wRRI.mp3")
    (tmp_path / "audio/vanished_00.part").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        splits = read("musiccaps", tmp_path)
    assert by_name(splits["test"], "captions", tmp_path) == {
        "-0Gj8-vB1q4.wav": "The low quality, soft song.\nWith a harp.",
        "audio/-0vPFx-wRRI.mp3": "A male voice sings.",
    }
    assert by_name(splits["train"], "captions", tmp_path) == {
        "audio/-0SdAVK79lg.flac": "This song features an electric guitar."
    }
    assert caplog.messages == ["MusicCaps [test]: 1 of 3 clips are left out: no audio"]


def test_musiccaps_without_any_audio_is_refused(tmp_path):
    write_musiccaps(tmp_path)
    with pytest.raises(ValueError, match="has no audio of the test split"):
        PRESETS["musiccaps"].read(str(tmp_path))
