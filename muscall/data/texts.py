# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The texts of a row: captions and lists, also where one cell of a table spells a whole list."""

import ast
import io
import json
import tokenize
from typing import Any


def parse_list(cell: str, wanted: str) -> list | str:
    """
    Return the list that a cell spells, `['calm', 'piano']` or `["calm", "piano"]`, as tables of text have it. Other
    texts are returned as they are, also those in brackets, `[live]`.

    Raises:
        `ValueError`: if the cell begins and ends as a list of texts does, and is none. The message begins with what is
            `wanted`, and where.
    """
    text = cell.strip()
    if text[:1] + text[-1:] not in ("[]", "()"):
        return cell
    try:
        return json.loads(text)
    except ValueError:
        pass  # not JSON: Python's own spelling, perhaps
    try:
        values = ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:  # all that it is said to raise
        if text[0] == "[" and text[1:].lstrip()[:1] in ("'", '"'):
            raise ValueError(f"{wanted}, got a list that cannot be read: {cell!r:.80}") from error
        return cell
    if not isinstance(values, list | tuple):
        return cell
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    if sum(token.type == tokenize.STRING for token in tokens) > len(values):
        # Python would read the array ['calm' 'piano'] as one text, `calmpiano`.
        raise ValueError(f"{wanted}, got a list without commas, as numpy prints it: {cell!r:.80}")
    return list(values)


def check_captions(captions: Any, column: str, place: str) -> list[str]:
    """
    Return the captions of a row as a list.

    Raises:
        `ValueError`: if there is none, or one is empty or no string; the message begins with `place`.
    """
    wanted = f"{place}: `{column}` must be a caption or a list of captions, none of them empty"
    texts = parse_list(captions, wanted) if isinstance(captions, str) else captions
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError(f"{wanted}, got {captions!r:.80}")
    return texts
