"""What each of many kinds of networks shows: `python -m benchmarks.networks` writes docs/networks.md.

Of every family of torchvision's and timm's a small one, with random weights, and the hand-made ones of the tests, which
bring what users bring. Each is listed, loaded, and asked for the gradient of every layer at the size that its pictures
have; the hand-made ones are tried for their promises first, as any of a user's own. What raises anything but an error
of ours ends it. Takes about an hour of one core; stopped, it goes on where it was.
"""

import argparse
import warnings
from collections.abc import Mapping
from datetime import date
from importlib.metadata import version
from pathlib import Path

import torch

from microscope_atlas.errors import AtlasError
from microscope_atlas.lenses.geometry import unit_size
from microscope_atlas.models import weights
from microscope_atlas.models.catalog import organism
from microscope_atlas.models.networks.network import Network
from microscope_atlas.models.networks.traced import Traced
from microscope_atlas.models.networks.unshown import summary
from microscope_atlas.models.organism import Organism
from tests.models import kinds_of_networks as kinds

TORCHVISION = """
    alexnet convnext_tiny densenet121 efficientnet_b0 mobilenet_v3_large googlenet inception_v3 maxvit_t mnasnet0_5
    mobilenet_v2 mobilenet_v3_small regnet_x_400mf regnet_y_400mf resnet18 resnext50_32x4d shufflenet_v2_x0_5
    squeezenet1_1 swin_t swin_v2_t vgg11 vgg11_bn vit_b_32 wide_resnet50_2
""".split()  # noqa: SIM905
TIMM = """
    beit_base_patch16_224 cait_xxs24_224 caformer_s18 coat_tiny convit_tiny cpubone_nano
    crossvit_tiny_240 cs3darknet_focus_s cspnext_tiny csatv2 davit_tiny deit_tiny_patch16_224 dla34 dpn68
    edgenext_x_small efficientformer_l1 efficientformerv2_s0 efficientvim_m1 efficientvit_b0 efficientvit_m0
    ese_vovnet19b_slim_dw eva02_tiny_patch14_224 fasternet_t0 fastvit_s12 focalnet_tiny_srf gcvit_xtiny ghostnet_050
    halonet26t hardcorenas_b hgnet_tiny hiera_tiny_224 hrnet_w18_small iformer_t inception_next_atto
    lcnetv2_small legacy_seresnet18 legacy_xception levit_128s lowformer_b0
    mixer_s16_224 mobilenetv3_small_050 mobilevit_xxs mvitv2_tiny nest_tiny nextvit_small pit_xs_224
    pvt_v2_b0 qwen3_vit_88m rdnet_tiny regnetv_040 repghostnet_050 repvit_m1 res2net50_26w_4s resnest26d
    resnetv2_18 rexnet_100 selecsls42 sequencer2d_s shvit_s1 skresnet18 starnet_s1 swiftformer_xs
    swin_tiny_patch4_window7_224 swinv2_cr_tiny_224 swinv2_tiny_window8_256 test_byobnet test_coatnet test_convnext
    test_efficientnet test_mambaout test_nfnet test_resnet test_vit test_vit_relpos tiny_vit_5m_224
    tnt_s_legacy_patch16_224 twins_svt_small visformer_tiny vit_small_patch16_dinov3 vit_tiny_r_s16_p8_224
    vitamin_small_224 volo_d1_224 xception41 xcit_nano_12_p16_224
""".split()  # noqa: SIM905
OWN = (*kinds.WORKS, *(build for build in kinds.IN_PART if build not in kinds.WORKS), *kinds.REFUSED)

NAMES = (
    *(f"torchvision:{name}" for name in TORCHVISION),
    *(f"timm:{name}" for name in TIMM),
    *(f"own:{kinds.__name__}.{build.__name__}" for build in OWN),
)
TABLE = Path(__file__).parents[1] / "docs" / "networks.md"
HEADER = ("network", "input", "layers", "not shown", "answer")


def row(name: str) -> tuple[str, ...]:
    """A line of the table."""
    shown = f"`{name.replace(kinds.__name__ + '.', '')}`"
    try:
        known = organism(name)
        told = summary(known.not_shown, len(known.layers))
        network = weights.network(known, weights.load(known, "pretrained" if name.startswith("own:") else "random"))
        _there_and_back(known, network)
    except AtlasError as error:
        return shown, "", "0", "", str(error).removeprefix(f"{name}: ").replace("|", "/")
    fixed = sum(layer.fixed_size for layer in known.layers.values() if layer.kind == "conv")
    notes = [f"{fixed} maps at its own size alone"] if fixed else []
    notes += ["contiguous"] if isinstance(network, Traced) and not network.channels_last else []
    colours = f"{known.channels} x " if known.channels != 3 else ""
    return shown, f"{colours}{known.input_size}", str(len(known.layers)), told, "; ".join(["works", *notes])


def _there_and_back(known: Organism, network: Network) -> None:
    """Every layer at the size of its pictures, and the gradient to them; one pass for all layers of a size."""
    sizes: dict[int, list[str]] = {}
    for layer in known.layers.values():
        sizes.setdefault(unit_size(layer, known.input_size, None), []).append(layer.name)
    for px, names in sizes.items():
        pictures = torch.rand(2, network.channels, px, px, requires_grad=True)
        sum(value.sum() for value in network(pictures, names)).backward()


def _there() -> dict[str, str]:
    """The lines of the table that is there, by network."""
    lines = TABLE.read_text().splitlines() if TABLE.is_file() else []
    return {line.split("`")[1]: line for line in lines if line.startswith("| `")}


def _page(lines: Mapping[str, str]) -> str:
    libraries = ", ".join(f"{each} {version(each)}" for each in ("torch", "torchvision", "timm"))
    working = sum("| works" in line for line in lines.values())
    head = (
        "# Networks, and what each shows",
        "",
        f"`python -m benchmarks.networks`, {date.today()}, {libraries}; random weights, one thread.",
        f"Of {len(lines)} kinds of networks {working} work and {len(lines) - working} are refused in one sentence.",
        "Names that begin with `own:` are functions of tests/models/kinds_of_networks.py.",
        "",
        "Layers are the outputs of convolutions and dense layers that are maps, tokens or neurons of each picture, and",
        "hidden neurons, heads and residual streams of blocks. What is not shown is named by",
        "`microscope-atlas models NAME --json`; see [Own networks](own-networks.md) for the words.",
        "",
        f"| {' | '.join(HEADER)} |",
        f"|{'---|' * len(HEADER)}",
    )
    return "\n".join((*head, *lines.values(), ""))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="Make these lines anew. Default: those that are lacking.")
    asked = parser.parse_args().names
    warnings.simplefilter("ignore")  # of the libraries'
    torch.set_num_threads(1)
    there, ordered = _there(), {name.replace(f"{kinds.__name__}.", ""): name for name in NAMES}
    for short, name in ordered.items():
        if name in asked or (not asked and short not in there):
            there[short] = f"| {' | '.join(row(name))} |"
            print(there[short], flush=True)
        TABLE.write_text(_page({each: there[each] for each in ordered if each in there}))


if __name__ == "__main__":
    main()
