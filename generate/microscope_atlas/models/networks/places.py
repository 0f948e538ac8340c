"""Where tokens are in the picture, proven by gradient for every token of every layer; never taken from their number.

Each token of a layer is given a code, its number in two digits, and the gradient of the tokens weighted by their codes
is taken on what the layer reads: maps, whose places are known, and layers of tokens that are proven already. Divided by
the gradient of the plain sum it is, at every place there, the mean code of the tokens that the place feeds; the
weighted squares of the codes tell how far from one token it feeds others. So the order of the tokens is read, whatever
it is: class tokens first or last, windows, units of windows. It is proven where every place feeds one token, and every
token that is a place is fed by one place, or by one square of them where tokens were merged.

Attention mixes all tokens, and so does a dense layer over positions, so the network is changed for the measure, in
nothing but what mixes the features of a token with themselves: attention gives each token its own value, if queries,
keys and values are as many, else what its own query gives; dense layers give a small share of the mean of what they
read, so that beside a residual stream what they mix from other places is faint; norms over features keep the gradient.
All weights are above zero, so that nothing cancels. What each token then comes from is where it stands in the residual
stream; what comes from other places alone, as behind a dense layer over positions, proves nothing. Dense layers, norms
over features, activation functions and sums leave tokens where they are by their definition: of these no gradient is
taken where the tokens that they read are proven.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from microscope_atlas.models.networks.linearised import ACTIVATIONS, Linearised
from microscope_atlas.models.networks.measured import Held, buffers, leaves
from microscope_atlas.models.networks.ops import rounded_as_built
from microscope_atlas.models.networks.plain import plainly
from microscope_atlas.models.networks.taps import Places, Tap
from microscope_atlas.models.networks.watch import SOFTMAX, Function

NO_GRID = "tokens that fit no grid"  # no square of a map's places each
UNPROVEN = "tokens whose places are not proven"
TOO_MANY = 16  # tokens that are no place, at most

DIGIT = 64  # tokens are numbered in digits of this base, small enough to be squared
CODES = 5  # the plain sum, both digits and their squares; a picture for each
FAINT = 0.003  # share that a dense layer passes on
ASIDE = 0.25  # share of queries and of keys in what attention gives
ASTRAY = 0.1  # of what a place feeds: at most so much goes to other tokens, times the square of their distance
FLOOR = 1e-6  # share of the largest gradient, below which a place feeds nothing
DRIFT = 2.0  # positions that the places of a map may be off, for its kernels


NORMS_OF_FEATURES = (F.layer_norm, F.rms_norm)
ADDITIONS = (torch.add, Tensor.add, Tensor.__add__)
TURNED = (torch.transpose, Tensor.transpose, torch.permute, Tensor.permute)
UNBOUND = (torch.unbind, Tensor.unbind)
CUT = (*UNBOUND, torch.chunk, Tensor.chunk)
SHAPED = frozenset(
    {*TURNED, *CUT, torch.reshape, Tensor.reshape, Tensor.view, torch.flatten, Tensor.flatten, Tensor.unflatten}
)


class Unmixed(TorchFunctionMode):
    """Within this context what mixes tokens is held out, and what mixes a token's features is linear and cheap.

    `narrow`: features that are alike are one number in memory, which code that works in place does not take.
    """

    def __init__(self, narrow: bool) -> None:
        super().__init__()
        self.narrow = narrow

    def __torch_function__(
        self, func: Function, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if func is F.linear:
            read, weight = args[0] if args else named["input"], args[1] if len(args) > 1 else named["weight"]
            return _in_place_of(read, self._wide(_mean(read) * FAINT, (*read.shape[:-1], len(weight))))
        if func is F.scaled_dot_product_attention:
            return self._own(*args[:3])
        if func in SHAPED and args and (one := _one(args[0])) is not None:
            return _shaped(func, args, named, one)
        if func in SOFTMAX and args[0].dim() > 2:
            return _itself(args[0])
        if func in ACTIVATIONS or func is F.dropout or (func in NORMS_OF_FEATURES and len(args[1]) == 1):
            return args[0] if self.narrow else args[0].clone()
        if func in ADDITIONS and args[0].shape == getattr(args[1], "shape", None):
            ones = [_one(each) for each in args[:2]]
            if ones[0] is not None and ones[1] is not None and not named:
                total = self._wide(ones[0] + ones[1], args[0].shape)
                here, there = (_placed(each) for each in args[:2])
                alike = here is not None and there is not None and here.tokens.equal(there.tokens)
                return _in_place_of(args[0], total) if alike else total
        return func(*args, **named)

    def _own(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attention of each token to itself alone; where it cannot be, what its query is.

        Queries and keys have a share, so that tokens in another order there do not pass unseen. It is small, because
        positions that are turned into them (RoPE) may change its sign.
        """
        passed = _mean(query)
        if query.shape[:-1] == key.shape[:-1] == value.shape[:-1]:
            passed = _mean(value) + ASIDE * (passed + _mean(key))
        return self._wide(passed, (*query.shape[:-1], value.shape[-1]))

    def _wide(self, one: Tensor, shape: Sequence[int]) -> Tensor:
        return _alike(one, shape) if self.narrow else one.expand(*shape).clone()


def _alike(one: Tensor, shape: Sequence[int]) -> Tensor:
    """What is all this one along the axes where that has 1, and remembers it: the way back to it is then short."""
    wide = one.expand(*shape)
    wide.one = one  # type: ignore[attr-defined]
    return wide


def _shaped(func: Function, args: Sequence[Any], named: dict[str, Any], one: Tensor) -> Any:
    """Features that are alike in another shape; where that leaves them alike, they go on remembering."""
    read, given = args[0], func(*args, **named)
    if func in TURNED:
        return _alike(func(one, *args[1:], **named), given.shape)
    if func in CUT:
        axis = named.get("dim", args[-1] if len(args) > (1 if func in UNBOUND else 2) else 0)
        if one.shape[axis] > 1:
            return given
        piece = one.squeeze(axis) if func in UNBOUND else one
        return tuple(_alike(piece, each.shape) for each in given)
    axes = list(zip(read.shape, given.shape, strict=False))
    same = next((at for at, (a, b) in enumerate(axes) if a != b), len(axes))
    if one.shape[same:].numel() > 1:
        return given
    return _alike(one.reshape(*one.shape[:same], *(1,) * (given.dim() - same)), given.shape)


def _placed(tokens: Any) -> Places | None:
    """Where tokens are, if that is known without a gradient: see the head of this file."""
    return getattr(tokens, "placed", None)


def _in_place_of(read: Tensor, given: Tensor) -> Tensor:
    """What was made of tokens each alone, and is where they are."""
    if (where := _placed(read)) is not None:
        given.placed = where  # type: ignore[attr-defined]
    return given


def _one(features: Any) -> Tensor | None:
    """The feature that all are, if they remember it."""
    return getattr(features, "one", None)


def _mean(features: Tensor) -> Tensor:
    """Over the last axis, which stays; of what is one number there, that one."""
    if (one := _one(features)) is not None and one.shape[-1] == 1:
        return one
    return features[..., :1] if features.stride(-1) == 0 else features.mean(-1, keepdim=True)


def _itself(read: Tensor) -> Tensor:
    """Weights of attention: each token's own."""
    if read.shape[-1] == read.shape[-2]:
        return torch.eye(read.shape[-1]).expand(read.shape)
    return torch.zeros(read.shape)


class Grid(NamedTuple):
    """What tokens may come from: a map, or tokens that are proven."""

    leaf: Tensor
    places: Places | None  # None: a map (pictures, units, height, width)
    units_last: bool = False  # or (pictures, height, width, units)
    tokens_before: bool = False  # whether it was made of tokens


def places(
    module: nn.Module, taps: Mapping[str, Tap], maps: Mapping[str, bool], shape: tuple[int, int, int]
) -> dict[str, Places | str]:
    """Where the tokens of layers are in pictures of `shape`, (channels, height, width); or why that is not known.

    `taps` are the layers of a module by name; `maps` those of four axes that are maps of the picture, and whether they
    have their units last. Where the module's code fails on such values, what comes behind is not known.
    """
    for narrow in (True, False):
        found: dict[str, Places | str] = {}
        # whatever a user's code raises
        with suppress(Exception), plainly("cpu"), torch.device("cpu"), rounded_as_built(module):
            _find(module, taps, maps, shape, narrow, found)
            break
    return found


def _find(
    module: nn.Module,
    taps: Mapping[str, Tap],
    maps: Mapping[str, bool],
    shape: tuple[int, int, int],
    narrow: bool,
    found: dict[str, Places | str],
) -> None:
    """Fill `found` in one forward pass."""
    picture = torch.full((CODES, *shape), 0.5, requires_grad=True)
    grids: list[Grid] = [Grid(picture, None)]

    def cut(name: str, value: Any) -> Tensor | None:
        """Find a layer's places; give what the network goes on with, its history cut where they are known."""
        if not isinstance(value, Tensor) or not value.requires_grad or len(value) != CODES or name in found:
            return None
        with torch._C.DisableTorchFunction():
            if value.dim() == 3:
                found[name] = where = _placed(value) or _where(value, grids)
                return None if isinstance(where, str) else goes_on(value, Grid(value, where))
            if value.dim() == 4 and name in maps and (kept := _kept(value, grids, maps[name])) is not None:
                return goes_on(value, Grid(value, None, maps[name], kept))
        return None

    def goes_on(value: Tensor, grid: Grid) -> Tensor:
        # of tokens the values are set to one: where they are does not depend on them, and they may grow without end
        if grid.places is None:
            leaf = value.detach().clone().requires_grad_()
            grids.append(grid._replace(leaf=leaf))
            return leaf
        leaf = torch.ones(*value.shape[:-1], 1 if narrow else value.shape[-1], requires_grad=True)
        grids.append(grid._replace(leaf=leaf))
        if not narrow:
            return leaf
        wide = _alike(leaf, value.shape)
        wide.placed = grid.places  # type: ignore[attr-defined]
        return wide

    handles = [tap.hook(partial(cut, name)) for name, tap in taps.items()]
    try:
        with Linearised(), Held(), Unmixed(narrow):
            functional_call(module, _values(module), (picture,))
    finally:
        for handle in handles:
            handle.remove()


def _values(module: nn.Module) -> dict[str, Tensor]:
    """Weights above zero for every parameter, most of them one number; buffers as they are, if they are."""
    generator = torch.Generator().manual_seed(0)
    kernels: dict[Any, Tensor] = {}
    values: dict[str, Tensor] = {}
    for name, parameter in module.named_parameters():
        fan_in = max(parameter[0].numel(), 1) if parameter.dim() > 1 else 1
        if parameter.dim() == 4:
            if parameter.shape not in kernels:
                kernels[parameter.shape] = (0.5 + torch.rand(parameter.shape, generator=generator)) / fan_in
            values[name] = kernels[parameter.shape]
        else:
            values[name] = torch.tensor(1 / fan_in).expand(parameter.shape)
    return values | buffers(module)


def _codes(number: int, base: int) -> Tensor:
    """(CODES, number): of each of so many, one, its digits and their squares."""
    high, low = (torch.arange(number) // base).float(), (torch.arange(number) % base).float()
    return torch.stack([torch.ones(number), high, high**2, low, low**2])


def _reads(asked: Tensor, grids: Sequence[Grid]) -> list[Grid]:
    """The maps and layers of tokens that a tensor comes from."""
    known = {id(grid.leaf): grid for grid in grids}
    return [known[id(leaf)] for leaf in leaves(asked) if id(leaf) in known]


def _fed(asked: Tensor, grids: Sequence[Grid]) -> list[tuple[Grid, Tensor]]:
    """Of each map or layer of tokens that weighted sums come from, the gradient on its places, (CODES, ...)."""
    reads = _reads(asked, grids)
    gradients = torch.autograd.grad(asked, [read.leaf for read in reads], retain_graph=True, allow_unused=True)
    fed = []
    for read, gradient in zip(reads, gradients, strict=True):
        if gradient is not None:
            last = read.units_last or read.places is not None
            fed.append((read, gradient.sum(-1 if last else 1)))
    return [(read, each) for read, each in fed if each.any()]


def _where(value: Tensor, grids: Sequence[Grid]) -> Places | str:
    """Where tokens (CODES, tokens, features) are."""
    number = value.shape[1]
    asked = (_mean(value)[..., 0] * _codes(number, DIGIT)).sum()
    found: list[Places] = []
    for read, gradient in _fed(asked, grids):
        placed = gradient if read.places is None else gradient[:, read.places.tokens]
        tokens = _tokens(placed)
        if tokens is None:
            return UNPROVEN
        merged = _merged(tokens, number)
        if isinstance(merged, str):
            return merged
        if read.places is not None and not _rest_stays(gradient[:, list(read.places.rest)], merged):
            return UNPROVEN
        found.append(merged)
    if not found:
        return UNPROVEN
    same = all(each.tokens.equal(found[0].tokens) for each in found)
    return found[0] if same else UNPROVEN


def _tokens(gradient: Tensor) -> Tensor | None:
    """The token that each place feeds, of gradients (CODES, ...); None where one feeds none, or several."""
    total = gradient[0]
    if not (total > FLOOR * total.amax()).all():
        return None
    high, high_squared, low, low_squared = (gradient[1:] / total).unbind()
    first, second = high.round(), low.round()
    astray = (high_squared - 2 * first * high + first**2) + (low_squared - 2 * second * low + second**2)
    return (first * DIGIT + second).long() if bool((astray < ASTRAY).all()) else None


def _merged(tokens: Tensor, number: int) -> Places | str:
    """Places of tokens, from the token that each place (height, width) of a map before feeds."""
    height, width = tokens.shape
    distinct = set(tokens.flatten().tolist())
    side = math.isqrt(tokens.numel() // len(distinct))
    if side**2 * len(distinct) != tokens.numel() or height % side or width % side:
        return UNPROVEN
    cells = tokens.reshape(height // side, side, width // side, side)
    first = cells[:, 0, :, 0]
    if not bool((cells == first[:, None, :, None]).all()):
        return UNPROVEN
    rest = tuple(at for at in range(number) if at not in distinct)
    return Places(first, rest) if len(rest) <= TOO_MANY else NO_GRID


def _rest_stays(gradient: Tensor, where: Places) -> bool:
    """Whether the tokens that were no place before, those that go on, are none here either, in the same order."""
    some = gradient[0] > 0
    if not some.any():
        return True
    tokens = _tokens(gradient[:, some])
    return tokens is not None and tuple(tokens.tolist()) == where.rest[-len(tokens) :]


def _kept(value: Tensor, grids: Sequence[Grid], units_last: bool) -> bool | None:
    """Whether a map was made of tokens; None where it was, and its positions are in another order than the picture's.

    Of maps that were made of maps alone, that is known: see measured.
    """
    units = value.mean(-1 if units_last else 1)  # (CODES, height, width)
    height, width = units.shape[1:]
    asked = (units.flatten(1) * _codes(height * width, width)).sum()
    reads = _reads(asked, grids)
    if not any(read.places is not None or read.tokens_before for read in reads):
        return False if reads else None
    fed = _fed(asked, grids)
    if not any(read.places is not None or read.tokens_before for read, _ in fed):
        return False if fed else None
    for read, gradient in fed:
        placed = gradient if read.places is None else gradient[:, read.places.tokens]
        total = placed[0]
        some = total > FLOOR * total.amax()
        for axis, length in ((0, height), (1, width)):
            mean = placed[1 + 2 * axis] / total
            at = (torch.arange(placed.shape[1 + axis]) + 0.5) * length / placed.shape[1 + axis] - 0.5
            off = mean - (at[:, None] if axis == 0 else at[None, :])
            if bool((off.abs()[some] > min(DRIFT, length / 4)).any()):
                return None
    return True
