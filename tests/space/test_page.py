# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The page as a visitor meets it: the program, and a real browser, over a small library of real tracks."""

import io
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import soundfile
from helpers import ROOT, save_model
from scipy.signal import correlate


pytest.importorskip("muscall.search")
pytest.importorskip("gradio", reason='the page needs: pip install -e ".[demo]"')
pytest.importorskip("playwright.sync_api", reason="a browser is driven by playwright")

from mutagen.oggopus import OggOpus
from playwright.sync_api import sync_playwright

from muscall.search.query import Library
from processing_muscall import read_audio


CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium: apt-get install chromium"),
]

BROWSER = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
MEBIBYTE = 2**20
# File name below the library -> title tag. Any of these, if the page took it for markup, would set `hacked`.
TITLES = {
    "plain.opus": "Plain title",
    "with space/script.opus": "<script>window.hacked = 1</script>",
    "with space/'single' \"double\".opus": '"><img src=x onerror="window.hacked=1">',
    "line\nbreak.opus": "[link](javascript:window.hacked=1) **bold**",
    "музыка 音楽 é.opus": "{{window.hacked=1}} ${window.hacked=1} {% raw %}",
    "<img src=x onerror=window.hacked=1>.opus": None,
    "gone.opus": "Deleted later",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Tracks of 20 s, half of them with hostile names or titles, and a copy of one."""
    folder = tmp_path_factory.mktemp("music")
    for number, (name, title) in enumerate(TITLES.items(), 1):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / "corpus" / "produced" / f"produced-{number:04}-a.opus", path)
        if title is not None:
            tags = OggOpus(path)
            tags["title"] = title
            tags["genre"] = "Rock" if number % 2 else "Jazz"
            tags.save()
    shutil.copyfile(folder / "plain.opus", folder / "with space" / "copy.opus")
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("index") / "store"


@pytest.fixture(scope="module")
def url(folder, store, tmp_path_factory):
    """The program, started in another folder, as it answers; one file is deleted under it."""
    home = tmp_path_factory.mktemp("home")
    model = save_model(home / "model")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "space.app", str(folder), f"--model={model}", f"--store={store}"]
    log = home / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, f"--port={port}"], stdout=output, stderr=subprocess.STDOUT, cwd=ROOT, env=os.environ
        )
    try:
        deadline = time.monotonic() + 120
        while "Running on local URL" not in log.read_text():
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        (folder / "gone.opus").unlink()
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def library(url, store):
    return Library(store)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with sync_playwright() as driver:
        context = driver.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("profile"), executable_path=CHROMIUM, args=BROWSER, headless=True
        )
        context.set_default_timeout(20_000)
        yield context
        context.close()


@pytest.fixture
def page(browser, url):
    """The page, loaded; at the end, nothing has failed in it, nobody else was asked, and no tag or name has run."""
    page, problems = browser.new_page(), []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("dialog", lambda dialog: (problems.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: problems.append(request.url) if is_outside(request.url) else None)
    page.problems = problems
    page.goto(url)
    page.wait_for_selector("#map .dot", state="attached")
    yield page
    assert page.evaluate("window.hacked") is None
    page.close()
    assert problems == []


def is_outside(url):
    return urlsplit(url).scheme in ("http", "https", "ws", "wss") and urlsplit(url).hostname != "127.0.0.1"


def ask(page, text, **options):
    for label, value in options.items():
        page.get_by_label(label.replace("_", " ")).first.fill(value)
    page.get_by_label("Describe the music").fill(text)
    page.get_by_role("button", name="Search").click()


def upload(page, path):
    page.set_input_files("#upload input[type=file]", path)


def wait_until_playing(page, selector):
    page.wait_for_function(f"document.querySelector({selector!r}).currentTime > 0.3")


def clock(text):
    minutes, seconds = text.split(":")
    return 60 * int(minutes) + int(seconds)


def similarity(wave, other):
    """The highest normalised correlation at any shift below 0.1 s: an MP3 encoder delays."""
    size = min(len(wave), len(other))
    values = correlate(wave[:size], other[:size], mode="same")
    middle = values[size // 2 - 4410 : size // 2 + 4410]
    return middle.max() / np.linalg.norm(wave[:size]) / np.linalg.norm(other[:size])


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_loads_and_fits(page, width):
    page.set_viewport_size({"width": width, "height": 844})
    assert page.get_by_role("heading", level=1).inner_text() == "Find music by how it sounds"
    assert f"Search {len(TITLES) + 1} tracks" in page.inner_text("header")
    assert "Nothing searched yet" in page.inner_text("#results")
    for label in ("Describe the music", "Without", "Only tracks where", "Number of tracks"):
        page.get_by_label(label).first.wait_for()  # until it is visible
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.locator("footer:visible").count() == 0
    assert page.locator("#map .dot").count() == len(TITLES)  # the copy is the same track


def test_a_sentence_finds_tracks_and_plays_their_best_segment(page, library):
    ask(page, "calm piano", Only_tracks_where="track not like '%gone%'")
    page.wait_for_selector("#results .cards")
    expected = library.search("calm piano", where="track not like '%gone%'", k=8)
    cards = page.locator("#results .cards .card")
    assert cards.count() == len(expected) == len(TITLES) - 1
    for number, answer in enumerate(expected):
        text, source = cards.nth(number).inner_text(), cards.nth(number).locator("audio").get_attribute("src")
        assert (answer["title"] or Path(answer["track"]).stem) in text
        assert re.search(r"(-?\d\.\d\d)", text).group(1) == f"{answer['score']:.2f}"
        start, end = re.search(r"(\d+:\d\d)–(\d+:\d\d)", text).groups()
        assert (clock(start), clock(end)) == (int(answer["start"]), int(answer["end"]))
        if number > 1:
            continue
        response = page.request.get(page.url + source)
        assert response.headers["content-type"] == "audio/mpeg"
        wave, rate = soundfile.read(io.BytesIO(response.body()))
        assert abs(len(wave) / rate - (answer["end"] - answer["start"])) < 0.06
        elsewhere = answer["start"] - 2 if answer["start"] > 4 else answer["start"] + 2
        heard, other = (read_audio(answer["track"], rate, at, 2) for at in (answer["start"], elsewhere))
        assert similarity(wave, heard) > 0.9 > 0.5 > similarity(wave, other)
    player = "#results .cards .card audio"
    page.eval_on_selector(player, "player => player.play()")
    wait_until_playing(page, player)
    assert page.eval_on_selector(player, "player => player.error") is None


def test_without_and_number(page, library):
    page.get_by_label("Number of tracks").first.fill("2")
    ask(page, "calm piano", Without="drums")
    page.wait_for_selector("#results .cards")
    names = page.locator("#results .cards h3").all_inner_texts()
    expected = library.search("calm piano", without="drums", k=2)
    assert names == [answer["title"] or Path(answer["track"]).stem for answer in expected]


def test_an_uploaded_track_finds_itself_and_gets_bars(page, folder):
    upload(page, folder / "plain.opus")
    page.wait_for_selector("#results .cards")
    first = page.locator("#results .cards .card").first.inner_text()
    assert "Plain title" in first and float(re.search(r"\d\.\d\d", first).group()) > 0.95
    page.wait_for_selector("#tags .bar")
    values = [int(value) for value in page.locator("#tags .value").all_inner_texts()]
    assert len(values) == 24 and min(values) >= 0 and max(values) <= 100 and len(set(values)) > 3
    assert "piano" in page.inner_text("#tags") and "plain.opus" in page.inner_text("#tags h2")


def test_audio_and_sentence_together(page, folder, library):
    upload(page, folder / "plain.opus")
    page.wait_for_selector("#results .cards")
    ask(page, "calm piano")
    page.wait_for_function("document.querySelector('#results h2').innerText.includes('calm piano')")
    names = page.locator("#results .cards h3").all_inner_texts()
    expected = library.search("calm piano", audio=str(folder / "plain.opus"), k=8)
    assert names == [answer["title"] or Path(answer["track"]).stem for answer in expected]


def test_uploads_that_are_no_audio_are_refused_in_words(page, tmp_path):
    (tmp_path / "text.mp3").write_text("these are words, not music\n" * 100)
    upload(page, tmp_path / "text.mp3")
    message = page.wait_for_selector("#results [role=alert]").inner_text()
    assert message.startswith("text.mp3 cannot be decoded") and str(tmp_path.parts[1]) + "/" not in message
    page.reload()
    (tmp_path / "notes.txt").write_text("words")
    upload(page, tmp_path / "notes.txt")
    assert "Invalid file type: notes.txt" in page.wait_for_selector(".toast-body").inner_text()


def test_large_uploads_are_refused_in_words(page, tmp_path):
    with (tmp_path / "large.wav").open("wb") as file:
        file.truncate(500 * MEBIBYTE)
    upload(page, tmp_path / "large.wav")
    assert "maximum allowed size of 50" in page.wait_for_selector(".toast-body").inner_text()


def test_names_and_titles_are_text(page):
    ask(page, "calm piano")
    page.wait_for_selector("#results .cards")
    names = page.locator("#results .cards h3").all_inner_texts()
    expected = {title or Path(name).stem for name, title in TITLES.items()}
    assert set(names) == expected
    assert page.locator("#results :is(img, script, b, strong, a), #map :is(img, script)").count() == 0
    labels = page.eval_on_selector_all("#map [data-like]", "dots => dots.map(dot => dot.getAttribute('aria-label'))")
    assert set(labels) == expected
    gone = page.locator("#results .card", has_text="Deleted later")
    assert "no longer there" in gone.inner_text() and gone.locator("audio").count() == 0


@pytest.mark.parametrize(
    ("text", "condition", "message"),
    [
        ("calm piano", "tempo > 3", r"names an unknown column, tempo\. Columns: track, .*genre, year, bpm, key\."),
        ("calm piano", "bpm >", r"is not understood\. Columns: track, .*genre, year, bpm, key\."),
        ("calm piano", "bpm = 'fast'", r"does not fit the columns.*genre, year, bpm, key\."),
        ("calm piano", "genre = '<img src=x onerror=window.hacked=1>'", "No track passes the filter"),
        ("   ", "", "Ask for something"),
    ],
)
def test_what_is_wrong_with_a_request_is_said(page, text, condition, message):
    ask(page, text, Only_tracks_where=condition)
    assert re.search(message, page.wait_for_selector("#results [role=alert]").inner_text(), re.DOTALL)


def test_a_filter_on_tags(page):
    ask(page, "calm piano", Only_tracks_where="genre = 'jazz'")
    page.wait_for_selector("#results .cards")
    names = set(page.locator("#results .cards h3").all_inner_texts())
    assert names == {title for number, title in enumerate(TITLES.values(), 1) if number % 2 == 0 and title}


@pytest.mark.parametrize("how", ["mouse", "keyboard", "card"])
def test_a_track_is_picked_on_the_map_or_in_a_card(page, how):
    dot = "#map [aria-label='Plain title']"
    if how == "mouse":
        page.locator(f"{dot} .target").click()
    elif how == "keyboard":
        page.locator(dot).focus()
        page.keyboard.press("Enter")
    else:
        ask(page, "calm piano")
        page.get_by_role("button", name="More like Plain title").click()
    page.wait_for_selector("#results .selected")
    assert "Plain title" in page.inner_text("#results .selected h3")
    wait_until_playing(page, "#results .selected audio")
    names = page.locator("#results .cards h3").all_inner_texts()
    assert len(names) == len(TITLES) - 1 and "Plain title" not in names
    colours = [page.eval_on_selector(f"{dot} .dot", "dot => getComputedStyle(dot).getPropertyValue('--dot')")]
    colours.append(page.eval_on_selector("#map .dot", "dot => getComputedStyle(dot).getPropertyValue('--dot')"))
    assert all(colours)


def test_only_segments_of_the_library_are_served(page, url, folder, library):
    rows = library.store.rows("start = 0").to_pylist()
    digest = {Path(row["track"]).name: row["hash"] for row in rows}
    get = page.request.get
    assert get(f"{url}segments/{digest['plain.opus']}/0.mp3").status == 200
    part = get(f"{url}segments/{digest['plain.opus']}/0.mp3", headers={"Range": "bytes=0-99"})
    assert part.status == 206 and len(part.body()) == 100  # players seek by ranges
    wrong = [f"{digest['plain.opus']}/500.mp3", f"{digest['gone.opus']}/0.mp3", "0/0.mp3", "'%20OR%20'1'='1/0.mp3"]
    wrong += ["..%2f..%2f..%2fetc%2fpasswd/0.mp3", f"{digest['plain.opus']}/-1.mp3"]
    for address in wrong:
        assert get(f"{url}segments/{address}").status == 404, address
    for path in ("/etc/passwd", folder / "plain.opus", ROOT / "README.md", ROOT / "space" / "app.py"):
        assert get(f"{url}gradio_api/file={path}").status in (403, 404), path
