"""Why a network says what it says of a picture: attribution from Python."""

from collections.abc import Iterable
from math import isfinite
from os import PathLike

import torch
from PIL import Image
from torch import Tensor

from microscope_atlas.errors import InvalidSetting, PicturesFailed
from microscope_atlas.face.networks import AnyNet, load, opened
from microscope_atlas.face.objectives import Objective
from microscope_atlas.lenses.frames import square
from microscope_atlas.models.networks.network import Network
from microscope_atlas.models.organism import Organism
from microscope_atlas.rendering import attribution
from microscope_atlas.rendering.attribution import Attribution, Unreached


def attribute(net: AnyNet, picture: Image.Image | str | PathLike[str], target: Objective, layer: str) -> Attribution:
    """Say how much each unit of an earlier layer, at each place, gives to a target on a picture.

    Gradient times activation: Olah et al. 2018, https://distill.pub/2018/building-blocks; Shrikumar et al. 2016,
    https://arxiv.org/abs/1605.01713.

    Args:
        net: a network, or what `load` takes.
        picture: a picture, a file, or the name of one that comes with the package, `dog`. Its middle square is taken,
            at the network's input size.
        target: `channel("mixed4c", 447)` is a unit's mean over places, `neuron("mixed4c", 447, (3, 5))` a unit at a
            place, `channel("softmax2_pre_activation", 207)` a class before softmax; sums and differences as well: what
            speaks for one class rather than another.
        layer: a layer before the target's.

    Returns:
        An `Attribution`. `units` (units,) and `places` (height, width) are sums of `amounts` (units, height, width), in
        the target's own unit: above 0 what speaks for it, below 0 what speaks against. Where `nonlinear` is empty,
        `total` is exactly the target less `remainder`, that of biases and of ways around the layer. `ablate()` silences
        the strongest units and says how far the target falls, beside as many others: whether to believe them.

    Raises:
        UnknownName: no such layer or unit.
        InvalidSetting: a layer that is not before the target; a place that is not on its map; a target that nothing
            moves on this picture, as a silent unit, or that is no finite number.
        PicturesFailed: the picture cannot be read, or is all one colour.

    """
    loaded = load(net)
    if not isinstance(target, Objective):
        raise InvalidSetting(f"target {target!r}; expected an objective, such as channel('mixed4c', 447)")
    target.refuse_unknown(loaded.name, loaded.layers)
    loaded.organism.layer(layer)
    given = square(opened(picture), loaded.organism.input_size)[None].to(loaded.device)
    return attributed(loaded.network, loaded.organism, given, target, layer)


def attributed(network: Network, organism: Organism, picture: Tensor, target: Objective, layer: str) -> Attribution:
    """The same of a picture (1, 3, height, width), RGB in [0, 1], on the network's device; layers and units exist."""
    if not (picture.amax((2, 3)) > picture.amin((2, 3))).any():
        raise PicturesFailed("this picture is all one colour: there is nothing in it that could be a reason")
    names = target.nodes(network)
    nodes = list(dict.fromkeys(names))
    acts, onwards = network.cut(picture.contiguous(memory_format=torch.channels_last), layer, nodes)

    def score(given: Tensor) -> Tensor:
        found = dict(zip(nodes, onwards(given), strict=True))
        return torch.stack([target.score([found[name][at].float() for name in names]) for at in range(len(given))])

    try:
        if layer in {term.layer for _, term in target.terms}:
            raise Unreached("it is the target's own layer")
        made = attribution.attribute(acts[0], score)
    except Unreached as error:
        some = [name for name in before(organism, (term.layer for _, term in target.terms)) if name != layer]
        told = f"; expected a layer before it, such as {', '.join(some[-3:])}" if some else ", and no layer does"
        raise InvalidSetting(f"layer {layer!r} of {organism.name} does not lead to {target}{told}") from error
    if not (isfinite(made.target) and made.amounts.isfinite().all()):
        raise InvalidSetting(
            f"{target}, or what units of {layer} give to it, is no finite number on this picture: nobody can tell why"
        )
    if not made.gradient.any():
        raise InvalidSetting(
            f"{target} is {made.target:g} on this picture, and no unit of {layer} moves it: it is silent or saturated"
        )
    return made


def before(organism: Organism, layers: Iterable[str]) -> list[str]:
    """The layers that lead to any of some layers, from input to logits."""
    asked = set(layers)
    found = set(asked)
    for start, end in reversed(organism.edges):
        if end in found:
            found.add(start)
    return [name for name in organism.layers if name in found - asked]
