# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Answers of a library: tracks by sentence, by audio, by likeness, and without what must not be in them."""

from collections.abc import Collection
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from muscall.encoder import Encoder, load_encoder
from muscall.search.files import absolute_path, describe_files, file_state, find_tracks
from muscall.search.recordings import Listener, Recording, read_recordings
from muscall.search.store import Store, check_text, is_utf8, literal, parse_filter
from muscall.search.tags import TAG_NAMES


SAMPLE = 2000  # windows that the spread of scores is measured on
DEPTH = 8  # windows looked at for each track asked for: a track may have many among the best
FILES = 32  # outside of the index whose embeddings are kept
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

    def __init__(self, store_uri: str | Path, model_name_or_path: str | None = None):
        self.store = Store.open(store_uri)
        self._model_name_or_path = model_name_or_path or self.store.model["path"]
        self._embed_file = lru_cache(FILES)(lambda path, state: self.encoder.embed_track(path))
        if self.store.table.count_rows() == 0:
            raise ValueError(f"the index {store_uri} is empty: add music to it with search.py index FOLDER")

    @cached_property
    def encoder(self) -> Encoder:
        """
        The model, loaded at the first use.

        Raises:
            `ValueError`: if the model is not there, or no longer the one that made the index.
        """
        encoder = load_encoder(self._model_name_or_path)
        self.store.check_model(encoder.describe())
        return encoder

    @cached_property
    def _sample(self) -> np.ndarray:
        return self.store.sample(SAMPLE)

    def search(
        self,
        text: str | None = None,
        audio=None,
        like: str | Path | list[str | Path] | None = None,
        without: str | None = None,
        where: str | None = None,
        k: int = 10,
        unlike: list[str | Path] | None = None,
        segments: bool = False,
    ) -> list[dict]:
        """
        Return the tracks whose best window fits best, or the passages that fit best.

        Args:
            text (`str`, *optional*): A sentence.
            audio (*optional*): A track to sound like: a path or anything else that the processor takes.
            like (`str`, `Path` or `list`, *optional*):
                A track of the index to sound like, or several, which weigh as much as one together. One recording
                counts once. They are left out, as are their copies.
            without (`str`, *optional*): A sentence about what the tracks must not have.
            where (`str`, *optional*): A condition on tags, see [`muscall.search.store.parse_filter`].
            k (`int`, *optional*, defaults to 10): How many tracks, or passages.
            unlike (`list`, *optional*): Tracks of the index not to sound like, subtracted as `without`, and left out.
            segments (`bool`, *optional*, defaults to `False`):
                Whether to return passages that do not overlap, several of a track where they fit.

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
        liked, unliked = self.seeds([like] if isinstance(like, (str, Path)) else like), self.seeds(unlike)
        for recording in liked:
            if any(recording.hash == other.hash for other in unliked):
                raise ValueError(f"{recording.describe()['track']} is among both, those to sound like and unlike")
        terms, excluded = [], {recording.hash for recording in (*liked, *unliked)}
        if text is not None:
            terms.append((1, self._embed_text(text)))
        if audio is not None:
            terms.append((1, self.embed_audio(audio)))
        if liked:
            terms.append((1, _mean(liked)))
        if not terms:
            raise ValueError("ask for something: a sentence, audio, or a track to sound like")
        if without is not None:
            terms.append((-WITHOUT, self._embed_text(without)))
        if unliked:
            terms.append((-WITHOUT, _mean(unliked)))
        find = self.best_segments if segments else self.best_tracks
        return find(self._combine(terms), k, condition, excluded)

    def embed_audio(self, audio) -> np.ndarray:
        """Return the embedding of a track outside of the index. A file that is asked for again is not read again."""
        if not isinstance(audio, str) or not Path(audio).is_file():
            return self.encoder.embed_track(audio)
        return self._embed_file(audio, file_state(audio))

    def _embed_text(self, text: str) -> np.ndarray:
        check_text(text, "sentence")
        return self.encoder.embed_texts([text])[0]

    def recording_of(self, track: str | Path) -> Recording:
        """
        Return a track of the index.

        Raises:
            `ValueError`: if it is not there.
        """
        path = absolute_path(track)
        rows = self.store.rows(f"track = {literal(path)}") if is_utf8(path) else ()
        if len(rows) == 0:  # it may have another name there
            names = find_tracks(self.store.tracks(), path)
            if not names:
                raise ValueError(
                    f"{path} is not in the index: index its folder first, or use --audio for a file outside"
                )
            rows = self.store.rows(f"track = {literal(names[0])}")
        digest = rows.column("hash")[0].as_py()
        return read_recordings(self.store, [digest])[digest]

    def seeds(self, tracks: list[str | Path] | None) -> list[Recording]:
        """Return tracks of the index, each recording once, in whatever format or master."""
        seeds, listener = [], Listener()
        for track in tracks or ():
            seed = self.recording_of(track)
            if not any(listener.is_same(seed, other) for other in seeds):
                seeds.append(seed)
        return seeds

    def _combine(self, terms: list[tuple[float, np.ndarray]]) -> np.ndarray:
        """
        Return one vector for a query of several terms, weights and embeddings. Each term is divided by the spread of
        its scores over the library, because sentences and audio score on scales of their own.
        """
        vector = terms[0][1]
        if len(terms) > 1:
            spreads = [(self._sample @ embedding).std() + 1e-6 for _, embedding in terms]
            vector = sum(
                weight / spread * embedding for (weight, embedding), spread in zip(terms, spreads, strict=True)
            )
            vector = vector / np.linalg.norm(vector)
        return vector.astype(np.float32)

    def best_tracks(
        self, vector: np.ndarray, k: int, condition: str | None = None, excluded: Collection[str] = ()
    ) -> list[dict]:
        """
        Return the tracks whose best window is nearest to a vector.

        Args:
            vector (`np.ndarray` of shape `(dim,)`): The query, L2-normalised.
            k (`int`): How many tracks.
            condition (`str`, *optional*): A condition on columns, in SQL.
            excluded (`Collection[str]`, *optional*): Hashes of files that are left out under all their paths.

        Returns:
            `list[dict]`: as of [`Library.search`].
        """
        count = DEPTH * (min(k, self.store.table.count_rows()) + 1 + len(excluded))
        while True:
            rows = self.store.search(vector, count, condition)
            best: dict[str, dict] = {}  # by content: its best window, with the state of each path
            for row in rows:
                if row["hash"] not in excluded:
                    window = best.setdefault(row["hash"], row)
                    window.setdefault("states", {})[row["track"]] = row["state"]
            if len(best) >= k or len(rows) < count:
                break
            count *= 4
        return [_answer(window) for window in list(best.values())[:k]]

    def best_segments(
        self, vector: np.ndarray, k: int, condition: str | None = None, excluded: Collection[str] = ()
    ) -> list[dict]:
        """Return the passages nearest to a vector that do not overlap; arguments and answers as of `best_tracks`."""
        count = DEPTH * (min(k, self.store.table.count_rows()) + 1 + len(excluded))
        while True:
            rows = self.store.search(vector, count, condition)
            chosen: dict[str, list[dict]] = {}  # by content
            best = []
            for row in rows:
                if row["hash"] in excluded:
                    continue
                own = chosen.setdefault(row["hash"], [])
                same = next((window for window in own if window["start"] == row["start"]), None)
                if same is not None:
                    same["states"][row["track"]] = row["state"]
                elif not any(row["end"] > window["start"] and row["start"] < window["end"] for window in own):
                    own.append(row | {"states": {row["track"]: row["state"]}})
                    best.append(own[-1])
            if len(best) >= k or len(rows) < count:
                break
            count *= 4
        return [_answer(window) for window in best[:k]]


def _mean(recordings: list[Recording]) -> np.ndarray:
    total = np.sum([recording.embed for recording in recordings], axis=0)
    return total / np.linalg.norm(total)


def _answer(window: dict) -> dict:
    columns = ("hash", "score", "start", "end", "duration", *TAG_NAMES)
    files = describe_files(window["states"])
    return {"track": files.pop("track"), **{name: window[name] for name in columns}, **files}


def recall(store: Store, queries: np.ndarray, k: int = 10) -> float:
    """Return the share of the `k` truly nearest windows that the approximate index finds, over `(queries, dim)`."""
    shares = []
    for query in queries:
        exact = _nearest_windows(store, query, k, exact=True)
        shares.append(len(exact & _nearest_windows(store, query, k, exact=False)) / len(exact))
    return sum(shares) / len(queries)


def _nearest_windows(store: Store, query: np.ndarray, k: int, exact: bool) -> set[tuple[str, float]]:
    return {(row["track"], row["start"]) for row in store.search(query, DEPTH * k, exact=exact)[:k]}
