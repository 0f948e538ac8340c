"""Any module as a network: layers found by running it once, read by hooks.

Its forward pass stays the module's own code, and is left as soon as the last layer asked for has its value. Where no
layers are chosen, they are the outputs of all convolutions and dense layers, in the order they are computed: before any
batch norm or rectifier that follows. Outputs that are neither channels nor neurons of each picture, such as tokens, are
not shown.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from functools import cached_property
from re import sub
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from microscope_atlas.atlas.organisms import Layer
from microscope_atlas.errors import NetworkFailed, unknown
from microscope_atlas.models.networks import autograd
from microscope_atlas.models.networks.network import Network
from microscope_atlas.rectifiers import Rectified, Rectifiers

BEFORE = "/pre_relu"  # a layer's name and this: what its rectifier reads


class Trace(NamedTuple):
    """What one forward pass tells of a module."""

    layers: dict[str, Layer]
    wiring: dict[str, tuple[str, ...]]
    rectifiers: dict[str, bool]  # layers that end with a rectifier -> whether it is a ReLU, not a ReLU6


class Traced(Network):
    """A module whose layers are read by hooks."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        module: nn.Module,
        mean: Sequence[float],  # of the module's input, RGB in [0, 1] before
        std: Sequence[float],
        input_size: int,  # px on a side, of the picture that layers are found with
        layers: Sequence[str] = (),  # paths of modules, as in named_modules(); none: convolutions and dense layers
    ):
        super().__init__()
        self.module = module.eval().requires_grad_(False)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        self.input_size = input_size
        paths = dict(self.module.named_modules())
        for path in layers:
            if path not in paths:
                raise unknown("module", path, "the network", paths)
        self.chosen = bool(layers)
        self.by_name = {
            name: paths[path]
            for path, name in _names(paths).items()
            if (path in layers if layers else isinstance(paths[path], nn.Conv2d | nn.Linear))
        }

    def forward(self, pictures: Tensor, targets: Sequence[str]) -> list[Tensor]:
        """See Network."""
        names = [target.removesuffix(BEFORE) for target in targets]
        for name in names:
            if name not in self.by_name:
                raise unknown("node", name, "the network", self.by_name)
        met: dict[int, Rectified] = {}
        with Rectifiers(met) if names != list(targets) else nullcontext():
            found = self._run(pictures, set(names), met)
        return [
            met[id(found[name])].before if target.endswith(BEFORE) else found[name]
            for name, target in zip(names, targets, strict=True)
        ]

    def preactivation(self, name: str) -> str:
        """See Network."""
        return name + BEFORE if name in self._trace.rectifiers else name

    def rectified(self, name: str) -> bool:
        """See Network."""
        return self._trace.rectifiers.get(name, False)

    def wiring(self) -> Mapping[str, tuple[str, ...]]:
        """See Network."""
        return self._trace.wiring

    def table(self, size: int) -> dict[str, Layer]:
        """See Network; `size` is the input size."""
        return self._trace.layers

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """The module's, under the module's own names."""
        return self.module.state_dict(*args, **kwargs)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Into the module, under the module's own names."""
        return self.module.load_state_dict(state_dict, strict, assign)

    def _run(self, pictures: Tensor, names: set[str], met: dict[int, Rectified]) -> dict[str, Tensor]:
        """Outputs of the layers `names`, each of its first call, in order; the module is left after the last one.

        Dense layers on maps, which have their units on the last axis, are given with them on the second.
        """
        found: dict[str, Tensor] = {}

        def note(name: str, output: Any) -> Tensor | None:
            if name in found or not isinstance(output, Tensor):
                return None
            last = isinstance(self.by_name[name], nn.Linear) and output.dim() == 4
            found[name] = output.permute(0, 3, 1, 2) if last else output
            if len(found) == len(names):
                raise _Done
            # a copy, because what follows may change it in place
            passed = (found[name].permute(0, 2, 3, 1) if last else output).clone()
            if id(output) in met:
                met[id(passed)] = met[id(output)]._replace(after=passed)
            return passed

        def hook(name: str) -> Callable[[nn.Module, Any, Any], Tensor | None]:
            return lambda module, given, output: note(name, output)

        handles = [self.by_name[name].register_forward_hook(hook(name)) for name in names]
        try:
            self.module((pictures - self.mean) / self.std)
        except _Done:
            pass
        finally:
            for handle in handles:
                handle.remove()
        return found

    @cached_property
    def _trace(self) -> Trace:
        picture = torch.zeros(2, 3, self.input_size, self.input_size, device=self.mean.device, requires_grad=True)
        met: dict[int, Rectified] = {}
        with torch.enable_grad(), Rectifiers(met):
            found = self._run(picture, set(self.by_name), met)
        if self.chosen:
            self._refuse_what_is_no_layer(found)
        shown = {name: output for name, output in found.items() if _is_layer(output)}
        steps = autograd.steps(shown.values())
        fields = autograd.fields(steps)
        layers = {}
        for name, output in shown.items():
            kind: Literal["conv", "dense"] = "conv" if output.dim() == 4 else "dense"
            size, stride, origin = fields[output.grad_fn]
            layers[name] = Layer(name, kind, output.shape[1], size, stride, branches={}, origin=origin)
        rectifiers = {name: met[id(output)].by_relu for name, output in shown.items() if id(output) in met}
        return Trace(layers, autograd.wiring(steps, shown), rectifiers)

    def _refuse_what_is_no_layer(self, found: Mapping[str, Tensor]) -> None:
        for name in self.by_name:
            if name not in found:
                raise NetworkFailed(f"layer {name} has no output: no forward pass calls it, or it gives no tensor")
            if not _is_layer(found[name]):
                raise NetworkFailed(
                    f"layer {name} has outputs of shape {tuple(found[name].shape)} for two pictures; expected "
                    "(2, units, height, width) or (2, units), with a gradient to the picture"
                )


class _Done(BaseException):
    """The last layer has its value; no error, so that no handler on the way stops it."""


def _is_layer(output: Tensor) -> bool:
    """Channels or neurons of each of two pictures, with a gradient to them."""
    return output.dim() in (2, 4) and len(output) == 2 and output.grad_fn is not None


def _names(paths: Iterable[str]) -> dict[str, str]:
    """Names of modules that are fit for keys: `layer1.0.conv1` -> `layer1_0_conv1`, each once."""
    names: dict[str, str] = {}
    for path in paths:
        plain = sub(r"[^A-Za-z0-9_]", "_", path) or "module"
        name, count = plain, 1
        while name in names.values():
            count += 1
            name = f"{plain}_{count}"
        names[path] = name
    return names
