# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""MTG-Jamendo: whole tracks with tags of genre, instrument, and mood or theme."""

import csv
from functools import partial

from datasets import Dataset

from muscall.evaluation.presets.base import (
    GENRE_PROMPTS,
    INSTRUMENT_PROMPTS,
    TAG_PROMPTS,
    Preset,
    build_splits,
    check_columns,
    find_file,
    shorten,
)


# The tags of the splits, which are fewer than those of the whole dataset.
GENRES = (
    "60s 70s 80s 90s acidjazz alternative alternativerock ambient atmospheric blues bluesrock bossanova breakbeat "
    "celtic chanson chillout choir classical classicrock club contemporary country dance darkambient darkwave "
    "deephouse disco downtempo drumnbass dub dubstep easylistening edm electronic electronica electropop ethno "
    "eurodance experimental folk funk fusion groove grunge hard hardrock hiphop house idm improvisation indie "
    "industrial instrumentalpop instrumentalrock jazz jazzfusion latin lounge medieval metal minimal newage newwave "
    "orchestral pop popfolk poprock postrock progressive psychedelic punkrock rap reggae rnb rock rocknroll "
    "singersongwriter soul soundtrack swing symphonic synthpop techno trance triphop world worldfusion"
)
INSTRUMENTS = (
    "accordion acousticbassguitar acousticguitar bass beat bell bongo brass cello clarinet classicalguitar computer "
    "doublebass drummachine drums electricguitar electricpiano flute guitar harmonica harp horn keyboard oboe "
    "orchestra organ pad percussion piano pipeorgan rhodes sampler saxophone strings synthesizer trombone trumpet "
    "viola violin voice"
)
MOODS = (
    "action adventure advertising background ballad calm children christmas commercial cool corporate dark deep "
    "documentary drama dramatic dream emotional energetic epic fast film fun funny game groovy happy heavy holiday "
    "hopeful inspiring love meditative melancholic melodic motivational movie nature party positive powerful relaxing "
    "retro romantic sad sexy slow soft soundscape space sport summer trailer travel upbeat uplifting"
)
TOP50 = {
    "genre": "alternative ambient atmospheric chillout classical dance downtempo easylistening electronic "
    "experimental folk funk hiphop house indie instrumentalpop jazz lounge metal newage orchestral pop popfolk "
    "poprock reggae rock soundtrack techno trance triphop world",
    "instrument": "acousticguitar bass computer drummachine drums electricguitar electricpiano guitar keyboard piano "
    "strings synthesizer violin voice",
    "mood/theme": "emotional energetic film happy relaxing",
}
SPACED = (  # the words of these tags, which are written without spaces
    "acid jazz,alternative rock,blues rock,bossa nova,classic rock,dark ambient,deep house,easy listening,hard rock,"
    "hip hop,instrumental pop,instrumental rock,jazz fusion,new age,new wave,pop folk,pop rock,punk rock,trip hop,"
    "world fusion,acoustic bass guitar,acoustic guitar,classical guitar,double bass,drum machine,electric guitar,"
    "electric piano,pipe organ"
)
OTHER_WORDS = {
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
COLUMNS = ("TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS")


def _read_jamendo(folder: str, subset: str, labels: dict[str, str]) -> dict[str, Dataset]:
    """Read the splits whose file exists: the audio of all is 508 GB, and the test split needs none of the others."""
    test = find_file(folder, f"autotagging_{subset}-test.tsv")
    rows = {}
    for split in ("train", "validation", "test"):
        file = test.with_name(f"autotagging_{subset}-{split}.tsv")
        if not file.exists():
            continue
        rows[split] = []
        with open(file, encoding="utf-8", newline="") as lines:
            reader = csv.reader(lines, delimiter="\t")
            check_columns(next(reader, ()), COLUMNS, str(file))
            for _, _, _, name, _, *tags in reader:
                if unknown := [tag for tag in tags if tag not in labels]:
                    raise ValueError(f"{file}: {name} has tags that are not among the preset's: {shorten(unknown)}")
                path = test.parent / name
                low = path.with_suffix(".low.mp3")  # a file of the archive with the lower bit rate
                rows[split].append({"audio": str(low if low.exists() else path), "labels": tags})
    return build_splits(rows, test)


def _jamendo(subset: str, tags: dict[str, str], prompts: tuple[str, ...]) -> Preset:
    words = {words.replace(" ", ""): words for words in SPACED.split(",")} | OTHER_WORDS
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


PRESETS = {
    "mtg_jamendo": _jamendo("top50tags", TOP50, TAG_PROMPTS),
    "mtg_jamendo_genre": _jamendo("genre", {"genre": GENRES}, GENRE_PROMPTS),
    "mtg_jamendo_instrument": _jamendo("instrument", {"instrument": INSTRUMENTS}, INSTRUMENT_PROMPTS),
    "mtg_jamendo_moodtheme": _jamendo("moodtheme", {"mood/theme": MOODS}, TAG_PROMPTS),
}
