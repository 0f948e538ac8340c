"""How much arithmetic a network asks for: what rendering a unit costs where nobody has measured it."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from generate.models.network import Network


def flops(network: Network, node: str, size: int) -> int:
    """Floating-point operations of one picture of `size` px through the network cut at `node`, and of its gradient.

    Forward and back to the picture, not to the weights; a multiplication and an addition are two. Convolutions and
    matrix products alone are counted: the rest is bound by memory, not by arithmetic. Nothing is computed where the
    network is on the meta device.
    """
    device = next(network.parameters()).device
    picture = torch.empty(1, 3, size, size, device=device, requires_grad=True)
    frozen = [parameter for parameter in network.parameters() if parameter.requires_grad]
    try:
        for parameter in frozen:
            parameter.requires_grad_(False)
        with FlopCounterMode(display=False) as counter, torch.enable_grad():
            (value,) = network(picture, [node])
            if value.requires_grad:
                value.sum().backward()
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
    return int(counter.get_total_flops())
