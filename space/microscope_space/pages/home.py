"""The first page: the networks."""

from markupsafe import Markup

from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.errors import AtlasError
from microscope_atlas.keys import Key
from microscope_space.html import links, markup, text
from microscope_space.html.escaped import html, joined
from microscope_space.pages.frame import Page
from microscope_space.pages.unit import main_image

Cover = tuple[str, str, str]  # table, file name and column of an image


def home(atlas: Atlas) -> Page:
    """A card for each network of the atlas."""
    cards = joined(_card(atlas, model) for model in atlas.models)
    listed = html('<ul class="cards">{}</ul>', cards) if cards else markup.absent(text.NO_NETWORKS)
    return Page("", html('<h1>{}</h1><p class="lead">{}</p>{}', text.TITLE, text.LEAD, listed))


def _card(atlas: Atlas, model: str) -> Markup:
    layers, known = atlas.layers(model), atlas.organism(model)
    chosen = cover(atlas, model)
    about = f"{known.dataset}, {known.year}" if known and known.year else known.dataset if known else "of its own"
    table, name, column = chosen or ("", "", "")
    return html(
        '<li><a href="{}">{}<h2>{}</h2><code>{}</code><p>{}<br>{}, {}</p></a></li>',
        links.href(model),
        markup.picture(links.image(table, model, name, column), "", 224, eager=True)
        if chosen
        else html('<span class="nothing"></span>'),
        known.title if known else model,
        model,
        about,
        count(len(layers), "layer"),
        count(sum(layers.values()), "unit"),
    )


def cover(atlas: Atlas, model: str) -> Cover | None:
    """An image that stands for a network: the deepdream of a layer two thirds up, or a unit's picture there."""
    layers = list(atlas.layers(model))
    middle = len(layers) * 2 // 3
    order = (*layers[middle:], *reversed(layers[:middle]))
    for layer in order:
        if found := dream(atlas, model, layer):
            return found
    for layer in order:
        for name in atlas.thumbnails(model, layer).values():
            return "units", name, "thumbnail"
    made = (first_made(atlas, model, layer) for layer in order)
    return next((found for found in made if found), None)


def first_made(atlas: Atlas, model: str, layer: str) -> Cover | None:
    """The picture made for a layer's first unit, which stands for it where nobody rendered the lens units."""
    there = atlas.units_there(model, layer)
    return made(atlas, Key(model, layer, there[0])) if there else None


def made(atlas: Atlas, key: Key) -> Cover | None:
    """The picture made for a unit."""
    assert key.layer is not None
    try:
        best = main_image(atlas.rows("feature_visualization", key.model, key.layer, key.unit))
    except AtlasError:  # said on the unit's own page
        return None
    return ("feature_visualization", best["image"], "image") if best else None


def dream(atlas: Atlas, model: str, layer: str) -> Cover | None:
    """The first deepdream of a layer."""
    try:
        rows = atlas.rows("deepdream", model, layer)
    except AtlasError:  # said on the layer's own page
        return None
    return next((("deepdream", row["image"], "image") for row in rows if row["image"]), None)


def count(number: int, what: str) -> str:
    """`3 layers`."""
    return f"{number:,} {what}{'s' * (number != 1)}"
