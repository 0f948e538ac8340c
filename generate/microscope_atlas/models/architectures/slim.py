"""What TF-slim's networks have in common: scopes, batch norm behind convolutions, and the names of variables.

Its code is at https://github.com/google-research/tf-slim and https://github.com/tensorflow/models/tree/master/research/slim.
A node is named by its scope, so that variable `InceptionV3/Conv2d_1a_3x3/BatchNorm/beta` is the bias of node
`InceptionV3/Conv2d_1a_3x3/BatchNorm`. Layers have the short names that slim gives its end points: `Mixed_5b`.

An Inception module's branches are joined before they are rectified, not after: the same, since its pools read rectified
values and those pass a rectifier unchanged; and it leaves the module's pre-activation in one place.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from microscope_atlas.errors import WeightsError
from microscope_atlas.models.formats.checkpoint import read_checkpoint
from microscope_atlas.models.formats.graphdef import read_graphdef
from microscope_atlas.models.formats.state_dict import read_tensors
from microscope_atlas.models.networks.graph import Graph
from microscope_atlas.models.networks.ops import Concat, UnscaledBatchNorm2d

CLASSES = 1001  # ImageNet's, behind a first one for the background, which no picture of ImageNet's has
EPSILON = 1e-3  # of the Inceptions' batch norms; PyTorch's default is 1e-5

# the last part of a variable's name -> the tensor of the node that the rest names
TENSORS = {
    "weights": "weight",
    "biases": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


@dataclass(frozen=True)
class Conv:
    """Convolution, batch norm and, inside a branch, ReLU."""

    scope: str
    units: int
    kernel: tuple[int, int] | None = None  # px high and wide; None: as the scope's name ends, `_1x7`
    stride: int = 1
    padded: bool = True  # SAME; else VALID


@dataclass(frozen=True)
class MaxPool:
    """3x3 max pool of stride 2 without padding."""

    scope: str


@dataclass(frozen=True)
class AvgPool:
    """3x3 average pool of stride 1, SAME; what is padded does not count."""

    scope: str


# steps one after another; a pair of convolutions ends a branch side by side
Branch = tuple[Conv | MaxPool | AvgPool | tuple[Conv, Conv], ...]


def conv(g: Graph, root: str, step: Conv, x: str) -> str:
    """Add a convolution without bias and its batch norm under scope `root`."""
    name = f"{root}/{step.scope}"
    height, width = step.kernel or (int(px) for px in step.scope.rpartition("_")[2].split("x"))
    assert step.stride == 1 or not step.padded, "SAME padding of a strided window depends on the input's size"
    padding = (height // 2, width // 2) if step.padded else 0
    x = g.add(name, nn.Conv2d(channels(g, x), step.units, (height, width), step.stride, padding, bias=False), x)
    return g.add(f"{name}/BatchNorm", UnscaledBatchNorm2d(step.units, eps=EPSILON), x)


def stem(g: Graph, root: str, steps: Iterable[Conv | MaxPool], x: str) -> str:
    """Add steps one after another, each convolution a layer."""
    for step in steps:
        x = _step(g, root, step, x)
        if isinstance(step, Conv):
            x = g.add(step.scope, nn.ReLU(), x)
    return x


def module(g: Graph, root: str, name: str, branches: Iterable[Branch], x: str) -> str:
    """Add layer `name`, an Inception module: branches side by side, joined, rectified."""
    ends: list[str] = []
    for number, branch in enumerate(branches):
        ends += _branch(g, f"{root}/{name}/Branch_{number}", branch, x)
    joined = g.add(f"{root}/{name}/concat", Concat(), *ends)
    return g.add(name, nn.ReLU(), joined)


def _branch(g: Graph, root: str, branch: Branch, x: str) -> list[str]:
    """Add a branch's steps; its ends, not rectified."""
    *inner, last = branch
    for step in inner:
        assert not isinstance(step, tuple), "a pair of convolutions stands at a branch's end"
        x = _step(g, root, step, x)
        if isinstance(step, Conv):
            x = g.add(f"{root}/{step.scope}/Relu", nn.ReLU(), x)
    return [_step(g, root, step, x) for step in (last if isinstance(last, tuple) else (last,))]


def _step(g: Graph, root: str, step: Conv | MaxPool | AvgPool, x: str) -> str:
    match step:
        case Conv():
            return conv(g, root, step, x)
        case MaxPool(scope):
            return g.add(f"{root}/{scope}", nn.MaxPool2d(3, 2), x)
        case AvgPool(scope):
            return g.add(f"{root}/{scope}", nn.AvgPool2d(3, 1, padding=1, count_include_pad=False), x)


def channels(g: Graph, name: str) -> int:
    """Number of channels that node `name` gives: those of the convolutions it comes from, or the picture's 3."""
    op = g.get_submodule(name)
    if isinstance(op, nn.Conv2d):
        return op.out_channels
    if isinstance(op, Concat):
        return sum(channels(g, read) for read in g.reads[name])
    return channels(g, g.reads[name][0]) if g.reads[name] else 3


def scopes(branches: Iterable[Branch]) -> Iterator[str]:
    """A module's convolutions within it, branch by branch: `Branch_0/Conv2d_0a_1x1`."""
    for number, branch in enumerate(branches):
        for step in branch:
            for each in step if isinstance(step, tuple) else (step,):
                if isinstance(each, Conv):
                    yield f"Branch_{number}/{each.scope}"


def legacy_op(operation: str) -> str:
    """The name in Microscope's links of what a TensorFlow operation gives."""
    return f"{operation.replace('/', '_')}_0"


def tensors(variables: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Slim's variables under the graph's names; what is no variable of slim's is left out.

    Kernels turn from (height, width, in, out) to (out, in, height, width), matrices from (in, out) to (out, in).
    """
    found = {}
    for variable, value in variables.items():
        scope, _, leaf = variable.rpartition("/")
        if leaf in TENSORS:
            order = {4: (3, 2, 0, 1), 2: (1, 0)}.get(value.dim()) if leaf == "weights" else None
            found[f"{scope}.{TENSORS[leaf]}"] = value.permute(order) if order else value
    return found


def read_frozen_graph(path: Path) -> dict[str, Tensor]:
    """Variables of a graph that was frozen into constants, as Lucid's are."""
    return tensors(read_graphdef(path))


BACKGROUND = "timm's copy lacks the logit of the background, one of 1,001"


def read_timm(path: Path, names: Mapping[str, str], root: str, logits: str, dense: str) -> dict[str, Tensor]:
    """The tensors of timm's copy: `names` has its convolutions' names by ours, in scope `root`.

    Its dense layer is left out where it lacks the background, which it does as published. Raises WeightsError where its
    norms scale: then it is another training's.
    """
    given, found = read_tensors(path), {}
    for ours, theirs in names.items():
        if (kernel := given.get(f"{theirs}.conv.weight")) is not None:
            found[f"{root}/{ours}.weight"] = kernel
        for tensor in ("bias", "running_mean", "running_var"):
            if (value := given.get(f"{theirs}.bn.{tensor}")) is not None:
                found[f"{root}/{ours}/BatchNorm.{tensor}"] = value
        if (scale := given.get(f"{theirs}.bn.weight")) is not None and not bool((scale == 1).all()):
            raise WeightsError(f"{path}: {theirs}.bn scales, which TF-slim's does not: it is of another training")
    if len(given.get(f"{dense}.bias", ())) == CLASSES:
        found |= {f"{logits}.{tensor}": given[f"{dense}.{tensor}"] for tensor in ("weight", "bias")}
    return found


def read_published_checkpoint(path: Path) -> dict[str, Tensor]:
    """Variables of a checkpoint, as TF-slim's trained networks were published."""
    return tensors(read_checkpoint(path))
