"""The live views in a browser: upload, frames, cancel, what is said, and who else is asked."""

import base64
import io
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin
from playwright.sync_api import Browser, Page, expect, sync_playwright

from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.lenses.caricature import RECIPES
from microscope_atlas.lenses.frames import GENTLE
from microscope_atlas.pictures.sources import source
from microscope_atlas.rendering.ascend import Ascent
from microscope_space import app
from microscope_space.live import caricature, live, probe
from tests.atlases import MODEL
from tests.space.accessible import problems

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = "--no-sandbox --disable-gpu --disable-quic --disable-background-networking --disable-component-update"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="no Chromium here"),
]


@pytest.fixture(scope="module")
def served(known: Atlas, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of a Space with the live views, and where it keeps uploads."""
    folder = tmp_path_factory.mktemp("uploads")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder))
        patch.setitem(app.LIVE, "caricature", caricature.build)
        patch.setitem(app.LIVE, "probe", probe.build)
        patch.setitem(RECIPES, "draft", replace(RECIPES["draft"], ascent=Ascent(steps=64, views=GENTLE), max_size=48))
        patch.setitem(RECIPES, "standard", replace(RECIPES["standard"], ascent=Ascent(steps=10**6), max_size=48))
        patch.setitem(live.BUDGET_SECONDS, "cpu", 3600.0)
        application, address = app.serve(known.storage, prevent_thread_lock=True, quiet=True)
        yield address, folder
        application.get_blocks().close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser, served: tuple[str, Path]) -> Iterator[Page]:
    """A page that fails its test where it asks another host, or complains."""
    page = chromium.new_page(base_url=served[0])
    wrong: list[str] = []
    page.on("request", lambda r: None if r.url.startswith((served[0], "data:", "blob:")) else wrong.append(r.url))
    page.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: wrong.append(str(e)))
    page.set_default_timeout(120_000)
    expect.set_options(timeout=120_000)
    yield page
    page.close()
    assert not wrong


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "holiday.jpg"
    source("cat").rotate(90).save(path)
    return path


def upload(page: Page, photo: Path) -> None:
    page.set_input_files("input[type=file]", photo)
    expect(page.locator("figcaption", has_text="Your picture").first).to_be_visible()


def kept(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size]


@pytest.mark.long
def test_frames_stream_and_the_result_holds_its_recipe(page: Page, served: tuple[str, Path], photo: Path) -> None:
    page.goto(f"/?view=caricature&model={MODEL}&layer=blocks_4")
    upload(page, photo)
    page.evaluate(
        """() => { window.told = []; new MutationObserver(() => {
        for (const each of document.querySelectorAll('[role=status]')) window.told.push(each.textContent);
        }).observe(document.body, {childList: true, subtree: true, characterData: true}); }"""
    )
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_text("Done: 48 steps")).to_be_visible()
    assert problems(page) == []
    steps = {words for words in page.evaluate("window.told") if words.startswith("Step ")}
    assert len(steps) > 3, steps
    with page.expect_download() as download:
        page.get_by_role("link", name="Picture").click()
    assert download.value.suggested_filename == f"caricature-{MODEL}-blocks_4.png"
    with Image.open(download.value.path()) as png:
        assert isinstance(png, PngImagePlugin.PngImageFile)
        assert json.loads(png.text["recipe"])["layer"] == "blocks_4"
    assert not kept(served[1])


@pytest.mark.long
def test_cancel_ends_the_rendering(page: Page, photo: Path) -> None:
    page.goto(f"/?view=caricature&model={MODEL}&layer=blocks_4")
    upload(page, photo)
    page.get_by_text("Standard").click()
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_text("of 1000000")).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("Cancelled.")).to_be_visible()
    time.sleep(1)
    expect(page.get_by_text("Cancelled.")).to_be_visible()
    # the renderer is free: the next is shown long before those steps could be done
    page.get_by_text("Draft").click()
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_text("Done: 48 steps")).to_be_visible()


@pytest.mark.long
def test_two_visitors_are_served_in_turn(chromium: Browser, served: tuple[str, Path], photo: Path) -> None:
    pages = [chromium.new_page(base_url=served[0]) for _ in range(2)]
    for page in pages:
        page.goto(f"/?view=caricature&model={MODEL}&layer=blocks_4")
        upload(page, photo)
    pages[0].get_by_text("Standard").click()
    for page in pages:
        page.get_by_role("button", name="Start").click()
        expect(page.get_by_text("of 1000000" if page is pages[0] else "Waiting: 1 before you")).to_be_visible()
    pages[0].get_by_role("button", name="Cancel").click()
    expect(pages[1].get_by_text("Done: 48 steps")).to_be_visible()
    pages[0].get_by_text("Draft").click()
    pages[0].get_by_role("button", name="Start").click()
    for page in pages:
        expect(page.get_by_text("Done: 48 steps")).to_be_visible(timeout=120_000)
        page.close()


@pytest.mark.long
def test_a_full_queue_says_so(known: Atlas, monkeypatch: pytest.MonkeyPatch, chromium: Browser) -> None:
    monkeypatch.setattr(app, "QUEUE", 0)
    application, address = app.serve(known.storage, prevent_thread_lock=True, quiet=True)
    page = chromium.new_page()
    page.goto(f"{address}?view=probe")
    page.get_by_role("button", name="Look").click()
    expect(page.get_by_text("This application is currently busy. Please try again.")).to_be_visible()
    page.close()
    application.get_blocks().close()


@pytest.mark.long
def test_browsing_goes_on_while_something_is_rendered(page: Page, chromium: Browser, photo: Path) -> None:
    page.goto(f"/?view=caricature&model={MODEL}&layer=blocks_4")
    upload(page, photo)
    page.get_by_text("Standard").click()
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_text("of 1000000")).to_be_visible()
    answer = page.request.get(f"/{MODEL}/blocks_4", timeout=3000)
    assert answer.ok
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("Cancelled.")).to_be_visible()


def test_what_fires_leads_to_its_unit(page: Page, served: tuple[str, Path], photo: Path) -> None:
    page.goto(f"/?view=probe&model={MODEL}")
    upload(page, photo)
    page.get_by_role("button", name="Look").click()
    first = page.locator(".excited a").first
    expect(first).to_be_visible()
    assert problems(page) == []
    link = first.get_attribute("href")
    assert link and link.startswith(f"./{MODEL}/blocks_")
    first.click()
    page.wait_for_url(f"**{link.removeprefix('.')}")
    assert not kept(served[1])


def test_why_here_leads_to_what_an_answer_is_credited_to(page: Page, served: tuple[str, Path], photo: Path) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(f"/?view=probe&model={MODEL}")
    upload(page, photo)
    page.get_by_role("button", name="Look").click()
    page.locator(".classes [data-why]").first.click()
    expect(page.locator("h3", has_text="Why ")).to_be_visible()
    expect(page.get_by_text("Tested:")).to_be_visible()
    expect(page.get_by_label("Credit units of the layer")).to_have_value("blocks_6")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert problems(page) == []
    assert not kept(served[1])
    link = page.locator(".groups a, .excited a").first.get_attribute("href")
    assert link and link.startswith(f"./{MODEL}/blocks_6/")


@pytest.mark.long
def test_why_of_a_point_is_asked_by_a_click_and_by_sliders(page: Page) -> None:
    page.goto(f"/?view=probe&model={MODEL}&picture=dog&__theme=dark")
    page.get_by_role("button", name="Look").click()
    page.locator("[data-why^='blocks_6/']").first.click()
    first = page.locator("h3", has_text="Why blocks_6")
    expect(first).to_be_visible()
    assert problems(page) == []
    where = page.locator("h3.why + p")
    strongest = where.inner_text()
    page.locator("[data-point]").click(position={"x": 112, "y": 60})
    expect(where).not_to_have_text(strongest)
    expect(page.get_by_label("number input for Percent from the left")).to_have_value("50")
    clicked = where.inner_text()
    page.get_by_label("number input for Percent from the left").fill("20")
    page.locator("button", has_text="Why here?").first.click()
    expect(where).not_to_have_text(clicked)
    assert problems(page) == []
    page.get_by_label("Why this: choose, or type LAYER/UNIT").fill("nothing")
    page.keyboard.press("Enter")
    page.locator("button", has_text="Why here?").first.click()
    expect(page.get_by_role("alert").filter(has_text="nothing")).to_be_visible()


@pytest.mark.long
def test_a_link_leads_to_the_result_again(page: Page) -> None:
    page.goto(f"/?view=caricature&model={MODEL}&layer=blocks_4&picture=cat")
    expect(page.get_by_text("The atlas has this already.")).to_be_visible()
    link = page.get_by_role("link", name="Link to this").get_attribute("href")
    assert link == f"./?model={MODEL}&layer=blocks_4&view=caricature&picture=cat"


def test_a_bad_picture_is_refused_politely(page: Page, served: tuple[str, Path], tmp_path: Path) -> None:
    bad = tmp_path / "<img src=x onerror=alert(1)>.png"
    bad.write_bytes(b"<script>alert(1)</script>")
    page.goto("/?view=probe")
    page.set_input_files("input[type=file]", bad)
    expect(page.get_by_role("alert").filter(has_text="This is no picture that can be read here")).to_be_visible()
    assert not kept(served[1])


@pytest.mark.long
@pytest.mark.parametrize("view", ["caricature", "probe"])
def test_a_phone_shows_it_whole(page: Page, view: str) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(f"/?view={view}")
    expect(page.get_by_role("button", name="Start" if view == "caricature" else "Look")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert problems(page) == []


@pytest.mark.long
@pytest.mark.parametrize("view", ["caricature", "probe"])
def test_dark_views_are_accessible(page: Page, view: str) -> None:
    page.goto(f"/?view={view}&__theme=dark")
    expect(page.get_by_role("button", name="Start" if view == "caricature" else "Look")).to_be_visible()
    assert problems(page) == []


@pytest.mark.long
def test_it_works_by_keyboard(page: Page) -> None:
    page.goto("/?view=probe")
    button = page.get_by_role("button", name="Look")
    expect(button).to_be_visible()
    for _ in range(40):
        page.keyboard.press("Tab")
        if button.evaluate("each => each === document.activeElement"):
            break
    page.keyboard.press("Enter")
    expect(page.locator(".excited a").first).to_be_visible()


@pytest.mark.long
def test_programs_get_the_same(served: tuple[str, Path]) -> None:
    from gradio_client import Client

    client = Client(served[0], verbose=False)
    file = io.BytesIO()
    source("cat").rotate(90).save(file, "PNG")
    picture = base64.b64encode(file.getvalue()).decode()
    job = client.submit(picture, MODEL, ["blocks_4"], "draft", api_name="/caricature")
    last = job.result(timeout=60)
    assert last["step"] == 64 and last["caricatures"][0]["made"]["layer"] == "blocks_4"
    assert len(job.outputs()) > 3
    rows = client.predict("cat", MODEL, 1, api_name="/probe")
    assert [row["layer"] for row in rows] == ["blocks_4", "blocks_6"]
    told = client.predict("dog", MODEL, "logits", 235, api_name="/why")
    assert (told["class_name"], told["earlier"]) == ("German shepherd", "blocks_6")
    with pytest.raises(Exception, match="no layer of efficientnet_lite0 is before stem"):
        client.predict("dog", MODEL, "stem", 1, api_name="/why")
    with pytest.raises(Exception, match="expected an image file in base64"):
        client.predict("/etc/passwd", MODEL, 1, api_name="/probe")
