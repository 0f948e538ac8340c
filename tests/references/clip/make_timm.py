"""Make the references of CLIP's convolutional image towers with timm.

In an environment of its own: pip install torch==2.13.0 torchvision==0.28.0 timm==1.0.31. Then, from the repository's
root: python -m tests.references.clip.make_timm
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from microscope_atlas.models.architectures import clip_resnet
from microscope_atlas.models.organism import Organism
from tests.references.slim.shared_weights import picture, shared_weights, write_reference

FOLDER = Path(__file__).parent
NETWORKS = {
    "resnet50_clip": clip_resnet.CONTRASTIVE_RN50,
    "resnet50x4_clip": clip_resnet.CONTRASTIVE_4X,
    "resnet50x16_clip": clip_resnet.CONTRASTIVE_16X,
}


def reference(name: str, organism: Organism) -> nn.Module:
    """Timm's network with the shared weights, each under the name that our reader of timm's files gives it."""
    import timm

    units = organism.layer("embedding").units
    model = timm.create_model(name, num_classes=units, img_size=organism.input_size).eval()
    theirs = model.state_dict()
    order = list(theirs)
    with TemporaryDirectory() as folder:
        # a number for each tensor, so that the names that come back say which is which
        numbered = {each: torch.tensor([float(number)]) for number, each in enumerate(order)}
        save_file(numbered, Path(folder) / "model.safetensors")
        ours = {int(value): here for here, value in clip_resnet.read_copy(Path(folder) / "model.safetensors").items()}
    weights = shared_weights(organism)
    tensors = {
        each: weights[ours[number]].reshape(theirs[each].shape)
        for number, each in enumerate(order)
        if not each.endswith("num_batches_tracked")
    }
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    assert not unexpected and all(each.endswith("num_batches_tracked") for each in missing)
    return model


def activations(model: nn.Module, organism: Organism) -> dict[str, Tensor]:
    """What timm's network computes at each layer."""
    found: dict[str, Tensor] = {}

    def keep(module: nn.Module, layer: str, seen: str = "output") -> None:
        def hook(_: nn.Module, read: tuple[Tensor, ...], given: Tensor) -> None:
            found[layer] = given if seen == "output" else read[0]

        module.register_forward_hook(hook)

    for number in (1, 2, 3):
        keep(getattr(model.stem, f"conv{number}"), f"stem_{number}")
    for stage, blocks in enumerate(model.stages, 1):
        for number, block in enumerate(blocks):
            layer = f"image_block_{stage}_{number}"
            keep(block.conv1_1x1, f"{layer}_relu1")
            keep(block.conv2_kxk.bn, f"{layer}_relu2")  # with its rectifier, before the pool
            keep(block, layer)
    for name in "qkv":
        keep(getattr(model.head, name), f"attnpool_{name}")
    keep(model.head.proj, "attnpool_heads", "input")
    size = organism.input_size
    mean, std = (torch.tensor(each)[:, None, None] for each in (clip_resnet.MEAN, clip_resnet.STD))
    with torch.no_grad():
        found["embedding"] = model((picture(size) - mean) / std)
    for name in ("q", "heads"):
        found[f"attnpool_{name}"] = found[f"attnpool_{name}"][:, 0]
    for name in "kv":
        found[f"attnpool_{name}"] = found[f"attnpool_{name}"][:, 1:].transpose(1, 2).unflatten(2, (size // 32, -1))
    return found


def main() -> None:
    import timm

    versions = f"timm {timm.__version__}, torch {torch.__version__}"
    for name, organism in NETWORKS.items():
        found = activations(reference(name, organism), organism)
        write_reference(organism, versions, {organism.input_size: found}, FOLDER)


if __name__ == "__main__":
    main()
