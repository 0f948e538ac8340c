"""What every organism in the catalog promises. A new one is picked up unasked."""

import re
from collections.abc import Iterator
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from microscope_atlas.keys import LAYER, parse_key
from microscope_atlas.lenses.feature_visualization import FeatureVisualization, Recipe
from microscope_atlas.lenses.lens import Subject
from microscope_atlas.models import weights
from microscope_atlas.models.catalog import CATALOG
from microscope_atlas.models.networks.graph import Graph
from microscope_atlas.rendering.ascend import Ascent, Precision

NAMES = sorted(CATALOG)
SIZE = 96  # px of the pictures; large enough for the auxiliary heads' pools
CLIP = {"contrastive_16x", "contrastive_4x", "contrastive_rn50"}
LARGE = {"alexnet", "vgg19_caffe", "resnetv2_50_slim", "inceptionv3_slim", "inceptionv4_slim", *CLIP}
INNER = {"mixed3a_5x5_bottleneck", "block2_unit_1_conv2"}  # rendered though they are within a block
# the same networks but for their depth, or their classes
TWINS = {"efficientnet_lite1", "alexnet_caffe_places365", "inceptionv1_caffe_places365"}


def _tier(name: str, *precision: Precision) -> object:
    """Where a processor has no instructions for bfloat16 it takes ten times as long as float32."""
    slow = (name in LARGE or name in TWINS) + ("bfloat16" in precision)
    slow += name in CLIP - {"contrastive_rn50"}  # the same operations, more of them
    return pytest.param(name, *precision, marks=((), pytest.mark.long, pytest.mark.hours)[min(slow, 2)])


_TWICE = [_tier(name, precision) for name in NAMES for precision in get_args(Precision)]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As shards are rendered."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def shown(graph: Graph, pictures: Tensor, nodes: list[str], precision: Precision) -> list[Tensor]:
    """Of the first picture: activations at all nodes, and the gradient of the last."""
    pictures = pictures.contiguous(memory_format=torch.channels_last).requires_grad_(True)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        values = graph(pictures, nodes)
    gradient = torch.autograd.grad(values[-1].float().square().sum(), pictures)[0]
    return [value[0].detach().clone() for value in values] + [gradient[0]]


@pytest.mark.parametrize(("name", "precision"), _TWICE)
def test_sample_does_not_depend_on_companions(name: str, precision: Precision) -> None:
    organism = CATALOG[name]
    graph = weights.network(organism, weights.random(organism))
    layers = [layer for layer in organism.layers.values() if layer.name[:4] != "head" and not layer.fixed_size]
    maps = [layer.name for layer in layers if layer.kind == "conv"]
    assert isinstance(graph, Graph)
    nodes = graph.order(tuple(maps))
    pictures = torch.rand(8, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    among_others = shown(graph, pictures, nodes, precision)
    for count in (2, 5):
        both = zip([*nodes, "gradient"], shown(graph, pictures[:count], nodes, precision), among_others, strict=True)
        assert not [node for node, alone, together in both if not torch.equal(alone, together)]


@pytest.mark.parametrize(("name", "precision"), _TWICE)
def test_dense_unit_does_not_depend_on_companions(name: str, precision: Precision) -> None:
    organism = CATALOG[name]
    graph = weights.network(organism, weights.random(organism))
    products = [op for op in graph.children() if isinstance(op, nn.Linear)]
    assert products
    for product in products:
        inputs = torch.rand(16, product.in_features, generator=torch.Generator().manual_seed(0))
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            among_others = product(inputs)
            for count in (2, 5):
                assert torch.equal(product(inputs[:count]), among_others[:count])


@pytest.mark.parametrize("name", NAMES)
def test_names_make_keys(name: str) -> None:
    organism = CATALOG[name]
    assert organism.name == name
    for layer in organism.layers.values():
        assert LAYER.fullmatch(layer.name)
        assert str(parse_key(f"{name}/{layer.name}/{layer.units - 1}")) == f"{name}/{layer.name}/{layer.units - 1}"


@pytest.mark.parametrize("name", NAMES)
def test_facts_are_stated(name: str) -> None:
    organism = CATALOG[name]
    assert organism.title
    assert re.fullmatch(r"https://\S+", organism.paper)
    assert 2010 < organism.year < 2030
    assert organism.dataset in ("ImageNet", "Places365", "WebImageText")
    assert organism.sources
    for source in organism.sources:
        assert re.match(r"https?://|pypi:|hub:", source.where)
        assert source.license


@pytest.mark.parametrize("name", NAMES)
def test_fields_and_strides_grow_towards_the_logits(name: str) -> None:
    maps = [layer for layer in CATALOG[name].layers.values() if layer.kind == "conv" and layer.name[:4] != "head"]
    fields = [layer.receptive_field for layer in maps]
    assert None not in fields
    assert fields == sorted(fields)  # type: ignore[type-var]
    assert [layer.stride for layer in maps] == sorted(layer.stride for layer in maps)


@pytest.mark.parametrize("name", NAMES)
def test_branches_cover_their_layer(name: str) -> None:
    for layer in CATALOG[name].layers.values():
        starts = [0, *(stop for _, stop in layer.branches.values())]
        if layer.branches:
            assert [start for start, _ in layer.branches.values()] == starts[:-1]
            assert starts[-1] == layer.units


@pytest.mark.parametrize(
    "name", [_tier(name) if name != "inceptionv1" else pytest.param(name, marks=pytest.mark.long) for name in NAMES]
)  # its twin of Caffe is like it
def test_every_layer_renders(name: str) -> None:
    organism = CATALOG[name]
    network = weights.network(organism, weights.random(organism))
    recipe = Recipe(Ascent(steps=1), max_size=SIZE, variants=0)
    for layer in organism.layers.values():
        if layer.named_only and not layer.fixed_size and layer.name not in INNER:
            continue  # within blocks, whose ends are rendered
        subject = Subject(organism, layer, torch.device("cpu"), lambda: network)
        (row,) = next(FeatureVisualization().rows(subject, range(layer.units - 1, layer.units), recipe))
        size = organism.input_size if layer.kind == "dense" or layer.fixed_size else row["recipe"]["size"]
        assert row["image"].shape == (size, size, 3)
        assert row["score"] is not None
