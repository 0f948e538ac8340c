"""Thumbnails: a small picture of whatever a key names, for lists of such."""

from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.errors import UnknownName
from microscope_atlas.keys import Key
from microscope_space.pages.home import first_made, made
from microscope_space.search.given import exists

STRIPES = (  # what stands where there is no picture: stripes, in a grey that is seen on light and on dark pages
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64"><defs><pattern id="s" width="12" height="12" '
    'patternTransform="rotate(45)" patternUnits="userSpaceOnUse"><path d="M3 0V12" stroke="#8a929c" '
    'stroke-opacity=".25" stroke-width="6"/></pattern></defs><path fill="url(#s)" d="M0 0H64V64H0Z"/></svg>'
)


def thumbnail(atlas: Atlas, key: Key) -> bytes | None:
    """The encoded picture of a unit, a layer or a model; None where none was rendered.

    Of a layer its deepdream, of a model that of a layer two thirds up; else that of a unit. UnknownName where the key
    is not in the atlas.
    """
    if not exists(atlas, key):
        raise UnknownName(f"{key} is not in this atlas")
    if key.layer is None:
        layers = list(atlas.layers(key.model))
        middle = len(layers) * 2 // 3
        places = (*layers[middle:], *reversed(layers[:middle]))
    else:
        places = (key.layer,)
    if key.unit is None:
        for layer in places:
            for row in atlas.rows("deepdream", key.model, layer):
                if row["image"]:
                    return atlas.image("deepdream", key.model, row["image"])
    for layer in places:
        for row in atlas.rows("units", key.model, layer, key.unit):
            if row["thumbnail"]:
                return atlas.image("units", key.model, row["thumbnail"], "thumbnail")
    for layer in places:  # without the lens units there are large pictures alone
        own = Key(key.model, layer, key.unit)
        if found := first_made(atlas, key.model, layer) if key.unit is None else made(atlas, own):
            return atlas.image(found[0], key.model, *found[1:])
    return None
