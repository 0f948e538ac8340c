"""Which steps of a computation are not piecewise linear, read from what autograd recorded of it.

Of convolutions, sums, means, ReLU and its kin, max pools and frozen batch norms the gradient is exact: in the piece
that a picture lies in, all they do is multiply and add constants. What is not known to be so counts as not linear.
A torch.autograd.Function says so itself: `piecewise_linear = True` in its class.
"""

import re
from typing import Any

from torch import Tensor

# steps by what autograd calls them, without `Backward0`
LINEAR = frozenset(
    (
        "AdaptiveAvgPool2D", "Add", "Alias", "AsStrided", "AvgPool2D", "Broadcast", "Cat", "Clone", "ConstantPadNd",
        "Copy", "CopySlices", "Cumsum", "Diagonal", "Expand", "Flip", "Gather", "Index", "IndexCopy", "IndexSelect",
        "MaskedFill", "Mean", "Narrow", "Neg", "Permute", "PixelShuffle", "PixelUnshuffle", "ReflectionPad2D", "Repeat",
        "ReplicationPad2D", "Reshape", "ReshapeAlias", "Roll", "Select", "Slice", "Split", "SplitWithSizes", "Squeeze",
        "Stack", "Sub", "Sum", "T", "ToCopy", "Transpose", "Unbind", "Unfold", "Unsafe", "UnsafeSplit", "UnsafeView",
        "Unsqueeze", "UpsampleBilinear2D", "UpsampleNearest2D", "View",
    )
)  # fmt: skip
IN_PIECES = frozenset(
    (
        "Abs", "AdaptiveMaxPool2D", "Amax", "Amin", "Clamp", "ClampMax", "ClampMin", "Hardtanh", "LeakyRelu", "Max",
        "MaxPool2DWithIndices", "Maximum", "Min", "Minimum", "PreluKernel", "Relu", "Threshold", "Where",
    )
)  # fmt: skip
# products, with the operands of which only one may come from the picture
PRODUCTS = {
    **dict.fromkeys(("Bmm", "Convolution", "Dot", "Linear", "Mm", "Mul", "Mv"), (0, 1)),
    **dict.fromkeys(("Addmm", "Addmv", "Baddbmm"), (1, 2)),
}
NORMS = ("CudnnBatchNorm", "MiopenBatchNorm", "NativeBatchNorm")  # frozen they are linear


def nonlinear(output: Tensor) -> tuple[str, ...]:
    """The steps that led from tensors with gradients to `output` and are not piecewise linear, by name, each once.

    `("Gelu", "Softmax")`; none: `output` is a piecewise linear function of them.
    """
    waiting, seen, found = [output.grad_fn], set[Any](), set[str]()
    while waiting:
        step = waiting.pop()
        if step is None or step in seen:
            continue
        seen.add(step)
        if step.next_functions and not _is_linear(step):
            found.add(_name(step))
        waiting += [read for read, _ in step.next_functions]
    return tuple(sorted(found))


def _is_linear(step: Any) -> bool:
    name, reads = _name(step), [read is not None for read, _ in step.next_functions]
    if name in PRODUCTS:
        return sum(reads[at] for at in PRODUCTS[name]) < 2
    if name == "Div":
        return not reads[1]
    if hasattr(step, "_forward_cls"):
        return bool(getattr(step._forward_cls, "piecewise_linear", False))
    if name in NORMS:
        return not step._saved_training
    return name in LINEAR or name in IN_PIECES


def _name(step: Any) -> str:
    """`SoftmaxBackward0` -> `Softmax`."""
    return re.sub(r"Backward\w*$", "", step.name()).lstrip("_").rpartition("::")[2]
