# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""OpenMIC on a tiny copy of its folder."""

import pytest
from preset_helpers import by_name, read, write_audio, write_csv

from muscall.evaluation.presets import PRESETS


@pytest.fixture
def openmic(tmp_path):
    rows = [
        ["sample_key", "instrument", "relevance", "num_responses"],
        ["000046_3840", "clarinet", "0.17105", "3"],
        ["000046_3840", "flute", "0.5", "3"],
        ["000135_483840", "mallet_percussion", "1.0", "3"],
        ["000178_3840", "violin", "0.49999", "5"],
        ["000178_3840", "voice", "0.9", "5"],
    ]
    write_csv(tmp_path / "openmic-2018-aggregated-labels.csv", rows)
    write_csv(tmp_path / "partitions/split01_train.csv", [["000046_3840"], ["000135_483840"]])
    write_csv(tmp_path / "partitions/split01_test.csv", [["000178_3840"], ["155311_80640"]])
    names = ("000/000046_3840", "000/000135_483840", "000/000178_3840", "155/155311_80640")
    write_audio(tmp_path, *(f"audio/{name}.ogg" for name in names))
    return tmp_path


def test_openmic_tells_absent_from_unknown(openmic):
    splits, every = read("openmic", openmic), set(PRESETS["openmic"].labels)
    labels, unknown = (by_name(splits["train"], column, openmic) for column in ("labels", "unknown"))
    assert labels == {
        "audio/000/000046_3840.ogg": ["flute"],
        "audio/000/000135_483840.ogg": ["mallet_percussion"],
    }
    assert set(unknown["audio/000/000046_3840.ogg"]) == every - {"clarinet", "flute"}
    assert set(unknown["audio/000/000135_483840.ogg"]) == every - {"mallet_percussion"}
    labels, unknown = (by_name(splits["test"], column, openmic) for column in ("labels", "unknown"))
    assert labels == {"audio/000/000178_3840.ogg": ["voice"], "audio/155/155311_80640.ogg": []}
    assert set(unknown["audio/000/000178_3840.ogg"]) == every - {"violin", "voice"}
    assert set(unknown["audio/155/155311_80640.ogg"]) == every


def test_openmic_names_what_is_missing(openmic):
    (openmic / "partitions/split01_test.csv").rename(openmic / "partitions/test01.txt")
    with pytest.raises(ValueError, match=r"has no partitions/split01_test\.csv"):
        PRESETS["openmic"].read(str(openmic))
    rows = [["sample_key", "instrument", "relevance"], ["000046_3840", "kazoo", "1.0"]]
    write_csv(openmic / "openmic-2018-aggregated-labels.csv", rows)
    with pytest.raises(ValueError, match="instruments that are not among OpenMIC's 20: kazoo"):
        PRESETS["openmic"].read(str(openmic))
