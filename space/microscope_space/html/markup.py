"""What several pages are made of, as HTML."""

import base64
import io
import re
from collections.abc import Iterable, Mapping
from math import isfinite

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from microscope_atlas.atlas.dictionaries import Attached
from microscope_space.html import links, text
from microscope_space.html.escaped import NOTHING, html, joined


def number(value: float | None) -> str:
    """Three figures: `41.8`, `0.0123`; a dash where there is none."""
    if value is None:
        return "–"
    if not isfinite(value):
        return f"{value}".replace("-", "−")
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}".replace("-", "−")


def section(name: str, title: str, body: Markup, about: Markup | str = "", warning: Markup | str = "") -> Markup:
    """A part of a page, with its heading."""
    return html(
        '<section aria-labelledby="{}"><h2 id="{}">{}</h2>{}{}{}</section>',
        name,
        name,
        title,
        html('<p class="about">{}</p>', about) if about else NOTHING,
        body,
        html('<p class="warning"><span aria-hidden="true">△</span> {}</p>', warning) if warning else NOTHING,
    )


def absent(message: str) -> Markup:
    """In place of what there is not."""
    return html('<p class="absent">{}</p>', message)


def error(message: str) -> Markup:
    """What is wrong."""
    return html('<p class="error" role="alert">{}</p>', message)


def dictionary(one: Attached | None) -> Markup:
    """What makes a layer's units, where that is not the network itself."""
    return html('<p class="about">Its {}.</p>', breakable(one.sentence)) if one else NOTHING


def picture(src: str, alt: str, size: int, eager: bool = False) -> Markup:
    """An image; `src` is a link made by links."""
    when = html('fetchpriority="high"') if eager else html('loading="lazy" decoding="async"')
    return html('<img src="{}" alt="{}" width="{}" height="{}" {}>', src, alt, size, size, when)


def large(src: str, shown: Markup, about: Markup = NOTHING) -> Markup:
    """An image that leads to itself, as large as it is; `about` are attributes for the script, which shows it so."""
    return html('<a class="large" href="{}"{}>{}</a>', src, about, shown)


def pixels(values: NDArray[np.uint8], alt: str, size: int) -> Markup:
    """(height, width, 3) as an image of `size` px; nothing of it is written to disk."""
    file = io.BytesIO()
    Image.fromarray(values).save(file, "JPEG", quality=85, subsampling=0)
    uri = data_uri(file.getvalue(), "image/jpeg")
    return html('<img src="{}" alt="{}" width="{}" height="{}">', uri, alt, size, size)


def data_uri(file: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(file).decode()}"


def breakable(name: str) -> Markup:
    """A key, which may go on in the next line behind its slashes and underscores."""
    return joined(re.split("(?<=[_/])", name), "<wbr>")


def figure(content: Markup, caption: Markup | str = "", note: str = "") -> Markup:
    """A picture with what is to be said of it."""
    below = html("<small>{}</small>", note) if note else NOTHING
    return html("<figure>{}<figcaption>{}{}</figcaption></figure>", content, caption, below)


def facts(pairs: Iterable[tuple[str, Markup | str]]) -> Markup:
    """Names and values."""
    return html("<dl>{}</dl>", joined(html("<div><dt>{}</dt><dd>{}</dd></div>", *pair) for pair in pairs))


def flagged(flag: str | None) -> Markup:
    """What is wrong with a row, if anything is."""
    return html('<p class="flag"><b>{}</b> {}</p>', flag, text.FLAGS.get(flag, "")) if flag else NOTHING


def choice(name: str, options: Mapping[str, str], chosen: str, hint: str, usual: str | None = None) -> Markup:
    """A labelled select of a form; a link need not say what is as usual."""
    listed = joined(
        html('<option value="{}"{}>{}</option>', value, html(" selected") if value == chosen else NOTHING, shown)
        for value, shown in options.items()
    )
    known = html(' data-usual="{}"', usual) if usual is not None else NOTHING
    return html('<label>{} <select name="{}"{}>{}</select></label>', hint, name, known, listed)


def hidden(**values: object) -> Markup:
    """Fields of a form that are not seen; what is None is left out."""
    return joined(
        html('<input type="hidden" name="{}" value="{}">', name, value)
        for name, value in values.items()
        if value is not None
    )


def switch(hint: str, options: Iterable[tuple[str, str, bool]]) -> Markup:
    """Links of which one is chosen: (link, words, chosen)."""
    each = joined(html('<a href="{}"{}>{}</a>', link, current(chosen), words) for link, words, chosen in options)
    return html('<nav class="switch" aria-label="{}">{}</nav>', hint, each)


def current(chosen: bool, what: str = "true") -> Markup:
    """The attribute of a link to what is shown already."""
    return html(' aria-current="{}"', what) if chosen else NOTHING


def linked(url: str | None, words: Markup | str) -> Markup:
    """Words that lead to elsewhere, where an atlas states a link that may be followed."""
    to = links.outside(url) if url else None
    return html('<a href="{}">{}</a>', to, words) if to else html("{}", words)


def thumbnail(
    model: str, layer: str, unit: int, name: str | None, there: bool = True, kernel: Markup = NOTHING
) -> Markup:
    """A unit as a small link to its page; `name` is its image's in `units`, if it has one. Its number, if not there.

    The kernel that wires it to another is drawn over its picture, or below it where nobody can point at it.
    """
    if not there:
        return html(
            '<span class="tile" title="{}/{}/{}, not in this atlas">{}</span>{}', model, layer, unit, unit, kernel
        )
    src = links.image("units", model, name, "thumbnail") if name else ""
    shown = picture(src, "", 64) if src else html('<span class="nothing"></span>')
    if kernel:
        shown = html('<span class="both">{}{}</span>', shown, kernel)
    inner = html("{}<span>{}</span>", shown, unit)
    href = links.href(model, layer, unit)
    return html('<a class="tile" href="{}" title="{}/{}/{}">{}</a>', href, model, layer, unit, inner)


def tiles(listed: Markup) -> Markup:
    """Thumbnails side by side, each shown large where one points at it."""
    return html('<ul class="tiles" data-glance="{}" data-asked="{}">{}</ul>', links.glance(), links.asked(), listed)
