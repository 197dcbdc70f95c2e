# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Answers of a library: tracks by sentence, by audio, by likeness, and what must not be in them."""

import os
from functools import cached_property
from pathlib import Path

import numpy as np

from muscall.encoder import Encoder, load_encoder
from muscall.search.files import TAG_NAMES, file_state
from muscall.search.store import Store, literal, parse_filter, vectors


SAMPLE = 2000  # windows that the spread of scores is measured on
DEPTH = 8  # windows looked at for each track asked for: a track may have many among the best
WITHOUT = 0.5  # of the weight of what is looked for


class Library:
    """
    An index and the model that made it, which is loaded when a query first needs it.

    Args:
        store_uri (`str` or `Path`): The index.
        model_name_or_path (`str`, *optional*): Where the model is, if no longer where it was.

    Raises:
        `ValueError`: if there is no index, or nothing in it.
    """

    def __init__(self, store_uri, model_name_or_path: str | None = None):
        self.store = Store.open(store_uri)
        self._model_name_or_path = model_name_or_path or self.store.model["path"]
        if self.store.table.count_rows() == 0:
            raise ValueError(f"the index {store_uri} is empty: add music to it with search.py index FOLDER")

    @cached_property
    def encoder(self) -> Encoder:
        """
        Raises:
            `ValueError`: if the model is not there, or no longer the one that made the index.
        """
        encoder = load_encoder(self._model_name_or_path)
        self.store.check_model(encoder.describe())
        return encoder

    @cached_property
    def _sample(self) -> np.ndarray:
        return self.store.sample(SAMPLE)

    def search(self, text=None, audio=None, like=None, without=None, where=None, k=10) -> list[dict]:
        """
        The tracks whose best window fits best.

        Several wishes are added up, each divided by the spread of its scores over the library: sentences and audio
        score on scales of their own. `without` counts half, and against.

        Args:
            text (`str`, *optional*): A sentence.
            audio (*optional*): A track to sound like: a path or anything else that the processor takes.
            like (`str`, *optional*): A track of the index to sound like, which is left out, as are its copies.
            without (`str`, *optional*): A sentence about what the tracks must not have.
            where (`str`, *optional*): A condition on tags, see [`muscall.search.store.parse_filter`].
            k (`int`, *optional*, defaults to 10): How many tracks.

        Returns:
            `list[dict]`: best first: `track` (its path), `hash` (of the file), `score` (the cosine similarity of the
            query and the best window), `start` and `end` of that window and `duration` in seconds, the tags, `copies`
            (paths of the same file), and `file`: `"there"`, `"changed"` or `"missing"` since it was indexed.

        Raises:
            `ValueError`: if nothing is asked for, or what is asked for is not to be understood or not there.
        """
        if k < 1:
            raise ValueError(f"the number of tracks is positive, got {k}")
        condition = None if where is None else parse_filter(where)
        wishes, without_hash = [], None
        if text is not None:
            wishes.append((1, self._embed_text(text)))
        if audio is not None:
            wishes.append((1, self.encoder.embed_track(audio)))
        if like is not None:
            embedding, without_hash = self._embedding_of(like)
            wishes.append((1, embedding))
        if not wishes:
            raise ValueError("ask for something: a sentence, audio, or a track to sound like")
        if without is not None:
            wishes.append((-WITHOUT, self._embed_text(without)))
        vector = wishes[0][1]
        if len(wishes) > 1:
            spread = [(self._sample @ wish).std() + 1e-6 for _, wish in wishes]
            vector = sum(weight / std * wish for (weight, wish), std in zip(wishes, spread, strict=True))
            vector = vector / np.linalg.norm(vector)
        return self._best_tracks(vector.astype(np.float32), condition, k, without_hash)

    def _embed_text(self, text: str) -> np.ndarray:
        return self.encoder.embed_texts([text])[0]

    def _embedding_of(self, track: str) -> tuple[np.ndarray, str]:
        path = os.path.abspath(track)
        rows = self.store.rows(f"track = {literal(path)}")
        if len(rows) == 0:
            raise ValueError(f"{path} is not in the index: index its folder first, or use --audio for a file outside")
        total = rows.column("weight").to_numpy() @ vectors(rows)
        return total / np.linalg.norm(total), rows.column("hash")[0].as_py()

    def _best_tracks(
        self, vector: np.ndarray, condition: str | None, k: int, without_hash: str | None = None
    ) -> list[dict]:
        count = DEPTH * (k + 1)
        while True:
            rows = self.store.search(vector, count, condition)
            best: dict[str, dict] = {}
            for row in rows:
                if row["hash"] == without_hash:
                    continue
                hit = best.setdefault(row["hash"], row)
                hit.setdefault("states", {})[row["track"]] = row["state"]
            if len(best) >= k or len(rows) < count:
                break
            count *= 4
        return [self._answer(hit) for hit in list(best.values())[:k]]

    def _answer(self, hit: dict) -> dict:
        names = ("hash", "score", "start", "end", "duration", *TAG_NAMES)
        files = {track: _file(track, state) for track, state in sorted(hit["states"].items())}
        track = min(files, key=lambda track: ("there", "changed", "missing").index(files[track]))
        copies = [other for other in files if other != track]
        return {"track": track, **{name: hit[name] for name in names}, "copies": copies, "file": files[track]}


def _file(track: str, state: str) -> str:
    """What has become of a file since it was indexed."""
    try:
        return "there" if file_state(Path(track)) == state else "changed"
    except OSError:
        return "missing"


def recall(store: Store, queries: np.ndarray, k: int = 10) -> float:
    """The share of the `k` truly nearest windows that the approximate index finds, over `(queries, dim)`."""
    found = 0
    for query in queries:
        exact, approximate = (
            {(row["track"], row["start"]) for row in store.search(query, DEPTH * k, exact=exact)[:k]}
            for exact in (True, False)
        )
        found += len(exact & approximate) / len(exact)
    return found / len(queries)
