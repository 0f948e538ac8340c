"""Every layer of every network against an independent implementation with the same random weights."""

import pytest

from microscope_atlas.models import weights
from microscope_atlas.models.catalog import CATALOG
from tests.references import sampled

REFERENCES = sorted(path.stem for path in sampled.HERE.glob("*.npz"))
SLOW = {"alexnet_caffe_places365", "inceptionv1_caffe_places365", "vgg19_caffe"}  # two networks again, and a large one


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.long] * (name in SLOW)) for name in REFERENCES],
)
def test_every_layer_agrees_with_an_independent_implementation(name: str) -> None:
    organism = CATALOG[name]
    random = weights.random(organism)
    network = weights.network(organism, random)
    far = {key: far for key, far in sampled.differences(organism, random, network) if not far <= sampled.TOLERANCE}
    assert not far


@pytest.mark.parametrize("name", REFERENCES)
def test_reference_holds_every_layer_at_the_input_size_and_every_map_at_another(name: str) -> None:
    organism = CATALOG[name]
    maps = [layer.name for layer in organism.layers.values() if layer.kind == "conv"]
    sizes = sampled.sizes(name)
    assert len(sizes) == 2
    for size, layers in sizes.items():
        at_input_size = size == (organism.input_size, organism.input_size)
        assert sorted(layers) == sorted(organism.layers if at_input_size else maps)


@pytest.mark.parametrize("name", REFERENCES)
def test_names_in_old_links_are_distinct_and_lead_to_units(name: str) -> None:
    organism = CATALOG[name]
    ops = [op for op in (*organism.legacy_ops.values(), *organism.legacy_parts) if op]
    assert len(ops) == len(set(ops))
    for op in ops:
        assert op.endswith("_0") and op.replace("_", "").isalnum()
    for layer, start, stop in organism.legacy_parts.values():
        assert 0 <= start < stop <= organism.layer(layer).units
