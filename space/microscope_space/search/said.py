"""What an atlas says of its units in words: classes they stand for or answer, labels, texts that go with them."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.atlas.schema import LABELS

CLASS, LABEL, TEXT, ANSWERED = 0, 1, 2, 3
BEST = 3  # texts of a unit, labels of it by each table, and classes that it answers
MOST_CHARACTERS = 160  # of who says so
HASH = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")


class Said(NamedTuple):
    """Words about a unit."""

    kind: int
    text: str
    rank: int  # 0 is what goes best with it
    unit: int
    by: str = ""  # of a label, who says so


def classes(atlas: Atlas, model: str) -> Iterator[tuple[str, list[Said]]]:
    """The layer of a model whose units have names of classes, with these; none of a model without.

    Of a network that the catalog knows, no other layer is read; of another, layers from the output on.
    """
    there = atlas.layers(model)
    layers = [*reversed(there)]
    if known := atlas.organism(model):
        count = len(known.classes or ())
        named = [name for name, layer in known.layers.items() if layer.units == count or known.lacks_name(name)]
        layers = named[-1:]
    for layer in layers:
        if layer in there:
            rows = atlas.some("units", model, layer, ("unit", "class_name")).drop_null()
            if len(rows):
                pairs = zip(rows["class_name"].to_pylist(), rows["unit"].to_pylist(), strict=True)
                yield layer, [Said(CLASS, text, 0, unit) for text, unit in pairs]
                return


def labels(atlas: Atlas, model: str) -> Iterator[tuple[str, list[Said]]]:
    """The layers of a model, with the labels of their units, and who says so; none where the atlas has no labels."""
    if not any(name in atlas.manifest.lenses for name in atlas.manifest.of_config(LABELS.name)):
        return
    for layer in atlas.layers(model):
        rows = atlas.some(LABELS.name, model, layer, ("label", "rank", "unit", "method", "source")).to_pylist()
        if found := [
            Said(LABEL, row["label"], row["rank"], row["unit"], who(row["method"], row["source"]))
            for row in rows
            if row["rank"] < BEST
        ]:
            yield layer, found


def who(method: str, source: str) -> str:
    """By which method a label was made, and from what, in brief: of a hash its beginning."""
    brief = HASH.sub(r"\1", source)
    told = f"{method}: {brief}"
    return told if len(told) <= MOST_CHARACTERS else f"{told[: MOST_CHARACTERS - 1]}…"


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
