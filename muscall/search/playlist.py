# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Playlists: the tracks that fit a request best, for so many minutes, in an order in which neighbours sound alike."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from muscall.search.query import Library
from muscall.search.recordings import Listener, Recording, read_recordings


MAX_MINUTES = 7 * 24 * 60
ROUNDS = 50  # of improving the order
IN_A_ROW = 2  # tracks of an artist, at most
FIRST_LOOK = 50  # answers; four times as many are looked at as long as they are too few


@dataclass
class Playlist:
    """
    Tracks in the order to play them.

    Args:
        tracks (`list[dict]`): Answers of [`Library.search`], with the `start` and `end` of whole tracks.
        remark (`str`): Why it is shorter than asked for, empty where it is not.
    """

    tracks: list[dict] = field(default_factory=list)
    remark: str = ""


def make_playlist(library: Library, minutes: float, **request) -> Playlist:
    """
    Choose the best answers to a request that together last so many minutes, and order them.

    No recording comes twice, in whatever format or master, and no more than `IN_A_ROW` tracks of an artist follow each
    other, unless all answers are of one artist. Files that are gone are left out. A track that would lead further past
    the end than the playlist is now short of it is passed over, and the playlist is long enough where no more than
    half a track is missing.

    Args:
        library ([`Library`]): Where to search.
        minutes (`float`): How long.
        request: As of [`Library.search`], without `k`.

    Raises:
        `ValueError`: if the minutes are not between 0 and `MAX_MINUTES`, or the request is refused.
    """
    if not 0 < minutes <= MAX_MINUTES:
        raise ValueError(f"a playlist is longer than 0 and at most {MAX_MINUTES} minutes, a week, got {minutes:g}")
    choice, count, offered = Choice(60 * minutes), FIRST_LOOK, set()
    while True:
        answers = library.search(**request, k=count)
        new = [answer for answer in answers if answer["hash"] not in offered]
        offered.update(answer["hash"] for answer in new)
        choice.is_one_artist = len({artist_of(answer) for answer in answers}) == 1
        choice.offer(new, read_recordings(library.store, [answer["hash"] for answer in new]))
        if choice.is_full() or len(answers) < count:
            break
        count *= 4
    order = order_evenly(
        np.array([recording.embed for recording in choice.recordings]), [artist_of(answer) for answer in choice.tracks]
    )
    tracks = [choice.tracks[place] | {"start": 0.0, "end": choice.tracks[place]["duration"]} for place in order]
    return Playlist(tracks, choice.remark())


def artist_of(answer: dict) -> str | None:
    """Return the artist of an answer in small letters, `None` where it has none: then it is like no other."""
    return answer["artist"].casefold() if answer["artist"] else None


class Choice:
    """
    Tracks chosen for a playlist, from answers that are offered best first.

    Args:
        seconds (`float`): How long the playlist shall be.
    """

    def __init__(self, seconds: float):
        self.wanted, self.seconds, self.is_one_artist = seconds, 0.0, False
        self.tracks: list[dict] = []
        self.recordings: list[Recording] = []
        self._artists: Counter = Counter()
        self._waiting: list[tuple[dict, Recording]] = []  # for tracks of other artists to come between
        self._listener = Listener()

    def offer(self, answers: list[dict], recordings: dict[str, Recording]):
        """Take those of further answers that the playlist has place for."""
        for answer in answers:
            if answer["file"] == "missing":
                continue
            self._waiting.append((answer, recordings[answer["hash"]]))
            while (place := self._next_place()) is not None:
                self._take(*self._waiting.pop(place))
                if self.is_full():
                    return

    def is_full(self) -> bool:
        """Return whether no more is missing than half a track."""
        missing = self.wanted - self.seconds
        return missing <= 0 or (len(self.tracks) > 0 and missing <= self.seconds / len(self.tracks) / 2)

    def _next_place(self) -> int | None:
        return next((place for place, (answer, _) in enumerate(self._waiting) if self._fits(answer)), None)

    def _fits(self, answer: dict) -> bool:
        artist = artist_of(answer)
        if artist is None or self.is_one_artist:
            return True
        others = len(self.tracks) - self._artists[artist]
        return self._artists[artist] < IN_A_ROW * (others + 1)

    def _take(self, answer: dict, recording: Recording):
        missing = self.wanted - self.seconds
        leads_too_far = answer["duration"] - missing >= missing and self.tracks
        if leads_too_far or any(self._listener.is_same(recording, other) for other in self.recordings):
            return
        self.tracks.append(answer)
        self.recordings.append(recording)
        self.seconds += answer["duration"]
        self._artists[artist_of(answer)] += 1

    def remark(self) -> str:
        """Return why the playlist is shorter than asked for, an empty text where it is not."""
        if self.is_full():
            return ""
        text = f"the playlist has {self.seconds / 60:.1f} of {self.wanted / 60:.1f} minutes: nothing else answers"
        if self._waiting:
            text += f" but {len(self._waiting)} tracks that would be more than {IN_A_ROW} of an artist in a row"
        return text


def order_evenly(embeds: np.ndarray, artists: list[str | None]) -> list[int]:
    """
    Return an order of tracks in which neighbours are near each other, with no more than `IN_A_ROW` tracks of an artist
    in a row where that is possible: always on to the nearest, then parts are turned round as long as that makes the
    way shorter. It begins with the first track, or where its artist may not, with the first that may.

    Args:
        embeds (`np.ndarray` of shape `(tracks, dim)`): L2-normalised.
        artists (`list[str | None]`): Of each track; `None` is like no other.
    """
    if len(embeds) == 0:
        return []
    distances = 2 - 2 * embeds @ embeds.T  # squared: one large step counts more than two small ones
    artists = [artist if artist is not None else place for place, artist in enumerate(artists)]
    order = _nearest_next(distances, artists)
    for _ in range(ROUNDS):
        if not _turn_parts(order, distances, artists):
            break
    return order


def _nearest_next(distances: np.ndarray, artists: list) -> list[int]:
    order: list[int] = []
    left, counts = set(range(len(artists))), Counter(artists)
    while left:
        nearby = np.argsort(distances[order[-1]], kind="stable").tolist() if order else range(len(artists))
        nearby = [place for place in nearby if place in left]
        nearest = next((place for place in nearby if _leaves_a_way(place, order, counts, artists)), nearby[0])
        order.append(nearest)
        left.remove(nearest)
        counts[artists[nearest]] -= 1
    return order


def _leaves_a_way(place: int, order: list[int], counts: Counter, artists: list) -> bool:
    """Return whether the tracks that are left can still follow without too many of an artist in a row."""
    artist = artists[place]
    run = 1
    while run <= len(order) and artists[order[-run]] == artist:
        run += 1
    if run > IN_A_ROW:
        return False
    most, count = max(((name, counts[name] - (name == artist)) for name in counts), key=lambda item: item[1])
    others = counts.total() - 1 - count
    return count <= IN_A_ROW * (others + 1) - (run if most == artist else 0)


def _turn_parts(order: list[int], distances: np.ndarray, artists: list) -> bool:
    """Turn parts of an order round that make the way shorter, in place; return whether there was one."""
    changed = False
    for first in range(1, len(order) - 1):
        places = np.array(order)
        before, ends = places[first - 1], places[first + 1 :]  # the part from `first` to each of the ends is turned
        gains = distances[before, places[first]] - distances[before, ends]
        gains[:-1] += distances[ends[:-1], ends[1:]] - distances[places[first], ends[1:]]
        for best in np.argsort(-gains)[:5]:
            if gains[best] <= 1e-6:
                break
            last = first + 2 + int(best)
            turned = order[:first] + order[first:last][::-1] + order[last:]
            if _longest_run(turned, artists) <= max(IN_A_ROW, _longest_run(order, artists)):
                order[:] = turned
                changed = True
                break
    return changed


def _longest_run(order: list[int], artists: list) -> int:
    longest = run = 0
    previous = None
    for place in order:
        run = run + 1 if artists[place] == previous else 1
        previous, longest = artists[place], max(longest, run)
    return longest
