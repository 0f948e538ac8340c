"""Pictures of what lenses make of a layer's first units: python docs/lens_pictures.py ATLAS MODEL LAYER FOLDER."""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import load_dataset
from PIL import Image, ImageDraw, ImageFont

TILE, GAP, LABEL = 80, 4, 84  # px
BUCKETS = ("top", "0.9-0.99", "0.75-0.9", "0.5-0.75", "0.25-0.5", "0-0.25", "random")

Row = dict[str, Any]


def sheets(atlas: str, model: str, layer: str) -> Image.Image:
    """The layer at a glance: all units by objective `channel`, direction +1."""
    view = {"lens": "feature_visualization", "method": "fourier", "objective": "channel", "direction": 1}
    sheet: Image.Image = next(_rows(atlas, "sheets", model, layer, **view))["image"]
    return sheet


def dataset_samples(atlas: str, model: str, layer: str) -> Image.Image:
    """A row a unit: its best picture, one of each bucket, and a random one."""
    found = {(row["unit"], row["bucket"]): row for row in _rows(atlas, "dataset_samples", model, layer, rank=0)}
    units = sorted({unit for unit, _ in found})[:4]
    return grid([[_picture(found.get((unit, bucket))) for bucket in BUCKETS] for unit in units])


def synthetic_tuning(atlas: str, model: str, layer: str) -> Image.Image:
    """A column a unit: of each family the stimulus at the peak, and the responses around it."""
    found = {(row["family"], row["unit"]): row for row in _rows(atlas, "synthetic_tuning", model, layer)}
    units = sorted({unit for _, unit in found})[:8]
    show: tuple[Callable[[Row | None], Image.Image | None], ...] = (_picture, responses)
    families = ("gratings", "curves", "colours")
    return grid([[each(found.get((family, unit))) for unit in units] for family in families for each in show])


def connections(atlas: str, model: str, layer: str) -> Image.Image:
    """A column a unit: kernels of the units before that excite it most, and of those that inhibit it most."""
    rows = _rows(atlas, "connections", model, layer, towards="input")
    found = {(row["sign"], row["rank"], row["unit"]): row for row in rows if row["rank"] < 3}
    units = sorted({unit for *_, unit in found})[:8]
    return grid([[kernel(found.get((sign, rank, unit))) for unit in units] for sign in (1, -1) for rank in range(3)])


PICTURES = {"sheets.jpg": sheets, "dataset_samples.jpg": dataset_samples}
DRAWINGS = {"synthetic_tuning.png": synthetic_tuning, "connections.png": connections}


def _rows(atlas: str, table: str, model: str, layer: str, **only: Any) -> Iterator[Row]:
    filters = [("layer", "==", layer), *((name, "==", value) for name, value in only.items())]
    yield from load_dataset(atlas, table, split=model, filters=filters)


def _picture(row: Row | None) -> Image.Image | None:
    return None if row is None else row["image"]


def responses(row: Row | None) -> Image.Image | None:
    """The matrix of responses in grey: white is the strongest, black none."""
    if row is None or row["flag"]:
        return None
    values = np.array(row["responses"]).clip(min=0)
    return Image.fromarray((255 * values / values.max()).astype(np.uint8))


def kernel(row: Row | None) -> Image.Image | None:
    """Signed weights: white is none, blue positive, red negative."""
    if row is None or row["flag"]:
        return None
    weights = np.array(row["kernel"])
    share = np.abs(weights / np.abs(weights).max())[..., None]
    colour = np.where(weights[..., None] > 0, [33, 102, 172], [178, 24, 43])
    return Image.fromarray((255 * (1 - share) + colour * share).astype(np.uint8))


def grid(
    rows: Sequence[Sequence[Image.Image | None]], labels: Sequence[str] = (), tile: int = TILE, smooth: bool = False
) -> Image.Image:
    """Tiles side by side, behind labels; where there is nothing, grey. `smooth`: larger images are not just thinned."""
    step, left = tile + GAP, LABEL if labels else 0
    sheet = Image.new("RGB", (left + step * max(map(len, rows)) - GAP, step * len(rows) - GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for y, label in enumerate(labels):
        draw.text((2, y * step + tile // 2), label, fill="black", font=font, anchor="lm")
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            shown = Image.new("RGB", (1, 1), "#eeeeee") if image is None else image.convert("RGB")
            how = Image.Resampling.LANCZOS if smooth and min(shown.size) > tile else Image.Resampling.NEAREST
            sheet.paste(shown.resize((tile, tile), how), (left + x * step, y * step))
    return sheet


def main(atlas: str, model: str, layer: str, folder: Path) -> None:
    """Draw all of them into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in {**PICTURES, **DRAWINGS}.items():
        draw(atlas, model, layer).save(folder / name, **({"quality": 88} if name.endswith("jpg") else {}))


if __name__ == "__main__":
    main(*sys.argv[1:4], Path(sys.argv[4]))
