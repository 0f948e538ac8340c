"""The first page: the networks."""

from html import escape

from microscope_atlas.atlas.reader import Atlas
from microscope_space.html import links, markup, text
from microscope_space.pages import frame as page


def home(atlas: Atlas) -> str:
    """A card for each network of the atlas."""
    cards = "".join(_card(atlas, model) for model in atlas.models)
    body = f'<h1>{text.TITLE}</h1><p class="lead">{text.LEAD}</p><ul class="cards">{cards}</ul>'
    return page.frame(atlas, "", body)


def _card(atlas: Atlas, model: str) -> str:
    layers, known = atlas.layers(model), atlas.organism(model)
    src = cover(atlas, model)
    about = f"{known.dataset}, {known.year}" if known and known.year else known.dataset if known else "of its own"
    return (
        f'<li><a href="{links.href(model)}">'
        + (markup.picture(src, "", 224, eager=True) if src else '<span class="nothing"></span>')
        + f"<h2>{escape(known.title if known else model)}</h2><code>{escape(model)}</code>"
        f"<p>{escape(about)}<br>{_count(len(layers), 'layer')}, {_count(sum(layers.values()), 'unit')}</p></a></li>"
    )


def cover(atlas: Atlas, model: str) -> str | None:
    """An image that stands for a network: the deepdream of a layer two thirds up, or a unit's picture there."""
    layers = list(atlas.layers(model))
    middle = len(layers) * 2 // 3
    for layer in (*layers[middle:], *reversed(layers[:middle])):
        for row in atlas.rows("deepdream", model, layer):
            if row["image"]:
                return links.image("deepdream", model, row["image"])
    for layer in (*layers[middle:], *reversed(layers[:middle])):
        for name in atlas.thumbnails(model, layer).values():
            return links.image("units", model, name, "thumbnail")
    return None


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"
