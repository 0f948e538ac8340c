"""Adam of complex numbers, which a spectrum's coefficients are.

PyTorch's takes a complex number for two real ones, each with a step length of its own. Then a step depends on where a
picture's things lie: of the same picture, shifted, coefficients have other phases, and the step is not the same step,
shifted. With one length for both parts it is. The mean square that the length is taken from is also of twice as many
numbers, which tells where it keeps little of the steps before. Adam: Kingma and Ba 2015,
https://arxiv.org/abs/1412.6980.
"""

from typing import Any

import torch
from torch import Tensor

TINY = 1e-8  # added to what is divided by; the paper's epsilon


class ComplexAdam(torch.optim.Optimizer):
    """Adam of a tensor (..., 2) of real and imaginary parts; the square is the mean of the two parts' squares.

    A coefficient's gradient that stays the same moves it by the rate times the square root of two, whatever its phase:
    as far as PyTorch's moves one whose parts are alike. Nothing waits for the device, so that a step can be recorded as
    a CUDA graph; the rate is a number, or a tensor there.
    """

    def __init__(self, parameters: Tensor, lr: float | Tensor, betas: tuple[float, float]):
        super().__init__([parameters], {"lr": lr, "betas": betas})
        self._mean = torch.zeros_like(parameters)
        self._square = torch.zeros_like(parameters[..., :1])
        self._done = torch.zeros((), device=parameters.device)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Move the tensor against its gradient."""
        (group,) = self.param_groups
        (tensor,) = group["params"]
        beta1, beta2 = group["betas"]
        self._done += 1
        real, imaginary = tensor.grad[..., :1], tensor.grad[..., 1:]
        self._mean.lerp_(tensor.grad, 1 - beta1)
        half = (1 - beta2) / 2
        self._square.mul_(beta2).addcmul_(real, real, value=half).addcmul_(imaginary, imaginary, value=half)
        share = (1 - beta2**self._done).sqrt()  # of the root that is there yet
        divisor = self._square.sqrt().add_(TINY * share).mul_(-(1 - beta1**self._done) / (group["lr"] * share))
        for part in (slice(0, 1), slice(1, 2)):  # a divisor for both at once would be read number by number
            tensor[..., part].addcdiv_(self._mean[..., part], divisor)
