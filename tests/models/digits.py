"""A small vision transformer that reads handwritten digits, trained on the spot: `own:tests.models.digits.network`.

    python -m tests.models.digits FOLDER

writes two contact sheets of the same twelve hidden neurons: of the first 48 of the first block, those whose pictures
excite them most. FOLDER/made.png has their pictures, FOLDER/samples.png where nine digits excite each most. Shown to
two people who know nothing of them, they tell whether the pictures show what the neurons respond to.

The digits are scikit-learn's: 1,797 of 8 x 8 px, from UCI's "Optical Recognition of Handwritten Digits" (Alpaydin and
Kaynak 1998, https://doi.org/10.24432/C50P49), here three times as large, in a frame.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor, nn

from microscope_atlas import Trained, render
from microscope_atlas.models.adapters import timm

SIZE, PATCH, WIDTH, HEADS, DEPTH = 32, 4, 64, 4, 2  # px, px, features, heads, blocks
MODEL, LAYER = "own:tests.models.digits.network", "blocks_0_mlp"
HELD_OUT = 297  # digits
EPOCHS, BATCH = 60, 50
MEAN, STD = 0.15, 0.3
LOOKED_AT, SHOWN, SAMPLES, CROP = 48, 12, 9, 12  # neurons, neurons, digits, px
TILE, GAP, IN_A_ROW = 128, 16, 4  # px, px, neurons


@cache
def digits() -> tuple[Tensor, Tensor]:
    """(digits, 1, 32, 32) in [0, 1], bright on dark; and which digit each is."""
    from sklearn.datasets import load_digits

    found = load_digits()
    small = torch.from_numpy(found.images).float()[:, None] / 16
    large = F.interpolate(small, scale_factor=3, mode="bicubic", align_corners=False).clamp(0, 1)
    return F.pad(large, (4, 4, 4, 4)), torch.from_numpy(found.target)


@cache
def learnt() -> dict[str, Tensor]:
    """The weights after 60 epochs on all digits but the last 297, each changed a little at random: two minutes."""
    pictures, labels = digits()
    pictures, labels = pictures[:-HELD_OUT], labels[:-HELD_OUT]
    steps = EPOCHS * (len(pictures) // BATCH)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = _blank()
        optimiser = torch.optim.AdamW(module.parameters(), weight_decay=0.05)
        rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
        for epoch in range(EPOCHS):
            noise = min(1.0, max(0.0, 2 * epoch / EPOCHS - 0.5)) / 2  # none at first: it would learn nothing
            for some in torch.randperm(len(pictures)).split(BATCH):
                read = module((_changed(pictures[some], noise) - MEAN) / STD)
                loss = F.cross_entropy(read, labels[some])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                rate.step()
    return {name: value.detach() for name, value in module.state_dict().items()}


def _changed(pictures: Tensor, noise: float) -> Tensor:
    """Each turned by up to 0.2 radians, scaled, shifted by up to 3 px, paler, with noise of two scales."""
    count = len(pictures)
    angle, size = 0.4 * (torch.rand(count) - 0.5), torch.exp(0.4 * (torch.rand(count) - 0.3))
    across, down = 6 * (torch.rand(2, count) - 0.5) / (SIZE / 2)
    sine, cosine = angle.sin() * size, angle.cos() * size
    ways = torch.stack([cosine, -sine, across, sine, cosine, down], 1).view(-1, 2, 3)
    grid = F.affine_grid(ways, list(pictures.shape), align_corners=False)
    pictures = F.grid_sample(pictures, grid, align_corners=False) * (0.5 + 0.5 * torch.rand(count, 1, 1, 1))
    coarse = F.interpolate(torch.randn(count, 1, 8, 8), size=SIZE, mode="bicubic")
    return (pictures + noise * torch.rand(count, 1, 1, 1) * (torch.randn_like(pictures) + coarse)).clamp(0, 1)


def network() -> Trained:
    module = _blank()
    module.load_state_dict(learnt())
    settings = {"mean": (MEAN,), "std": (STD,), "license": "CC-BY-4.0", "dataset": "digits of scikit-learn"}
    return Trained(module, SIZE, channels=1, classes=[str(digit) for digit in range(10)], **settings)


def _blank() -> nn.Module:
    kind: Any = timm.imported().models.vision_transformer.VisionTransformer
    sizes = {"img_size": SIZE, "patch_size": PATCH, "embed_dim": WIDTH, "num_heads": HEADS, "depth": DEPTH}

    class Reader(kind):
        """Looks at contrast alone, so that a white picture says nothing; each token has a part in the class."""

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(F.instance_norm(x))

    module: nn.Module = Reader(**sizes, in_chans=1, num_classes=10, global_pool="avg", class_token=False)
    return module


def accuracy(module: nn.Module) -> float:
    """Of the digits that it was not trained on, the share that it reads."""
    pictures, labels = digits()
    module.eval()
    with torch.no_grad():
        read = module((pictures[-HELD_OUT:] - MEAN) / STD).argmax(1)
    return float((read == labels[-HELD_OUT:]).float().mean())


@dataclass(frozen=True)
class Shown:
    """A neuron, (32, 32) in [0, 1] what was made for it, and (9, 12, 12) where it answers digits most strongly."""

    unit: int
    score: float
    made: Tensor
    samples: Tensor


def shown(folder: Path, workers: int | None = None) -> list[Shown]:
    """Of the first 48 neurons of the first block the twelve whose pictures excite them most, rendered in `folder`."""
    pictures, _ = digits()
    (folder / "digits").mkdir(parents=True)
    for at, picture in enumerate(pictures):
        Image.fromarray((picture[0] * 255).round().byte().numpy()).save(folder / "digits" / f"{at:04}.png")
    recipe = {"methods": ("fourier",), "variants": 0, "ascent.precision": "float32"}
    render(
        folder / "atlas",
        MODEL,
        ["feature_visualization", "responses"],
        LAYER,
        range(LOOKED_AT),
        quality="standard",
        pictures=str(folder / "digits"),
        settings={"feature_visualization": recipe},
        workers=workers,
    )
    best = {row["unit"]: row["samples"][:SAMPLES] for row in _rows(folder / "atlas" / "responses")}
    made = [
        Shown(row["unit"], row["score"], _pixels(row["image"]["bytes"]), _crops(best[row["unit"]]))
        for row in _rows(folder / "atlas" / "feature_visualization")
        if (row["objective"], row["direction"]) == ("channel", 1) and row["flag"] is None
    ]
    return sorted(sorted(made, key=lambda each: -each.score)[:SHOWN], key=lambda each: each.unit)


def _rows(folder: Path) -> list[dict[str, Any]]:
    files = sorted(folder.rglob("*.parquet"))
    return [row for file in files for row in pq.read_table(file, partitioning=None).to_pylist()]


def _pixels(encoded: bytes) -> Tensor:
    with Image.open(BytesIO(encoded)) as image:
        return torch.from_numpy(np.array(image.convert("L"))) / 255


def _crops(samples: list[dict[str, Any]]) -> Tensor:
    """Around the token whose answer was the strongest, 12 px on a side."""
    pictures = F.pad(digits()[0][:, 0], (CROP // 2,) * 4)
    corners = [(each["picture"], each["y"] * PATCH + PATCH // 2, each["x"] * PATCH + PATCH // 2) for each in samples]
    return torch.stack([pictures[at, top : top + CROP, left : left + CROP] for at, top, left in corners])


def orientation(pictures: Tensor) -> float:
    """Degrees in [0, 180) of the strokes of (..., height, width), 0 level, 90 upright, by their structure tensor.

    Bigun and Granlund 1987, "Optimal orientation detection of linear symmetry".
    """
    down, across = torch.gradient(pictures, dim=(-2, -1))
    double = torch.atan2(2 * (across * down).sum(), (across**2 - down**2).sum())
    return (90 - math.degrees(double) / 2) % 180


def apart(one: float, other: float) -> float:
    """Degrees between two orientations, 0 to 90."""
    return abs((one - other + 90) % 180 - 90)


def sheet(neurons: Sequence[Sequence[Tensor]], columns: int) -> Image.Image:
    """Numbered, four in a row, each of so many columns of pictures."""
    side = columns * (TILE + 4)
    rows = -(-len(neurons) // IN_A_ROW)
    whole = Image.new("L", (IN_A_ROW * (side + GAP), rows * (side + 2 * GAP)), 255)
    for at, pictures in enumerate(neurons):
        left, top = at % IN_A_ROW * (side + GAP), at // IN_A_ROW * (side + 2 * GAP)
        ImageDraw.Draw(whole).text((left, top), str(at + 1), fill=0, font_size=20)
        for place, picture in enumerate(pictures):
            tile = Image.fromarray((picture * 255).round().byte().numpy())
            corner = left + place % columns * (TILE + 4), top + 2 * GAP - 8 + place // columns * (TILE + 4)
            whole.paste(tile.resize((TILE, TILE), Image.Resampling.BICUBIC), corner)
    return whole


def main(folder: Path) -> None:
    found = shown(folder)
    sheet([[each.made] for each in found], 1).save(folder / "made.png")
    sheet([each.samples for each in found], 3).save(folder / "samples.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
