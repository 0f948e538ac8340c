"""The Space in a real browser: links, history, keyboard, phones, and what it must never do."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

import pytest
from playwright.sync_api import Browser, Page, Route, sync_playwright

from tests.atlases import MODEL
from tests.space.accessible import problems
from tests.space.test_pages import HOSTILE, PAGES, PARAMETERS

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium"),
]

DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
BUSIEST, LONG = {"home", "layer", "search", "unit"}, pytest.mark.long
LAYER = f"?model={MODEL}&layer=blocks_4"
UNIT = f"{LAYER}&unit=2"


@dataclass
class Visit:
    """A page in the browser, and all that went wrong in it."""

    page: Page
    address: str
    wrong: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        host = urlsplit(self.address).netloc
        self.page.on(
            "console",  # but for the status of a page about what is not there
            lambda said: (
                said.type in ("error", "warning")
                and not ("status of 40" in said.text and said.location["url"] == self.page.url)
                and self.wrong.append(said.text)
            ),
        )
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.wrong.append(f"dialog {dialog.message}"), dialog.dismiss()))
        self.page.on(
            "requestfailed",  # but for what was left behind with its page
            lambda request: (
                "ERR_ABORTED" not in request.failure and self.wrong.append(f"failed {request.url}: {request.failure}")
            ),
        )
        self.page.on(
            "request",
            lambda request: (
                urlsplit(request.url).netloc not in (host, "") and self.wrong.append(f"asked {request.url}")
            ),
        )

    def go(self, link: str) -> None:
        self.page.goto(f"{self.address}/{link}")
        self.page.wait_for_selector(".atlas h1")

    def shows(self, heading: str) -> None:
        self.page.wait_for_function(
            "words => document.querySelector('.atlas h1')?.innerText.includes(words)", arg=heading
        )
        self.page.wait_for_load_state()  # keys and pointers are heard from here on


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(params=[DESKTOP, pytest.param(PHONE, marks=LONG)], ids=["desktop", "phone"])
def visit(request: pytest.FixtureRequest, chromium: Browser, server: str) -> Iterator[Visit]:
    context = chromium.new_context(viewport=request.param, reduced_motion="reduce")
    visit = Visit(context.new_page(), server)
    yield visit
    context.close()
    assert visit.wrong == []


@pytest.fixture
def desktop(chromium: Browser, server: str) -> Iterator[Visit]:
    context = chromium.new_context(viewport=DESKTOP, permissions=["clipboard-read", "clipboard-write"])
    visit = Visit(context.new_page(), server)
    yield visit
    context.close()
    assert visit.wrong == []


@pytest.mark.parametrize(
    ("visit", "name"),
    [
        pytest.param(view, name, id=f"{words}-{name}", marks=LONG if view == PHONE or name not in BUSIEST else ())
        for words, view in (("desktop", DESKTOP), ("phone", PHONE))
        for name in PAGES
    ],
    indirect=["visit"],
)
def test_every_page_is_shown_and_accessible(visit: Visit, name: str) -> None:
    visit.go(f"?{urlencode(PAGES[name])}")
    assert "Atlas revision: not published" in visit.page.inner_text("footer")
    assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "scrolls sideways"
    if name == "unit":  # what is made does not push what is natural out of reach
        assert visit.page.evaluate("document.querySelector('#samples').getBoundingClientRect().top") < 4000
    assert problems(visit.page) == []


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name == "unit" else LONG) for name in PAGES])
def test_dark_pages_are_accessible(desktop: Visit, name: str) -> None:
    desktop.page.emulate_media(color_scheme="dark")
    desktop.go(f"?{urlencode({**PAGES[name], '__theme': 'dark'})}")
    assert desktop.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 27)"
    assert problems(desktop.page) == []


@LONG
def test_images_are_shown(visit: Visit) -> None:
    visit.go(UNIT)
    images = visit.page.locator(".atlas img")
    for at in range(images.count()):
        images.nth(at).scroll_into_view_if_needed()
    visit.page.wait_for_function("[...document.images].every((image) => image.complete && image.naturalWidth)")
    visit.go(LAYER)
    behind = visit.page.eval_on_selector(".sheet i", "tile => getComputedStyle(tile).backgroundImage")
    assert (
        visit.page.request.get(behind.removeprefix('url("').removesuffix('")')).headers["content-type"] == "image/jpeg"
    )


def test_from_network_to_unit_and_back_and_forward(visit: Visit) -> None:
    visit.go("")
    visit.page.click(".cards a")
    visit.shows("EfficientNet-Lite0")
    visit.page.click(".graph a >> nth=0")
    visit.shows("blocks_4")
    visit.page.click(".sheet a >> nth=2")
    visit.shows("blocks_4 2")
    assert visit.page.url == f"{visit.address}/{MODEL}/blocks_4/2"
    assert visit.page.title() == f"{MODEL}/blocks_4/2 · Microscope Atlas"
    visit.page.go_back()
    visit.shows(f"{MODEL} blocks_4")
    visit.page.go_back()
    visit.shows("EfficientNet-Lite0")
    visit.page.go_forward()
    visit.page.go_forward()
    visit.shows("blocks_4 2")
    visit.page.reload()
    visit.shows("blocks_4 2")


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name == "unit" else LONG) for name in PAGES])
def test_every_page_is_read_without_script(chromium: Browser, server: str, name: str) -> None:
    with chromium.new_context(viewport=DESKTOP, java_script_enabled=False) as context:
        visit = Visit(context.new_page(), server)
        visit.go(f"?{urlencode(PAGES[name])}")
        assert "Atlas revision" in visit.page.inner_text("footer")
        assert visit.wrong == []


def test_links_and_forms_work_without_script(chromium: Browser, server: str) -> None:
    with chromium.new_context(viewport=DESKTOP, java_script_enabled=False) as context:
        visit = Visit(context.new_page(), server)
        visit.go(LAYER)
        visit.page.select_option("select[name=sort]", "maximum")
        visit.page.click("button:text-is('Show')")
        visit.page.wait_for_url(re.compile("sort=maximum"))
        visit.page.click(".sheet a >> nth=1")
        visit.page.wait_for_url(re.compile(f"/{MODEL}/blocks_4/[0-9]+$"))
        visit.page.click(".figures a.large >> nth=0")
        visit.page.wait_for_url(re.compile("picture"))


def test_everything_is_reached_by_keyboard(desktop: Visit) -> None:
    desktop.go(LAYER)
    reached = []
    for _ in range(40):
        desktop.page.keyboard.press("Tab")
        at = desktop.page.evaluate(
            """() => {
            const at = document.activeElement, style = getComputedStyle(at);
            return [at.tagName, at.getAttribute("href") || at.name || "", style.outlineStyle + style.outlineWidth];
            }"""
        )
        reached.append(at)
        if at[1] == f"/{MODEL}/blocks_4/2":
            break
    assert reached[0][1] == "#content"
    assert {"q", "sort"} <= {name for _, name, _ in reached}
    assert all(outline == "solid3px" for _, _, outline in reached), reached
    desktop.page.keyboard.press("Enter")
    desktop.shows("blocks_4 2")


@pytest.mark.long
def test_sorting_is_in_the_link(desktop: Visit) -> None:
    desktop.go(LAYER)
    desktop.page.select_option("select[name=sort]", "maximum")
    desktop.page.wait_for_url(re.compile("sort=maximum"))
    sorted_units = desktop.page.eval_on_selector_all(".sheet a span", "all => all.map((each) => each.innerText)")
    desktop.page.reload()
    desktop.page.wait_for_selector(".sheet")
    assert (
        desktop.page.eval_on_selector_all(".sheet a span", "all => all.map((each) => each.innerText)") == sorted_units
    )
    assert desktop.page.input_value("select[name=sort]") == "maximum"


def test_search_finds_a_pasted_key(desktop: Visit) -> None:
    desktop.go("")
    desktop.page.fill("input[name=q]", f"{MODEL}/blocks_4/2")
    desktop.page.keyboard.press("Enter")
    desktop.shows("blocks_4 2")


def test_search_results_have_pictures_and_lead_there(visit: Visit) -> None:
    visit.go("?q=blocks+4+1")
    visit.shows("Search")
    visit.page.wait_for_function("[...document.images].every((image) => image.complete && image.naturalWidth)")
    visit.page.click(".found a >> nth=0")
    visit.shows("blocks_4 1")


@pytest.mark.long
def test_old_path_lands_where_it_is_said(desktop: Visit) -> None:
    desktop.page.goto(f"{desktop.address}/models/inceptionv1/mixed4c_0/447")
    desktop.shows("There is nothing at this link")
    assert "inceptionv1" in desktop.page.inner_text(".error")


@pytest.mark.long
def test_what_is_to_be_copied_is(desktop: Visit) -> None:
    desktop.go(UNIT)
    desktop.page.click("[data-link]")
    desktop.page.wait_for_selector("text=Copied")
    copied = desktop.page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith(f"{desktop.address}/{MODEL}/blocks_4/2?revision=")
    desktop.page.click("summary:text-is('Cite')")
    desktop.page.click("details[open] [data-copy]")
    desktop.page.wait_for_function("navigator.clipboard.readText().then((text) => text.startsWith('@misc{'))")
    desktop.go(copied.removeprefix(f"{desktop.address}/"))
    assert desktop.page.locator(".notice").count() == 0
    with desktop.page.expect_download() as download:
        desktop.page.click("a[download]")
    assert download.value.suggested_filename.endswith(".jpg")


@pytest.mark.parametrize(
    "hostile", [HOSTILE[0], *(pytest.param(each, marks=LONG) for each in HOSTILE[1:5])], ids=range(5)
)
def test_hostile_link_does_nothing(desktop: Visit, hostile: str) -> None:
    for asked in (dict.fromkeys(PARAMETERS[:6], hostile), {"q": hostile}, {"view": "compare", "a": hostile}):
        desktop.go(f"?{urlencode(asked)}")
        assert desktop.page.locator(".atlas script, .atlas [onerror], .atlas [onmouseover]").count() == 0


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=LONG)])
def test_card_fits_its_frame(desktop: Visit, scheme: str) -> None:
    desktop.page.emulate_media(color_scheme=scheme)
    desktop.go(UNIT)
    copied = desktop.page.eval_on_selector_all("#use ~ details pre", "all => all.at(-1).textContent")
    desktop.go("")
    desktop.page.evaluate("given => document.body.insertAdjacentHTML('beforeend', given)", copied)
    frame = desktop.page.frame_locator("iframe")
    frame.locator("h1 a").wait_for()
    assert problems(desktop.page) == []
    assert frame.locator("img").first.evaluate("image => image.decode().then(() => image.naturalWidth)") == 32
    for size in ((320, 440), (200, 300), (480, 240)):
        desktop.page.eval_on_selector("iframe", "(frame, [w, h]) => (frame.width = w, frame.height = h)", size)
        fits = "page => page.scrollWidth <= innerWidth && page.scrollHeight <= innerHeight"
        assert frame.locator("html").evaluate(fits), size
    paper = frame.locator("body").evaluate("body => getComputedStyle(body).backgroundColor")
    assert paper == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(20, 23, 27)")


def test_arrow_keys_lead_to_the_units_beside(desktop: Visit) -> None:
    desktop.go(UNIT)
    desktop.page.keyboard.press("ArrowRight")
    desktop.shows("blocks_4 3")
    desktop.page.keyboard.press("ArrowLeft")
    desktop.shows("blocks_4 2")
    desktop.page.focus("input[name=q]")
    desktop.page.keyboard.press("ArrowLeft")
    desktop.page.keyboard.type("x")
    assert desktop.page.url.endswith("/blocks_4/2")


def test_pictures_open_large_and_close_again(desktop: Visit) -> None:
    desktop.go(UNIT)
    desktop.page.click(".figures a.large >> nth=0")
    desktop.page.wait_for_function("document.querySelector('dialog img')?.naturalWidth > 0")
    first = desktop.page.get_attribute("dialog img", "src")
    assert problems(desktop.page) == []
    desktop.page.keyboard.press("ArrowRight")
    assert desktop.page.get_attribute("dialog img", "src") != first
    desktop.page.keyboard.press("Escape")
    desktop.page.wait_for_selector("dialog", state="detached")
    assert desktop.page.url.endswith(UNIT)


def test_pointing_at_a_tile_shows_it_large(desktop: Visit) -> None:
    desktop.go(LAYER)
    desktop.page.hover(".sheet a >> nth=1")
    shown = desktop.page.locator(".glance")
    shown.locator("img").nth(1).wait_for()
    assert "maximum" in shown.inner_text()
    desktop.page.evaluate("scrollBy(0, 1)")  # the pointer rests on the tile, which shows it again at once
    shown.wait_for()
    desktop.page.evaluate("scrollTo(0, document.body.scrollHeight)")
    shown.wait_for(state="hidden")
    desktop.page.hover(".sheet a >> nth=1")
    shown.wait_for()
    assert problems(desktop.page) == []
    desktop.page.keyboard.press("Escape")
    assert not shown.is_visible()
    desktop.go(UNIT)
    desktop.page.hover("#nearest ~ .tiles a >> nth=0")
    shown.locator("img").nth(1).wait_for()
    desktop.go(LAYER)
    desktop.page.select_option("select[name=direction]", "-1")
    desktop.page.wait_for_url(f"{desktop.address}/{MODEL}/blocks_4?direction=-1")  # what is as usual is not said


def test_sections_stay_in_sight(visit: Visit) -> None:
    visit.go(UNIT)
    visit.page.click(".sections a:text-is('Statistics')")
    visit.page.wait_for_function(
        """() => {
        const row = document.querySelector('.sections').getBoundingClientRect();
        const head = document.querySelector('#statistics').getBoundingClientRect();
        return row.top >= 0 && row.top < 2 && head.top >= row.bottom && head.top < innerHeight;
        }"""
    )


def test_a_unit_page_asks_little_before_its_pictures(desktop: Visit) -> None:
    asked, size = [], 0
    desktop.page.on("response", lambda answer: asked.append(answer))
    desktop.go(UNIT)
    desktop.page.wait_for_load_state("networkidle")
    others = [answer for answer in asked if "/picture?" not in answer.url]
    for answer in others:
        sizes = answer.request.sizes()
        size += sizes["responseBodySize"] + sizes["responseHeadersSize"]
    assert len(others) <= 12
    assert size <= 150_000


def test_the_address_around_a_space_follows(chromium: Browser, server: str) -> None:
    """Hugging Face shows a Space in a frame of another host, and as its own address what the frame tells it."""
    face, space = "https://huggingface.co", "https://someone-atlas.hf.space"
    with chromium.new_context(viewport=DESKTOP) as context:
        page = context.new_page()
        hears = 'told = []; addEventListener("message", (e) => told.push([e.origin, e.data.queryString]))'
        src = f"{space}/?model={MODEL}&layer=blocks_4&__theme=dark"
        around = f'<script>{hears}</script><iframe src="{src}" width="1000" height="800"></iframe>'
        page.route(f"{face}/**", lambda route: route.fulfill(body=around, content_type="text/html"))

        def behind(route: Route) -> None:
            answer = context.request.get(
                route.request.url.replace(space, server),
                headers={"x-forwarded-host": "someone-atlas.hf.space", "x-forwarded-proto": "https"},
            )
            route.fulfill(response=answer)

        page.route(f"{space}/**", behind)
        page.goto(f"{face}/spaces/someone/atlas")
        page.wait_for_function("told.length == 1")
        frame = page.frame_locator("iframe")
        frame.locator(".sheet a >> nth=2").click()
        page.wait_for_function("told.length == 2")
        assert page.evaluate("told") == [
            [space, f"model={MODEL}&layer=blocks_4"],
            [space, f"model={MODEL}&layer=blocks_4&unit=2"],
        ]
        # the theme that the frame asked for first stays
        assert frame.locator("body").evaluate("body => getComputedStyle(body).backgroundColor") == "rgb(20, 23, 27)"
