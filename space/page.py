# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The page of the demo: what a visitor fills in, and what happens then."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import gradio as gr
from gradio.components import Component

from muscall.search.files import AUDIO_SUFFIXES
from muscall.search.query import Library
from muscall.search.store import FIRST
from space.demo import PARTS, Demo


SPACE = Path(__file__).resolve().parent

TITLE = "MusCALL: find music by how it sounds"
EXAMPLES = ("slow calm electric piano", "a waltz with flute", "fast samba with brass", "dark electronic music")
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
# Clicks on what carries `data-act`. gradio's own plots have no click: ScatterPlot selects boxes, Plot no such event.
LISTEN = """element.addEventListener('click', event => {
    const target = event.target.closest('[data-act]');
    if (target) { event.preventDefault(); trigger('click', {...target.dataset}); }
});"""
SHOW_RESULTS = """watch('value', () => {
    const results = document.getElementById('results'), top = results.getBoundingClientRect().top;
    if (top < 0 || top > innerHeight / 2) results.scrollIntoView();
});"""


def build_page(demo: Demo) -> gr.Blocks:
    """Build the page."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(600, 3600)) as page:
        show_part = partial(gr.HTML, apply_default_css=False)
        show_part(PARTS.header(len(demo.library.store.tracks())), js_on_load=None)
        with gr.Row(elem_id="sentence"):
            text = gr.Textbox(
                label="Describe the music",
                placeholder="calm solo piano at night",
                max_length=500,
                max_lines=1,
                scale=5,
                container=False,
                elem_id="text",
            )
            button = gr.Button("Search", variant="primary", scale=0, min_width=90, elem_id="search")
            show_part(PARTS.map_link(), js_on_load=None, elem_id="to-map")
        with gr.Row(elem_id="examples"):
            examples = [gr.Button(example, size="sm", min_width=0, scale=0) for example in EXAMPLES]
        # Not in an accordion of gradio's, which mounts its fields when it opens and empties them a frame later: what
        # is typed meanwhile is lost. These are there from the beginning, and the button shows them (style.css).
        show_part(PARTS.more_options(), js_on_load=None)
        with gr.Column(elem_id="options"):
            upload, duplicates, options = build_options(demo.library)
        chips = show_part(elem_id="seeds", js_on_load=LISTEN)
        tags = show_part(elem_id="tags", js_on_load=None)
        with gr.Row(elem_id="found"):
            with gr.Column(scale=3, min_width=320):
                results = show_part(PARTS.empty(), elem_id="results", js_on_load=LISTEN + SHOW_RESULTS, min_height=200)
            with gr.Column(scale=2, min_width=320, elem_id="atlas"):
                places = show_part(demo.draw_map(), elem_id="map", js_on_load=LISTEN)
        seeds = gr.State([])
        send = {"inputs": [seeds, text, *options], "outputs": [seeds, text, chips, results, tags]}
        send |= {"api_visibility": "private"}
        visit = Visit(demo)
        compared = duplicates.click(visit.duplicates, **send | {"inputs": None})
        # One after the other, and none left out: what a visitor asked last is what is shown at last.
        send |= {"concurrency_id": "ask", "concurrency_limit": 1, "trigger_mode": "multiple", "cancels": [compared]}
        for trigger in (button.click, text.submit, *changes(options)):
            trigger(visit.ask, **send)
        for example, choice in zip(EXAMPLES, examples, strict=True):
            choice.click(None, js=f"() => {json.dumps(example)}", outputs=text).then(visit.ask, **send)
        for part in (chips, results, places):
            part.click(visit.click, **send)
        upload.upload(visit.upload, **send | {"inputs": [upload, *send["inputs"]]})
        add_api(demo.library)
    return page


def build_options(library: Library) -> tuple[gr.UploadButton, gr.Button, list[Component]]:
    """
    Build what few need, within the open page: the buttons for an upload and for duplicates, and the fields for the
    rest of a request, in the order in which [`Demo.answer`] takes it. Fields for tags that no track has are not shown.
    """
    tags = library.store.table.search().where(FIRST).select(["genre", "year", "bpm"]).to_arrow().to_pydict()
    genres = {genre.strip() for text in tags["genre"] if text for genre in text.split(";")} - {""}
    line = partial(gr.Textbox, "", max_length=500, min_width=140)
    suffixes = sorted(AUDIO_SUFFIXES)
    with gr.Row(elem_id="actions"):
        upload = gr.UploadButton("Sounds like a file of mine…", file_types=suffixes, elem_id="upload", size="md")
        duplicates = gr.Button("Find duplicates", size="md")
    with gr.Row():
        without = line(label="Without", placeholder="drums")
        choices = {"choices": sorted(genres, key=str.lower), "value": [], "multiselect": True}
        genre = gr.Dropdown(**choices, label="Genre", visible=bool(genres), min_width=140)
        year = line(label="Year", placeholder="1990–1999", visible=any(tags["year"]))
        tempo = line(label="Tempo, bpm", placeholder="90–120", visible=any(tags["bpm"]))
    choices = [("its sound and words", "both"), ("its sound", "sound"), ("words about it", "words")]
    by = gr.Radio(choices, value="both", label="The sentence fits a track by")
    count = gr.Slider(1, 30, value=8, step=1, label="Number of answers", buttons=[])
    segments = gr.Checkbox(label="Passages: several of a long recording")
    where = line(label="Only tracks where (SQL)", placeholder="duration > 120 and artist like '%ella%'")
    return upload, duplicates, [without, genre, year, tempo, where, by, count, segments]


def changes(fields: list[Component]) -> list:
    """Return what tells that a visitor has filled in one of the fields."""
    named = {gr.Textbox: "submit", gr.Slider: "release"}
    return [getattr(field, named.get(type(field), "input")) for field in fields]


class Visit:
    """
    What happens when a visitor sends a request. Each method takes the seeds, the sentence and the options of the
    request, and returns the seeds and the sentence that it leaves and what is shown.

    Args:
        demo ([`Demo`]): Answers.
    """

    def __init__(self, demo: Demo):
        self.demo = demo

    def ask(self, seeds: list[dict], text: str, *options, is_picked: bool = False) -> tuple:
        """Answer a request. What the visitor may go on writing meanwhile is left alone."""
        return seeds, gr.skip(), *self.demo.answer(seeds, text, *options, is_picked=is_picked)

    def click(self, event: gr.EventData, seeds: list[dict], text: str, *options) -> tuple:
        """
        Answer a click on a track. A dot of the map begins a new request, with this track alone; a track of the
        answers joins the seeds, to sound like it or not; a seed is taken out.
        """
        track = str(event.track)
        others = [seed for seed in seeds if seed["id"] != track]
        if event.act == "drop":
            return self.ask(others, text, *options)
        if event.act in ("like", "unlike"):
            return self.ask([*others, {"id": track, "kind": event.act}], text, *options)
        seeds, _, *shown = self.ask([{"id": track, "kind": "like"}], "", *options, is_picked=True)
        return seeds, "", *shown

    def upload(self, path: str, seeds: list[dict], *fields) -> tuple:
        """Answer an upload, which takes the place of an earlier one among the seeds."""
        others = [seed for seed in seeds if "audio" not in seed]
        return self.ask([*others, {"id": "upload", "kind": "like", "audio": path}], *fields)

    def duplicates(self) -> Iterator[tuple]:
        """Answer with the recordings that are there more than once, which is a request of its own and takes long."""
        yield [], "", "", PARTS.comparing(len(self.demo.library.store.tracks())), ""
        yield [], "", "", self.demo.duplicates(), ""


def add_api(library: Library):
    """Add what programs ask, `/search`, within the open page: the answers of `search.py query --json`."""

    def search(
        text=None, audio=None, like=None, unlike=None, without=None, filter=None, by="both", k=10, segments=False
    ):
        request = {"audio": audio, "like": like, "unlike": unlike, "without": without or None, "where": filter or None}
        try:
            return library.search(text or None, **request, by=by, k=k, segments=segments)
        except (ValueError, OSError) as error:
            raise gr.Error(str(error)) from error

    texts = {name: gr.Textbox(label=name, visible=False) for name in ("text", "without", "filter")}
    by = gr.Textbox("both", label="by", visible=False)
    like, unlike = (gr.JSON([], label=name, visible=False) for name in ("like", "unlike"))
    audio, segments = gr.File(label="audio", visible=False), gr.Checkbox(label="segments", visible=False)
    k, answers = gr.Number(10, label="k", precision=0, visible=False), gr.JSON(label="answers", visible=False)
    inputs = [texts["text"], audio, like, unlike, texts["without"], texts["filter"], by, k, segments]
    gr.Button(visible=False).click(search, inputs, answers, api_name="search")


def launch(demo: Demo, port: int | None):
    """Serve the page and the sound that it plays, until the program is stopped."""
    build_page(demo).launch(
        server_port=port,
        theme=gr.themes.Base(**STYLE).set(**COLOURS),
        css_paths=SPACE / "style.css",
        head=f"<script>{(SPACE / 'page.js').read_text(encoding='utf-8')}</script>",
        favicon_path=SPACE / "icon.svg",
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        max_file_size=MAX_UPLOAD,
        app_kwargs={"routes": demo.sound.routes()},
    )
