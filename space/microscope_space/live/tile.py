"""A unit among others: where in a picture it acts, what is made to excite it, and a few words."""

from markupsafe import Markup
from PIL import Image

from microscope_atlas.keys import Key
from microscope_space.html import links, markup
from microscope_space.html.escaped import NOTHING, html, joined
from microscope_space.live import drawn


def tile(
    key: Key,
    where: Image.Image,
    told: str,
    words: Markup | str,
    thumbnail: str | None = None,
    there: bool = True,
    below: Markup = NOTHING,
) -> Markup:
    """An item of `tiles`, which leads to the unit's page where the atlas has it; `below` stands outside of the link."""
    made = NOTHING
    if thumbnail:
        src = links.image("units", key.model, thumbnail, "thumbnail")
        made = html('<img class="made" src="{}" alt="" width="64" height="64" loading="lazy">', src)
    inner = html(
        "{}<span>{}<span><b>{}</b> {}</span></span>",
        markup.pixels(drawn.pixels(where), told, drawn.TILE),
        made,
        key.unit,
        words,
    )
    if there:
        inner = html('<a class="unit" href="{}">{}</a>', links.href(key.model, key.layer, key.unit), inner)
    else:
        inner = html('<div class="unit" title="{} is not in this atlas">{}</div>', key, inner)
    return html("<li>{}{}</li>", inner, below)


def tiles(each: list[Markup]) -> Markup:
    """Items side by side."""
    return html('<ul class="excited">{}</ul>', joined(each))
