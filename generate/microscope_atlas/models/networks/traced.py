"""Any module as a network: layers found by running it once, read by hooks.

Its forward pass stays the module's own code, and is left as soon as the last layer asked for has its value. Where no
layers are chosen, they are the outputs of all convolutions and dense layers, in the order they are computed: before any
batch norm or rectifier that follows. Outputs that are neither channels nor neurons of each picture, such as tokens, are
not shown, nor are those whose rows and columns are not the picture's, see measured.sights; `not_shown` names them.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from re import sub
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from microscope_atlas.atlas.organisms import Field, Layer
from microscope_atlas.errors import NetworkFailed, unknown
from microscope_atlas.models.networks import autograd
from microscope_atlas.models.networks.channels import in_channels
from microscope_atlas.models.networks.measured import Sight, sights
from microscope_atlas.models.networks.network import Network
from microscope_atlas.models.networks.plain import is_lazy, plain
from microscope_atlas.models.networks.smooth import Smooth
from microscope_atlas.models.networks.unshown import PICTURES, unshown
from microscope_atlas.models.networks.watch import Watch
from microscope_atlas.rectifiers import Rectified, Rectifiers

BEFORE = "/pre_relu"  # a layer's name and this: what its rectifier reads

SHOWN = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)  # where no layers are chosen

# px on a side that lenses ask for, least: of layers that see little of a picture, and of those that see more. Both are
# odd multiples of 16, so what wants multiples of 32 cannot pass
SMALL, MEDIUM = 48, 112


class Trace(NamedTuple):
    """What one forward pass tells of a module."""

    layers: dict[str, Layer]  # without their fields
    wiring: dict[str, tuple[str, ...]]
    rectifiers: dict[str, bool]  # layers that end with a rectifier -> whether it is a ReLU, not a ReLU6
    not_shown: dict[str, str]  # paths of modules with units of their own -> why they are no layers


class Traced(Network):
    """A module whose layers are read by hooks."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        module: nn.Module,
        mean: Sequence[float],  # of the module's input, in [0, 1] before: one a channel, or one for all
        std: Sequence[float],
        input_size: int,  # px on a side, of the picture that layers are found with
        layers: Sequence[str] = (),  # paths of modules, as in named_modules(); none: convolutions and dense layers
        channels: int = 3,  # of CHANNELS, that the module reads
    ):
        super().__init__()
        self.channels = channels
        self.input_size = input_size
        self.channels_last = True  # until `lay_out` finds otherwise
        self.register_buffer("mean", _each(mean, channels), persistent=False)
        self.register_buffer("std", _each(std, channels), persistent=False)
        self.module = plain(module).eval()
        if is_lazy(self.module):
            self._materialise()
        self.module.requires_grad_(False)
        paths = dict(self.module.named_modules())
        for path in layers:
            if path not in paths:
                raise unknown("module", path, "the network", paths)
        self.chosen = bool(layers)
        self.paths = {
            name: path
            for path, name in _names(paths).items()
            if (path in layers if layers else isinstance(paths[path], SHOWN))
        }
        self.by_name = {name: paths[path] for name, path in self.paths.items()}
        self._traced: Trace | None = None
        self._sights: dict[int, Mapping[str, Sight]] = {}
        self._tables: dict[int, dict[str, Layer]] = {}

    def forward(self, pictures: Tensor, targets: Sequence[str]) -> list[Tensor]:
        """See Network."""
        names = [target.removesuffix(BEFORE) for target in targets]
        for name in names:
            if name not in self.by_name:
                raise unknown("node", name, "the network", self.by_name)
        met: dict[int, Rectified] = {}
        found: dict[str, Tensor] = {}
        with Rectifiers(met) if names != list(targets) else nullcontext():
            self._run(pictures, set(names), met, found)
        return [
            met[id(found[name])].before if target.endswith(BEFORE) else found[name]
            for name, target in zip(names, targets, strict=True)
        ]

    def preactivation(self, name: str) -> str:
        """See Network."""
        return name + BEFORE if name in self.trace().rectifiers else name

    def rectified(self, name: str) -> bool:
        """See Network."""
        return self.trace().rectifiers.get(name, False)

    def wiring(self) -> Mapping[str, tuple[str, ...]]:
        """See Network."""
        return self.trace().wiring

    def table(self, size: int) -> dict[str, Layer]:
        """See Network."""
        if size not in self._tables:
            self._tables[size] = self._table(size)
        return self._tables[size]

    def _table(self, size: int) -> dict[str, Layer]:
        seen, layers, stride = self.sights(size), dict[str, Layer](), 1
        for name, layer in self.trace().layers.items():
            sight = seen.get(name, Sight(Field(None, stride), Field(None, stride)))
            if self.chosen and sight.fault:
                raise NetworkFailed(f"layer {name} is no map: {sight.fault}")
            if not sight.fault:
                layers[name] = layer.seeing(sight.vertical, sight.horizontal)
                stride = layers[name].stride
        return self._with_sizes(layers)

    def sides(self, name: str, size: int) -> tuple[Field, Field]:
        """See Network."""
        return self.table(size)[name].sides

    def sights(self, size: int) -> Mapping[str, Sight]:
        """What the maps' positions see of pictures of `size` px, measured."""
        if size not in self._sights:
            through = self._through_all()
            maps = [name for name, layer in through.trace().layers.items() if layer.kind == "conv"]
            self._sights[size] = sights(through, {name: through.by_name[name] for name in maps}, size)
        return self._sights[size]

    def _through_all(self) -> "Traced":
        """The network with all convolutions and dense layers beside those chosen: a gradient is lost on a long way."""
        if not self.chosen:
            return self
        every = Traced(self.module, (0.0,), (1.0,), self.input_size, channels=self.channels)
        every.paths |= self.paths
        every.by_name |= self.by_name
        return every

    def not_shown(self) -> Mapping[str, str]:
        """See Network."""
        faulty = {name: sight.fault for name, sight in self.sights(self.input_size).items() if sight.fault}
        return self.trace().not_shown | {self.paths[name]: why for name, why in faulty.items() if name in self.paths}

    def lay_out(self) -> None:
        """See Network: with channels last, unless the module's own code takes its tensors for contiguous."""
        tensors = [value for value in (*self.parameters(), *self.buffers()) if value.dim() == 4]
        for value in tensors:
            value.data = value.data.contiguous(memory_format=torch.channels_last)
        try:
            self._there_and_back(torch.channels_last)
        except NetworkFailed:
            self.channels_last = False
            for value in tensors:
                value.data = value.data.contiguous()

    def _there_and_back(self, layout: torch.memory_format) -> None:
        """A forward pass and its gradient, with the pictures in this layout; NetworkFailed where either fails."""
        found = self.look(self.black().contiguous(memory_format=layout))
        try:
            *_, last = [output for output in found.values() if output.grad_fn is not None]
            last.sum().backward()  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            raise NetworkFailed(f"its gradient fails: {_said(error)}") from error

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """The module's, under the module's own names."""
        return self.module.state_dict(*args, **kwargs)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Into the module, under the module's own names, as of the version of its code that is here."""
        given = OrderedDict(state_dict)
        given._metadata = self.module.state_dict()._metadata  # type: ignore[attr-defined]
        return self.module.load_state_dict(given, strict, assign)

    def _run(
        self,
        pictures: Tensor,
        names: set[str],
        met: dict[int, Rectified],
        found: dict[str, Tensor],
        to_the_end: bool = False,
    ) -> None:
        """Fill `found` with the outputs of the layers `names`, each of its first call, in order.

        The module is left after the last one, unless it is to run to its end. Dense layers on maps, which have their
        units on the last axis, are given with them on the second.
        """

        def note(name: str, output: Any) -> Tensor | None:
            if name in found or not isinstance(output, Tensor):
                return None
            last = isinstance(self.by_name[name], nn.Linear) and output.dim() == 4
            found[name] = output.permute(0, 3, 1, 2) if last else output
            if len(found) == len(names) and not to_the_end:
                raise _Done
            # a copy, because what follows may change it in place
            passed = (found[name].permute(0, 2, 3, 1) if last else output).clone()
            if id(output) in met:
                met[id(passed)] = met[id(output)]._replace(after=passed)
            return passed

        def hook(name: str) -> Callable[[nn.Module, Any, Any], Tensor | None]:
            return lambda module, given, output: note(name, output)

        handles = [self.by_name[name].register_forward_hook(hook(name)) for name in names]
        given = (in_channels(pictures, self.channels) - self.mean) / self.std
        try:
            with Smooth():
                self.module(given if self.channels_last else given.contiguous())
        except _Done:
            pass
        finally:
            for handle in handles:
                handle.remove()

    def trace(self) -> Trace:
        """What one forward pass of two black pictures tells; NetworkFailed where the module's code fails."""
        if self._traced is None:
            self._traced = self._trace()
        return self._traced

    def _trace(self) -> Trace:
        met: dict[int, Rectified] = {}
        with Watch(self.module) as watch:
            found = self.look(self.black(), met)
        if self.chosen:
            self._refuse_what_is_no_layer(found)
        shown = {name: output for name, output in found.items() if _is_layer(output)}
        steps = autograd.steps(shown.values())
        layers = {}
        for name, output in shown.items():
            kind: Literal["conv", "dense"] = "conv" if output.dim() == 4 else "dense"
            layers[name] = Layer(name, kind, output.shape[1], None, 1, branches={})
        rectifiers = {name: met[id(output)].by_relu for name, output in shown.items() if id(output) in met}
        by_path = {self.paths[name]: output for name, output in found.items()}
        return Trace(
            layers,
            autograd.wiring(steps, shown),
            rectifiers,
            {} if self.chosen else unshown(self.module, by_path, watch),
        )

    def _materialise(self) -> None:
        """Make what is lazy: its first picture gives it its shapes."""
        try:
            with torch.no_grad():
                self.module(self.black())
        except Exception as error:  # whatever a user's code raises
            raise NetworkFailed(f"its forward pass fails on {_shape(self.black())}: {_said(error)}") from error
        self.module.float()

    def black(self, size: int | None = None) -> Tensor:
        """Two black pictures as the network reads them, of `size` px or of its input size."""
        size = size or self.input_size
        return torch.zeros(PICTURES, self.channels, size, size, device=self.mean.device)

    def look(self, pictures: Tensor, met: dict[int, Rectified] | None = None) -> dict[str, Tensor]:
        """Outputs of all modules that may be layers, each of its first call, with their history.

        NetworkFailed where the module's own code fails, with what it says.
        """
        found: dict[str, Tensor] = {}
        read = pictures.clone().requires_grad_(True)
        try:
            with torch.enable_grad(), Rectifiers(met if met is not None else {}):
                self._run(read, set(self.by_name), met if met is not None else {}, found, to_the_end=True)
        except Exception as error:  # whatever a user's code raises
            raise NetworkFailed(
                f"its forward pass fails on {_shape(pictures)}: {_said(error)}{self._other_channels()}"
            ) from error
        return found

    def _other_channels(self) -> str:
        """A hint where its first convolution reads another number of channels than it is shown."""
        first = next((each for each in self.module.modules() if isinstance(each, nn.Conv2d)), None)
        reads = self.channels if first is None else first.in_channels
        return "" if reads == self.channels else f"; its first convolution reads {reads}: Trained(channels={reads})"

    def _with_sizes(self, layers: dict[str, Layer]) -> dict[str, Layer]:
        """The layers, those marked that smaller pictures than the network's own do not reach."""
        reached = set(layers)
        for size in (SMALL, MEDIUM):
            asked = {name for name, layer in layers.items() if _asks_for(layer, size, self.input_size)}
            found: dict[str, Tensor] = {}
            if asked:
                with suppress(Exception), torch.no_grad():  # whatever a user's code raises
                    self._run(self.black(size), asked, {}, found)
            reached -= asked - set(found)
        return {name: replace(layer, fixed_size=name not in reached) for name, layer in layers.items()}

    def _refuse_what_is_no_layer(self, found: Mapping[str, Tensor]) -> None:
        for name in self.by_name:
            if name not in found:
                raise NetworkFailed(f"layer {name} has no output: no forward pass calls it, or it gives no tensor")
            if not _is_layer(found[name]):
                raise NetworkFailed(
                    f"layer {name} has outputs of shape {tuple(found[name].shape)} for two pictures; expected "
                    "(2, units, height, width) or (2, units), with a gradient to the picture"
                )


def _asks_for(layer: Layer, size: int, input_size: int) -> bool:
    """Whether lenses show this layer pictures about this small, below the network's input size."""
    if layer.receptive_field is None or size >= input_size:
        return False
    return (layer.receptive_field + 16 <= SMALL) == (size == SMALL)


def _shape(pictures: Tensor) -> str:
    count, channels, height, width = pictures.shape
    return f"{count} pictures of {channels} x {height} x {width}"


def _said(error: Exception) -> str:
    """`ValueError: what it says`, the first line of it."""
    said = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _each(values: Sequence[float], channels: int) -> Tensor:
    """One value a channel; one alone stands for all."""
    return torch.tensor(values, dtype=torch.float32).expand(channels).reshape(1, channels, 1, 1).contiguous()


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
