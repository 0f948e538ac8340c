import pytest
import torch
from torch import Tensor

from microscope_atlas.rendering.adam import ComplexAdam

BETAS = (0.2, 0.9)
NOISE = torch.Generator().manual_seed(1)
GRADIENTS = torch.randn(6, 3, 5, 2, generator=NOISE)  # of six steps


def moved(optimiser: type, gradients: Tensor) -> Tensor:
    """Where a tensor is after steps with these gradients, from 0."""
    tensor = torch.zeros(gradients.shape[1:], requires_grad=True)
    given = tensor if optimiser is ComplexAdam else [tensor]
    adam = optimiser(given, lr=0.1, betas=BETAS)
    for gradient in gradients:
        tensor.grad = gradient.clone()
        adam.step()
    return tensor.detach()


def turned(tensor: Tensor, by: Tensor) -> Tensor:
    """Complex numbers, as two real ones, with other phases."""
    return torch.view_as_real(torch.view_as_complex(tensor) * torch.polar(torch.ones_like(by), by))


def test_what_turns_the_gradients_turns_the_steps() -> None:
    by = torch.rand(3, 5, generator=NOISE) * 6
    torch.testing.assert_close(
        moved(ComplexAdam, turned(GRADIENTS, by)), turned(moved(ComplexAdam, GRADIENTS), by), rtol=1e-4, atol=1e-6
    )
    apart = moved(torch.optim.Adam, turned(GRADIENTS, by)) - turned(moved(torch.optim.Adam, GRADIENTS), by)
    assert apart.abs().max() > 0.05


def test_is_pytorchs_adam_where_both_parts_have_the_same_square() -> None:
    alike = GRADIENTS[..., :1] * torch.tensor([1.0, -1.0])
    torch.testing.assert_close(moved(ComplexAdam, alike), moved(torch.optim.Adam, alike))


@pytest.mark.parametrize("optimiser", [ComplexAdam, torch.optim.Adam])
def test_what_has_no_gradient_stays(optimiser: type) -> None:
    assert not moved(optimiser, torch.zeros(3, 4, 2)).any()


def test_rate_may_be_changed_between_steps() -> None:
    tensor = torch.zeros(1, 2, requires_grad=True)
    adam = ComplexAdam(tensor, 1.0, (0, 0))
    found = []
    for rate in (0.3, 0.1):
        adam.param_groups[0]["lr"] = rate
        before, tensor.grad = tensor.detach().clone(), torch.tensor([[3.0, 4.0]])
        adam.step()
        found.append((tensor - before).norm().item() / 2**0.5)
    assert found == pytest.approx([0.3, 0.1])
