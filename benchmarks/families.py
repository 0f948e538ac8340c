"""What is shown of each family of transformers, and by which lenses: writes docs/transformers.md.

    python -m benchmarks.families                    # those that are lacking: half an hour of one core in all
    python -m benchmarks.families BEiT "DINOv3"      # these anew
    python -m benchmarks.families --hooks            # the comparison with hooks anew, of all; lenses as they were

Of each family the smallest network is listed, with random weights, and every shown layer is compared with what plain
hooks see in the library's own module. Then one unit of a block's hidden neurons, of its heads and of its output is
rendered through every lens, as briefly as each lens can. A lens that makes no row of a layer, or fails, is named with
what it says. Each family has a process of its own, with a limit of time and memory; stopped, it goes on where it was.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import date
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import report
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.errors import AtlasError
from microscope_atlas.lenses.registry import UNASKED
from microscope_atlas.models import weights
from microscope_atlas.models.adapters import timm, torchvision
from microscope_atlas.models.catalog import organism
from microscope_atlas.models.converted import Weights
from microscope_atlas.models.networks.taps import Places, Tap
from microscope_atlas.models.networks.traced import Traced
from microscope_atlas.models.networks.unshown import summary
from microscope_atlas.models.organism import Organism
from microscope_atlas.run import run
from tests.atlases import HERE, quick

# family -> its smallest network, and the function of benchmarks/narrow.py that lenses are tried on where that is wide
FAMILIES: dict[str, tuple[str, str | None]] = {
    "ViT": ("timm:vit_tiny_patch16_224", "vit"),
    "ViT (torchvision)": ("torchvision:vit_b_32", "vit_torchvision"),
    "DeiT": ("timm:deit_tiny_patch16_224", "deit"),
    "DeiT, distilled": ("timm:deit_tiny_distilled_patch16_224", "deit_distilled"),
    "DeiT III": ("timm:deit3_small_patch16_224", "deit3"),
    "DINOv2, with registers": ("timm:vit_small_patch14_reg4_dinov2", "dinov2"),
    "DINOv3": ("timm:vit_small_patch16_dinov3", "dinov3"),
    "EVA-02": ("timm:eva02_tiny_patch14_224", "eva02"),
    "SigLIP": ("timm:vit_base_patch32_siglip_256", "siglip"),
    "CLIP": ("timm:vit_base_patch32_clip_224", "clip"),
    "BEiT": ("timm:beit_base_patch16_224", "beit"),
    "AIMv2": ("timm:aimv2_large_patch14_224", "aimv2"),
    "SAM": ("timm:samvit_base_patch16_224", "sam"),
    "CaiT": ("timm:cait_xxs24_224", None),
    "ConViT": ("timm:convit_tiny", None),
    "Swin": ("timm:swin_tiny_patch4_window7_224", "swin"),
    "Swin (torchvision)": ("torchvision:swin_t", "swin_torchvision"),
    "Swin V2": ("timm:swinv2_tiny_window8_256", "swin_v2"),
    "Hiera": ("timm:hiera_tiny_224", "hiera"),
    "MaxViT": ("timm:maxvit_pico_rw_256", None),
    "MViTv2": ("timm:mvitv2_tiny", "mvit_v2"),
    "PiT": ("timm:pit_ti_224", None),
    "PVTv2": ("timm:pvt_v2_b0", None),
    "XCiT": ("timm:xcit_nano_12_p16_224", None),
    "LeViT": ("timm:levit_128s", None),
    "Mixer": ("timm:mixer_s32_224", "mixer"),
}
NARROW = "own:benchmarks.narrow."
MINUTES = 12  # that a family may take
MOST_BYTES = 12 << 30  # of addresses
EQUAL = 1e-5  # share of a layer's largest value
RESULTS = report.FOLDER / "families.json"
PAGE = Path(__file__).parents[1] / "docs" / "transformers.md"


def shown(known: Organism) -> dict[str, list[str]]:
    """Layers of blocks by what they are of them: hidden neurons, heads, outputs; of those that are maps."""
    network = known.blank()
    assert isinstance(network, Traced)
    network.trace()
    parts: dict[str, list[str]] = {"neurons": [], "heads": [], "outputs": []}
    for name, layer in known.layers.items():
        tap = network.taps.get(name)
        if tap is None or not tap.apart or layer.kind == "dense" or layer.named_only:
            continue
        parts["outputs" if not tap.reads else "heads" if tap.branches else "neurons"].append(name)
    return parts


def measured(family: str, partial_results: Path | None = None) -> dict[str, Any]:
    """What is shown of a family's network, and what each lens makes of its blocks; written down as it is found."""
    name, narrow = FAMILIES[family]
    known = organism(name)
    leading = [layer for layer in known.layers.values() if not layer.named_only]
    found: dict[str, Any] = {
        "model": name,
        "layers": len(leading),
        "units": sum(layer.units for layer in leading),
        "named_only": len(known.layers) - len(leading),
        "blocks": {part: len(each) for part, each in shown(known).items()},
        "not_shown": summary(known.not_shown, len(known.layers)),
        "hooks": compared(known),
        "lenses_on": name if narrow is None else NARROW + narrow,
        "lenses": {},
    }
    tried = organism(found["lenses_on"])
    asked = {each[len(each) // 2]: part for part, each in shown(tried).items() if each}
    if not asked:  # no block is shown: what is there beside
        asked = dict([(layer.name, "other") for layer in tried.layers.values() if layer.kind != "dense"][-1:])
    given = weights.random(tried)
    with TemporaryDirectory() as folder:
        for maker in UNASKED:
            began = time.process_time()
            found["lenses"][maker] = dict(_through(maker, tried, given, asked, Path(folder)))
            found["seconds"] = found.get("seconds", {}) | {maker: round(time.process_time() - began, 1)}
            if partial_results:
                partial_results.write_text(json.dumps(found))
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


def compared(known: Organism) -> dict[str, Any]:
    """How far shown layers are from what hooks see in the library's module, as a share of each layer's largest value.

    In float64, so that what is left is no rounding: over dozens of layers that of float32 grows beyond 1e-5.
    `unseen`: those that no hook of the library's own module sees, since other code multiplies with their weights.
    """
    given = weights.random(known)
    network, plain = weights.network(known, given), _plain(known.name)
    assert isinstance(network, Traced)
    plain.load_state_dict(network.state_dict())
    size = known.input_size
    pictures = torch.rand(2, network.channels, size, size, generator=torch.Generator().manual_seed(0)).double()
    network.table(size)  # which finds tokens that are no place
    where = network.places(size, size)
    network.double()
    plain.double()
    taken: dict[str, Tensor] = {}
    owners = {name: network._apart.get(name, (name, None)) for name in known.layers}
    handles = [_hooked(plain, network.taps[owner], partial(taken.setdefault, owner)) for owner, _ in owners.values()]
    plain((pictures - network.mean) / network.std)
    for handle in handles:
        handle.remove()
    differences: dict[str, float] = {}

    def see(name: str, value: Tensor) -> None:
        owner, at = owners[name]
        if owner in taken:
            differences[name] = _difference(value.detach(), _as_shown(network, owner, at, taken[owner], where))

    network.visit(pictures, list(known.layers), see)
    return {
        "compared": len(differences),
        "unseen": len(known.layers) - len(differences),
        "largest_difference": report.rounded(max(differences.values()), 2),
        "equal": all(each <= EQUAL for each in differences.values()),
        "unequal": sorted(name for name, each in differences.items() if not each <= EQUAL),
    }


def _plain(name: str) -> nn.Module:
    """The library's module, as it is built."""
    library, _, short = name.partition(":")
    if library == "timm":
        module: nn.Module = timm.imported().create_model(short, pretrained=False)
    else:
        module = torchvision.imported().models.get_model(short, weights=None)
    return module.eval()


def _hooked(plain: nn.Module, tap: Tap, keep: Any) -> Any:
    """A hook that keeps what the module reads, or gives, in its first call."""
    module = plain.get_submodule(tap.path)

    def before(module: nn.Module, given: tuple[Any, ...]) -> None:
        keep(given[0].detach().clone())  # what comes behind may be written over it

    def behind(module: nn.Module, given: Any, output: Any) -> None:
        keep(output.detach().clone())

    return module.register_forward_pre_hook(before) if tap.reads else module.register_forward_hook(behind)


def _as_shown(network: Traced, owner: str, at: int | None, value: Tensor, where: Mapping[str, Places | str]) -> Tensor:
    """What a hook saw with units on the second axis."""
    if value.dim() == 3:
        placed = where[owner]
        assert isinstance(placed, Places)
        return placed.map(value) if at is None else value[:, placed.rest[at]]
    return value.permute(0, 3, 1, 2) if network.taps[owner].units_last and value.dim() == 4 else value


def _difference(value: Tensor, expected: Tensor) -> float:
    if value.shape != expected.shape:
        return float("inf")
    return float((value - expected).abs().max() / expected.abs().max().clamp(min=1e-30))


def apart(family: str, *further: str) -> dict[str, Any]:
    """A family in a process of its own, within `MINUTES`; what it had until then, and why it ended."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "found.json"
        command = [sys.executable, "-m", "benchmarks.families", family, "--into", str(path), *further]
        try:
            ended = subprocess.run(command, timeout=60 * MINUTES, capture_output=True, text=True)
            why = "" if ended.returncode == 0 else (ended.stderr.strip().splitlines() or ["ended"])[-1]
        except subprocess.TimeoutExpired:
            why = f"not within {MINUTES} minutes"
        found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {"model": FAMILIES[family][0]}
    return {**found, **({"ended": why} if why else {}), "date": date.today().isoformat()}


def _page(every: Mapping[str, Mapping[str, Any]]) -> str:
    libraries = ", ".join(f"{each} {version(each)}" for each in ("torch", "torchvision", "timm"))
    why: Counter[str] = Counter()
    lines = []
    for family, found in every.items():
        if "lenses" not in found:
            lines.append(f"| {family} | `{found['model']}` | | | | | | {found['ended']} |")
            continue
        works = [maker for maker, parts in found["lenses"].items() if parts and set(parts.values()) == {"works"}]
        lacking = {maker: found["lenses"].get(maker, {"all": found.get("ended", "")}) for maker in UNASKED}
        lacking = {maker: parts for maker, parts in lacking.items() if maker not in works}
        why.update(reason for parts in lacking.values() for reason in parts.values() if reason != "works")
        blocks = ", ".join(f"{count} {part}" for part, count in found["blocks"].items() if count) or "none"
        told = "all" if not lacking else f"all but {', '.join(lacking)}" if works else "none"
        hooks = found["hooks"]
        equal = f"{hooks['compared']}, to {hooks['largest_difference']:.0e}" + (
            f"; {hooks['unseen']} unseen" if hooks["unseen"] else ""
        )
        lines.append(
            f"| {family} | `{found['model']}` | {found['layers']} | {found['units']:,} | {blocks} | {equal} | {told} | "
            f"{found['not_shown']} |"
        )
    narrow = [family for family in every if FAMILIES[family][1]]
    head = (
        "# Transformers",
        "",
        f"`python -m benchmarks.families`, {date.today()}, {libraries}; random weights, one thread.",
        "",
        "Of each family the smallest network. Layers and units count what is rendered unless layers are named. Of",
        "blocks, *neurons* are hidden neurons of their MLPs, *heads* the values of attention's heads, *outputs* the",
        "residual stream. *Hooks* says how many layers, those that have to be named too, were compared with what",
        "plain hooks see in the library's own module, in float64, and the largest difference as a share of a layer's",
        "largest value; *unseen* are those that no hook sees there, because other code multiplies with their weights.",
        "One unit of each kind of layer of a block was rendered through every lens that is rendered unasked.",
        "Where tokens are in the picture is proven, or they are not shown: see [Own networks](own-networks.md#tokens)",
        "for how, and [which layers are shown](own-networks.md#which-layers-are-shown) for the last column's words.",
        "",
        f"Where the network is wide, lenses were tried on a narrower one of the same code: {'; '.join(narrow)}",
        "(benchmarks/narrow.py).",
        "",
        "| family | network | layers | units | of blocks | hooks | lenses | not shown |",
        "|---|---|---|---|---|---|---|---|",
    )
    reasons = [f"- {count} times: {reason}" for reason, count in why.most_common()]
    tail = ("", "Where a lens made no row of a layer, it said:", "", *reasons) if reasons else ()
    return "\n".join((*head, *lines, *tail, ""))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", help="Make these anew. Default: those that are lacking.")
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)  # of the process of one family
    parser.add_argument("--hooks", action="store_true", help="Compare with hooks anew, and nothing else.")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")  # of the libraries'
    torch.set_num_threads(1)
    if asked.into:
        resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
        (family,) = asked.families
        if asked.hooks:
            asked.into.write_text(json.dumps({"hooks": compared(organism(FAMILIES[family][0]))}))
            return
        found = measured(family, asked.into)
        most = resource.getrusage(resource.RUSAGE_SELF)
        found |= {"cpu_seconds": round(most.ru_utime + most.ru_stime), "gigabytes": round(most.ru_maxrss / 1e6, 2)}
        asked.into.write_text(json.dumps(found))
        return
    there = json.loads(RESULTS.read_text())["families"] if RESULTS.is_file() else {}
    wanted = asked.families or [family for family in FAMILIES if asked.hooks == (family in there)]
    for family in wanted:
        there[family] = {**there[family], **apart(family, "--hooks")} if asked.hooks else apart(family)
        print(family, json.dumps(there[family]), flush=True)
        there = {each: there[each] for each in FAMILIES if each in there}
        about = report.about(libraries=("torchvision", "timm")) | {"command": "python -m benchmarks.families"}
        report.write(RESULTS, about, families=there)
        PAGE.write_text(_page(there))


if __name__ == "__main__":
    main()
