"""What a visitor may mean by some words: a key, an old link, a network, a layer, or a class."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import pyarrow.compute as pc

from microscope_atlas.atlas import links as legacy
from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.errors import AtlasError
from microscope_atlas.keys import Key, parse_key
from microscope_space.html import links, text
from microscope_space.html.escaped import html, joined
from microscope_space.pages.frame import Page

MOST = 48  # found
LONGEST = 256  # characters looked for


@dataclass(frozen=True)
class Found:
    """Something of the atlas, and what it was found by."""

    key: Key
    what: str


def find(atlas: Atlas, words: str) -> list[Found]:
    """Up to 48 parts of the atlas that `words` may mean, the surest first."""
    words = words.strip()[:LONGEST]
    if not words:
        return []
    sure = _key(atlas, words)
    maybe = [*_names(atlas, words.lower()), *islice(_classes(atlas, words.lower()), MOST)]
    return list({found.key: found for found in (*sure, *maybe)}.values())[:MOST]


def results(atlas: Atlas, words: str) -> Page:
    """What was found, as a page."""
    found = find(atlas, words)
    listed = joined(
        html(
            '<li><a href="{}">{}</a> <small>{}</small></li>',
            links.href(each.key.model, each.key.layer, each.key.unit),
            each.key,
            each.what,
        )
        for each in found
    )
    asked = words.strip()[:LONGEST]
    shown = f"“{asked}”"
    count = f"{len(found)} found." if found else "Nothing of this name is in the atlas."
    body = html(
        '<h1 tabindex="-1">Search <span>{}</span></h1><p class="about">{} Networks, layers, keys '
        "such as <code>inceptionv1/mixed4c/447</code>, links to OpenAI Microscope, and names of classes can be "
        'found.</p><ul class="found">{}</ul>',
        shown,
        count,
        listed,
    )
    return Page(f"Search {shown}", body, f"What {text.TITLE} has of {shown}.", view="search", asked={"q": asked})


def exists(atlas: Atlas, key: Key) -> bool:
    """Whether the atlas has such a model, layer or unit."""
    if key.model not in atlas.models or key.layer is None:
        return key.model in atlas.models
    units = atlas.layers(key.model).get(key.layer)
    return units is not None and (key.unit is None or key.unit < units)


def _key(atlas: Atlas, words: str) -> list[Found]:
    """The key that the words are."""
    found = []
    for what, read in (("key", parse_key), ("link to OpenAI Microscope", legacy.resolve)):
        try:
            key = read(words)
        except AtlasError:
            continue  # they are something else
        if exists(atlas, key):
            found.append(Found(key, what))
    return found


def _names(atlas: Atlas, words: str) -> list[Found]:
    found = []
    for model in atlas.models:
        known = atlas.organism(model)
        if words in model.lower() or (known and words in known.title.lower()):
            found.append(Found(Key(model), "network"))
    for model in atlas.models:
        found += [Found(Key(model, layer), "layer") for layer in atlas.layers(model) if words in layer.lower()]
    return found


def _classes(atlas: Atlas, words: str) -> Iterator[Found]:
    """Logits whose class has a name like this."""
    for model in atlas.models:
        logits = None  # of a model that the catalog does not know: any of its layers
        if known := atlas.organism(model):
            classes = known.classes or ()
            alike = [name for name, layer in known.layers.items() if layer.units == len(classes)]
            if not alike or not any(words in name.lower() for name in classes):
                continue  # nothing has to be read of it
            logits = alike[-1]
        units = atlas.units(model, ("layer", "unit", "class_name"), logits).drop_null()
        units = units.filter(pc.match_substring(units["class_name"], words, ignore_case=True))
        for row in units.to_pylist():
            yield Found(Key(model, row["layer"], row["unit"]), row["class_name"])
