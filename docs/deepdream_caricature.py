"""Caricatures beside their sources, and each layer's deepdream: python docs/deepdream_caricature.py ATLAS MODEL OUT."""

import json
import sys

from datasets import load_dataset
from PIL import Image, ImageDraw, ImageFont, ImageOps

from microscope_atlas.pictures.sources import source

TILE, GAP, LABEL = 144, 4, 20  # px


def contact_sheet(atlas: str, model: str) -> Image.Image:
    """A row a layer: its deepdream from noise and its caricatures; the sources stand above. A flagged one is white."""
    columns = ["model", "layer", "image", "flag", "recipe"]
    dreams = load_dataset(atlas, "deepdream", split=model, columns=[*columns, "start"])
    dreams = {row["layer"]: row for row in dreams if row["start"] == "noise"}
    made = {}
    for row in load_dataset(atlas, "caricature", split=model, columns=[*columns, "source"]):
        made[row["layer"], row["source"]] = row
    layers, sources = sorted(dreams), sorted({name for _, name in made})

    sheet = Image.new("RGB", ((len(sources) + 1) * (TILE + GAP) - GAP, (len(layers) + 1) * (LABEL + TILE)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)

    def place(column: int, row: int, label: str, image: Image.Image | None) -> None:
        x, y = column * (TILE + GAP), row * (LABEL + TILE)
        draw.text((x + 1, y + 2), label, fill="black", font=font)
        if image is not None:
            sheet.paste(image.resize((TILE, TILE), Image.Resampling.LANCZOS), (x, y + LABEL))

    recipe = json.loads(made[layers[0], sources[0]]["recipe"])
    for column, name in enumerate(sources, 1):
        place(column, 0, name, shown(source(name), recipe["canvas_size"], recipe["size"]))
    for row, layer in enumerate(layers, 1):
        for column, cell in enumerate([dreams[layer], *(made[layer, name] for name in sources)]):
            label = f"{layer}: deepdream" if column == 0 else ""
            place(column, row, label, cell["image"] if cell["flag"] is None else None)
    return sheet


def shown(image: Image.Image, canvas_size: int, size: int) -> Image.Image:
    """The part of a picture that its caricature shows."""
    square = ImageOps.fit(image, (canvas_size, canvas_size), Image.Resampling.LANCZOS)
    edge = (canvas_size - size) // 2
    return square.crop((edge, edge, edge + size, edge + size))


if __name__ == "__main__":
    atlas, model, out = sys.argv[1:]
    contact_sheet(atlas, model).save(out, quality=85)
