# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""English that the captions of all corpora need."""

import re


def join_words(words: list[str]) -> str:
    """Return `a`, `a and b` or `a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def fix_articles(text: str) -> str:
    """Return a text in which `a` is `an` before what sounds like a vowel."""
    return re.sub(r"\b([Aa]) (?=[aeioAEIO]|u[nprs]|R&B|8|eight)", r"\1n ", text)
