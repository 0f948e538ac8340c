"""How much arithmetic a network asks for: what rendering a unit costs where nobody has measured it."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from microscope_atlas.models.networks.network import Network


def flops(network: Network, node: str, size: int) -> int:
    """Floating-point operations of one picture of `size` px through the network cut at `node`, and of its gradient.

    Forward and back to the picture, not to the weights: back it is the same arithmetic as forward. A multiplication
    and an addition are two. Convolutions and matrix products alone are counted: the rest is bound by memory, not by
    arithmetic. Nothing is computed where the network is on the meta device.
    """
    device = next(network.parameters()).device
    network.prepare(size)  # which is not counted
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.empty(1, 3, size, size, device=device), [node])
    return 2 * int(counter.get_total_flops())
