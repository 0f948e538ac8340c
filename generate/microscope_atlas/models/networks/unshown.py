"""Why parts of a module that have units of their own are no layers, in a few words each."""

from collections import Counter
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from microscope_atlas.models.networks.watch import UNITS, Watch

PICTURES = 2  # that a module is looked at with

NOT_CALLED = "not called"  # by this forward pass, as heads that are there for training alone
AS_FUNCTION = "used as a function"  # its weights are multiplied by other code than its own, which no hook sees
SCRIPTED = "TorchScript"
ONE_DIMENSIONAL, THREE_DIMENSIONAL = "1-d convolution", "3-d convolution"
NO_GRADIENT = "no gradient"  # to the picture: behind no_grad, detach, or a step that has none
ONE_BY_ONE = "picture by picture"  # each picture goes through it alone
PARTS = "parts of pictures"  # its batch is of windows, positions or others than pictures
NO_TENSOR, OTHER_AXES = "no tensor", "other axes"
LATER_CALLS = "later calls"  # it is shown as it was first called


def unshown(module: nn.Module, found: Mapping[str, Tensor], watch: Watch) -> dict[str, str]:
    """Paths of all modules with units that are not shown, or not in full -> why; `found` are outputs by path."""
    reasons = {}
    for path, part in module.named_modules():
        scripted = isinstance(part, torch.jit.ScriptModule)
        if scripted and not isinstance(module.get_submodule(path.rpartition(".")[0]), torch.jit.ScriptModule):
            reasons[path] = SCRIPTED
        elif path in watch.as_functions and watch.calls[path] and not isinstance(part, UNITS):
            reasons[path] = AS_FUNCTION
        elif isinstance(part, UNITS) and (why := _why(path, part, found.get(path), watch)):
            reasons[path] = why
    return reasons


def summary(not_shown: Mapping[str, str], num_layers: int) -> str:
    """`36 of 38 modules are not shown: tokens 24, used as a function 12`; empty where nothing is left out."""
    counts = Counter(not_shown.values())
    later = counts.pop(LATER_CALLS, 0)
    told = []
    if counts:
        total = sum(counts.values())
        each = ", ".join(f"{why} {count}" for why, count in counts.most_common())
        told.append(f"{total} of {total + num_layers} modules {'is' if total == 1 else 'are'} not shown: {each}")
    if later:
        told.append(f"{later} {'is' if later == 1 else 'are'} shown at the first of several calls")
    return "; ".join(told)


def _why(path: str, part: nn.Module, output: Tensor | None, watch: Watch) -> str | None:
    calls = watch.calls[path]
    if isinstance(part, nn.Conv1d | nn.ConvTranspose1d):
        return ONE_DIMENSIONAL
    if isinstance(part, nn.Conv3d | nn.ConvTranspose3d):
        return THREE_DIMENSIONAL
    if not calls:
        return AS_FUNCTION if watch.bypassed(path) else NOT_CALLED
    if output is None:
        return NO_TENSOR
    if calls == PICTURES and (len(output) == 1 or (isinstance(part, nn.Conv2d) and output.dim() == 3)):
        return ONE_BY_ONE
    if output.grad_fn is None:
        return NO_GRADIENT
    if len(output) != PICTURES:
        return PARTS
    if output.dim() not in (2, 3, 4):
        return OTHER_AXES
    return LATER_CALLS if calls > 1 else None
