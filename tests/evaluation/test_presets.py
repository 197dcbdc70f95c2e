# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Each preset on a tiny copy of its dataset, with the files, columns and folders of the official distribution."""

import csv
import io
import logging
from pathlib import Path

import numpy as np
import pytest
import soundfile
from datasets import Audio, ClassLabel, Dataset, Features, Value
from torchaudio.datasets.gtzan import filtered_test, filtered_train, filtered_valid, gtzan_genres

from muscall.evaluation.presets import PRESETS, TAG_PROMPTS


FORMATS = {".wav": "WAV", ".mp3": "MP3", ".ogg": "OGG", ".flac": "FLAC"}
CONTENT = {}
MTT_BROKEN = "6/norine_braun-now_and_zen-08-gently-117-146.mp3"


def content(suffix):
    if suffix not in CONTENT:
        buffer = io.BytesIO()
        noise = np.random.default_rng(0).normal(size=800) / 10
        soundfile.write(buffer, noise, 8000, format=FORMATS[suffix])
        CONTENT[suffix] = buffer.getvalue()
    return CONTENT[suffix]


def write_audio(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(path.suffix))


def write_csv(path, rows, delimiter=",", quoting=csv.QUOTE_MINIMAL):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter, quoting=quoting).writerows(rows)


def read(preset, folder):
    splits = PRESETS[preset].read(str(folder))
    assert PRESETS[preset].split in splits
    for rows in splits.values():
        assert all(Path(path).is_absolute() and soundfile.info(path).frames for path in rows["audio"][:5])
    return splits


def by_name(rows, column, folder):
    return {str(Path(row["audio"]).relative_to(folder)): row[column] for row in rows}


@pytest.mark.parametrize("name", PRESETS)
def test_preset_is_complete(name):
    preset = PRESETS[name]
    assert "{}" not in preset.get and ("http" in preset.get or "Hub" in preset.get)
    if preset.task == "retrieval":
        assert not preset.labels and not preset.prompts
        return
    assert preset.task == "zeroshot"
    words = [phrase.lower() for phrase in preset.labels.values()]
    assert len(set(words)) == len(words) and not any("_" in phrase or "-" * 3 in phrase for phrase in words)
    assert {"{}", "A {} track"} < set(preset.prompts)
    assert all(prompt.count("{}") == 1 for prompt in preset.prompts)


def test_labels_have_the_published_number_and_readable_words():
    counts = {name: len(preset.labels) for name, preset in PRESETS.items() if preset.labels}
    assert counts == {
        "gtzan": 10,
        "gtzan_filtered": 10,
        "fma_small": 8,
        "magnatagatune": 50,
        "magnatagatune_merged": 37,
        "mtg_jamendo": 50,
        "mtg_jamendo_genre": 87,
        "mtg_jamendo_instrument": 40,
        "mtg_jamendo_moodtheme": 56,
        "openmic": 20,
    }
    assert PRESETS["gtzan"].labels["hiphop"] == PRESETS["fma_small"].labels["Hip-Hop"] == "hip hop"
    assert PRESETS["openmic"].labels["mallet_percussion"] == "mallet percussion"
    assert PRESETS["magnatagatune"].labels["no vocals"] == "no vocals"
    assert PRESETS["mtg_jamendo"].labels["instrument---drummachine"] == "drum machine"
    assert PRESETS["mtg_jamendo_genre"].labels["genre---drumnbass"] == "drum and bass"
    # The three sets of tags have what the 50 most frequent have, in the same words.
    parts = {}
    for part in ("genre", "instrument", "moodtheme"):
        parts |= PRESETS[f"mtg_jamendo_{part}"].labels
    assert PRESETS["mtg_jamendo"].labels.items() <= parts.items()
    assert PRESETS["mtg_jamendo"].prompts == TAG_PROMPTS


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


def write_parquet(folder, rows, features):
    (folder / "data").mkdir(parents=True)
    rows = Dataset.from_list(rows).cast(Features(features))  # `from_list` itself would encode, which needs torchcodec
    rows.to_parquet(folder / "data" / "train-00000-of-00001.parquet")


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


def write_magnatagatune(folder, clips):
    """Tab-separated and quoted, with further tags, as annotations_final.csv is."""
    tags = ["no voice", "singer", *PRESETS["magnatagatune"].labels]
    tags = list(dict.fromkeys(tags))
    rows = [["clip_id", *tags, "mp3_path"]]
    for number, (path, given) in enumerate(clips.items()):
        rows.append([number, *(int(tag in given) for tag in tags), path])
    write_csv(folder / "annotations_final.csv", rows, "\t", csv.QUOTE_ALL)
    write_audio(folder, *clips)
    (folder / MTT_BROKEN).write_bytes(b"") if MTT_BROKEN in clips else None


MTT_CLIPS = {
    "0/a-1-30.mp3": ["guitar", "singer"],
    "b/b-1-30.mp3": ["no voice"],
    "c/c-1-30.mp3": ["woman", "female vocal", "rock"],
    "d/d-1-30.mp3": ["beats", "classic", "choral"],
    "f/e-1-30.mp3": ["man", "voice", "vocals"],
    "f/f-1-30.mp3": ["singer"],  # none of the 50
    MTT_BROKEN: ["guitar"],
}


def test_magnatagatune_splits_by_folder_and_leaves_out_clips_without_a_tag(tmp_path):
    write_magnatagatune(tmp_path, MTT_CLIPS)
    splits = read("magnatagatune", tmp_path)
    assert list(splits) == ["train", "validation", "test"]
    assert by_name(splits["train"], "labels", tmp_path) == {"0/a-1-30.mp3": ["guitar"], "b/b-1-30.mp3": ["no voice"]}
    labels = by_name(splits["validation"], "labels", tmp_path)
    assert {name: set(row) for name, row in labels.items()} == {"c/c-1-30.mp3": {"woman", "female vocal", "rock"}}
    labels = {name: set(row) for name, row in by_name(splits["test"], "labels", tmp_path).items()}
    assert labels == {"d/d-1-30.mp3": {"beats", "classic", "choral"}, "f/e-1-30.mp3": {"man", "voice", "vocals"}}


def test_magnatagatune_merged_joins_synonyms(tmp_path):
    write_magnatagatune(tmp_path, MTT_CLIPS)
    splits = read("magnatagatune_merged", tmp_path)
    labels = {name: set(row) for rows in splits.values() for name, row in by_name(rows, "labels", tmp_path).items()}
    assert labels == {
        "0/a-1-30.mp3": {"guitar"},
        "b/b-1-30.mp3": {"no vocals"},
        "c/c-1-30.mp3": {"female", "rock"},
        "d/d-1-30.mp3": {"beat", "classical", "choir"},
        "f/e-1-30.mp3": {"male", "vocals"},
    }
    assert all(row <= PRESETS["magnatagatune_merged"].labels.keys() for row in labels.values())


def test_magnatagatune_names_what_is_missing(tmp_path):
    with pytest.raises(ValueError, match=r"has no annotations_final\.csv\. It has: nothing"):
        PRESETS["magnatagatune"].read(str(tmp_path))
    with pytest.raises(ValueError, match="is not a folder; expected one with annotations_final.csv in it"):
        PRESETS["magnatagatune"].read(str(tmp_path / "typo"))
    write_csv(tmp_path / "annotations_final.csv", [["clip_id", "guitar", "mp3_path"], [2, 1, "f/a.mp3"]], "\t")
    with pytest.raises(ValueError, match=r"has no column classical, .* \(49 in all\)\. Its columns: clip_id, guitar"):
        PRESETS["magnatagatune"].read(str(tmp_path))
    write_magnatagatune(tmp_path, MTT_CLIPS)
    for name in ("c/c-1-30.mp3", "d/d-1-30.mp3"):
        (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=r"^2 of the 5 audio files .*c/c-1-30\.mp3, .*d/d-1-30\.mp3$"):
        PRESETS["magnatagatune"].read(str(tmp_path))


def write_jamendo(folder, subset, split, *tracks):
    header = ["TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS"]
    rows = [
        [f"track_{path[3:-4]:>07}", "artist_000001", "album_000001", path, "200.1", *tags] for path, *tags in tracks
    ]
    write_csv(folder / f"autotagging_{subset}-{split}.tsv", [header, *rows], "\t")


@pytest.mark.parametrize("suffix", [".mp3", ".low.mp3"])
def test_mtg_jamendo_reads_both_qualities(tmp_path, suffix):
    write_jamendo(tmp_path, "top50tags", "train", ("14/214.mp3", "genre---rock"))
    write_jamendo(tmp_path, "top50tags", "validation", ("02/1002.mp3", "genre---newage"))
    tags = ["genre---pop", "instrument---voice", "mood/theme---happy"]
    write_jamendo(tmp_path, "top50tags", "test", ("00/1377200.mp3", *tags), ("01/1.mp3", "genre---hiphop"))
    write_audio(tmp_path, *(f"{name}{suffix}" for name in ("14/214", "02/1002", "00/1377200", "01/1")))
    splits = read("mtg_jamendo", tmp_path)
    assert by_name(splits["train"], "labels", tmp_path) == {f"14/214{suffix}": ["genre---rock"]}
    assert by_name(splits["validation"], "labels", tmp_path) == {f"02/1002{suffix}": ["genre---newage"]}
    labels = {f"00/1377200{suffix}": tags, f"01/1{suffix}": ["genre---hiphop"]}
    assert by_name(splits["test"], "labels", tmp_path) == labels


@pytest.mark.parametrize(
    ("subset", "tag"),
    [("genre", "genre---60s"), ("instrument", "instrument---pad"), ("moodtheme", "mood/theme---epic")],
)
def test_mtg_jamendo_subsets_need_the_test_split_alone(tmp_path, subset, tag):
    write_jamendo(tmp_path, subset, "test", ("00/100.mp3", tag))
    write_audio(tmp_path, "00/100.mp3")
    splits = read(f"mtg_jamendo_{subset}", tmp_path)
    assert list(splits) == ["test"] and splits["test"]["labels"][:] == [[tag]]
    assert tag in PRESETS[f"mtg_jamendo_{subset}"].labels


def test_mtg_jamendo_refuses_other_tags_columns_and_folders(tmp_path):
    with pytest.raises(ValueError, match=r"has no autotagging_genre-test\.tsv\. It has: nothing"):
        PRESETS["mtg_jamendo_genre"].read(str(tmp_path))
    write_jamendo(tmp_path, "genre", "test", ("00/100.mp3", "genre---rock", "genre---african"))
    with pytest.raises(ValueError, match="00/100.mp3 has tags that are not among the preset's: genre---african"):
        PRESETS["mtg_jamendo_genre"].read(str(tmp_path))
    write_jamendo(tmp_path, "genre", "test", ("00/100.mp3", "genre---rock"))
    with pytest.raises(ValueError, match=r"^1 of the 1 audio files .*00/100\.mp3$"):
        PRESETS["mtg_jamendo_genre"].read(str(tmp_path))
    write_csv(tmp_path / "autotagging_genre-test.tsv", [["TRACK_ID", "TAGS"]], "\t")
    with pytest.raises(ValueError, match="has no column ARTIST_ID, .*DURATION. Its columns: TRACK_ID, TAGS"):
        PRESETS["mtg_jamendo_genre"].read(str(tmp_path))


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


@pytest.fixture
def fma(tmp_path):
    """Two header rows and one with the name of the index, as fma_metadata/tracks.csv has."""
    rows = [
        ["", "album", "set", "set", "track", "track"],
        ["", "comments", "split", "subset", "genre_top", "title"],
        ["track_id", "", "", "", "", ""],
        [2, 0, "training", "small", "Hip-Hop", "Food"],
        [10, 0, "training", "large", "Pop", "not in the small subset"],
        [140, 0, "validation", "small", "Folk", "Queen Of The Wires"],
        [153956, 0, "test", "small", "International", "a comma, in a title"],
        [99134, 0, "test", "small", "Rock", "no audio"],
    ]
    write_csv(tmp_path / "fma_metadata/tracks.csv", rows)
    write_audio(tmp_path, *(f"fma_small/{name}.mp3" for name in ("000/000002", "000/000140", "153/153956")))
    (tmp_path / "fma_small/099").mkdir()
    (tmp_path / "fma_small/099/099134.mp3").write_bytes(b"no frames")
    return tmp_path


def test_fma_small_without_its_broken_files(fma):
    splits = read("fma_small", fma)
    assert {split: by_name(rows, "labels", fma) for split, rows in splits.items()} == {
        "train": {"fma_small/000/000002.mp3": ["Hip-Hop"]},
        "validation": {"fma_small/000/000140.mp3": ["Folk"]},
        "test": {"fma_small/153/153956.mp3": ["International"]},
    }


def test_fma_small_names_what_is_missing(fma):
    (fma / "fma_small/000/000140.mp3").unlink()
    with pytest.raises(ValueError, match=r"^1 of the 3 audio files .*000140\.mp3$"):
        PRESETS["fma_small"].read(str(fma))
    table = (fma / "fma_metadata/tracks.csv").read_text()
    (fma / "fma_metadata/tracks.csv").write_text(table.replace("genre_top", "genres"))
    with pytest.raises(ValueError, match=r"has no column \('track', 'genre_top'\)"):
        PRESETS["fma_small"].read(str(fma))
    (fma / "fma_small").rename(fma / "small")
    with pytest.raises(ValueError, match="has no fma_small. It has: fma_metadata, small"):
        PRESETS["fma_small"].read(str(fma))


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
    with pytest.raises(ValueError, match="has no column file, audio. Its columns: caption"):
        PRESETS["gtzan"].read(str(tmp_path))
