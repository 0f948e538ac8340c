"""A network's structure, read from what autograd recorded of one forward pass.

Whatever code a network is, what it did to a picture that asks for gradients stands in the outputs' history: each step
and the steps it read. That gives the way from layer to layer, and receptive fields. The networks' parameters ask for no
gradients here, so that the picture is the history's one beginning.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from microscope_atlas.models.networks.network import Field

PICTURE = Field(1, 1)
WHOLE = None  # size of a field that is the whole picture

# Steps after which a position has seen what it had seen before; of steps not named here a position may see everything
IN_PLACE = {
    *("Relu", "Hardtanh", "LeakyRelu", "PreluKernel", "Elu", "Silu", "Gelu", "Mish", "Softplus", "Hardswish"),
    *("Sigmoid", "Hardsigmoid", "Tanh", "Exp", "Pow", "Abs", "Neg", "Clamp", "Sqrt", "Rsqrt", "Threshold"),
    *("Add", "Sub", "Mul", "Div", "Rsub", "Maximum", "Minimum"),
    *("Clone", "Alias", "ToCopy", "NativeBatchNorm", "CudnnBatchNorm"),
}
ALONG_CHANNELS = {"Cat", "Select", "Slice", "Split", "SplitWithSizes", "Unbind", "Unsqueeze"}  # if on axis 1
POOLS = {"MaxPool2DWithIndices", "AvgPool2D"}


def steps(outputs: Iterable[Tensor]) -> list[Any]:
    """All steps that led to `outputs`, in order of computation."""
    waiting = [output.grad_fn for output in outputs]
    seen: set[Any] = set()
    while waiting:
        step = waiting.pop()
        if step is not None and step not in seen and step.next_functions:
            seen.add(step)
            waiting += [read for read, _ in step.next_functions]
    return sorted(seen, key=lambda step: int(step._sequence_nr()))


def fields(steps: Iterable[Any]) -> dict[Any, Field]:
    """The receptive field of every step, as in receptive_fields; of a step that is not known, the whole picture."""
    found: dict[Any, Field] = {}
    for step in steps:
        seen = [found.get(read, PICTURE) for read, _ in step.next_functions if read is not None]
        ends = [f.origin + f.size for f in seen if f.size is not None]
        stride, origin = max(f.stride for f in seen), min(f.origin for f in seen)
        extent, step_stride, before = _window(step)
        if extent is None or len(ends) < len(seen):
            found[step] = Field(WHOLE, stride * step_stride)
        else:
            whole = max(ends) - origin + (extent - 1) * stride
            found[step] = Field(whole, stride * step_stride, origin - before * stride)
    return found


def wiring(steps: Iterable[Any], layers: Mapping[str, Tensor]) -> dict[str, tuple[str, ...]]:
    """Which layers each layer is reached from without passing another; layers by name, with their outputs."""
    names: dict[Any, list[str]] = {}
    for name, output in layers.items():
        names.setdefault(output.grad_fn, []).append(name)
    behind: dict[Any, dict[str, None]] = {}  # a dict keeps its order
    found: dict[str, tuple[str, ...]] = {}
    for step in steps:
        reached: dict[str, None] = {}
        for read, _ in step.next_functions:
            reached |= dict.fromkeys(names[read]) if read in names else behind.get(read, {})
        behind[step] = reached
        found |= {name: tuple(reached) for name in names.get(step, ())}
    return {name: found[name] for name in layers}


def _window(step: Any) -> tuple[int | None, int, int]:
    """What a position of a step reads of the step before, in positions: extent, None if not known, stride, padding."""
    name = step.name().rstrip("0123456789").removesuffix("Backward")
    if name == "Convolution" and not step._saved_transposed and step._saved_weight.dim() == 4:
        kernel, dilation = step._saved_weight.shape[2:], step._saved_dilation
        extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
        return max(extents), max(step._saved_stride), max(step._saved_padding)
    if name in POOLS:
        kernel = step._saved_kernel_size
        return max(kernel), max(step._saved_stride or kernel), max(step._saved_padding)
    if name == "ConstantPadNd":  # (left, right, top, bottom, ...)
        return 1, 1, step._saved_pad[0]
    known = name in IN_PLACE or (name in ALONG_CHANNELS and step._saved_dim == 1)
    return (1 if known else None), 1, 0
