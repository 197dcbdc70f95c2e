# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Captions of a clip from facts alone: every word in them is true of the notes that sound."""

import random
import re

from scripts.mma.instruments import SYNONYMS, WORDING
from scripts.wording import fix_articles, join_words


SLOT = re.compile(r"{(\w+)}")
TEMPO_WORDS = re.compile("|".join(word for words in WORDING["tempo"].values() for word in words), re.I)


def name_with_article(name: str) -> str:
    """Return an instrument with its article, which a plural goes without."""
    return name if name.endswith("s") and not name.endswith("bass") else f"a {name}"


def fill_slots(rng: random.Random, style: dict, facts: dict) -> dict[str, str]:
    """Return every slot of the templates that is true of this clip, in one random wording."""
    slow, fast = WORDING["slow_below_fast_from"][facts["metre"]]
    pace = "slow" if facts["bpm"] < slow else "mid" if facts["bpm"] < fast else "fast"
    said = {}
    for name in facts["instruments"]:
        free = [word for word in SYNONYMS.get(name, [name]) if word not in said.values()] or [name]
        said[name] = rng.choice([free[0], *free])
    never = WORDING["never_minor"].split() if facts["mode"] == "minor" else []
    moods = [mood for mood in style["characters"] if mood not in never]
    first, second = rng.sample(sorted({*moods, *WORDING["moods"][f"{facts['mode']} {pace}"].split()}), 2)
    genre, noun = rng.choice(style["genres"]), rng.choice(WORDING["nouns"])
    broad = rng.choice([name for name in style["broad"] if name.lower() not in genre.lower()] or [""])
    countable = WORDING["countable"].split()
    tune, broad_tune = (
        f"{name} {noun}" if name and name.split()[-1] not in countable else name for name in (genre, broad)
    )
    drums = rng.choice(["drums", "drum kit", "a drum beat"]) if facts["drums"] else None
    chordal = [name for name in facts["pitched"] if not re.search(r"\bbass\b|tuba", name)]
    front = [said[name] for name in chordal[:4]]
    rng.shuffle(front)
    backing = [said[name] for name in facts["pitched"] if name != facts["melody"]][:3]
    rhythm = [said[name] for name in facts["percussion"]][:1] + (["drums"] if drums else [])
    everyone = [said[name] for name in facts["pitched"]][: rng.randint(2, 4)]
    tonic, lead = facts["key"].split()[0], said.get(facts["melody"])
    uses = [use for family in [style["broad"][0], *style["genres"]] for use in WORDING["uses"].get(family, [])]
    alone = len(facts["pitched"]) == 1 and not facts["percussive"]
    slots = {
        **{"mood": first, "mood2": second, "genre": genre, "broad": WORDING["broad_nouns"].get(broad, broad)},
        **{"tune": tune, "broad_tune": broad_tune.replace("retro", "old-fashioned"), "noun": noun},
        **{"tempo": rng.choice(WORDING["tempo"][pace]), "tempo_word": WORDING["tempo_word"][pace]},
        **{"bpm": str(facts["bpm"]), "pace": rng.choice([*WORDING["pace"][pace], f"at about {facts['bpm']} bpm"])},
        **{"pace_bpm": f"at {facts['bpm']} bpm", "metre": rng.choice(WORDING["metre"][facts["metre"]])},
        **{"metre_tag": facts["metre"], "mode_tag": f"{facts['mode']} key", "use": rng.choice(uses) if uses else None},
        "key": rng.choice([f"in {tonic} {facts['mode']}", f"in a {facts['mode']} key"]),
        "feel": "swinging" if facts["feel"] == "swing" else None,
        "inst": front[0] if front else None,
        "a_inst": name_with_article(front[0]) if front else None,
        "inst2": front[1] if len(front) > 1 else None,
        "lead": lead if lead in front else None,
        "a_lead": name_with_article(lead) if lead in front else None,
        "acc": join_words(backing + rhythm[-1:]) if len(backing + rhythm) > 1 else None,
        "list": join_words(everyone + rhythm) if len(everyone + rhythm) > 1 else None,
        "list_tag": ", ".join(everyone),
        "perc": rng.choice([said[name] for name in facts["percussion"]]) if facts["percussion"] else None,
        "bass": said.get(facts["bass"]),
        "drums": drums,
        "arr": None if facts["percussive"] else rng.choice(["without drums", "with no drums", "without percussion"]),
    }
    if alone:
        slots["arr"] = rng.choice(["played alone", "on a single instrument", "unaccompanied"])
    slots = {name: value for name, value in slots.items() if value}
    return slots | {name.capitalize(): value[0].upper() + value[1:] for name, value in slots.items()}


def make_captions(rng: random.Random, style: dict, facts: dict, used: set[str]) -> list[str]:
    """
    Return 2 to 5 captions of different kinds: at least one names the genre and one an instrument.

    Args:
        used (`set[str]`): Captions of earlier clips in small letters, none of which comes again; the new are added.

    Raises:
        `RuntimeError`: if 500 attempts give none.
    """
    count = rng.choices((2, 3, 4, 5), (2, 4, 4, 2))[0]
    for _ in range(500):
        captions, kinds = [], dict(WORDING["kinds"])
        while kinds and len(captions) < count:
            kind = rng.choices(list(kinds), list(kinds.values()))[0]
            del kinds[kind]
            slots = fill_slots(rng, style, facts)
            fitting = [text for text in WORDING["templates"][kind] if set(SLOT.findall(text)) <= set(slots)]
            if fitting:
                text = fix_articles(rng.choice(fitting).format(**slots))
                text = text[0].upper() + text[1:] if rng.random() < 0.5 or text.endswith(".") else text
                words = [word.strip(",.:;").lower() for word in text.split()]
                repeats = any(a == b for a, b in zip(words, words[1:], strict=False))
                if not repeats and len(TEMPO_WORDS.findall(text)) < 2:
                    captions.append(text)
        said, lower = " ".join(captions).lower(), {caption.lower() for caption in captions}
        named = any(name in said for instrument in facts["pitched"] for name in SYNONYMS[instrument])
        genre = any(genre.lower() in said for genre in style["genres"])
        if len(lower) == count and named and genre and not used & lower:
            used |= lower
            return captions
    raise RuntimeError(f"no captions for {facts}")
