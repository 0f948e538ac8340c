"""Any network, differentiated as if it were linear: expanded weights where no closed form is known.

The network computes what it always does, on a grey picture; only its gradients are those of a linear one. Activation
functions have slope one and max pools that of the average over their windows. Anything else that is not linear, such as
a gate or a norm over a picture's own values, has its slope at the grey picture.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from microscope_atlas.errors import NetworkFailed
from microscope_atlas.models.networks.network import Network
from microscope_atlas.models.networks.watch import SOFTMAX
from microscope_atlas.rectifiers import HARDTANH, RELU

GREY = 0.5
ATTENTION = "attention stands between, whose weights depend on the picture"
NOISE = 1e-6  # share of the largest weight, below which a weight is rounding: fast convolutions spill beyond a kernel

Function = Callable[..., Any]

ACTIVATIONS: frozenset[Function] = (
    RELU
    | HARDTANH
    | {
        *(
            F.relu6,
            F.leaky_relu,
            F.leaky_relu_,
            F.elu,
            F.elu_,
            F.selu,
            F.celu,
            F.prelu,
            F.rrelu,
            F.threshold,
            F.softplus,
        ),
        *(F.gelu, F.silu, F.mish, F.hardswish, F.tanh, torch.tanh, torch.tanh_, Tensor.tanh, Tensor.tanh_),
    }
)


class Linearised(TorchFunctionMode):
    """Within this context any network computes what it does, and has the gradients of a linear one."""

    def __torch_function__(
        self,
        func: Function,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        named = kwargs or {}
        if func in ACTIVATIONS:
            read: Tensor = args[0] if args else named["input"]
            linear = read.clone()  # it may work in place
        elif func is F.max_pool2d:
            linear = _average(*args, **named)
        elif func is F.adaptive_max_pool2d:
            linear = F.adaptive_avg_pool2d(*args[:2])
        else:
            return func(*args, **named)
        with torch.no_grad():
            value = func(*args, **named)
        return linear + (value - linear).detach()


def _average(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    """The average pool of a max pool's geometry; what is padded counts as zero, minus infinity too."""
    if dilation not in (1, (1, 1), [1, 1]):
        raise NetworkFailed(f"a max pool with dilation {dilation} is no average over a window, so it is not linearised")
    return F.avg_pool2d(input.nan_to_num(neginf=0.0), kernel_size, stride or kernel_size, padding, ceil_mode)


class Attended(TorchFunctionMode):
    """Within this context it is noted whether a gradient passes attention."""

    def __init__(self) -> None:
        super().__init__()
        self.passed = False
        self.handles: list[RemovableHandle] = []

    def __torch_function__(
        self, func: Function, types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        value = func(*args, **(kwargs or {}))
        if (func is F.scaled_dot_product_attention or func in SOFTMAX) and value.requires_grad:
            self.handles.append(value.register_hook(self._note))
        return value

    def _note(self, gradient: Tensor) -> None:
        self.passed = self.passed or bool(gradient.any())


def differentiate(
    network: Network,
    source: str,
    target: str,
    shown: Iterable[str],
    size: int,
    batch: int,
    through_attention: bool = True,
) -> Iterator[Tensor]:
    """Expanded weights as in expanded.compose: those of `target`'s centre on `source`, (targets, units, height, width).

    Of the map only the part is given that any target reads. Through attention they are those at a grey picture, or,
    where these are not wanted, NetworkFailed says so.
    """
    device = next(network.parameters()).device
    names = [source, *(name for name in shown if name not in (source, target)), target]
    picture = torch.full((1, 3, size, size), GREY, device=device, requires_grad=True)
    with torch.enable_grad(), Attended() as attended, Linearised():
        read, *others, end = network(picture, names)
        centre = end[0] if end.dim() == 2 else end[0, :, end.shape[2] // 2, end.shape[3] // 2]
    for other in others:
        other.register_hook(torch.zeros_like)  # ways through a third layer are that layer's
    probe = torch.randn(len(centre), generator=torch.Generator().manual_seed(0)).to(device)
    if not through_attention:
        torch.autograd.grad(centre, read, probe, retain_graph=True)
        if attended.passed:
            raise NetworkFailed(ATTENTION)
    for handle in attended.handles:
        handle.remove()

    def gradients(of_units: Tensor) -> Tensor:
        """Of weighted sums of the target's units, weights (sums, units)."""
        try:
            found: Tensor = torch.autograd.grad(centre, read, of_units, retain_graph=True, is_grads_batched=True)[0]
        except RuntimeError as error:
            if "vmap" not in str(error):
                raise
            # steps that cannot be batched, as group norm with channels last
            found = torch.stack([torch.autograd.grad(centre, read, each, retain_graph=True)[0] for each in of_units])
        return found[:, 0, :, None, None] if read.dim() == 2 else found[:, 0]

    reached = _box(gradients(probe[None]))
    one_hot = torch.eye(len(centre), device=device)
    for start in range(0, len(centre), batch):
        yield gradients(one_hot[start : start + batch])[:, :, *reached]


def _box(weights: Tensor) -> tuple[slice, slice]:
    """The rows and columns that hold anything."""
    sizes = weights.abs().amax((0, 1))
    some = sizes > NOISE * sizes.max()
    rows, columns = (some.any(axis).nonzero().flatten() for axis in (1, 0))
    if not len(rows):
        return slice(0, 1), slice(0, 1)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
