# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
Public evaluation sets of music, one file each: where they come from, their splits, and the words for their labels.

A new preset is a new file with its own `PRESETS`, and one line here.
"""

from muscall.evaluation.presets import fma, gtzan, magnatagatune, mtg_jamendo, musiccaps, openmic, song_describer
from muscall.evaluation.presets.base import Preset


PRESETS: dict[str, Preset] = {
    **gtzan.PRESETS,
    **fma.PRESETS,
    **magnatagatune.PRESETS,
    **mtg_jamendo.PRESETS,
    **openmic.PRESETS,
    **musiccaps.PRESETS,
    **song_describer.PRESETS,
}
