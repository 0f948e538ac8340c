"""A contact sheet of each lens over a whole network: python -m docs.organism_pictures ATLAS MODEL FOLDER."""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

import microscope_atlas
from docs.lens_pictures import Row, grid, kernel, responses
from microscope_atlas.face.atlas import Atlas, Unit

TILE = 64  # px
COLUMNS = 12  # units of a layer, evenly spread
MAP = 1024  # px
Tile = Image.Image | None


def feature_visualization(atlas: Atlas, model: str) -> Image.Image:
    """Objective `channel`, direction +1; a flagged picture is grey."""

    def made(unit: Unit) -> Tile:
        (row,) = (
            row
            for row in unit.rows("feature_visualization")
            if (row["method"], row["objective"], row["direction"], row["variant"]) == ("fourier", "channel", 1, 0)
        )
        return None if row["flag"] else unit.image()

    return _of_units(atlas, model, made)


def dataset_samples(atlas: Atlas, model: str) -> Image.Image:
    """The natural picture that excites a unit most, cut to what it sees."""
    return _of_units(atlas, model, lambda unit: next((row["image"] for row in unit.samples()), None))


def synthetic_tuning(atlas: Atlas, model: str) -> Image.Image:
    """Responses to gratings: to the right orientations, downwards frequencies; white is the strongest."""

    def drawn(unit: Unit) -> Tile:
        return responses(next((row for row in unit.rows("synthetic_tuning") if row["family"] == "gratings"), None))

    return _of_units(atlas, model, drawn)


def connections(atlas: Atlas, model: str) -> Image.Image:
    """The kernel from the unit before that excites it most: blue is positive, red negative."""

    def drawn(unit: Unit) -> Tile:
        strongest = [row for row in unit.connections("input") if (row["sign"], row["rank"]) == (1, 0)]
        return kernel(strongest[0]) if strongest else None

    return _of_units(atlas, model, drawn)


def response_statistics(atlas: Atlas, model: str) -> Image.Image:
    """Responses to the natural pictures in the order of their strength, as shares of the strongest."""

    def drawn(unit: Unit) -> Tile:
        (row,) = unit.rows("responses")
        values = np.array(sorted(row["responses"]))
        if row["flag"] or not len(values) or values[-1] <= 0:
            return None
        heights = np.interp(np.linspace(0, len(values) - 1, TILE), np.arange(len(values)), values / values[-1]).clip(0)
        filled = np.arange(TILE)[::-1, None] < TILE * heights[None]
        return Image.fromarray(np.where(filled, 70, 235).astype(np.uint8))

    return _of_units(atlas, model, drawn)


def deepdream(atlas: Atlas, model: str) -> Image.Image:
    """A layer each, from noise."""
    rows = {row["layer"]: row for row in _of_layers(atlas, "deepdream", model) if row["start"] == "noise"}
    layers = list(atlas.layers(model))
    pictures = [_picture(atlas, "deepdream", model, rows[layer]) for layer in layers]
    return grid([pictures[at : at + 5] for at in range(0, len(pictures), 5)], tile=144, smooth=True)


def caricature(atlas: Atlas, model: str) -> Image.Image:
    """A row a layer, a column a source."""
    rows = {(row["layer"], row["source"]): row for row in _of_layers(atlas, "caricature", model)}
    sources = sorted({source for _, source in rows})
    layers = list(atlas.layers(model))
    found = [[_picture(atlas, "caricature", model, rows[layer, source]) for source in sources] for layer in layers]
    return grid(found, layers, tile=96, smooth=True)


def sheets(atlas: Atlas, model: str) -> Image.Image:
    """Every unit of the layer in the middle, as the atlas keeps it."""
    layers = list(atlas.layers(model))
    (row,) = (
        row
        for row in _of_layers(atlas, "sheets", model)
        if (row["layer"], row["lens"], row["method"], row["objective"], row["direction"])
        == (layers[len(layers) // 2], "feature_visualization", "fourier", "channel", 1)
    )
    return atlas.image("sheets", model, row["image"])


def units(atlas: Atlas, model: str) -> Image.Image:
    """Every unit in its place on the network's map: near to one another are units that answer to the same pictures."""
    drawn, tile = Image.new("RGB", (MAP, MAP), "white"), 14
    found = [row for row in atlas.table("units", model, ["model_map", "thumbnail"]).to_pylist() if row["model_map"]]
    if not found:  # too few for a map
        return drawn
    places = np.array([(row["model_map"]["x"], row["model_map"]["y"]) for row in found])
    low, high = places.min(0), places.max(0)
    corners = (places - low) / (high - low) * (MAP - tile)
    for row, (x, y) in zip(found, corners.round().astype(int).tolist(), strict=True):
        if row["thumbnail"]:
            thumbnail = atlas.image("units", model, row["thumbnail"], "thumbnail").convert("RGB")
            drawn.paste(thumbnail.resize((tile, tile), Image.Resampling.LANCZOS), (x, y))
    return drawn


SHEETS: dict[str, Callable[[Atlas, str], Image.Image]] = {
    "feature_visualization.jpg": feature_visualization,
    "dataset_samples.jpg": dataset_samples,
    "synthetic_tuning.png": synthetic_tuning,
    "connections.png": connections,
    "responses.png": response_statistics,
    "deepdream.jpg": deepdream,
    "caricature.jpg": caricature,
    "sheets.jpg": sheets,
    "units.jpg": units,
}


def _of_units(atlas: Atlas, model: str, drawn: Callable[[Unit], Tile]) -> Image.Image:
    """A row a layer, from input to logits, with some of its units."""
    layers = [f"{model}/{layer}" for layer in atlas.layers(model)]
    there = {layer: atlas.table("units", layer, "unit")["unit"].to_pylist() for layer in layers}
    rows = [[drawn(atlas.unit(f"{layer}/{unit}")) for unit in _spread(units)] for layer, units in there.items()]
    return grid(rows, [layer.partition("/")[2] for layer in layers], tile=TILE, smooth=True)


def _spread(units: Sequence[int]) -> list[int]:
    count = min(len(units), COLUMNS)
    return [units[at * len(units) // count] for at in range(count)]


def _of_layers(atlas: Atlas, table: str, model: str) -> Iterator[Row]:
    yield from atlas.table(table, model).to_pylist()


def _picture(atlas: Atlas, table: str, model: str, row: Row) -> Tile:
    return None if row["flag"] else atlas.image(table, model, row["image"])


def main(atlas: str, model: str, folder: Path) -> None:
    """Draw all of them into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    opened = microscope_atlas.open(atlas)
    for name, drawn in SHEETS.items():
        drawn(opened, model).save(folder / name, **({"quality": 80} if name.endswith("jpg") else {"optimize": True}))


if __name__ == "__main__":
    main(*sys.argv[1:3], Path(sys.argv[3]))
