"""Make the reference of inceptionv4_slim with timm.

In an environment of its own: pip install torch==2.13.0 torchvision==0.28.0 timm==1.0.31. Then, from the repository's
root: python -m tests.references.slim.make_timm
"""

import timm
import torch
from torch import Tensor, nn

from microscope_atlas.models.architectures.inceptionv4_slim import INCEPTIONV4_SLIM
from tests.references.slim.shared_weights import picture, shared_weights, write_reference


def reference() -> nn.Module:
    """Timm's network with the shared weights: its convolutions stand in the same order as ours."""
    model = timm.create_model("inception_v4", num_classes=1001).eval()
    weights = shared_weights(INCEPTIONV4_SLIM)
    kernels = [name for name, value in weights.items() if value.dim() == 4]
    blocks = [module for module in model.modules() if hasattr(module, "conv") and hasattr(module, "bn")]
    tensors = {}
    names = {module: name for name, module in model.named_modules()}
    for ours, block in zip(kernels, blocks, strict=True):
        node, theirs = ours.removesuffix(".weight"), names[block]
        assert block.conv.weight.shape == weights[ours].shape
        tensors[f"{theirs}.conv.weight"] = weights[ours]
        tensors[f"{theirs}.bn.weight"] = torch.ones_like(weights[f"{node}/BatchNorm.bias"])
        for tensor in ("bias", "running_mean", "running_var"):
            tensors[f"{theirs}.bn.{tensor}"] = weights[f"{node}/BatchNorm.{tensor}"]
    for tensor in ("weight", "bias"):
        tensors[f"last_linear.{tensor}"] = weights[f"InceptionV4/Logits/Logits.{tensor}"]
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    assert not unexpected and all(name.endswith("num_batches_tracked") for name in missing)
    return model


def activations(model: nn.Module, size: int) -> dict[str, Tensor]:
    """What timm's network computes at each layer."""
    *layers, logits = INCEPTIONV4_SLIM.legacy_ops
    found = {}
    with torch.no_grad():
        x = picture(size) * 2 - 1
        for layer, block in zip(layers, model.features, strict=True):
            x = found[layer] = block(x)
        return found | {logits: model.forward_head(x)}


def main() -> None:
    model = reference()
    versions = f"timm {timm.__version__}, torch {torch.__version__}"
    write_reference(INCEPTIONV4_SLIM, versions, {size: activations(model, size) for size in (299, 160)})


if __name__ == "__main__":
    main()
