# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Answers of a library: tracks by sentence, by audio, by likeness, and without what must not be in them."""

import logging
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from muscall.hashing import hash_weights
from muscall.search.files import AUDIO_SUFFIXES, absolute_path, describe_files, file_state, find_tracks
from muscall.search.fusion import Fusion
from muscall.search.recordings import Listener, Recording, read_recordings
from muscall.search.store import COLUMNS, TAG_COLUMNS, Store, check_text, is_utf8, literal


if TYPE_CHECKING:
    from muscall.encoder import Encoder
    from muscall.search.text_graph import TextGraph


logger = logging.getLogger(__name__)

SAMPLE = 2000  # windows, and descriptions, that the spread of scores is measured on
DEPTH = 8  # windows looked at for each track asked for: a track may have many among the best
FILES = 32  # outside of the index whose embeddings are kept
WITHOUT = 0.5  # of the weight of what is looked for
BY = ("both", "sound", "words")
CANDIDATES = 16  # tracks of each ranking that are looked at, for each asked for


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
        self.store, self._has_warned = Store.open(store_uri), False
        self._given, self._model_name_or_path = model_name_or_path, model_name_or_path or self.store.model["path"]
        self._embed_file = lru_cache(FILES)(lambda path, state: self._embed_track(path))
        if self.store.table.count_rows() == 0:
            raise ValueError(f"the index {store_uri} is empty: add music to it with search.py index FOLDER")

    @cached_property
    def encoder(self) -> "Encoder":
        """
        The model, loaded at the first use.

        Raises:
            `ValueError`: if the model is not there, or no longer the one that made the index.
        """
        from muscall.encoder import load_encoder  # takes seconds to import, and a sentence needs only the graph

        encoder = load_encoder(self._model_name_or_path)
        self.store.check_model(encoder.describe())
        encoder.use_bfloat16()  # as when the index was made
        return encoder

    @cached_property
    def text_tower(self) -> "TextGraph | Encoder":
        """The graph that was written with the index, or where it is missing the model."""
        from muscall.search.text_graph import TextGraph

        weights = self.store.model["weights"]
        if self._given is not None:
            if not Path(self._given).is_dir():  # an id on the Hub, or a mistake: loading tells which
                return self.encoder
            given = {"path": self._given, "weights": hash_weights(Path(self._given))}
            self.store.check_model(self.store.model | given)
        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(self.store.load)  # a first query waits for both
            try:
                tower = TextGraph(weights)
            except ValueError as error:
                logger.warning(
                    f"{error}. The checkpoint is loaded, which takes longer; search.py index writes the graph"
                )
                tower = self.encoder
        reading.result()
        return tower

    @cached_property
    def _sample(self) -> np.ndarray:
        return self.store.sample(SAMPLE)

    @cached_property
    def _sample_words(self) -> np.ndarray:
        return self.store.sample_words(SAMPLE)

    def search(
        self,
        text: str | None = None,
        audio=None,
        like: str | Path | list[str | Path] | None = None,
        without: str | None = None,
        where: str | list[str] | None = None,
        k: int = 10,
        by: str = "both",
        unlike: list[str | Path] | None = None,
        segments: bool = False,
    ) -> list[dict]:
        """
        Return the tracks that fit best: their best window, or what is written about them; or the passages that do.

        Args:
            text (`str`, *optional*): A sentence.
            audio (*optional*): A track to sound like: a path or anything else that the processor takes.
            like (`str`, `Path` or `list`, *optional*):
                A track of the index to sound like, or several, which weigh as much as one together. One recording
                counts once. They are left out, as are their copies.
            without (`str`, *optional*): A sentence about what the tracks must not have.
            where (`str` or `list[str]`, *optional*):
                A condition on tags, or several that all hold, see [`muscall.search.filters.parse_filter`].
            k (`int`, *optional*, defaults to 10): How many tracks, or passages.
            by (`str`, *optional*, defaults to `"both"`):
                Whether the sentence is compared with the `"sound"` of tracks, with the `"words"` that are written
                about them, or with both, see [`Fusion`]. Audio and tracks are compared with sound.
            unlike (`list`, *optional*): Tracks of the index not to sound like, subtracted as `without`, and left out.
            segments (`bool`, *optional*, defaults to `False`):
                Whether to return passages that do not overlap, several of a track where they fit. Passages have no
                words: they are found by sound.

        Returns:
            `list[dict]`: best first: `track` (its path), `hash` (of the file), `score` (the cosine similarity of the
            query and the best window), `start` and `end` of that window and `duration` in seconds, the tags, `copies`
            (paths of the same file), `file`: `"there"`, `"changed"` or `"missing"` since it was indexed, and `parts`:
            the shares that `sound`, `meaning` (of what is written) and `words` (that stand there) have in its place.

        Raises:
            `ValueError`: if nothing is asked for, or what is asked for is not to be understood or not there.
        """
        if k < 1:
            raise ValueError(f"the number of tracks is positive, got {k}")
        if by not in BY:
            raise ValueError(f"a library is searched by {', '.join(BY)}, got {by!r}")
        if segments and by == "words":
            raise ValueError("passages are found by sound: nothing is written about a part of a track")
        if where is not None:
            from muscall.search.filters import parse_filter  # its parser of SQL takes longer to import than an answer

            where = parse_filter(where)
        liked, unliked = self.seeds([like] if isinstance(like, (str, Path)) else like), self.seeds(unlike)
        excluded = {recording.hash for recording in (*liked, *unliked)}
        vector, sentences = self._embed_request(text, audio, without, liked, unliked)
        if segments:
            return self.best_segments(vector, k, where, excluded)
        if by == "sound" or not self._has_words(text, by):
            return self.best_tracks(vector, k, where, excluded)
        sentence = self._combine(sentences, words=True)
        return self._fuse(text, vector, sentence, k, where, excluded, by)

    def _embed_request(
        self, text: str | None, audio, without: str | None, liked: list[Recording], unliked: list[Recording]
    ) -> tuple[np.ndarray, list[tuple[float, np.ndarray]]]:
        """Return the vector of a request among windows, and the terms of its sentences among descriptions."""
        for recording in liked:
            if any(recording.hash == other.hash for other in unliked):
                raise ValueError(f"{recording.describe()['track']} is among both, those to sound like and unlike")
        terms, sentences = [], []
        if text is not None:
            text_embed, sentence_embed = self._embed_text(text)
            terms.append((1, text_embed))
            sentences.append((1, sentence_embed))
        if audio is not None:
            terms.append((1, self.embed_audio(audio)))
        if liked:
            terms.append((1, _mean(liked)))
        if not terms:
            raise ValueError("ask for something: a sentence, audio, or a track to sound like")
        if without is not None:
            text_embed, sentence_embed = self._embed_text(without)
            terms.append((-WITHOUT, text_embed))
            sentences.append((-WITHOUT, sentence_embed))
        if unliked:
            terms.append((-WITHOUT, _mean(unliked)))
        return self._combine(terms), sentences

    def embed_audio(self, audio) -> np.ndarray:
        """Return the embedding of a track outside of the index. A file that is asked for again is not read again."""
        if not isinstance(audio, str) or not Path(audio).is_file():
            return self._embed_track(audio)
        return self._embed_file(audio, file_state(audio))

    def _embed_track(self, audio) -> np.ndarray:
        from muscall.search.windows import placement  # it imports torch

        return self.encoder.embed_track(audio, placement(self.encoder.feature_extractor, self.store.windows))

    def _embed_text(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        check_text(text, "sentence")
        if not text.strip():
            raise ValueError("the sentence is empty: expected words that describe music")
        if Path(text.strip()).suffix.lower() in AUDIO_SUFFIXES:
            raise ValueError(
                f"the sentence {text!r} is the name of an audio file: expected words about music, or --audio FILE"
            )
        text_embeds, sentence_embeds = self.text_tower.embed_sentences([text])
        return text_embeds[0], sentence_embeds[0]

    def _has_words(self, text: str | None, by: str) -> bool:
        """Return whether there are words to search a sentence in; where they are asked for, it is an error if not."""
        if text is not None and self.store.words is not None:
            return True
        reason = "words are searched by a sentence, and there is none"
        if self.store.words is None:
            reason = (
                f"the index {self.store.uri} is older than the search of words: search.py index FOLDER brings it up "
                "to date, and embeds no track again"
            )
            if by != "words" and text is not None and not self._has_warned:
                logger.warning(f"{reason}. Until then it is searched by sound alone")
                self._has_warned = True
        if by == "words":
            raise ValueError(reason)
        return False

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

    def _combine(self, terms: list[tuple[float, np.ndarray]], words: bool = False) -> np.ndarray:
        """
        Return one vector for a query of several terms, weights and embeddings. Each term is divided by the spread of
        its scores over the library, because sentences and audio score on scales of their own. With `words`, the
        embeddings are those of sentences among descriptions.
        """
        vector = terms[0][1]
        if len(terms) > 1:
            sample = self._sample_words if words else self._sample
            spreads = [_spread(sample @ embedding) for _, embedding in terms]
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
        return [_answer(window, {"sound": 1.0}) for window in self._best_windows(vector, k, condition, excluded)]

    def _best_windows(
        self,
        vector: np.ndarray,
        k: int,
        condition: str | None = None,
        excluded: Collection[str] = (),
        columns: Iterable[str] = COLUMNS,
    ) -> list[dict]:
        """Return the best window of each of the best tracks, with the state of each of its paths as `states`."""
        count = DEPTH * (k + 1 + len(excluded))
        while True:
            rows = self.store.search(vector, count, condition, columns=columns)
            best = _by_content(rows)
            best = {digest: window for digest, window in best.items() if digest not in excluded}
            if len(best) >= k or len(rows) < count:
                break
            count *= 4
        return list(best.values())[:k]

    def _windows_of(
        self, vector: np.ndarray, digests: list[str], condition: str | None, columns: Iterable[str] = COLUMNS
    ) -> dict[str, dict]:
        """Return by content the best window of each of these that meets a condition, as [`_best_windows`] does."""
        return _by_content(self.store.search(vector, None, condition, columns=columns, among=digests))

    def _fuse(
        self,
        text: str,
        vector: np.ndarray,
        sentence: np.ndarray,
        k: int,
        condition: str | None,
        excluded: Collection[str],
        by: str,
    ) -> list[dict]:
        """
        Return the tracks that are best by sound and words together; only those with words where they alone count.

        The best tracks of each ranking are looked at. Descriptions do not know the condition, so more and more of them
        are, until enough meet it.
        """
        fusion = Fusion.of(self._sample @ vector, self._sample_words @ sentence, has_sound=by == "both")
        count = CANDIDATES * k
        sound = self._best_windows(vector, count, condition, columns=["hash"]) if by == "both" else []
        has_all = by == "both" and len(sound) < count
        while True:
            meaning = self.store.search_meaning(sentence, count)
            words = self.store.search_words(text, count)
            heard = {window["hash"]: window for window in sound}
            written = {*(row["hash"] for row in meaning), *words}
            heard |= self._windows_of(vector, sorted(written.difference(heard)), condition, ["hash"])
            heard = {digest: window for digest, window in heard.items() if digest not in excluded}
            if has_all or len(meaning) < count or len(written.intersection(heard)) >= k:
                break
            count *= 4
        described = self._descriptions_of(sentence, list(heard), meaning)
        named = set(words) if len(words) < count else self._named(text, list(heard))
        answers = []
        for digest, window in heard.items():
            evidence = fusion.weigh(window["score"], described.get(digest), digest in named)
            if by == "both" or digest in described or digest in named:
                answers.append((evidence, digest))
        answers.sort(key=lambda answer: -sum(answer[0].values()))
        windows = self._windows_of(vector, [digest for _, digest in answers[:k]], condition)
        return [_answer(windows[digest], _shares(evidence)) for evidence, digest in answers[:k]]

    def _descriptions_of(self, sentence: np.ndarray, digests: list[str], known: list[dict]) -> dict[str, float]:
        """Return for each content with a description how near the best one of its copies is to a sentence."""
        missing, scores = sorted(set(digests) - {row["hash"] for row in known}), {}
        for row in known + self.store.search_meaning(sentence, among=missing):
            if row["score"] != 0:  # it has no description
                scores[row["hash"]] = max(row["score"], scores.get(row["hash"], row["score"]))
        return scores

    def _named(self, text: str, digests: list[str]) -> set[str]:
        """Return those of the contents in whose text all words of a sentence stand."""
        return set(self.store.search_words(text, among=digests))

    def best_segments(
        self, vector: np.ndarray, k: int, condition: str | None = None, excluded: Collection[str] = ()
    ) -> list[dict]:
        """Return the passages nearest to a vector that do not overlap; arguments and answers as of `best_tracks`."""
        count = DEPTH * (k + 1 + len(excluded))
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
        return [_answer(window, {"sound": 1.0}) for window in best[:k]]


def _mean(recordings: list[Recording]) -> np.ndarray:
    total = np.sum([recording.embed for recording in recordings], axis=0)
    return total / np.linalg.norm(total)


def _spread(scores: np.ndarray) -> float:
    return scores.std() + 1e-6 if len(scores) else 1.0


def _by_content(rows: list[dict]) -> dict[str, dict]:
    """Return the first row of each content, which is the best window, with the state of each path as `states`."""
    best: dict[str, dict] = {}
    for row in rows:
        window = best.setdefault(row["hash"], row)
        if "track" in row:
            window.setdefault("states", {})[row["track"]] = row["state"]
    return best


def _shares(evidence: dict[str, float]) -> dict[str, float]:
    """Return the shares of each kind of evidence, those that are not 0 in three digits."""
    total = sum(evidence.values()) or 1.0
    return {name: share for name, value in evidence.items() if (share := round(value / total, 3))}


def _answer(window: dict, parts: dict[str, float]) -> dict:
    columns = ("hash", "score", "start", "end", "duration", *TAG_COLUMNS)
    files = describe_files(window["states"])
    facts = {name: window[name] for name in columns}
    return {"track": files.pop("track"), **facts, **files, "parts": parts}


def recall(store: Store, queries: np.ndarray, k: int = 10) -> float:
    """Return the share of the `k` truly nearest windows that the approximate index finds, over `(queries, dim)`."""
    shares = []
    for query in queries:
        exact = _nearest_windows(store, query, k, exact=True)
        shares.append(len(exact & _nearest_windows(store, query, k, exact=False)) / len(exact))
    return sum(shares) / len(queries)


def _nearest_windows(store: Store, query: np.ndarray, k: int, exact: bool) -> set[tuple[str, float]]:
    return {(row["track"], row["start"]) for row in store.search(query, DEPTH * k, exact=exact)[:k]}
