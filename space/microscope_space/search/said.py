"""What an atlas says of its units in words: classes they stand for, texts that go with them, classes they answer."""

from collections.abc import Iterator
from typing import NamedTuple

from microscope_atlas.atlas.reader import Atlas

CLASS, TEXT, ANSWERED = 0, 1, 2
BEST = 3  # texts of a unit, and classes that it answers


class Said(NamedTuple):
    """Words about a unit."""

    kind: int
    text: str
    rank: int  # 0 is what goes best with it
    unit: int


def classes(atlas: Atlas, model: str) -> Iterator[tuple[str, list[Said]]]:
    """The layer of a model whose units have names of classes, with these; none of a model without.

    Of a network that the catalog knows, no other layer is read; of another, layers from the output on.
    """
    there = atlas.layers(model)
    layers = [*reversed(there)]
    if known := atlas.organism(model):
        count = len(known.classes or ())
        layers = [name for name, layer in known.layers.items() if layer.units == count][-1:]
    for layer in layers:
        if layer in there:
            rows = atlas.some("units", model, layer, ("unit", "class_name")).drop_null()
            if len(rows):
                pairs = zip(rows["class_name"].to_pylist(), rows["unit"].to_pylist(), strict=True)
                yield layer, [Said(CLASS, text, 0, unit) for text, unit in pairs]
                return


def texts(atlas: Atlas, model: str) -> Iterator[tuple[str, list[Said]]]:
    """The layers of a model, with the best texts of their units; none where the atlas has no texts."""
    for layer in atlas.layers(model):
        rows = atlas.some("texts", model, layer, ("text", "rank", "unit")).drop_null()
        columns = zip(*(rows[name].to_pylist() for name in ("text", "rank", "unit")), strict=True)
        if found := [Said(TEXT, *row) for row in columns if row[1] < BEST]:
            yield layer, found


def answered(atlas: Atlas, model: str) -> Iterator[tuple[str, list[Said]]]:
    """The layers of a model, with the classes of pictures that its units answer most; none where nobody knows these."""
    if "classes" not in {column.name for column in atlas.manifest.table("units").columns}:
        return
    for layer in atlas.layers(model):
        rows = atlas.some("units", model, layer, ("classes", "unit")).drop_null()
        columns = zip(rows["classes"].to_pylist(), rows["unit"].to_pylist(), strict=True)
        if found := [
            Said(ANSWERED, each["name"], rank, unit)
            for classes, unit in columns
            for rank, each in enumerate(classes[:BEST])
        ]:
            yield layer, found
