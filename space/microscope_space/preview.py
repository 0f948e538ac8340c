"""The picture that stands for a page where its link is pasted: made when first asked for, and kept a while."""

import io
from collections import OrderedDict
from collections.abc import Iterator
from itertools import islice
from threading import Lock
from typing import Any

from PIL import Image, ImageDraw

from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.errors import AtlasError
from microscope_atlas.keys import Key
from microscope_atlas.pictures.decoder import decoded
from microscope_space.html import links, text
from microscope_space.letters import fitting, legible, letters
from microscope_space.pages import glance, home, unit

WIDTH, HEIGHT = 1200, 630  # px, as Open Graph's readers show a picture large
KEPT = 128  # of some 80 KB each
MARGIN, GAP = 36, 12
SMALL = 4  # pictures beside the large one
LARGE = 64  # px of letters
INK, FAINT, PAPER = "#1f2328", "#5a626c", "#ffffff"


class Previews:
    """The pictures of pages; the last that were asked for are kept."""

    def __init__(self, most: int = KEPT):
        self._most, self._lock = most, Lock()
        self._kept: OrderedDict[tuple[str, Key | None], bytes] = OrderedDict()

    def of(self, atlas: Atlas, key: Key | None) -> bytes:
        """A JPEG of 1200 x 630 px of a key that is in the atlas, or of the whole atlas."""
        asked = atlas.version, key
        with self._lock:
            if asked in self._kept:
                self._kept.move_to_end(asked)
                return self._kept[asked]
        made = preview(atlas, key)
        with self._lock:
            self._kept[asked] = made
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return made


def path(key: Key | None) -> str:
    """Where it is found, without the Space's own path."""
    return "preview/" + (links.path(key.model, key.layer, key.unit) if key else "")


def preview(atlas: Atlas, key: Key | None) -> bytes:
    """The same, made anew: a large picture, what it is of, and four small ones; white where pictures are lacking."""
    card = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    shown = _shown(atlas, key)
    if large := next(shown, None):
        card.paste(large.resize((HEIGHT, HEIGHT), Image.Resampling.BICUBIC), (0, 0))
    left = HEIGHT + MARGIN if large else MARGIN
    room, top = WIDTH - left - MARGIN, MARGIN
    draw = ImageDraw.Draw(card)
    for said, size, colour in _words(atlas, key):
        words = legible(said)
        font = fitting(words, size, room)
        draw.text((left, top), words, colour, font)
        top += round(font.size * 1.3)
    side = (room - (SMALL - 1) * GAP) // SMALL
    for at, small in enumerate(islice(shown, SMALL)):
        place = (left + at * (side + GAP), HEIGHT - MARGIN - 40 - side)
        card.paste(small.resize((side, side), Image.Resampling.BICUBIC), place)
    draw.text((left, HEIGHT - MARGIN - 24), text.TITLE, FAINT, letters(24))
    file = io.BytesIO()
    card.save(file, "JPEG", quality=85)
    return file.getvalue()


def _words(atlas: Atlas, key: Key | None) -> list[tuple[str, int, str]]:
    """Lines of text: words, the size of their letters in px, and their colour."""
    if key is None:
        units = sum(sum(atlas.layers(model).values()) for model in atlas.models)
        networks = home.count(len(atlas.models), "network")
        return [(text.TITLE, LARGE, INK), (f"{networks}, {home.count(units, 'unit')}", 32, FAINT)]
    known = atlas.organism(key.model)
    if key.layer is None:
        layers = atlas.layers(key.model)
        about = f"{home.count(len(layers), 'layer')}, {home.count(sum(layers.values()), 'unit')}"
        return [(known.title if known else key.model, LARGE, INK), (key.model, 32, FAINT), (about, 32, FAINT)]
    if key.unit is None:
        about = home.count(atlas.num_units(key.model, key.layer), "unit")
        return [(key.model, 32, FAINT), (key.layer, LARGE, INK), (about, 32, FAINT)]
    words = [(key.model, 32, FAINT), (key.layer, 40, FAINT), (str(key.unit), LARGE, INK)]
    named = [row["class_name"] for row in _rows(atlas, "units", key) if row["class_name"]]
    return [*words, *((name, 32, INK) for name in named)]


def _shown(atlas: Atlas, key: Key | None) -> Iterator[Image.Image]:
    """The pictures that stand for a key, the best first; those that cannot be read are left out."""
    for model, table, name, column in _named(atlas, key):
        try:
            image = decoded(atlas.image(table, model, name, column))
        except AtlasError:  # damaged, as its page says
            continue
        yield _square(image.convert("RGB"))


def _named(atlas: Atlas, key: Key | None) -> Iterator[tuple[str, str, str, str]]:
    """The same as (model, table, file name, column)."""
    if key is None:
        for model in atlas.models:
            if found := home.cover(atlas, model):
                yield model, *found
        return
    model, layer = key.model, key.layer
    if layer is None:
        if found := home.cover(atlas, model):
            yield model, *found
        for each in reversed(atlas.layers(model)):
            if found := home.dream(atlas, model, each):
                yield model, *found
        return
    if key.unit is None:
        if found := home.dream(atlas, model, layer):
            yield model, *found
        small = list(atlas.thumbnails(model, layer).values())
        for name in small:
            yield model, "units", name, "thumbnail"
        if not small and (found := home.first_made(atlas, model, layer)):
            yield model, *found
        return
    if made := unit.main_image(_rows(atlas, "feature_visualization", key)):
        yield model, "feature_visualization", made["image"], "image"
    for row in glance.best(_rows(atlas, "dataset_samples", key)):
        yield model, "dataset_samples", row["image"], "image"


def _rows(atlas: Atlas, table: str, key: Key) -> list[dict[str, Any]]:
    assert key.layer is not None
    try:
        return atlas.rows(table, key.model, key.layer, key.unit)
    except AtlasError:  # as its page says
        return []


def _square(picture: Image.Image) -> Image.Image:
    """Its middle."""
    side = min(picture.size)
    left, top = ((length - side) // 2 for length in picture.size)
    return picture.crop((left, top, left + side, top + side))
