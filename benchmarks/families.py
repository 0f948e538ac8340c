"""What is shown of each family of transformers, and by which lenses: writes docs/transformers.md.

`python -m benchmarks.families` lists a small network of each, with random weights, and renders one unit of a block's
hidden neurons, of its heads and of its output through every lens, as briefly as each lens can. A lens that makes no row
of a layer, or fails, is named with what it says. Takes about half an hour of one core; stopped, it goes on where it
was.
"""

import argparse
import json
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import date
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from microscope_atlas.atlas.folder import Folder
from microscope_atlas.errors import AtlasError
from microscope_atlas.lenses.registry import UNASKED
from microscope_atlas.models import weights
from microscope_atlas.models.catalog import organism
from microscope_atlas.models.converted import Weights
from microscope_atlas.models.networks.unshown import summary
from microscope_atlas.models.organism import Organism
from microscope_atlas.run import run
from tests.atlases import HERE, quick

FAMILIES = {
    "ViT": "timm:vit_tiny_patch16_224",
    "ViT (torchvision)": "torchvision:vit_b_32",
    "DeiT": "timm:deit_tiny_patch16_224",
    "DeiT, distilled": "timm:deit_tiny_distilled_patch16_224",
    "DeiT III": "timm:deit3_small_patch16_224",
    "DINOv2, with registers": "timm:vit_small_patch14_reg4_dinov2",
    "DINOv3": "timm:vit_small_patch16_dinov3",
    "EVA-02": "timm:eva02_tiny_patch14_224",
    "SigLIP": "timm:vit_base_patch32_siglip_256",
    "CLIP": "timm:vit_base_patch32_clip_224",
    "BEiT": "timm:beit_base_patch16_224",
    "CaiT": "timm:cait_xxs24_224",
    "ConViT": "timm:convit_tiny",
    "Swin": "timm:swin_tiny_patch4_window7_224",
    "Swin (torchvision)": "torchvision:swin_t",
    "Hiera": "timm:hiera_tiny_224",
    "MaxViT": "timm:maxvit_nano_rw_256",
    "MViTv2": "timm:mvitv2_tiny",
    "PiT": "timm:pit_xs_224",
    "PVTv2": "timm:pvt_v2_b0",
    "XCiT": "timm:xcit_nano_12_p16_224",
    "LeViT": "timm:levit_128s",
    "Mixer": "timm:mixer_s16_224",
}
PARTS = {"neurons": "_mlp", "heads": "_heads"}  # of blocks; what remains are their outputs
RESULTS = Path(__file__).parent / "results" / "families.json"
PAGE = Path(__file__).parents[1] / "docs" / "transformers.md"


def shown(known: Organism) -> dict[str, list[str]]:
    """Layers of blocks by what they are of them: hidden neurons, heads, outputs, of those that are maps."""
    maps = {name: layer for name, layer in known.layers.items() if layer.kind != "dense" and not layer.named_only}
    parts = {part: [name for name in maps if name.endswith(end)] for part, end in PARTS.items()}
    blocks = {name.removesuffix(end) for part, end in PARTS.items() for name in parts[part]}
    return {**parts, "outputs": [name for name in maps if name in blocks]}


def measured(name: str) -> dict[str, Any]:
    """What is shown of a network, and what each lens makes of its blocks."""
    known = organism(name)
    parts = shown(known)
    asked = {each[len(each) // 2]: part for part, each in parts.items() if each}
    units = sum(layer.units for layer in known.layers.values() if not layer.named_only)
    found: dict[str, Any] = {
        "model": name,
        "layers": sum(not layer.named_only for layer in known.layers.values()),
        "units": units,
        "blocks": {part: len(each) for part, each in parts.items()},
        "not_shown": summary(known.not_shown, len(known.layers)),
        "lenses": {},
    }
    given = weights.random(known)
    with TemporaryDirectory() as folder:
        for maker in UNASKED:
            found["lenses"][maker] = dict(_through(maker, known, given, asked, Path(folder)))
    return found


def _through(
    maker: str, known: Organism, given: Weights, asked: Mapping[str, str], folder: Path
) -> Iterator[tuple[str, str]]:
    """Each part of a block, and what came of it: `works`, or why not."""
    for layer, part in asked.items():
        request = run.RenderRequest(known, given, "random", {layer: range(1)})
        try:
            made = run.render(
                Folder(folder / "atlas"), [request], {maker: quick(maker)}, HERE, 1, lambda progress: None
            ).made
            yield part, "works" if made else "no rows"
        except AtlasError as error:
            yield part, str(error).strip().splitlines()[-1].strip()


def _page(every: Mapping[str, Mapping[str, Any]]) -> str:
    libraries = ", ".join(f"{each} {version(each)}" for each in ("torch", "torchvision", "timm"))
    why: Counter[str] = Counter()
    lines = []
    for family, found in every.items():
        works = [maker for maker, parts in found["lenses"].items() if parts and set(parts.values()) == {"works"}]
        lacking = {maker: parts for maker, parts in found["lenses"].items() if maker not in works}
        why.update(reason for parts in lacking.values() for reason in parts.values() if reason != "works")
        told = "all" if not lacking else f"all but {', '.join(lacking)}" if works else "none: no block is shown"
        blocks = ", ".join(f"{count} {part}" for part, count in found["blocks"].items() if count) or "none"
        lines.append(
            f"| {family} | `{found['model']}` | {found['layers']} | {found['units']:,} | {blocks} | {told} | "
            f"{found['not_shown']} |"
        )
    head = (
        "# Transformers",
        "",
        f"`python -m benchmarks.families`, {date.today()}, {libraries}; random weights, one thread.",
        "",
        "Layers and units count what is rendered unless layers are named. Of blocks, *neurons* are hidden neurons of",
        "their MLPs, *heads* the values of attention's heads, *outputs* the residual stream; one unit of each was",
        "rendered through every lens. Where tokens are in the picture is proven, or they are not shown: see",
        "[Own networks](own-networks.md#tokens) for how, and for the words of the last column.",
        "",
        "| family | network | layers | units | of blocks | lenses | not shown |",
        "|---|---|---|---|---|---|---|",
    )
    reasons = [f"- {count} times: {reason}" for reason, count in why.most_common()]
    tail = ("", "Where a lens made no row of a layer, it said:", "", *reasons) if reasons else ()
    return "\n".join((*head, *lines, *tail, ""))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("families", nargs="*", help="Make these anew. Default: those that are lacking.")
    asked = parser.parse_args().families
    warnings.simplefilter("ignore")  # of the libraries'
    torch.set_num_threads(1)
    there = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    for family, name in FAMILIES.items():
        if family in asked or (not asked and family not in there):
            there[family] = measured(name)
            RESULTS.write_text(json.dumps(there, indent=1) + "\n")
        PAGE.write_text(_page({each: there[each] for each in FAMILIES if each in there}))


if __name__ == "__main__":
    main()
