"""Why a unit or a class answers a picture as it does: the units of an earlier layer that it is credited to."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from microscope_atlas.atlas.organisms import Layer
from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.errors import InvalidSetting, UnknownName
from microscope_atlas.face.attribution import attributed, before
from microscope_atlas.face.objectives import channel, neuron
from microscope_atlas.lenses.factorised import factorised
from microscope_atlas.lenses.frames import pixels, square
from microscope_atlas.lenses.units import class_name
from microscope_atlas.models.networks.network import Network
from microscope_atlas.models.organism import Organism
from microscope_atlas.rendering.attribution import Ablation, Attribution
from microscope_space.live import networks
from microscope_space.live.excited import Map, Pixels, centres
from microscope_space.live.place import MEAN, STRONGEST, Where

TOP = 6  # units for, and as many against
SILENCED = 10  # units, in the test
DRAWS = 8  # of as many others
GROUPS = 5  # as many as colours that everybody tells apart
IN_GROUP = 4  # units of a group that are shown


@dataclass(frozen=True)
class Known:
    """What the atlas has of a unit."""

    thumbnail: str | None
    class_name: str | None


@dataclass(frozen=True)
class Reason:
    """A unit of the earlier layer, and what it gives."""

    unit: int
    amount: float  # in the target's unit; above 0 for it, below 0 against
    map: Map  # of it, at each place: (height, width)
    known: Known | None  # None: this atlas does not have it


@dataclass(frozen=True)
class Group:
    """Units of the earlier layer that are active together on the picture."""

    amount: float  # what it gives to the target
    map: Map  # how active it is, at each place: (height, width), 1 at most over all groups
    units: list[tuple[int, Known | None]]  # the strongest


@dataclass(frozen=True)
class Why:
    """What is explained, and by what."""

    picture: Pixels  # (size, size, 3): its middle square, as the network sees it
    model: str
    layer: str
    unit: int
    class_name: str | None
    place: tuple[int, int] | None  # row and column of the target's map; None: the mean over it, or a neuron
    earlier: str
    attribution: Attribution
    ablation: Ablation
    units_for: list[Reason]
    units_against: list[Reason]
    groups: list[Group]
    groups_explain: float  # the share of the layer's activations that they make up


def why(
    atlas: Atlas,
    picture: Image.Image,
    model: str,
    layer: str,
    unit: int,
    earlier: str | None = None,
    where: Where = STRONGEST,
) -> Why:
    """The units of the layer `earlier` that a unit of a model of the atlas is credited to on a picture.

    Without `earlier` it is the nearest layer before that the atlas has pictures of. The network's own layers and units
    may be asked for, whether the atlas has them or not. UnknownName and WeightsError as of `networks`, InvalidSetting
    and PicturesFailed as of `attribute`.
    """
    organism, kind = networks.runnable(atlas, model), networks.weights_kind(atlas, model)
    known = organism.layer(layer)
    if not 0 <= unit < known.units:
        raise UnknownName(f"unit {unit} is not in {model}/{layer}; it has 0 to {known.units - 1}")
    source = organism.layer(_earlier(atlas, organism, layer, earlier))
    torch.set_num_threads(1)  # of this thread of the server; see live
    network = networks.network(model, kind, torch.device("cpu"))
    shown = square(picture, organism.input_size)
    place = _place(network, shown, known, unit, where)
    target = channel(layer, unit) if place is None else neuron(layer, unit, place)
    made = attributed(network, organism, shown[None], target, source.name)
    rows = _known(atlas, model, source.name)
    groups, explain = _groups(made, rows)
    return Why(
        picture=pixels(shown).numpy(),
        model=model,
        layer=layer,
        unit=unit,
        class_name=class_name(organism, known, unit),
        place=place,
        earlier=source.name,
        attribution=made,
        ablation=made.ablate(SILENCED, DRAWS),
        units_for=_reasons(made, rows, 1),
        units_against=_reasons(made, rows, -1),
        groups=groups,
        groups_explain=explain,
    )


def ready() -> None:
    """Load what the first answer would wait for: a library that groups are found with takes seconds to import."""
    factorised(torch.ones(2, 2), 1, seed=0)


def earlier_layers(atlas: Atlas, organism: Organism, layer: str) -> list[str]:
    """The maps before a layer, from input on, that the atlas has; of others all there are."""
    there = atlas.layers(organism.name)
    found = [name for name in before(organism, [layer]) if organism.layer(name).kind != "dense"]
    return [name for name in found if name in there] or found


def _earlier(atlas: Atlas, organism: Organism, layer: str, asked: str | None) -> str:
    if asked:
        return asked
    found = earlier_layers(atlas, organism, layer)
    if not found:
        raise InvalidSetting(f"no layer of {organism.name} is before {layer}, so nothing there could be a reason")
    return found[-1]


def _place(network: Network, shown: Tensor, layer: Layer, unit: int, where: Where) -> tuple[int, int] | None:
    """The row and column of a map that are asked for."""
    if layer.kind == "dense" or where == MEAN:
        return None
    with torch.no_grad():
        node = network.objective_node(layer.name, 1)
        own = network(shown[None].contiguous(memory_format=torch.channels_last), [node])[0][0, unit]
    height, width = own.shape
    if where == STRONGEST:
        row, column = divmod(int(own.argmax()), width)
        return row, column
    left, top = where
    size = shown.shape[-1]
    rows, columns = (centres(side, length, size) for side, length in zip(layer.sides, (height, width), strict=True))
    return int(np.abs(rows - top).argmin()), int(np.abs(columns - left).argmin())


def _known(atlas: Atlas, model: str, layer: str) -> dict[int, Known]:
    """What the atlas has of the units of a layer."""
    if layer not in atlas.layers(model):
        return {}
    rows = atlas.units(model, ("unit", "thumbnail", "class_name"), layer).to_pylist()
    return {row["unit"]: Known(row["thumbnail"], row["class_name"]) for row in rows}


def _reasons(made: Attribution, known: Mapping[int, Known], sign: int) -> list[Reason]:
    amounts, units = _map(made.amounts), made.units
    return [
        Reason(unit, units[unit].item(), amounts[unit].numpy(), known.get(unit)) for unit in made.strongest(TOP, sign)
    ]


def _groups(made: Attribution, known: Mapping[int, Known]) -> tuple[list[Group], float]:
    """Groups of units that are active together, and how much of the activations they make up; of maps alone.

    What lies below zero, as in layers without a rectifier, is left out: in groups nothing is taken away.
    """
    height, width = _map(made.acts).shape[1:]
    vectors, slopes = (_map(each).flatten(1).T for each in (made.acts.clamp(min=0), made.gradient))
    most = min(GROUPS, *vectors.shape)
    if height * width < 2 or not vectors.any():
        return [], 0.0
    weights, directions, explained = factorised(vectors, most, seed=0)
    amounts = (weights * (slopes @ directions.T)).sum(0)
    found = []
    for group in range(most):
        strongest = directions[group].sort(descending=True, stable=True).indices[:IN_GROUP].tolist()
        own = weights[:, group] / weights.max()
        if own.any():
            units = [(unit, known.get(unit)) for unit in strongest if directions[group, unit] > 0]
            found.append(Group(amounts[group].item(), own.reshape(height, width).numpy(), units))
    return found, explained


def _map(each: Tensor) -> Tensor:
    """(units, height, width); a neuron is a map of one place."""
    return each if each.dim() == 3 else each[:, None, None]
