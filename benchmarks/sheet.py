"""One picture with drafts of a layer's units, to be looked at: whether a machine makes what others make.

    python -m benchmarks.sheet efficientnet_lite0/blocks_6 --device cuda --out sheet.png

Of trained weights where they are at hand, else of random ones; it says which, and the units' mean score.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.ours import Case, first, rendered, settings
from microscope_atlas.errors import AtlasError
from microscope_atlas.models import weights
from microscope_atlas.models.catalog import organism

TILE, GAP, COLUMNS = 112, 4, 8  # px, px, tiles


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.sheet", description=__doc__.partition("\n")[0])
    parser.add_argument("place", metavar="MODEL/LAYER")
    parser.add_argument("--units", type=int, default=16)
    parser.add_argument("--steps", type=int, help="as the recipe has them")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--set", default="", metavar="PATH=VALUE,...", help="of the recipe")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args(arguments)
    model, _, layer = asked.place.partition("/")
    kind = at_hand(model)
    changes: dict[str, Any] = settings(asked.set)
    if asked.steps:
        changes |= {"ascent.steps": asked.steps, "ascent.redirect_steps": min(16, asked.steps)}
    case = Case(model, layer, device=asked.device, kind=kind, quality="draft", changes=changes)
    units = first(asked.units, case.subject.layer.units)
    rows = [
        row
        for start in range(0, len(units), case.batch)
        for row in rendered(case.subject, units[start : start + case.batch], case.recipe)
    ]
    sheet([row["image"] for row in rows]).save(asked.out)
    scores = [float(row["score"]) for row in rows]
    print(f"{asked.place}, {kind} weights, {len(rows)} units: mean score {np.mean(scores):.3g}; {asked.out}")


def at_hand(model: str) -> weights.WeightsKind:
    """Which weights of a model there are: trained ones where they can be loaded, else random ones."""
    try:
        weights.load(organism(model))
    except (AtlasError, ImportError):
        return "random"
    return "pretrained"


def sheet(pictures: Sequence[Any]) -> Image.Image:
    """Pictures, uint8 (height, width, 3), in rows of eight."""
    step = TILE + GAP
    whole = Image.new("RGB", (COLUMNS * step - GAP, -(-len(pictures) // COLUMNS) * step - GAP), "white")
    for at, picture in enumerate(pictures):
        pixels = picture.cpu().numpy() if isinstance(picture, torch.Tensor) else np.asarray(picture)
        tile = Image.fromarray(pixels).resize((TILE, TILE), Image.Resampling.LANCZOS)
        whole.paste(tile, (at % COLUMNS * step, at // COLUMNS * step))
    return whole


if __name__ == "__main__":
    main()
