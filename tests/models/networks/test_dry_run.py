"""What one look at a network finds out: its layout in memory, the sizes that it takes, its colours."""

import math

import pytest
import torch
from torch import Tensor, nn

from microscope_atlas.lenses.geometry import field_centre, layer_size, unit_size
from microscope_atlas.models import weights
from microscope_atlas.models.adapters import own
from microscope_atlas.models.adapters.trained import Trained
from microscope_atlas.models.networks.channels import in_channels
from microscope_atlas.models.networks.dry_run import refuse_broken_promises
from microscope_atlas.models.networks.linearised import differentiate
from microscope_atlas.models.networks.network import Network
from microscope_atlas.models.networks.traced import Traced
from microscope_atlas.models.organism import Organism
from tests.models import kinds_of_networks as kinds


def loaded(build: kinds.Build) -> tuple[Organism, Network]:
    known = own.organism(f"{kinds.__name__}.{build.__name__}")
    return known, weights.network(known, weights.load(known))


def test_module_that_flattens_by_view_is_run_contiguous_and_gives_its_own_logits() -> None:
    _, network = loaded(kinds.cifar_tutorial)
    pictures = torch.rand(2, 3, 32, 32)
    shown = pictures.contiguous(memory_format=torch.channels_last)
    expected = kinds.cifar_tutorial().module(pictures)
    torch.testing.assert_close(network(shown, ["fc3"])[0], expected)


@pytest.mark.parametrize("build", [kinds.five_axes, kinds.group_norm])
def test_what_can_be_run_with_channels_last_is(build: kinds.Build) -> None:
    _, network = loaded(build)
    assert isinstance(network, Traced) and network.channels_last
    kernels = [each.weight for each in network.modules() if isinstance(each, nn.Conv2d)]
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)


def test_connections_pass_a_norm_that_cannot_be_batched() -> None:
    known, network = loaded(kinds.group_norm)
    found = torch.cat(list(differentiate(network, "0", "3", list(known.layers), 32, 3)))
    one_by_one = torch.cat(list(differentiate(network, "0", "3", list(known.layers), 32, 1)))
    assert found.shape[:2] == (4, 8) and found.abs().sum() > 0
    torch.testing.assert_close(found, one_by_one)


def test_layer_that_small_pictures_do_not_reach_is_shown_the_networks_own_size() -> None:
    known, network = loaded(kinds.fixed_size)
    embed = known.layer("embed")
    assert embed.fixed_size
    assert unit_size(embed, 64, None) == unit_size(embed, 64, 48) == layer_size(embed, 64, 48) == 64
    # position 4 of 8 sees px 32 to 40, which is measured within the picture
    found = field_centre(lambda shown: network(shown, ["embed"])[0], known, "embed", 64, torch.device("cpu"))
    assert found == (36, 36)


def test_layer_before_a_fixed_size_takes_any() -> None:
    class Late(kinds.FixedSize):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(self.stem(x))

    late = Late()
    late.stem = nn.Conv2d(3, 3, 3, padding=1)
    layers = Traced(late, (0.0,), (1.0,), 64).table(64)
    assert {name: layer.fixed_size for name, layer in layers.items() if name != "mlp"} == {
        "stem": False,
        "embed": True,
        "head": False,
    }
    assert layers["mlp"].receptive_field is None  # so its pictures have the network's own size


def test_grey_is_luma_and_opacity_is_full() -> None:
    pictures = torch.rand(2, 3, 4, 4)
    red, green, blue = pictures.unbind(1)
    torch.testing.assert_close(in_channels(pictures, 1)[:, 0], 0.299 * red + 0.587 * green + 0.114 * blue)
    assert in_channels(pictures, 4).equal(torch.cat([pictures, torch.ones(2, 1, 4, 4)], 1))
    assert in_channels(pictures, 3) is pictures


def test_module_is_looked_at_as_its_own_input_range_asks() -> None:
    seen: list[Tensor] = []
    module = nn.Sequential(nn.Conv2d(1, 4, 3))
    module.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    Traced(module, (0.5,), (0.25,), 8, channels=1)(torch.full((2, 1, 8, 8), 0.75), ["0"])
    assert seen[0].shape == (2, 1, 8, 8) and math.isclose(float(seen[0].mean()), 1.0)


def test_network_that_keeps_its_promises_passes() -> None:
    trained = kinds.cifar_tutorial()
    refuse_broken_promises(Traced(trained.module, trained.mean, trained.std, trained.input_size))


def test_own_function_is_called_once_to_be_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted() -> Trained:
        calls.append(1)
        return kinds.cifar_tutorial()

    monkeypatch.setattr(kinds, "counted", counted, raising=False)
    known = own.organism(f"{kinds.__name__}.counted")
    assert known.layers and known.edges and known.not_shown == {}
    assert len(calls) == 1
