"""Any module as a network: layers found by running it once, read by hooks.

Its forward pass stays the module's own code, and is left as soon as the last layer asked for has its value. Where no
layers are chosen, they are the outputs of all convolutions and dense layers, before any batch norm or rectifier that
follows, and what has units by the module's structure: see blocks. Layers are in the order they are computed.

Tokens, (batch, tokens, features), are maps where their places are proven, see places. Outputs that are neither channels
nor neurons of each picture are not shown, nor are those whose rows and columns are not the picture's, see
measured.sights; `not_shown` names them.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import partial
from re import sub
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from microscope_atlas.atlas.organisms import Field, Kind, Layer
from microscope_atlas.errors import NetworkFailed, first_line, unknown
from microscope_atlas.models.networks import autograd
from microscope_atlas.models.networks.blocks import structural
from microscope_atlas.models.networks.channels import in_channels
from microscope_atlas.models.networks.measured import Sight, sights
from microscope_atlas.models.networks.network import Cut, Network
from microscope_atlas.models.networks.places import UNPROVEN, places
from microscope_atlas.models.networks.plain import is_lazy, plain, plainly
from microscope_atlas.models.networks.shapes import Shapes
from microscope_atlas.models.networks.smooth import Smooth
from microscope_atlas.models.networks.taps import Places, Tap, labels
from microscope_atlas.models.networks.unshown import PICTURES, unshown
from microscope_atlas.models.networks.watch import UNITS, Watch
from microscope_atlas.rectifiers import Rectified, Rectifiers

BEFORE = "/pre_relu"  # a layer's name and this: what its rectifier reads

SHOWN = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)  # where no layers are chosen

# px on a side that lenses ask for, least: of layers that see little of a picture, and of those that see more. Both are
# odd multiples of 16, so what wants multiples of 32 cannot pass
SMALL, MEDIUM = 48, 112


Put = tuple[str, Callable[[Tensor], Tensor]]  # a layer, and what its values are exchanged for


class Trace(NamedTuple):
    """What one forward pass tells of a module."""

    layers: dict[str, Layer]  # without their fields
    wiring: dict[str, tuple[str, ...]]
    rectifiers: dict[str, bool]  # layers that end with a rectifier -> whether it has no upper bound, unlike a ReLU6
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
        self._names = _names(paths)
        self.taps = {
            name: Tap(path, paths[path], units_last=isinstance(paths[path], nn.Linear))
            for path, name in self._names.items()
            if (path in layers if layers else isinstance(paths[path], SHOWN))
        }
        self._traced: Trace | None = None
        self._every: Traced | None = None
        self._sights: dict[int, Mapping[str, Sight]] = {}
        self._places: dict[tuple[int, int], Mapping[str, Places | str]] = {}
        self._tables: dict[int, dict[str, Layer]] = {}
        self._apart: dict[str, tuple[str, int]] = {}  # tokens that are no place: layer -> its tokens, which of them

    def forward(self, pictures: Tensor, targets: Sequence[str]) -> list[Tensor]:
        """See Network."""
        found: dict[str, Tensor] = {}
        self.visit(pictures, targets, found.__setitem__)
        return [found[target] for target in targets]

    def visit(self, pictures: Tensor, targets: Sequence[str], see: Callable[[str, Tensor], None]) -> None:
        """See Network."""
        self._visit(pictures, targets, see)

    def cut(self, pictures: Tensor, layer: str, targets: Sequence[str]) -> Cut:
        """See Network. The module is run anew for each batch of activations."""
        with torch.no_grad():
            (acts,) = self(pictures, [layer])

        def onwards(given: Tensor) -> list[Tensor]:
            found: dict[str, Tensor] = {}
            shown = pictures.expand(len(given), *pictures.shape[1:])
            self._visit(shown, targets, found.__setitem__, (layer, given))
            return [found[target] for target in targets]

        return Cut(acts, onwards)

    def _visit(
        self,
        pictures: Tensor,
        targets: Sequence[str],
        see: Callable[[str, Tensor], None],
        given: tuple[str, Tensor] | None = None,
    ) -> None:
        """The same; with a layer, and activations that the module goes on with in place of its own."""
        names = [target.removesuffix(BEFORE) for target in targets]
        taps = {name: self._tap(name) for name in names}
        tokens = {name: self._where(name, *pictures.shape[2:]) for name, _ in taps.values() if self._is_tokens(name)}
        met: dict[int, Rectified] = {}
        found: dict[str, Tensor] = {}
        shown: dict[str, Tensor] = {}
        wanted = {name for name, _ in taps.values()}
        put: Put | None = None
        if given is not None:
            owner, which = self._tap(given[0])
            wanted.add(owner)
            if self._is_tokens(owner):
                tokens[owner] = self._where(owner, *pictures.shape[2:])
            put = owner, partial(self._put, owner, which, given[1], tokens)

        def node(target: str) -> Tensor:
            name, at = taps[target.removesuffix(BEFORE)]
            value = met[id(found[name])].before if target.endswith(BEFORE) else None
            if at is not None:
                return (found[name] if value is None else value)[:, tokens[name].rest[at]]
            return shown[name] if value is None else self._shown(name, value, tokens)

        def noted(name: str) -> None:
            for target in dict.fromkeys(targets):
                if taps[target.removesuffix(BEFORE)][0] == name:
                    see(target, node(target))
            found[name] = shown[name] = pictures.new_empty(0)  # that it was met is all that is still to be known of it

        self._run(pictures, wanted, met if names != list(targets) else None, found, shown, tokens, noted, put=put)

    def _shown(self, name: str, value: Tensor, tokens: Mapping[str, Places]) -> Tensor:
        """A layer's values with the units on the second axis."""
        if name in tokens:
            return tokens[name].map(value)
        return value.permute(0, 3, 1, 2) if self._has_units_last(name, value) else value

    def _given_on(self, name: str, shown: Tensor, value: Tensor, tokens: Mapping[str, Places]) -> Tensor:
        """A copy of a layer's values as the module's code has them, whose gradient goes through what is shown."""
        if name in tokens:
            return tokens[name].back(shown, value)
        return shown.permute(0, 2, 3, 1).clone() if self._has_units_last(name, value) else shown.clone()

    def _has_units_last(self, name: str, value: Tensor) -> bool:
        return self.taps[name].units_last and value.dim() == 4

    def _put(self, name: str, which: int | None, acts: Tensor, tokens: Mapping[str, Places], value: Tensor) -> Tensor:
        """A layer's values as the module's code has them, with these activations for those that are shown."""
        if which is None:
            return self._given_on(name, acts, value, tokens)
        at = torch.tensor([tokens[name].rest[which]], device=value.device)
        return value.index_copy(1, at, acts[:, None])

    def _tap(self, name: str) -> tuple[str, int | None]:
        """The layer that a node is read at; and which it is of its tokens that are no place."""
        if name in self.taps:
            return name, None
        if not self.chosen:
            self.trace()  # which finds more
        if name not in self.taps:
            self.table(self.input_size)
        if name not in self.taps and name not in self._apart:
            raise unknown("node", name, "the network", (*self.taps, *self._apart))
        return self._apart.get(name, (name, None))

    def _is_tokens(self, name: str) -> bool:
        tap = self.taps[name]
        if isinstance(tap.module, nn.Conv2d | nn.ConvTranspose2d) and not tap.reads:
            return False  # known without a forward pass
        layer = self.trace().layers.get(name)
        return layer is not None and layer.kind == "tokens"

    def _where(self, name: str, height: int, width: int) -> Places:
        found = self.places(height, width).get(name, UNPROVEN)
        if isinstance(found, str):
            raise NetworkFailed(f"layer {name} is no map of pictures of {height} x {width}: {found}")
        return found

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
        seen, where, layers, stride = self.sights(size), self.places(size, size), dict[str, Layer](), 1
        for name, layer in self.trace().layers.items():
            placed = where.get(name, UNPROVEN) if layer.kind == "tokens" else None
            if isinstance(placed, Places):
                rows, columns = (round(size / length) for length in placed.tokens.shape)
                layers[name] = layer.seeing(Field(None, rows), Field(None, columns))
                stride = layers[name].stride
                layers |= self._no_places(name, layer, placed)
                continue
            sight = seen.get(name, Sight(Field(None, stride), Field(None, stride), placed))
            if self.chosen and sight.fault:
                raise NetworkFailed(f"layer {name} is no map: {sight.fault}")
            if not sight.fault:
                layers[name] = layer.seeing(sight.vertical, sight.horizontal)
                stride = layers[name].stride
        return self._with_sizes(layers)

    def _no_places(self, name: str, layer: Layer, where: Places) -> dict[str, Layer]:
        """Layers of the tokens that are no place, of layers that have their own."""
        if not self.taps[name].apart:
            return {}
        made = {}
        for at, label in enumerate(labels(self.module, where)):
            named = f"{name}_{label}"
            self._apart[named] = name, at
            made[named] = Layer(named, "dense", layer.units, None, 1, layer.branches, named_only=True)
        return made

    def sides(self, name: str, size: int) -> tuple[Field, Field]:
        """See Network."""
        return self.table(size)[name].sides

    def sights(self, size: int) -> Mapping[str, Sight]:
        """What the maps' positions see of pictures of `size` px, measured."""
        if size not in self._sights:
            through = self._through_all()
            taps = {name: through.taps[name] for name, layer in through.trace().layers.items() if layer.kind == "conv"}
            self._sights[size] = sights(through, taps, size)
        return self._sights[size]

    def places(self, height: int, width: int) -> Mapping[str, Places | str]:
        """Where tokens are in pictures (height, width), by layer; or why that is not known."""
        if (height, width) not in self._places:
            through = self._through_all()
            layers, maps = through.trace().layers, dict[str, bool]()
            if any(layer.kind == "tokens" for layer in layers.values()):
                faults = {name: sight.fault for name, sight in self.sights(self.input_size).items()}
                maps = {name: through.taps[name].units_last for name, fault in faults.items() if not fault}
                taps = {name: through.taps[name] for name, layer in layers.items() if layer.kind != "dense"}
                found = places(through.module, taps, maps, (self.channels, height, width))
            else:
                found = {}
            self._places[height, width] = found
        return self._places[height, width]

    def prepare(self, size: int) -> None:
        """See Network."""
        self.places(size, size)

    def _through_all(self) -> "Traced":
        """The network with all layers beside those chosen: a gradient is lost on a long way."""
        if not self.chosen:
            return self
        if self._every is None:
            self._every = Traced(self.module, (0.0,), (1.0,), self.input_size, channels=self.channels)
            self._every.trace()
            self._every.taps |= self.taps
            self._every._traced = None
        return self._every

    def not_shown(self) -> Mapping[str, str]:
        """See Network."""
        size = self.input_size
        faults = {name: sight.fault for name, sight in self.sights(size).items() if sight.fault}
        where = self.places(size, size)
        for name, layer in self.trace().layers.items():
            if layer.kind == "tokens" and isinstance(why := where.get(name, UNPROVEN), str):
                faults[name] = why
        told = {name: self.taps[name] for name in faults if name in self.taps}
        return self.trace().not_shown | {
            tap.path: faults[name] for name, tap in told.items() if isinstance(tap.module, UNITS) and not tap.reads
        }

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
        met: dict[int, Rectified] | None,
        found: dict[str, Tensor],
        shown: dict[str, Tensor],
        tokens: Mapping[str, Places],
        noted: Callable[[str], None] = lambda name: None,
        to_the_end: bool = False,
        put: Put | None = None,
    ) -> None:
        """Fill `found` with the layers `names` as the module's code has them, each of its first call, in order.

        And `shown` with the same, units on the second axis, those of `tokens` as maps; and `met`, if there is one, with
        what rectifiers read and gave. `noted` is called once a layer is there. The module is left after the last layer,
        unless it is to run to its end. It goes on with copies: what follows may change them in place; behind the layer
        of `put` with what that makes of them.
        """

        def note(name: str, value: Any) -> Tensor | None:
            if name in found or not isinstance(value, Tensor):
                return None
            found[name], shown[name] = value, self._shown(name, value, tokens)
            if len(found) == len(names) and not to_the_end:
                noted(name)
                raise _Done
            if put is not None and name == put[0]:
                passed = put[1](value)
            else:
                passed = self._given_on(name, shown[name], value, tokens)
            noted(name)
            if met is not None and id(value) in met:
                met[id(passed)] = met[id(value)]._replace(after=passed)
            return passed

        handles = [self.taps[name].hook(partial(note, name)) for name in names]
        given = (in_channels(pictures, self.channels) - self.mean) / self.std
        try:
            # the inner one sees the calls of the module's own code
            with Smooth(), nullcontext() if met is None else Rectifiers(met):
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
        with Shapes(), Watch(self.module) as watch:
            found = self.look(self.black(), met)
        if self.chosen:
            self._refuse_what_is_no_layer(found)
        else:
            self._add(structural(self.module, self._names, watch))
        values: dict[str, Tensor] = {}
        calls = {name: watch.first[tap.path] for name, tap in self.taps.items() if tap.path in watch.first}
        for name in sorted(calls, key=lambda name: self.taps[name].when(calls[name])):
            value = self.taps[name].value(calls[name])
            if value is not None and _is_layer(value):
                values[name] = value
        layers = {name: self._layer(name, value) for name, value in values.items()}
        leading = {name: value for name, value in values.items() if not layers[name].named_only}
        rectifiers = {name: met[id(value)].open_above for name, value in values.items() if id(value) in met}
        by_path = {self.taps[name].path: output for name, output in found.items()}
        return Trace(
            layers,
            autograd.wiring(autograd.steps(leading.values()), leading),
            rectifiers,
            {} if self.chosen else unshown(self.module, by_path, watch),
        )

    def _add(self, found: Mapping[str, Tap]) -> None:
        """Take in layers by structure; what stands inside their blocks is then shown where it is named."""
        inside = {tap.path if not tap.reads else tap.path.rpartition(".")[0] for tap in found.values()}
        for name, tap in self.taps.items():
            if any(tap.path.startswith(f"{owner}.") for owner in inside):
                self.taps[name] = tap._replace(inside=True)
        for name, tap in found.items():
            while name in self.taps:
                name += "_"
            self.taps[name] = tap

    def _layer(self, name: str, value: Tensor) -> Layer:
        """A layer by its value, without its fields."""
        tap, axes = self.taps[name], value.dim()
        kind: Kind = {2: "dense", 3: "tokens", 4: "conv"}[axes]  # type: ignore[assignment]
        units = value.shape[-1 if kind == "tokens" or (axes == 4 and tap.units_last) else 1]
        named_only = tap.named_only or (tap.inside and kind == "tokens")
        return Layer(name, kind, units, None, 1, branches=tap.branches, named_only=named_only)

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
        try:
            with plainly(pictures.device.type):
                read = pictures.clone().requires_grad_(True)
                self._run(read, set(self.taps), met, found, {}, {}, to_the_end=True)
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
                    self._run(self.black(size), asked, None, found, {}, {})
            reached -= asked - set(found)
        return {name: replace(layer, fixed_size=name not in reached) for name, layer in layers.items()}

    def _refuse_what_is_no_layer(self, found: Mapping[str, Tensor]) -> None:
        for name in self.taps:
            if name not in found:
                raise NetworkFailed(f"layer {name} has no output: no forward pass calls it, or it gives no tensor")
            if not _is_layer(found[name]):
                raise NetworkFailed(
                    f"layer {name} has outputs of shape {tuple(found[name].shape)} for two pictures; expected "
                    "(2, units, height, width), (2, tokens, features) or (2, units), with a gradient to the picture"
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
    said = first_line(error)
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _each(values: Sequence[float], channels: int) -> Tensor:
    """One value a channel; one alone stands for all."""
    return torch.tensor(values, dtype=torch.float32).expand(channels).reshape(1, channels, 1, 1).contiguous()


class _Done(BaseException):
    """The last layer has its value; no error, so that no handler on the way stops it."""


def _is_layer(output: Tensor) -> bool:
    """Channels, tokens or neurons of each of two pictures, with a gradient to them."""
    return output.dim() in (2, 3, 4) and len(output) == 2 and output.grad_fn is not None


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
