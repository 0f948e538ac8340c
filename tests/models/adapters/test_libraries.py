"""torchvision's and timm's networks, against the libraries' own forward passes."""

from importlib.util import find_spec
from typing import Any

import pytest
import torch

from microscope_atlas.errors import NetworkFailed, UnknownName, WeightsError
from microscope_atlas.models import at_hand, weights
from microscope_atlas.models.catalog import organism
from microscope_atlas.models.networks.traced import Traced
from microscope_atlas.models.organism import Library, Organism

torchvision = pytest.mark.skipif(find_spec("torchvision") is None, reason="torchvision is not installed")
timm = pytest.mark.skipif(
    find_spec("torchvision") is None or find_spec("timm") is None, reason="torchvision or timm is not installed"
)

RESNETS = [pytest.param("torchvision:resnet18", marks=torchvision), pytest.param("timm:resnet18", marks=timm)]


def library(known: Organism) -> Library:
    (source,) = known.sources
    assert isinstance(source, Library)
    return source


@pytest.mark.parametrize("name", RESNETS)
def test_layers_of_resnet18(name: str) -> None:
    table = organism(name).layers
    assert len(table) == 1 + 8 * 2 + 3 + 1  # stem, two convolutions a block, three shortcuts, logits
    assert (table["conv1"].units, table["conv1"].receptive_field, table["conv1"].stride) == (64, 7, 2)
    # 435 px at the last convolution: Araujo et al. 2019, distill.pub/2019/computing-receptive-fields, has it as 435
    assert (table["layer4_1_conv2"].units, table["layer4_1_conv2"].receptive_field) == (512, 435)
    assert (table["fc"].kind, table["fc"].units) == ("dense", 1000)
    assert ("layer1_1_conv2", "layer2_0_downsample_0") in organism(name).edges


@pytest.mark.parametrize("name", RESNETS)
def test_logits_are_those_of_the_librarys_forward_pass_on_normalised_pictures(name: str) -> None:
    known = organism(name)
    network = weights.network(known, weights.random(known))
    picture = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    module = network.get_submodule("module")
    with torch.no_grad():
        torch.testing.assert_close(network(picture, ["fc"])[0], module((picture - mean) / std))


@torchvision
def test_weights_are_chosen_by_name() -> None:
    assert library(organism("torchvision:resnet50.IMAGENET1K_V1")).where.endswith("ResNet50_Weights.IMAGENET1K_V1")
    assert library(organism("torchvision:resnet50")).where.endswith("ResNet50_Weights.IMAGENET1K_V2")
    with pytest.raises(UnknownName, match="weights 'IMAGENET1K_V3' is not in torchvision's resnet50; nearest"):
        organism("torchvision:resnet50.IMAGENET1K_V3")
    with pytest.raises(UnknownName, match="model 'resnet19' is not in torchvision; nearest: resnet"):
        organism("torchvision:resnet19")


@torchvision
@pytest.mark.parametrize(("name", "size"), [("inception_v3", 299), ("vit_b_16.IMAGENET1K_SWAG_E2E_V1", 384)])
def test_network_is_built_as_its_weights_want_it(name: str, size: int) -> None:
    known = organism(f"torchvision:{name}")
    with torch.device("meta"):
        module = known.build().get_submodule("module")
    assert known.input_size == size
    assert getattr(module, "transform_input", True)
    assert getattr(module, "image_size", size) == size


@timm
def test_timms_weights_are_chosen_by_name_and_say_their_license() -> None:
    known = organism("timm:resnet18.a1_in1k")
    assert library(known).where.endswith(": resnet18.a1_in1k") and library(known).license == "apache-2.0"
    with pytest.raises(UnknownName, match=r"weights 'resnet18.b1_in1k' is not in timm; nearest: resnet18\."):
        organism("timm:resnet18.b1_in1k")
    with pytest.raises(UnknownName, match="model 'resnet19' is not in timm; nearest: resnet"):
        organism("timm:resnet19")


@torchvision
def test_pretrained_weights_are_the_librarys_and_cached(monkeypatch, tmp_path) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("MICROSCOPE_ATLAS_CACHE", str(tmp_path))
    from torchvision.models import ResNet18_Weights

    known = organism("torchvision:resnet18")
    trained = weights.random(known).tensors
    monkeypatch.setattr(ResNet18_Weights, "get_state_dict", lambda self, **_: trained)
    given = weights.load(known)
    assert given.sha256 == weights.random(known).sha256
    assert given.provenance.source == library(known).where and given.provenance.official
    monkeypatch.delattr(ResNet18_Weights, "get_state_dict")
    assert weights.load(known).sha256 == given.sha256
    assert at_hand.cached_file(known).name == "torchvision.resnet18.safetensors"


@torchvision
@pytest.mark.parametrize("name", ["mnasnet0_5", "regnet_x_400mf"])
def test_weights_are_fitted_by_the_networks_own_code(name: str, monkeypatch, tmp_path) -> None:  # type: ignore[no-untyped-def]
    """MNASNet's asks which version of it a state dict is of."""
    monkeypatch.setenv("MICROSCOPE_ATLAS_CACHE", str(tmp_path))
    known = organism(f"torchvision:{name}")
    from torchvision import models

    state = models.get_model(name, weights=None).state_dict()
    monkeypatch.setattr(models.get_model_weights(name), "get_state_dict", lambda self, **_: state)
    given = weights.load(known)
    network = weights.network(known, given)
    first = next(iter(state))
    assert network.state_dict()[first].equal(state[first])


@torchvision
def test_weights_under_older_names_become_the_networks(monkeypatch, tmp_path) -> None:  # type: ignore[no-untyped-def]
    """The files of vision transformers are of a version that called its layers otherwise."""
    monkeypatch.setenv("MICROSCOPE_ATLAS_CACHE", str(tmp_path))
    from torchvision.models import ViT_B_32_Weights, get_model

    known = organism("torchvision:vit_b_32")
    with torch.device("meta"):
        names = get_model("vit_b_32", weights=None).state_dict()
    older = {
        name.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): torch.zeros(value.shape)
        for name, value in names.items()
    }
    assert set(older) != set(names)
    monkeypatch.setattr(ViT_B_32_Weights, "get_state_dict", lambda self, **_: older)
    assert set(weights.load(known).tensors) == set(names)


@torchvision
def test_listing_takes_one_network_without_values(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    known = organism("torchvision:vit_b_16")
    built = []
    monkeypatch.setattr(Traced, "__init__", counting(Traced.__init__, built))
    rendered = [name for name, layer in known.layers.items() if not layer.named_only]
    blocks = [f"encoder_layers_encoder_layer_{at}" for at in range(12)]
    inside = [f"{block}{part}" for block in blocks for part in ("_heads", "_mlp", "")]
    assert rendered == ["conv_proj", *inside, "heads_head"]
    assert known.layers["conv_proj"].fixed_size
    assert (f"{blocks[0]}_mlp", blocks[0]) in known.edges and (blocks[0], f"{blocks[1]}_heads") in known.edges
    assert set(known.not_shown.values()) == {"used as a function"}  # queries, keys and values of nn.MultiheadAttention
    assert {known.layers[f"{block}_mlp"].kind for block in blocks} == {"tokens"}
    assert known.layers[f"{blocks[3]}_mlp_cls"].kind == "dense"
    assert [{value.device.type for value in network.state_dict().values()} for network in built] == [{"meta"}]


def counting(right: Any, built: list[Traced]) -> Any:
    def init(self: Traced, *args: Any, **kwargs: Any) -> None:
        right(self, *args, **kwargs)
        built.append(self)

    return init


@timm
def test_random_weights_leave_every_branch_on() -> None:
    """LayerScale's factors, and the norms' and the biases as ever."""
    tensors = weights.random(organism("timm:test_convnext")).tensors
    scales = [value for name, value in tensors.items() if name.endswith("gamma")]
    assert scales and all(value.eq(1).all() for value in scales)
    assert all(value.eq(0).all() for name, value in tensors.items() if name.endswith("bias"))


@torchvision
def test_library_that_cannot_reach_its_hub_is_quoted(monkeypatch, tmp_path) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("MICROSCOPE_ATLAS_CACHE", str(tmp_path))
    from torchvision.models import ResNet18_Weights

    def refuse(self: object, **_: object) -> None:
        raise ConnectionRefusedError("refused")

    monkeypatch.setattr(ResNet18_Weights, "get_state_dict", refuse)
    with pytest.raises(WeightsError, match=r"https://download.pytorch.org/models/resnet18\S+: refused"):
        weights.load(organism("torchvision:resnet18"))


@pytest.mark.skipif(find_spec("torchvision") is not None, reason="torchvision is installed")
@pytest.mark.parametrize("name", ["torchvision:resnet18", "timm:resnet18"])
def test_missing_library_is_named_with_the_command_that_installs_it(name: str) -> None:
    with pytest.raises(NetworkFailed, match=r"pip install 'microscope-atlas\[torchvision\]'"):
        organism(name)
