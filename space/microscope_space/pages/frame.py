"""The frame of every page: the way back, search, and which revision of the atlas it shows."""

from html import escape

from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.keys import Key
from microscope_space.html import links, text

VIEWS = {
    "": "Networks",
    "caricature": "Caricature",
    "probe": "What fires here?",
    "compare": "Compare",
    "about": "About",
}
LIVE = ("caricature", "probe")  # more than a page of HTML: Gradio's components stand below its head, and then its foot


def frame(atlas: Atlas, title: str, body: str, key: Key | None = None, view: str = "") -> str:
    """A whole page; `body` is HTML. The heading is the body's."""
    at = None if key else view
    nav = "".join(
        f'<a href="{links.href(view=name or None)}"{" aria-current=page" if at == name else ""}>{words}</a>'
        for name, words in VIEWS.items()
    )
    shown = f"{title} · {text.TITLE}" if title else text.TITLE
    return (
        f'<div class="atlas" data-title="{escape(shown)}" data-view="{escape(view)}">'
        '<a class="skip" href="#content">Skip to content</a>'
        f'<header><a class="home" href="?">{text.TITLE}</a><nav aria-label="Pages">{nav}</nav>'
        '<form role="search" action="?" method="get"><input type="search" name="q" aria-label="Search networks, '
        'layers, units and classes" placeholder="Search, or paste a key" maxlength="256"></form></header>'
        f"{_trail(key)}"
        f'<div id="content" tabindex="-1">{body}</div>{"" if view in LIVE else foot(atlas)}</div>'
    )


def foot(atlas: Atlas) -> str:
    """What stands below every page: which revision it shows."""
    return (
        f'<footer><p>Atlas revision: <span class="revision">{escape(atlas.revision)}</span></p>'
        f'<p>Pictures: CC BY 4.0. <a href="{links.href(view="about")}">How to cite, limits, sources</a></p></footer>'
    )


def _trail(key: Key | None) -> str:
    """The way from the networks to here."""
    if key is None:
        return ""
    steps = [("Networks", "?"), (key.model, links.href(key.model))]
    if key.layer is not None:
        steps.append((key.layer, links.href(key.model, key.layer)))
    if key.unit is not None:
        steps.append((str(key.unit), links.href(key.model, key.layer, key.unit)))
    last = len(steps) - 1
    listed = "".join(
        f'<li><a href="{link}"{" aria-current=page" if at == last else ""}>{escape(words)}</a></li>'
        for at, (words, link) in enumerate(steps)
    )
    return f'<nav class="trail" aria-label="Where this is"><ol>{listed}</ol></nav>'
