"""HTML from values: what several pages are made of. Every value is escaped here, or was made by us."""

import base64
import io
import re
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from microscope_atlas.atlas.dictionaries import Attached
from microscope_space.html import links, text


def number(value: float | None) -> str:
    """Three figures: `41.8`, `0.0123`; a dash where there is none."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}".replace("-", "−")


def section(name: str, title: str, body: str, about: str = "", warning: str = "") -> str:
    """A part of a page, with its heading; `about` and `warning` are our own HTML."""
    return (
        f'<section aria-labelledby="{name}"><h2 id="{name}">{escape(title)}</h2>'
        + (f'<p class="about">{about}</p>' if about else "")
        + body
        + (f'<p class="warning"><span aria-hidden="true">△</span> {warning}</p>' if warning else "")
        + "</section>"
    )


def absent(message: str) -> str:
    """In place of what there is not."""
    return f'<p class="absent">{escape(message)}</p>'


def dictionary(one: Attached | None) -> str:
    """What makes a layer's units, where that is not the network itself."""
    return f'<p class="about">Its {breakable(one.sentence)}.</p>' if one else ""


def picture(src: str, alt: str, size: int, eager: bool = False) -> str:
    """An image; `src` is a link made by links."""
    loading = "eager" if eager else "lazy"
    return f'<img src="{src}" alt="{escape(alt)}" width="{size}" height="{size}" loading="{loading}" decoding="async">'


def pixels(values: NDArray[np.uint8], alt: str, size: int) -> str:
    """(height, width, 3) as an image of `size` px; nothing of it is written to disk."""
    file = io.BytesIO()
    Image.fromarray(values).save(file, "JPEG", quality=85, subsampling=0)
    return f'<img src="{data_uri(file.getvalue(), "image/jpeg")}" alt="{escape(alt)}" width="{size}" height="{size}">'


def data_uri(file: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(file).decode()}"


def breakable(name: str) -> str:
    """A key, which may go on in the next line behind its slashes and underscores."""
    return re.sub("([_/])", r"\1<wbr>", escape(name))


def figure(content: str, caption: str = "", note: str = "") -> str:
    """A picture with what is to be said of it."""
    below = f"<figcaption>{escape(caption)}" + (f"<small>{escape(note)}</small>" if note else "") + "</figcaption>"
    return f"<figure>{content}{below}</figure>"


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Names and values; values are HTML."""
    return "<dl>" + "".join(f"<div><dt>{escape(name)}</dt><dd>{value}</dd></div>" for name, value in pairs) + "</dl>"


def flagged(flag: str | None) -> str:
    """What is wrong with a row, if anything is."""
    return f'<p class="flag"><b>{escape(flag)}</b> {escape(text.FLAGS.get(flag, ""))}</p>' if flag else ""


def choice(name: str, options: Mapping[str, str], chosen: str, hint: str) -> str:
    """A labelled select of a form."""
    listed = "".join(
        f'<option value="{escape(value)}"{" selected" if value == chosen else ""}>{escape(shown)}</option>'
        for value, shown in options.items()
    )
    return f'<label>{escape(hint)} <select name="{name}">{listed}</select></label>'


def hidden(**values: Any) -> str:
    """Fields of a form that are not seen; what is None is left out."""
    return "".join(
        f'<input type="hidden" name="{name}" value="{escape(str(value))}">'
        for name, value in values.items()
        if value is not None
    )


def switch(hint: str, options: Iterable[tuple[str, str, bool]]) -> str:
    """Links of which one is chosen: (link, words, chosen)."""
    each = "".join(
        f'<a href="{link}"{" aria-current=true" if chosen else ""}>{escape(words)}</a>'
        for link, words, chosen in options
    )
    return f'<nav class="switch" aria-label="{escape(hint)}">{each}</nav>'


def thumbnail(model: str, layer: str, unit: int, name: str | None, there: bool = True) -> str:
    """A unit as a small link to its page, where it is in the atlas; `name` is its image's in `units`, if it has one."""
    shown = picture(links.image("units", model, name, "thumbnail"), "", 64) if name else '<span class="nothing"></span>'
    told = escape(f"{model}/{layer}/{unit}") + ("" if there else ", not in this atlas")
    inner = f"{shown}<span>{unit}</span>"
    if not there:
        return f'<span class="tile" title="{told}">{inner}</span>'
    return f'<a class="tile" href="{links.href(model, layer, unit)}" title="{told}">{inner}</a>'
