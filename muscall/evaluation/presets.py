# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Public evaluation sets of music: where they come from, their splits, and the words that stand for their labels."""

import csv
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pandas as pd
from datasets import Audio, Dataset, Features, List, Value, load_dataset
from torchaudio.datasets.gtzan import filtered_test, filtered_train, filtered_valid, gtzan_genres
from transformers.utils import logging


logger = logging.get_logger(__name__)


@dataclass(frozen=True)
class Preset:
    """
    A public evaluation set. README.md in this folder has their sizes, licences and conventions.

    Args:
        task (`str`):
            `"retrieval"` or `"zeroshot"`.
        get (`str`):
            Where the data come from.
        read (`Callable[[str], dict[str, Dataset]]`):
            The dataset, a folder or a Hub id -> its splits, undecoded: `audio` (absolute paths, or `datasets` audio)
            and `captions` (a string a row; a track may have several rows), or `labels` and, where a set leaves labels
            open, `unknown` (lists of strings).
        dataset (`str`, *optional*):
            The Hub id that is read where no folder is given; without it a folder is needed.
        split (`str`, *optional*, defaults to `"test"`):
            The split that is reported.
        multi_label (`bool`, *optional*, defaults to `False`):
            Whether a track may have any number of labels.
        labels (`dict[str, str]`, *optional*):
            Label -> the words that stand for it in a prompt.
        prompts (`tuple[str, ...]`, *optional*):
            Templates with one `{}`. The bare label and "A {} track" are those of the MusCALL paper.
    """

    task: str
    get: str
    read: Callable[[str], dict[str, Dataset]]
    dataset: str | None = None
    split: str = "test"
    multi_label: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    prompts: tuple[str, ...] = ()


GENRE_PROMPTS = ("{}", "A {} track", "{} music", "This is a {} song.")
INSTRUMENT_PROMPTS = ("{}", "A {} track", "music with {}", "the sound of {}", "a recording of {}")
TAG_PROMPTS = ("{}", "A {} track", "{} music", "music described as {}")

FEATURES = {
    "audio": Value("string"),
    "captions": Value("string"),
    "labels": List(Value("string")),
    "unknown": List(Value("string")),
}


def _some(items: Iterable, limit: int = 5) -> str:
    items = list(map(str, items))
    return ", ".join(items[:limit]) + (f", ... ({len(items)} in all)" if len(items) > limit else "")


def _find(folder: str, *names: str) -> Path:
    """The first of some files or folders, by absolute path."""
    root = Path(folder).absolute()
    if not root.is_dir():
        raise ValueError(f"{folder} is not a folder; expected one with {' or '.join(names)} in it")
    found = next((root / name for name in names if (root / name).exists()), None)
    if found is None:
        there = _some(sorted(path.name for path in root.iterdir())) or "nothing"
        raise ValueError(f"{folder} has no {' or '.join(names)}. It has: {there}")
    return found


def _check_columns(found: Iterable[str], wanted: Iterable[str], where: str):
    found = list(found)
    if missing := [column for column in wanted if column not in found]:
        raise ValueError(f"{where} has no column {_some(missing)}. Its columns: {_some(found, 20)}")


def _read_csv(file: Path, columns: Iterable[str], delimiter: str = ",") -> list[dict[str, str]]:
    with open(file, encoding="utf-8", newline="") as lines:
        reader = csv.DictReader(lines, delimiter=delimiter)
        _check_columns(reader.fieldnames or (), columns, str(file))
        return list(reader)


def _build(rows: dict[str, list[dict]], where: str | Path) -> dict[str, Dataset]:
    """Rows of each split -> its dataset. What the annotations name must be there: a part is no benchmark."""
    paths = sorted({row["audio"] for split in rows.values() for row in split})
    if missing := [path for path in paths if not os.path.isfile(path)]:
        raise ValueError(f"{len(missing)} of the {len(paths)} audio files of {where} are not there: {_some(missing)}")
    if not rows.get("test"):
        raise ValueError(f"{where} has no audio of the test split")
    return {
        split: Dataset.from_list(tracks, features=Features({column: FEATURES[column] for column in tracks[0]}))
        for split, tracks in rows.items()
        if tracks
    }


def _is_hub_copy(dataset: str) -> bool:
    """Whether `load_dataset` reads it: an id, or a folder of parquet files as the Hub has them."""
    return not Path(dataset).is_dir() or any(Path(dataset).rglob("*.parquet"))


GTZAN_BROKEN = ("jazz.00054",)  # no decodable WAV file
GTZAN_ALL = {"test": [f"{genre}.{number:05d}" for genre in gtzan_genres for number in range(100)]}
GTZAN_FILTERED = {"train": filtered_train, "validation": filtered_valid, "test": filtered_test}
GTZAN_LABELS = {genre: {"hiphop": "hip hop"}.get(genre, genre) for genre in gtzan_genres}


def _read_gtzan(dataset: str, splits: dict[str, list[str]]) -> dict[str, Dataset]:
    splits = {split: [name for name in names if name not in GTZAN_BROKEN] for split, names in splits.items()}
    if not _is_hub_copy(dataset):
        folder = _find(dataset, "genres", "genres_original")
        rows = {split: [] for split in splits}
        for split, names in splits.items():
            for name in names:
                genre = name.split(".")[0]
                rows[split].append({"audio": str(folder / genre / f"{name}.wav"), "labels": [genre]})
        return _build(rows, folder)
    rows = load_dataset(dataset, split="train")
    _check_columns(rows.column_names, ("file", "audio"), dataset)
    found = [Path(file).stem for file in rows["file"]]
    places = {name: place for place, name in enumerate(found)}
    if missing := [name for names in splits.values() for name in names if name not in places]:
        raise ValueError(f"{dataset} lacks {len(missing)} excerpts: {_some(missing)}. Its `file` has: {_some(found)}")
    rows = rows.select_columns(["audio"]).cast_column("audio", Audio(decode=False))
    # Before the selection: a column that is added after it copies the audio.
    rows = rows.add_column("labels", [[name.split(".")[0]] for name in found], feature=FEATURES["labels"])
    return {split: rows.select([places[name] for name in names]) for split, names in splits.items()}


# MagnaTagATune: the 50 most frequent of the 188 tags, most frequent first.
MTT_TAGS = (
    "guitar,classical,slow,techno,strings,drums,electronic,rock,fast,piano,ambient,beat,violin,vocal,synth,female,"
    "indian,opera,male,singing,vocals,no vocals,harpsichord,loud,quiet,flute,woman,male vocal,no vocal,pop,soft,sitar,"
    "solo,man,classic,choir,voice,new age,dance,male voice,female vocal,beats,harp,cello,no voice,weird,country,metal,"
    "female voice,choral"
)
MTT_GROUPS = {tag: (tag,) for tag in MTT_TAGS.split(",")}  # label -> the tags that say it
MTT_SYNONYMS = {  # the first of each is the label
    "beat": ("beat", "beats"),
    "choir": ("choir", "choral"),
    "classical": ("classical", "classic"),
    "female": ("female", "female vocal", "female voice", "woman"),
    "male": ("male", "male vocal", "male voice", "man"),
    "no vocals": ("no vocals", "no vocal", "no voice"),
    "vocals": ("vocals", "vocal", "voice"),
}
_MERGED = {tag for tags in MTT_SYNONYMS.values() for tag in tags[1:]}
MTT_MERGED_GROUPS = {tag: MTT_SYNONYMS.get(tag, (tag,)) for tag in MTT_GROUPS if tag not in _MERGED}
MTT_WORDS = {"indian": "Indian"}
MTT_MERGED_WORDS = {"female": "female vocals", "male": "male vocals", **MTT_WORDS}
MTT_SPLITS = dict.fromkeys("0123456789ab", "train") | {"c": "validation"} | dict.fromkeys("def", "test")
MTT_BROKEN = (  # empty files
    "6/norine_braun-now_and_zen-08-gently-117-146.mp3",
    "8/jacob_heringman-josquin_des_prez_lute_settings-19-gintzler__pater_noster-204-233.mp3",
    "9/american_baroque-dances_and_suites_of_rameau_and_couperin-25-le_petit_rien_xiveme_ordre_couperin-88-117.mp3",
)


def _read_magnatagatune(folder: str, groups: dict[str, tuple[str, ...]]) -> dict[str, Dataset]:
    annotations = _find(folder, "annotations_final.csv")
    rows = {"train": [], "validation": [], "test": []}
    for clip in _read_csv(annotations, (*MTT_GROUPS, "mp3_path"), "\t"):
        path = clip["mp3_path"]
        labels = [label for label, tags in groups.items() if any(clip[tag] == "1" for tag in tags)]
        if labels and path not in MTT_BROKEN:
            rows[MTT_SPLITS[path[0]]].append({"audio": str(annotations.parent / path), "labels": labels})
    return _build(rows, annotations)


# MTG-Jamendo: the tags of the splits, which are fewer than those of the whole dataset.
JAMENDO_GENRES = (
    "60s 70s 80s 90s acidjazz alternative alternativerock ambient atmospheric blues bluesrock bossanova breakbeat "
    "celtic chanson chillout choir classical classicrock club contemporary country dance darkambient darkwave "
    "deephouse disco downtempo drumnbass dub dubstep easylistening edm electronic electronica electropop ethno "
    "eurodance experimental folk funk fusion groove grunge hard hardrock hiphop house idm improvisation indie "
    "industrial instrumentalpop instrumentalrock jazz jazzfusion latin lounge medieval metal minimal newage newwave "
    "orchestral pop popfolk poprock postrock progressive psychedelic punkrock rap reggae rnb rock rocknroll "
    "singersongwriter soul soundtrack swing symphonic synthpop techno trance triphop world worldfusion"
)
JAMENDO_INSTRUMENTS = (
    "accordion acousticbassguitar acousticguitar bass beat bell bongo brass cello clarinet classicalguitar computer "
    "doublebass drummachine drums electricguitar electricpiano flute guitar harmonica harp horn keyboard oboe "
    "orchestra organ pad percussion piano pipeorgan rhodes sampler saxophone strings synthesizer trombone trumpet "
    "viola violin voice"
)
JAMENDO_MOODS = (
    "action adventure advertising background ballad calm children christmas commercial cool corporate dark deep "
    "documentary drama dramatic dream emotional energetic epic fast film fun funny game groovy happy heavy holiday "
    "hopeful inspiring love meditative melancholic melodic motivational movie nature party positive powerful relaxing "
    "retro romantic sad sexy slow soft soundscape space sport summer trailer travel upbeat uplifting"
)
JAMENDO_TOP50 = {
    "genre": "alternative ambient atmospheric chillout classical dance downtempo easylistening electronic "
    "experimental folk funk hiphop house indie instrumentalpop jazz lounge metal newage orchestral pop popfolk "
    "poprock reggae rock soundtrack techno trance triphop world",
    "instrument": "acousticguitar bass computer drummachine drums electricguitar electricpiano guitar keyboard piano "
    "strings synthesizer violin voice",
    "mood/theme": "emotional energetic film happy relaxing",
}
JAMENDO_SPACED = (  # tags are written without the spaces
    "acid jazz,alternative rock,blues rock,bossa nova,classic rock,dark ambient,deep house,easy listening,hard rock,"
    "hip hop,instrumental pop,instrumental rock,jazz fusion,new age,new wave,pop folk,pop rock,punk rock,trip hop,"
    "world fusion,acoustic bass guitar,acoustic guitar,classical guitar,double bass,drum machine,electric guitar,"
    "electric piano,pipe organ"
)
JAMENDO_OTHER_WORDS = {
    "drumnbass": "drum and bass",
    "edm": "EDM",
    "idm": "IDM",
    "postrock": "post-rock",
    "rnb": "R&B",
    "rocknroll": "rock and roll",
    "singersongwriter": "singer-songwriter",
    "pad": "synthesizer pad",
    "rhodes": "Rhodes piano",
    "children": "children's",
    "christmas": "Christmas",
}
JAMENDO_COLUMNS = ("TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS")


def _read_jamendo(folder: str, subset: str, labels: dict[str, str]) -> dict[str, Dataset]:
    """Of the splits whose file is there: all the audio is 508 GB, and the test split can do without the others."""
    test = _find(folder, f"autotagging_{subset}-test.tsv")
    rows = {}
    for split in ("train", "validation", "test"):
        file = test.with_name(f"autotagging_{subset}-{split}.tsv")
        if not file.exists():
            continue
        rows[split] = []
        with open(file, encoding="utf-8", newline="") as lines:
            reader = csv.reader(lines, delimiter="\t")
            _check_columns(next(reader, ()), JAMENDO_COLUMNS, str(file))
            for _, _, _, name, _, *tags in reader:
                if unknown := [tag for tag in tags if tag not in labels]:
                    raise ValueError(f"{file}: {name} has tags that are not among the preset's: {_some(unknown)}")
                path = test.parent / name
                low = path.with_suffix(".low.mp3")  # of the archive with less quality
                rows[split].append({"audio": str(low if low.exists() else path), "labels": tags})
    return _build(rows, test)


OPENMIC_INSTRUMENTS = (
    "accordion banjo bass cello clarinet cymbals drums flute guitar mallet_percussion mandolin organ piano saxophone "
    "synthesizer trombone trumpet ukulele violin voice"
)
OPENMIC_LABELS = {name: name.replace("_", " ") for name in OPENMIC_INSTRUMENTS.split()}


def _read_openmic(folder: str) -> dict[str, Dataset]:
    annotations = _find(folder, "openmic-2018-aggregated-labels.csv")
    relevance = {}
    for row in _read_csv(annotations, ("sample_key", "instrument", "relevance")):
        relevance.setdefault(row["sample_key"], {})[row["instrument"]] = float(row["relevance"])
    if unknown := sorted({name for answers in relevance.values() for name in answers} - OPENMIC_LABELS.keys()):
        raise ValueError(f"{annotations} has instruments that are not among OpenMIC's 20: {_some(unknown)}")
    rows = {}
    for split in ("train", "test"):
        keys = _find(folder, f"partitions/split01_{split}.csv").read_text(encoding="utf-8").split()
        rows[split] = [
            {
                "audio": str(annotations.parent / "audio" / key[:3] / f"{key}.ogg"),
                "labels": [name for name, value in relevance.get(key, {}).items() if value >= 0.5],
                "unknown": [name for name in OPENMIC_LABELS if name not in relevance.get(key, {})],
            }
            for key in keys
        ]
    return _build(rows, annotations)


FMA_GENRES = ("Electronic", "Experimental", "Folk", "Hip-Hop", "Instrumental", "International", "Pop", "Rock")
FMA_LABELS = {genre: genre.lower().replace("-", " ") for genre in FMA_GENRES}
FMA_BROKEN = (98565, 98567, 98569, 99134, 108925, 133297)  # 1.6, 0.5 and 1.5 s long, and three without any audio
FMA_SPLITS = {"training": "train", "validation": "validation", "test": "test"}


def _read_fma_small(folder: str) -> dict[str, Dataset]:
    annotations, audio = _find(folder, "fma_metadata/tracks.csv"), _find(folder, "fma_small")
    tracks = pd.read_csv(annotations, index_col=0, header=[0, 1], low_memory=False)
    columns = [("set", "subset"), ("set", "split"), ("track", "genre_top")]
    _check_columns(tracks.columns, columns, str(annotations))
    small = tracks.loc[tracks["set", "subset"] == "small", columns].drop(index=list(FMA_BROKEN), errors="ignore")
    rows = {split: [] for split in FMA_SPLITS.values()}
    for number, _, split, genre in small.itertuples():
        path = audio / f"{number:06d}"[:3] / f"{number:06d}.mp3"
        rows[FMA_SPLITS[split]].append({"audio": str(path), "labels": [genre]})
    return _build(rows, annotations)


def _read_musiccaps(folder: str) -> dict[str, Dataset]:
    annotations = _find(folder, "musiccaps-public.csv")
    paths = [*annotations.parent.glob("*.*"), *annotations.parent.glob("audio/*.*")]
    files = {path.stem: str(path) for path in paths if path.suffix in (".wav", ".flac", ".ogg", ".mp3")}
    rows, missing = {"train": [], "test": []}, {"train": 0, "test": 0}
    for clip in _read_csv(annotations, ("ytid", "caption", "is_audioset_eval")):
        split = "test" if clip["is_audioset_eval"] == "True" else "train"
        if clip["ytid"] in files:
            rows[split].append({"audio": files[clip["ytid"]], "captions": clip["caption"]})
        else:
            missing[split] += 1
    # Videos vanish from YouTube, so that nobody has them all.
    for split, count in missing.items():
        if count:
            logger.warning(f"MusicCaps [{split}]: {count} of {count + len(rows[split])} clips are left out: no audio")
    return _build(rows, annotations)


def _read_song_describer(dataset: str, valid: bool) -> dict[str, Dataset]:
    columns = ("path", "caption", "is_valid_subset")
    if not _is_hub_copy(dataset):
        annotations = _find(dataset, "song_describer.csv")
        audio = annotations.parent / "audio"
        rows = [
            {"audio": str(audio / Path(row["path"]).with_suffix(".2min.mp3")), "captions": row["caption"]}
            for row in _read_csv(annotations, columns)
            if not valid or row["is_valid_subset"] == "True"  # else "False", or empty where nobody judged
        ]
        return _build({"test": rows}, annotations)
    rows = load_dataset(dataset, split="train")
    _check_columns(rows.column_names, columns, dataset)
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


def _gtzan(splits: dict[str, list[str]]) -> Preset:
    return Preset(
        task="zeroshot",
        get="The Hub copy sanchit-gandhi/gtzan; or a folder with genres/, which is data/genres.tar.gz of "
        "marsyas/gtzan on the Hub, or with genres_original/, from Kaggle's copy.",
        read=partial(_read_gtzan, splits=splits),
        dataset="sanchit-gandhi/gtzan",
        labels=GTZAN_LABELS,
        prompts=GENRE_PROMPTS,
    )


def _magnatagatune(groups: dict[str, tuple[str, ...]], words: dict[str, str]) -> Preset:
    return Preset(
        task="zeroshot",
        get="A folder with annotations_final.csv and the unpacked folders 0 to f of mp3.zip.001 to 003, from "
        "https://mirg.city.ac.uk/codeapps/the-magnatagatune-dataset (cat mp3.zip.* > mp3.zip).",
        read=partial(_read_magnatagatune, groups=groups),
        multi_label=True,
        labels={label: words.get(label, label) for label in groups},
        prompts=TAG_PROMPTS,
    )


def _jamendo(subset: str, tags: dict[str, str], prompts: tuple[str, ...]) -> Preset:
    words = {words.replace(" ", ""): words for words in JAMENDO_SPACED.split(",")} | JAMENDO_OTHER_WORDS
    labels = {f"{kind}---{tag}": words.get(tag, tag) for kind in tags for tag in tags[kind].split()}
    return Preset(
        task="zeroshot",
        get="A folder with the audio folders 00 to 99, which scripts/download/download.py of "
        "https://github.com/MTG/mtg-jamendo-dataset fetches (audio or audio-low), and beside them "
        f"autotagging_{subset}-test.tsv of its data/splits/split-0.",
        read=partial(_read_jamendo, subset=subset, labels=labels),
        multi_label=True,
        labels=labels,
        prompts=prompts,
    )


def _song_describer(valid: bool, dataset: str | None, more: str) -> Preset:
    return Preset(
        task="retrieval",
        get="A folder with song_describer.csv and audio/00/ and so on, the unpacked audio.zip, from "
        f"https://doi.org/10.5281/zenodo.10072001{more}.",
        read=partial(_read_song_describer, valid=valid),
        dataset=dataset,
    )


PRESETS: dict[str, Preset] = {
    "gtzan": _gtzan(GTZAN_ALL),
    "gtzan_filtered": _gtzan(GTZAN_FILTERED),
    "fma_small": Preset(
        task="zeroshot",
        get="A folder with fma_metadata/ and fma_small/, the unpacked fma_metadata.zip and fma_small.zip of "
        "https://github.com/mdeff/fma.",
        read=_read_fma_small,
        labels=FMA_LABELS,
        prompts=GENRE_PROMPTS,
    ),
    "magnatagatune": _magnatagatune(MTT_GROUPS, MTT_WORDS),
    "magnatagatune_merged": _magnatagatune(MTT_MERGED_GROUPS, MTT_MERGED_WORDS),
    "mtg_jamendo": _jamendo("top50tags", JAMENDO_TOP50, TAG_PROMPTS),
    "mtg_jamendo_genre": _jamendo("genre", {"genre": JAMENDO_GENRES}, GENRE_PROMPTS),
    "mtg_jamendo_instrument": _jamendo("instrument", {"instrument": JAMENDO_INSTRUMENTS}, INSTRUMENT_PROMPTS),
    "mtg_jamendo_moodtheme": _jamendo("moodtheme", {"mood/theme": JAMENDO_MOODS}, TAG_PROMPTS),
    "openmic": Preset(
        task="zeroshot",
        get="The folder openmic-2018 of openmic-2018-v1.0.0.tgz, from https://zenodo.org/record/1432913.",
        read=_read_openmic,
        multi_label=True,
        labels=OPENMIC_LABELS,
        prompts=INSTRUMENT_PROMPTS,
    ),
    "musiccaps": Preset(
        task="retrieval",
        get="A folder with musiccaps-public.csv of the Hub's google/MusicCaps, and in it or in its audio/ the clips "
        "start_s to end_s of the YouTube videos as YTID.wav, .flac, .ogg or .mp3, which are not part of it.",
        read=_read_musiccaps,
    ),
    "song_describer": _song_describer(False, None, ""),
    "song_describer_valid": _song_describer(
        True, "renumics/song-describer-dataset", "; or the Hub copy renumics/song-describer-dataset"
    ),
}
