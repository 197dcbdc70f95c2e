# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Instruments of General MIDI: their names in captions, and what each is good for in an arrangement."""

import json
from pathlib import Path


WORDING = json.loads(Path(__file__).with_name("wording.json").read_text(encoding="utf-8"))
PROGRAMS = [names.split(",") for names in " | ".join(WORDING["programs"]).split(" | ")]
SYNONYMS = {names[0]: names for names in reversed(PROGRAMS)}
PERCUSSION = {int(key): name for key, name in WORDING["percussion"].items()}
KIT = {35, 36, 38, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 53, 57, 59}

# Melody instruments (General MIDI program:lowest note:dB in TimGM6mb against the median), and which are idiomatic
# for a broad family; every third melody takes any of them.
LEADS = """0:62:-4 4:60:3 9:72:-10 10:72:0 11:60:5 12:60:-4 13:67:-11 15:60:-4 16:60:1 19:60:-1 21:60:1 22:62:2 24:55:0
25:55:-3 26:55:1 27:55:-6 29:52:-2 30:52:2 40:62:3 42:43:5 46:60:4 52:58:0 56:58:-1 57:46:-2 59:60:-5
60:48:5 61:55:-5 64:60:-1 65:56:4 66:50:0 68:62:2 71:55:1 73:64:3 74:68:4 75:66:1 78:70:4 80:60:4 81:60:2
104:55:-3 105:58:-1 107:58:-2 108:62:-1 110:60:2 114:60:-2"""
LOWEST, LOUDNESS = {}, {}
for program, low, decibel in (lead.split(":") for lead in LEADS.split()):
    LOWEST[int(program)], LOUDNESS[int(program)] = int(low), int(decibel)
IDIOMATIC = {
    "jazz": (56, 59, 65, 66, 71, 11, 26, 0, 64, 57), "Latin": (73, 56, 24, 21, 65, 114, 40, 12, 57),
    "rock": (29, 30, 27, 16, 66, 0, 4), "ballad": (0, 40, 68, 73, 66, 24, 4, 42), "blues": (22, 29, 66, 27, 16),
    "country": (110, 22, 25, 105, 27, 0), "folk": (73, 110, 22, 25, 74, 78, 15), "waltz": (40, 21, 71, 73, 68),
    "classical": (73, 68, 40, 42, 60, 71, 46), "dance": (71, 56, 21, 65, 40), "electronic": (80, 81, 52, 4),
    "march": (56, 60, 61, 71, 73),
}  # fmt: skip
# Voices that may replace one another in an accompanying track, so that an instrument is not tied to a style.
REVOICE = [
    (0, 4, 5, 16, 26, 24, 25, 27, 11, 6, 7),
    (48, 49, 50, 52, 53, 16, 89, 61, 19, 21),
    (45, 46, 12, 11, 73, 71, 9),
]
REVOICE_BASS = (32, 33, 35, 38)
