# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""MagnaTagATune: clips of 29 s with the 50 most frequent tags, as they are or with synonyms merged."""

from functools import partial

from datasets import Dataset

from muscall.evaluation.presets.base import TAG_PROMPTS, Preset, build_splits, find_file, read_csv


# The 50 most frequent of the 188 tags, most frequent first.
TAGS = (
    "guitar,classical,slow,techno,strings,drums,electronic,rock,fast,piano,ambient,beat,violin,vocal,synth,female,"
    "indian,opera,male,singing,vocals,no vocals,harpsichord,loud,quiet,flute,woman,male vocal,no vocal,pop,soft,sitar,"
    "solo,man,classic,choir,voice,new age,dance,male voice,female vocal,beats,harp,cello,no voice,weird,country,metal,"
    "female voice,choral"
)
GROUPS = {tag: (tag,) for tag in TAGS.split(",")}  # the tags that stand for each label
SYNONYMS = {  # for each label the tags that mean the same
    "beat": ("beat", "beats"),
    "choir": ("choir", "choral"),
    "classical": ("classical", "classic"),
    "female": ("female", "female vocal", "female voice", "woman"),
    "male": ("male", "male vocal", "male voice", "man"),
    "no vocals": ("no vocals", "no vocal", "no voice"),
    "vocals": ("vocals", "vocal", "voice"),
}
_MERGED_TAGS = {tag for tags in SYNONYMS.values() for tag in tags[1:]}
MERGED_GROUPS = {tag: SYNONYMS.get(tag, (tag,)) for tag in GROUPS if tag not in _MERGED_TAGS}
WORDS = {"indian": "Indian"}
MERGED_WORDS = {"female": "female vocals", "male": "male vocals", **WORDS}
SPLITS = dict.fromkeys("0123456789ab", "train") | {"c": "validation"} | dict.fromkeys("def", "test")
BROKEN = (  # files without content
    "6/norine_braun-now_and_zen-08-gently-117-146.mp3",
    "8/jacob_heringman-josquin_des_prez_lute_settings-19-gintzler__pater_noster-204-233.mp3",
    "9/american_baroque-dances_and_suites_of_rameau_and_couperin-25-le_petit_rien_xiveme_ordre_couperin-88-117.mp3",
)


def _read_magnatagatune(folder: str, groups: dict[str, tuple[str, ...]]) -> dict[str, Dataset]:
    annotations = find_file(folder, "annotations_final.csv")
    rows = {"train": [], "validation": [], "test": []}
    for clip in read_csv(annotations, (*GROUPS, "mp3_path"), "\t"):
        path = clip["mp3_path"]
        labels = [label for label, tags in groups.items() if any(clip[tag] == "1" for tag in tags)]
        if labels and path not in BROKEN:
            rows[SPLITS[path[0]]].append({"audio": str(annotations.parent / path), "labels": labels})
    return build_splits(rows, annotations)


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


PRESETS = {
    "magnatagatune": _magnatagatune(GROUPS, WORDS),
    "magnatagatune_merged": _magnatagatune(MERGED_GROUPS, MERGED_WORDS),
}
