"""The frame of every page: the way back, search, and which revision of the atlas it shows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.keys import Key
from microscope_space.html import links, markup, text
from microscope_space.html.escaped import NOTHING, html, joined

VIEWS = {
    "": "Networks",
    "caricature": "Caricature",
    "probe": "What fires here?",
    "compare": "Compare",
    "list": "Lists",
    "about": "About",
}
LIVE = ("caricature", "probe")  # more than a page of HTML: Gradio's components stand below its head, and then its foot


@dataclass(frozen=True)
class Page:
    """What stands in the frame, and what is said of it where its link is shared."""

    title: str  # without the Space's own name; empty of the first page
    body: Markup  # with its heading
    about: str = text.LEAD  # a sentence or two for those who have the link alone
    key: Key | None = None  # that it is about
    view: str = ""  # of VIEWS, or `search` and `wrong`
    asked: Mapping[str, str] = field(default_factory=dict)  # what its link says beside the key or the view
    status: int = 200  # HTTP's: 400 for a question that nobody can answer, 404 for what is not there

    @property
    def shown(self) -> str:
        """The title of a browser's tab."""
        return f"{self.title} · {text.TITLE}" if self.title else text.TITLE

    @property
    def path(self) -> str:
        """Its one link, without the Space's own path."""
        return links.path(*self._parts, **self._named)

    @property
    def query(self) -> str:
        """The same as a query alone, which is all of a link that Hugging Face's frame around a Space shows."""
        return links.query(*self._parts, **self._named)

    @property
    def _parts(self) -> tuple[str | None, str | None, int | None]:
        return (self.key.model, self.key.layer, self.key.unit) if self.key else (None, None, None)

    @property
    def _named(self) -> dict[str, Any]:
        return {**({"view": self.view} if self.view in VIEWS and self.view else {}), **self.asked}


def frame(atlas: Atlas, page: Page, notice: Markup = NOTHING) -> Markup:
    """A whole page, but for what a document has around it."""
    at = None if page.key else page.view
    nav = joined(
        html('<a href="{}"{}>{}</a>', links.href(view=name or None), markup.current(at == name, "page"), words)
        for name, words in VIEWS.items()
    )
    live = page.view in LIVE  # where Gradio's page has a main part of its own
    return html(
        '<div class="atlas" data-title="{}" data-view="{}"><a class="skip" href="#content">Skip to content</a>'
        '<header><a class="home" href="{}">{}</a><nav aria-label="Pages">{}</nav>'
        '<form role="search" action="{}" method="get"><input type="search" name="q" aria-label="Search networks, '
        'layers, units and classes" placeholder="Search, or paste a key" maxlength="256"></form></header>{}{}{}</div>',
        page.shown,
        page.view,
        links.root(),
        text.TITLE,
        nav,
        links.root(),
        _trail(page.key),
        html('<div id="content" tabindex="-1">{}{}</div>', notice, page.body)
        if live
        else html('<main id="content" tabindex="-1">{}{}</main>', notice, page.body),
        NOTHING if live else foot(atlas),
    )


def foot(atlas: Atlas) -> Markup:
    """What stands below every page: which revision it shows."""
    return html(
        '<footer><p>Atlas revision: <span class="revision">{}</span></p>'
        '<p>Pictures: CC BY 4.0. <a href="{}">How to cite, limits, sources</a></p></footer>',
        atlas.revision,
        links.href(view="about"),
    )


def _trail(key: Key | None) -> Markup:
    """The way from the networks to here."""
    if key is None:
        return NOTHING
    steps = [("Networks", links.root()), (key.model, links.href(key.model))]
    if key.layer is not None:
        steps.append((key.layer, links.href(key.model, key.layer)))
    if key.unit is not None:
        steps.append((str(key.unit), links.href(key.model, key.layer, key.unit)))
    last = len(steps) - 1
    listed = joined(
        html('<li><a href="{}"{}>{}</a></li>', link, markup.current(at == last, "page"), words)
        for at, (words, link) in enumerate(steps)
    )
    return html('<nav class="trail" aria-label="Where this is"><ol>{}</ol></nav>', listed)
