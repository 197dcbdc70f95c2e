# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The answers of the page: a request of a visitor to HTML."""

import re
from collections.abc import Collection
from pathlib import Path
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader
from scipy.spatial import KDTree

from muscall.evaluation.zero_shot import BANK, label_embeds
from muscall.search.duplicates import find_duplicates
from muscall.search.formatting import clock
from muscall.search.map import draw_map, name_regions
from muscall.search.query import Library
from muscall.search.store import literal
from muscall.search.words import TRACK_NUMBER, spaced
from space.sound import Sound


LABELS = {
    "Genre": ("rock", "pop", "jazz", "blues", "classical", "electronic", "latin", "folk"),
    "Instrument": ("piano", "guitar", "drums", "bass", "strings", "brass", "flute", "synthesizer"),
    "Mood": ("calm", "energetic", "happy", "sad", "dark", "dreamy", "romantic", "aggressive"),
}
WORDS = [word for group in LABELS.values() for word in group]
MAP_TRACKS = 1000  # more dots than these cannot be told apart, let alone clicked
# An answer is weak below this cosine, where sentences about no music at all end up, and below half of the best one.
WEAK, WEAK_SHARE = 0.2, 0.5
NO_ANSWER = {"score": 1.0, "parts": {"sound": 1.0}, "start": 0.0}  # of what is shown besides answers: whole tracks
BY = {"both": "", "sound": " by sound alone", "words": " by words alone"}
TEMPLATES = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
PARTS = TEMPLATES.get_template("parts.html").module


class Demo:
    """
    The answers of the page.

    Args:
        library ([`Library`]): The music.
        credits (`dict[str, dict]`): Path -> `title`, `artist` and `licence` of files whose own tags do not say.
    """

    def __init__(self, library: Library, credits: dict[str, dict]):
        self.library, self.credits, self.sound = library, credits, Sound(library.store)
        sentences = [prompt.format(word) for prompt in BANK for word in WORDS]
        prompts, _ = library.text_tower.embed_sentences(sentences)
        self.labels = label_embeds(prompts.reshape(len(BANK), len(WORDS), -1))
        self.map = draw_map(library.store, MAP_TRACKS)
        self.dots = {track["hash"]: number for number, track in enumerate(self.map.tracks)}

    def answer(
        self, seeds: list[dict], text: str, without: str, *options, is_picked: bool = False
    ) -> tuple[str, str, str]:
        """
        Return all that is shown of a request as HTML, so that none of it outlives the request: its seeds, the answers
        or what is wrong with it, and the words that fit an uploaded track.

        Args:
            seeds (`list[dict]`): Tracks, each with its `kind`, `"like"` or `"unlike"`, and its `id`: the hash of one
                of the index, or `"upload"` and the path of the file, `audio`.
            options: The arguments of [`read_filters`], by what the sentence is searched, how many answers, and
                whether they are passages.
            is_picked (`bool`, *optional*, defaults to `False`): Whether the one seed is shown and played above.
        """
        *fields, by, count, segments = options
        text, without = text.strip() or None, without.strip() or None
        audio = next((seed["audio"] for seed in seeds if "audio" in seed), None)
        chips = ""
        try:
            rows = {seed["id"]: self.sound.find(seed["id"]) for seed in seeds if "audio" not in seed}
            names = {track: self.name(row) for track, row in rows.items()}
            seeds = [seed | {"name": names[seed["id"]] if seed["id"] in names else Path(audio).name} for seed in seeds]
            chips = PARTS.chips(seeds)
            if text is None and not seeds:
                return chips, PARTS.empty(), ""
            filters = read_filters(*fields)
            request = {"text": text, "audio": audio, "without": without, "where": list(filters) or None}
            for kind in ("like", "unlike"):
                request[kind] = [
                    rows[seed["id"]]["track"] for seed in seeds if seed["id"] in rows and seed["kind"] == kind
                ]
            answers = self.library.search(**request, k=count, by=by, segments=segments)
        except (ValueError, OSError) as error:
            return chips, PARTS.notice(readable(error, audio)), ""
        shown = ""
        if is_picked:
            shown = PARTS.picked(self.whole(rows[seeds[0]["id"]]))
        if answers or is_picked:
            kind, by = ("passage", "both") if segments else ("track", by)
            shown += self.show(answers, kind, describe(text, by, seeds, without, filters.values()))
        elif filters:
            shown = PARTS.notice(f"No track passes the filters under “More options”: {', '.join(filters.values())}.")
        else:
            shown = PARTS.notice(
                "Nothing written about a track fits this." if by == "words" else "There is no other track."
            )
        return chips, shown, self.tags(audio) if audio else ""

    def show(self, answers: list[dict], kind: str, request: str) -> str:
        """Return answers as HTML, tracks or passages. Weak ones are folded, or dimmed if all are."""
        cards = [self.card(answer, "passage" if kind == "passage" else "best passage") for answer in answers]
        files = {(card["name"], card["by"], card["hash"]) for card in cards}
        for card in cards:
            card["is_ambiguous"] = sum(file[:2] == (card["name"], card["by"]) for file in files) > 1
        least = max([WEAK, *(WEAK_SHARE * card["score"] for card in cards)])
        # What the words of the sentence name is an answer, however it sounds; so is what was found by words alone.
        strong = [card for card in cards if card["score"] >= least or card["is_named"] or card["written"] == 1]
        weak = [card for card in cards if card not in strong]
        dots = [card["dot"] for card in strong or weak if card["dot"] is not None]
        tracks = dict.fromkeys(card["hash"] for card in strong or weak if card["file"] != "missing")
        playlist = urlencode([("track", track) for track in tracks])
        return PARTS.results(kind, request, strong, weak, dots, playlist)

    def card(self, row: dict, label: str) -> dict:
        """Return what is shown of a track, and of the passage in it, which is called by a label."""
        credit, duration = self.credits.get(row["track"], {}), row["duration"]
        facts = [row["album"], row["year"], row["genre"], row["bpm"] and f"{row['bpm']:g} bpm", row["key"]]
        passage = f"{label} {clock(row['start'])}–{clock(row['end'])} of {clock(duration)}"
        if row["start"] < 1 and row["end"] > duration - 1:
            passage = f"whole track, {clock(duration)}"
        return {
            "hash": row["hash"],
            "dot": self.dots.get(row["hash"]),
            "name": self.name(row),
            "file_name": Path(row["track"]).name,
            "paths": [row["track"], *row["copies"]],
            "by": row["artist"] or credit.get("artist"),
            "facts": [fact for fact in (*facts, credit.get("licence")) if fact],
            "score": row["score"],
            "written": 1 - row["parts"].get("sound", 0.0),
            "is_named": "words" in row["parts"],
            "passage": passage,
            "start": row["start"],
            "duration": duration,
            "left": round(100 * row["start"] / duration, 2),
            "right": round(100 * row["end"] / duration, 2),
            "file": row["file"],
        }

    def duplicates(self) -> str:
        """Return the recordings that the library has more than once as HTML."""
        try:
            groups = find_duplicates(self.library.store).groups
        except (ValueError, OSError) as error:
            return PARTS.notice(readable(error))
        return PARTS.duplicates([[self.whole(row) for row in group] for group in groups])

    def whole(self, row: dict) -> dict:
        """Return what is shown of a track that is no answer."""
        return self.card(row | NO_ANSWER | {"end": row["duration"]}, "")

    def name(self, row: dict) -> str:
        """Return what a person calls a track: its title or, without any, its folder and file."""
        return row["title"] or self.credits.get(row["track"], {}).get("title") or path_name(row["track"])

    def tags(self, audio: str) -> str:
        """
        Return how an uploaded track compares with the library, word by word, as HTML. The scores of a word have a mean
        and a spread of their own, so what is shown is the share of tracks that fit the word less. A softmax would make
        the words compete, although a track may have several instruments, and be near 0 or 1 by the model's logit
        scale.
        """
        scores = self.labels @ self.library.embed_audio(audio)
        library = self.map.embeds @ self.labels.T
        shares = ((library < scores).mean(axis=0) + (library == scores).mean(axis=0) / 2) * 100
        values = iter(shares.round().astype(int).tolist())
        groups = []
        for title, words in LABELS.items():
            bars = [(word, next(values)) for word in words]
            groups.append((title, sorted(bars, key=lambda bar: -bar[1])))
        return PARTS.tags(Path(audio).name, groups)

    def draw_map(self) -> str:
        """Return the map as HTML."""
        places = 5 + 90 * self.map.points
        distances, _ = KDTree(places).query(places, k=2)
        reaches = (distances[:, 1] / 2).clip(1.4, 2.2)  # of the pointer: no dot lies under the target of another
        dots = [
            {"hash": track["hash"], "name": self.name(track), "x": x, "y": y, "reach": reach}
            for track, x, y, reach in zip(self.map.tracks, *places.T.round(2).tolist(), reaches.round(2), strict=True)
        ]
        regions = name_regions(self.map, self.map.embeds @ self.labels.T, WORDS)
        return PARTS.map(dots, [(word, round(5 + 90 * x, 2), round(5 + 90 * y, 2)) for word, x, y in regions])


def path_name(path: str) -> str:
    """Return the folder and the name of a file, `blue nights / so it goes` of `Blue_Nights/03 - so_it_goes.mp3`."""
    folder, stem = (" ".join(spaced(name).split()) for name in (Path(path).parent.name, Path(path).stem))
    stem = TRACK_NUMBER.sub("", stem) or stem
    return f"{folder} / {stem}" if folder else stem


def describe(text: str | None, by: str, seeds: list[dict], without: str | None, filters: Collection[str]) -> str:
    """Return what is asked for, to follow the number of answers: `for “calm piano” and like 2 tracks, only 1994`."""
    terms = [f"for “{text}”{BY[by]}"] if text else []
    for kind in ("like", "unlike"):
        names = [seed["name"] for seed in seeds if seed["kind"] == kind]
        if names:
            terms.append(f"{kind} {names[0] if len(names) == 1 else f'{len(names)} tracks'}")
    limits = [f"without {without}"] if without else []
    limits += [f"only {', '.join(filters)}"] if filters else []
    return ", ".join([" and ".join(terms), *limits])


def read_filters(genres: list[str], year: str, tempo: str, where: str) -> dict[str, str]:
    """
    Return the conditions that the fields of the form stand for, in SQL, and what each says in words.

    Args:
        genres (`list[str]`): One of these.
        year (`str`), tempo (`str`): A number, or a range with one end or both: `1990-1999`, `120-`.
        where (`str`): A condition that the visitor wrote, see [`muscall.search.filters.parse_filter`].

    Raises:
        `ValueError`: if the year or the tempo is not understood.
    """
    filters = {}
    if genres:
        condition = " or ".join(f"genre like {literal(f'%{genre}%')}" for genre in genres)
        filters[condition] = f"genre {' or '.join(genres)}"
    filters |= _range("year", "year", year, r"\d{1,4}", "")
    filters |= _range("tempo", "bpm", tempo, r"\d{1,4}(?:\.\d+)?", " bpm")
    if where.strip():
        filters[where] = f"where {where.strip()}"
    return filters


def _range(name: str, column: str, text: str, number: str, unit: str) -> dict[str, str]:
    text = text.strip()
    if not text:
        return {}
    if re.fullmatch(number, text):
        if column == "year":
            return {f"year = {text}": text}
        # Tempos are rarely whole.
        return {f"{column} >= {float(text) - 0.5} and {column} < {float(text) + 0.5}": text + unit}
    found = re.fullmatch(rf"({number})?\s*[-–]\s*({number})?", text)
    if found is None or not any(found.groups()):
        raise ValueError(f"the {name} {text!r} is not understood: expected a number or a range, such as 90-120")
    low, high = found.groups()
    if high is None:
        return {f"{column} >= {low}": f"from {low}{unit} on"}
    if low is None:
        return {f"{column} <= {high}": f"up to {high}{unit}"}
    return {f"{column} >= {low} and {column} <= {high}": f"{low} to {high}{unit}"}


def readable(error: Exception, audio: str | None = None) -> str:
    """Return a message for the page, without the folder that an upload lies in and with a capital."""
    text = str(error)
    if audio is not None and text.startswith(audio):
        return Path(audio).name + text.removeprefix(audio)
    return text[:1].upper() + text[1:]
