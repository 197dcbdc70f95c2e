# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The page of the demo: what it answers, and how it looks."""

import tempfile
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import gradio as gr
import soundfile
from jinja2 import Environment, FileSystemLoader
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from muscall.evaluation.zero_shot import BANK, label_embeds
from muscall.search.files import AUDIO_SUFFIXES
from muscall.search.formatting import clock
from muscall.search.map import draw_map
from muscall.search.query import Library
from muscall.search.store import literal
from processing_muscall import read_audio


SPACE = Path(__file__).resolve().parent

EXAMPLES = ("slow calm electric piano", "a waltz with flute", "fast samba with brass", "dark electronic music")
LABELS = {
    "Genre": ("rock", "pop", "jazz", "blues", "classical", "electronic", "latin", "folk"),
    "Instrument": ("piano", "guitar", "drums", "bass", "strings", "brass", "flute", "synthesizer"),
    "Mood": ("calm", "energetic", "happy", "sad", "dark", "dreamy", "romantic", "aggressive"),
}
MAP_TRACKS = 1000  # more dots than these cannot be told apart, let alone clicked
PLAY_RATE = 44100  # hertz: what every browser plays
SEGMENTS = 500  # segments kept on disk, some 100 kB each
MAX_UPLOAD = "50mb"
STYLE = {
    "primary_hue": "teal",
    "neutral_hue": "stone",
    "radius_size": "lg",
    "font": ["system-ui", "-apple-system", "Segoe UI", "Helvetica Neue", "Arial", "sans-serif"],  # none from the net
    "font_mono": ["monospace"],
}
# Of gradio's theme: what its own choice leaves below a contrast of 4.5, and a page that cards stand out from.
COLOURS = {
    "body_background_fill": "*neutral_50",
    "body_background_fill_dark": "#161412",
    "block_background_fill_dark": "#211f1d",
    "block_label_text_color": "*neutral_600",
    "block_title_text_color": "*neutral_700",
    "block_title_text_color_dark": "*neutral_300",
    "input_background_fill": "#ffffff",
    "input_background_fill_dark": "#161412",
    "input_border_width": "1px",
    "input_border_color": "*neutral_300",
    "input_border_color_dark": "#4a4541",
    "input_border_color_focus": "*primary_700",
    "input_border_color_focus_dark": "*primary_400",
    "input_placeholder_color": "*neutral_500",
    "input_placeholder_color_dark": "*neutral_400",
    "button_primary_background_fill": "*primary_700",
    "button_primary_background_fill_hover": "*primary_800",
    "button_primary_background_fill_dark": "*primary_700",
    "button_primary_background_fill_hover_dark": "*primary_600",
    "slider_color": "*primary_700",
    "slider_color_dark": "*primary_500",
}
TEMPLATES = Environment(loader=FileSystemLoader(SPACE), autoescape=True, trim_blocks=True)
PARTS = TEMPLATES.get_template("parts.html").module
# Clicks on dots of the map and on "More like this". gradio's own plots have no click: ScatterPlot selects boxes, Plot
# has no such event.
LISTEN = """element.addEventListener('click', event => {
    const link = event.target.closest('[data-like]');
    if (link) { event.preventDefault(); trigger('click', {track: link.dataset.like}); }
});"""
SHOW_RESULTS = """() => {
    const results = document.getElementById('results'), top = results.getBoundingClientRect().top;
    if (top < 0 || top > innerHeight / 2) results.scrollIntoView({behavior: 'smooth'});
}"""


class Demo:
    """
    The answers of the page.

    Args:
        library ([`Library`]): The music.
        credits (`dict[str, dict]`): Path -> `title`, `artist` and `licence` of files whose own tags do not say.
    """

    def __init__(self, library: Library, credits: dict[str, dict]):
        self.library, self.credits = library, credits
        self.map = draw_map(library.store, MAP_TRACKS)
        self.dots = {track["hash"]: number for number, track in enumerate(self.map.tracks)}
        words = [word for group in LABELS.values() for word in group]
        prompts = library.encoder.embed_texts([prompt.format(word) for prompt in BANK for word in words])
        self.labels = label_embeds(prompts.reshape(len(BANK), len(words), -1))
        self.segments = tempfile.TemporaryDirectory(prefix="muscall-segments-")
        self.segment_file = lru_cache(SEGMENTS)(self._write_segment)

    def search(self, text: str, audio: str | None, without: str, where: str, count: int) -> str:
        """Return the answers to a request as HTML: cards, or what is wrong with it."""
        text, without, where = (value.strip() or None for value in (text, without, where))
        try:
            answers = self.library.search(text, audio=audio, without=without, where=where, k=int(count))
        except (ValueError, OSError) as error:
            return PARTS.notice(readable(error, audio))
        terms = (text and f"“{text}”", audio and Path(audio).name)
        return self.show(answers, "for " + " + ".join(term for term in terms if term))

    def neighbours(self, without: str, where: str, count: int, event: gr.EventData) -> str:
        """Return the answers to a click on a track, which is named by its hash, as HTML."""
        without, where = (value.strip() or None for value in (without, where))
        try:
            rows = self.library.store.rows(f"hash = {literal(str(event.track))} AND start = 0").to_pylist()
            if not rows:
                raise ValueError("this track is no longer in the index: load the page again")
            like = rows[0]["track"]
            answers = self.library.search(like=like, without=without, where=where, k=int(count))
        except (ValueError, OSError) as error:
            return PARTS.notice(readable(error))
        selected = rows[0] | {"score": 1.0, "copies": [], "file": "there" if Path(like).exists() else "missing"}
        return self.show(answers, f"like {self.card(selected)['name']}", selected)

    def show(self, answers: list[dict], request: str, selected: dict | None = None) -> str:
        """Return answers as HTML, below the track that was clicked on."""
        cards = [self.card(answer) for answer in answers]
        if not cards and selected is None:
            return PARTS.notice("No track passes the filter.")
        dots = [card["dot"] for card in cards if card["dot"] is not None]
        count = {0: "No other track", 1: "1 track"}.get(len(cards), f"{len(cards)} tracks")
        return PARTS.results(f"{count} {request}", cards, selected and self.card(selected), dots)

    def card(self, row: dict) -> dict:
        """Return what is shown of a track."""
        credit = self.credits.get(row["track"], {})
        facts = [row["album"], row["year"], row["genre"], row["bpm"] and f"{row['bpm']:g} bpm", row["key"]]
        facts += [credit.get("licence"), f"{row['duration']:.0f} s long"]
        return {
            "hash": row["hash"],
            "dot": self.dots.get(row["hash"]),
            "name": row["title"] or credit.get("title") or Path(row["track"]).stem,
            "by": row["artist"] or credit.get("artist"),
            "facts": [fact for fact in facts if fact],
            "score": f"{row['score']:.2f}",
            "segment": f"{clock(row['start'])}–{clock(row['end'])}",
            "source": f"segments/{row['hash']}/{round(1000 * row['start'])}.mp3",
            "file": row["file"],
        }

    def tags(self, audio: str | None) -> str:
        """
        Return how an uploaded track compares with the library, word by word, as HTML. The scores of a word have a mean
        and a spread of their own, so what is shown is the share of tracks that fit the word less. A softmax would make
        the words compete, although a track may have several instruments, and be near 0 or 1 by the model's logit
        scale.
        """
        if audio is None:
            return ""
        try:
            scores = self.labels @ self.library.encoder.embed_track(audio)
        except (ValueError, OSError):
            return ""  # the search says why
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
        names = [self.card(track | {"score": 1.0, "file": "there"})["name"] for track in self.map.tracks]
        points = (4 + 92 * self.map.points).round(2).tolist()
        dots = zip(self.map.tracks, names, points, strict=True)
        return PARTS.map([{"hash": track["hash"], "name": name, "x": x, "y": y} for track, name, (x, y) in dots])

    def segment(self, request: Request) -> Response:
        """Return the audio of one window of a track of the index: nothing else is served."""
        try:
            file = self.segment_file(request.path_params["digest"], request.path_params["start"])
        except (ValueError, OSError):
            return PlainTextResponse("this segment is not in the library, or its file is no longer there", 404)
        return FileResponse(file.name, media_type="audio/mpeg")

    def _write_segment(self, digest: str, start: int):
        """Return a temporary file with the window of a track that starts at `start` milliseconds."""
        condition = f"hash = {literal(digest)} AND start > {start / 1000 - 0.01} AND start < {start / 1000 + 0.01}"
        rows = self.library.store.rows(condition).to_pylist()
        rows = [row for row in rows if Path(row["track"]).is_file()]
        if not rows:
            raise ValueError(f"no window of {digest} starts at {start} ms, or its file is gone")
        row = rows[0]
        samples = read_audio(row["track"], PLAY_RATE, row["start"], row["end"] - row["start"])
        file = tempfile.NamedTemporaryFile(dir=self.segments.name, suffix=".mp3")  # noqa: SIM115, lives in the cache
        soundfile.write(file, samples, PLAY_RATE, format="MP3")
        file.flush()
        return file


def readable(error: Exception, audio: str | None = None) -> str:
    """Return a message for the page, without the folder that an upload lies in and with a capital."""
    text = str(error)
    if audio is not None and text.startswith(audio):
        return Path(audio).name + text.removeprefix(audio)
    return text[:1].upper() + text[1:]


@dataclass
class Form:
    """The fields that a visitor fills in: the parts of a request, the button that sends it, and the examples."""

    text: gr.Textbox
    audio: gr.File
    without: gr.Textbox
    where: gr.Textbox
    count: gr.Slider
    button: gr.Button
    examples: list[gr.Button]


def build_page(demo: Demo) -> gr.Blocks:
    """Build the page."""
    title = "MusCALL: find music by how it sounds"
    header = PARTS.header(len(demo.library.store.tracks()))
    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.HTML(header, apply_default_css=False, js_on_load=None)
        # The files of the default corpus, for which there are credits, have no tags.
        form = build_form("track like '%produced%'" if demo.credits else "bpm > 120 and genre = 'jazz'")
        tags = gr.HTML(elem_id="tags", apply_default_css=False, js_on_load=None)
        with gr.Row(elem_id="found"):
            with gr.Column(scale=3, min_width=320):
                results = gr.HTML(
                    PARTS.empty(), elem_id="results", apply_default_css=False, js_on_load=LISTEN, min_height=200
                )
            with gr.Column(scale=2, min_width=320, elem_id="atlas"):
                places = gr.HTML(demo.draw_map(), elem_id="map", apply_default_css=False, js_on_load=LISTEN)
        connect(demo, form, tags, results, places)
    return page


def build_form(example_filter: str) -> Form:
    """Build the part of the page that a visitor fills in, within the open page."""
    with gr.Column(elem_id="ask"):
        with gr.Row(elem_id="sentence"):
            text = gr.Textbox(
                label="Describe the music",
                placeholder="calm solo piano at night",
                max_length=500,
                scale=5,
                container=False,
                elem_id="text",
            )
            button = gr.Button("Search", variant="primary", scale=0, min_width=120, elem_id="search")
        with gr.Row(elem_id="examples"):
            examples = [gr.Button(example, size="sm", min_width=0, scale=0) for example in EXAMPLES]
        with gr.Row(elem_id="options", equal_height=True):
            audio = gr.File(
                label="Sounds like this track",
                file_types=sorted(AUDIO_SUFFIXES),
                type="filepath",
                height=156,
                min_width=280,
                elem_id="upload",
            )
            with gr.Column(elem_id="refine", min_width=280, scale=2):
                with gr.Row():
                    without = gr.Textbox(label="Without", placeholder="drums", max_length=500, min_width=200)
                    where = gr.Textbox(
                        label="Only tracks where", placeholder=example_filter, max_length=500, min_width=200
                    )
                count = gr.Slider(1, 30, value=8, step=1, label="Number of tracks", buttons=[])
    return Form(text, audio, without, where, count, button, examples)


def connect(demo: Demo, form: Form, tags: gr.HTML, results: gr.HTML, places: gr.HTML):
    """Connect what a visitor does with the answers of the demo, within the open page."""
    request = {"inputs": [form.text, form.audio, form.without, form.where, form.count], "outputs": results}
    refined = {"inputs": [form.without, form.where, form.count], "outputs": results}
    hidden = {"api_visibility": "private", "show_progress": "hidden"}
    triggers = (form.button.click, form.text.submit, form.without.submit, form.where.submit, form.audio.upload)
    for trigger in triggers:
        trigger(demo.search, **request, api_visibility="private").then(None, js=SHOW_RESULTS, **hidden)
    for example, button in zip(EXAMPLES, form.examples, strict=True):
        filled = button.click(partial(str, example), outputs=form.text, **hidden)
        filled.then(demo.search, **request, api_visibility="private").then(None, js=SHOW_RESULTS, **hidden)
    for component in (results, places):
        clicked = component.click(demo.neighbours, **refined, api_visibility="private")
        clicked.then(None, js=SHOW_RESULTS, **hidden)
    form.audio.change(demo.tags, form.audio, tags, **hidden)


def launch(demo: Demo, port: int | None):
    """Serve the page and the segments that it plays, until the program is stopped."""
    build_page(demo).launch(
        server_port=port,
        theme=gr.themes.Base(**STYLE).set(**COLOURS),
        css_paths=SPACE / "style.css",
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        max_file_size=MAX_UPLOAD,
        app_kwargs={"routes": [Route("/segments/{digest}/{start:int}.mp3", demo.segment)]},
    )
