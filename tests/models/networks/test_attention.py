"""nn.MultiheadAttention made explicit, against PyTorch's own without its fast path."""

from typing import Any

import pytest
import torch
from torch import nn

from microscope_atlas.models.networks.attention import ExplicitAttention, make_explicit

SETTINGS: list[dict[str, Any]] = [
    {},
    {"batch_first": True},
    {"bias": False, "batch_first": True},
    {"add_bias_kv": True},
    {"add_zero_attn": True, "batch_first": True},
    {"kdim": 6, "vdim": 10, "batch_first": True},
]


@pytest.fixture(autouse=True)
def _slow_path() -> Any:
    torch.backends.mha.set_fastpath_enabled(False)
    yield
    torch.backends.mha.set_fastpath_enabled(True)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("masked", [None, "bool", "float", "each head", "padding"])
def test_it_computes_what_pytorchs_own_does(settings: dict[str, Any], need_weights: bool, masked: str | None) -> None:
    torch.manual_seed(0)
    module = nn.MultiheadAttention(8, 2, **settings).eval()
    shape = (2, 5) if module.batch_first else (5, 2)
    given = [torch.rand(*shape, width) for width in (8, settings.get("kdim", 8), settings.get("vdim", 8))]
    some = torch.ones(5, 5).triu(1).bool()
    named: dict[str, Any] = {"need_weights": need_weights, "average_attn_weights": False}
    if masked == "padding":
        named["key_padding_mask"] = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    elif masked == "each head":
        named["attn_mask"] = torch.rand(4, 5, 5)
    elif masked:
        named["attn_mask"] = some if masked == "bool" else some.float()
    expected, weights = module(*given, **named)
    make_explicit(module)
    assert isinstance(module, ExplicitAttention)
    found, own = module(*given, **named)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    assert (own is None) == (weights is None)
    if weights is not None:
        torch.testing.assert_close(own, weights, atol=1e-6, rtol=1e-5)


def test_one_picture_without_a_batch() -> None:
    module = nn.MultiheadAttention(8, 2).eval()
    x = torch.rand(5, 8)
    expected = module(x, x, x)
    make_explicit(module)
    for found, right in zip(module(x, x, x), expected, strict=True):
        torch.testing.assert_close(found, right)


def test_numbers_are_the_same_with_gradients_and_without() -> None:
    torch.backends.mha.set_fastpath_enabled(True)
    module = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2).eval()
    module.requires_grad_(False)
    make_explicit(module)
    x = torch.rand(2, 5, 8)
    with torch.no_grad():
        without = module(x)
    assert module(x.requires_grad_()).equal(without)


def test_state_dict_and_output_projection_stay_what_they_are() -> None:
    module = nn.MultiheadAttention(8, 2)
    names, called = list(module.state_dict()), []
    make_explicit(module)
    module.out_proj.register_forward_hook(lambda *_: called.append(1))
    module(*[torch.rand(5, 2, 8)] * 3)
    assert list(module.state_dict()) == names and called == [1]
