"""Other libraries that render units, set up to do the same work: Lucent and Horama.

Lucent 0.1.8 (https://github.com/greentfrapp/lucent) brings a port of InceptionV1. Its local response norms are not
those of the network: a window of 9 with a bias of 1 and alpha divided by 9, where the network's is 11, 2, undivided.
So that both do the same arithmetic on the same weights, ours takes Lucent's norms here; activations are then equal.

Lucent has no canvas margin: it pads the canvas by 12 px and scales it by 0.9 to 1.1, so on a canvas of 224 px its
network sees 223 to 273 px, ours 224.
"""

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from microscope_atlas.errors import ExtraMissing
from microscope_atlas.models import weights
from microscope_atlas.models.adapters.torchvision import imported
from microscope_atlas.models.catalog import organism
from microscope_atlas.models.networks.graph import Graph
from microscope_atlas.models.networks.network import Network
from microscope_atlas.models.networks.ops import LocalResponseNorm

MODEL = "inceptionv1"
SMALLEST, PADDING = 224, 12  # px, of Lucent's: canvases below are enlarged; what its views add on each side
LUCENT_NORM = LocalResponseNorm(9, alpha=9.99999974738e-05, beta=0.5, k=1.0)


def lucent(part: str) -> Any:
    """A module of Lucent's; ExtraMissing where it is not installed."""
    try:
        imported()  # torchvision, which Lucent imports, beside a PyTorch without CUDA
        return importlib.import_module(f"lucent.{part}")
    except ImportError as error:
        raise ExtraMissing(f"Lucent cannot be imported ({error}); pip install 'microscope-atlas[lucent]'") from error


def lucent_inceptionv1(tensors: dict[str, Tensor]) -> nn.Module:
    """Lucent's InceptionV1 with weights under our graph's names; it has none of the auxiliary heads."""
    module: nn.Module = lucent("modelzoo").inceptionv1(pretrained=False).eval()
    given = {}
    for name in module.state_dict():
        stem, _, kind = name.rpartition(".")
        node = stem.removesuffix("_matmul").removesuffix("_pre_relu_conv")
        ours = next(n for n in (f"{node}.{kind}", f"{node}_pre_relu.{kind}") if n in tensors)
        given[name] = tensors[ours]
    module.load_state_dict(given)
    return module


def with_lucents_norms(model: str, kind: weights.WeightsKind, device: torch.device) -> Network:
    """Our InceptionV1, its local response norms replaced by Lucent's."""
    known = organism(model)
    network = weights.network(known, weights.load(known, kind), device)
    assert isinstance(network, Graph)
    for name, op in network.named_children():
        if isinstance(op, LocalResponseNorm):
            setattr(network, name, LUCENT_NORM)
    return network


def lucent_render(
    module: nn.Module, layer: str, unit: int, canvas: int, steps: Sequence[int], views: bool = True, own: bool = True
) -> Tensor:
    """Lucent's pictures of a unit after each of `steps`: (steps, 3, canvas, canvas), RGB in [0, 1].

    Without its views, which pad, shift, scale and turn the canvas, its network sees the canvas as it is. A network that
    is not its own brings its own preprocessing. Lucent enlarges canvases below 224 px, unless a size is asked for: here
    that of the padded canvas.
    """
    asked = None if canvas >= SMALLEST else canvas + 2 * PADDING if views else canvas
    images = lucent("optvis.render").render_vis(
        module,
        f"{layer}:{unit}",
        lambda: lucent("optvis.param").image(canvas),
        transforms=None if views else [],
        thresholds=tuple(steps),
        preprocess=own,
        progress=False,
        show_image=False,
        fixed_image_size=asked,
    )
    return torch.from_numpy(np.concatenate(images)).permute(0, 3, 1, 2)


def why_not_horama() -> str | None:
    """Why Horama (https://github.com/serre-lab/Horama) cannot be measured here; None where it can."""
    library = imported()
    try:
        importlib.import_module("horama")
    except ImportError as error:
        return f"it cannot be imported: {error}"
    if not library.extension._has_ops():
        # torchvision then has a substitute in Python, which asks for 240 GB to crop one canvas of 224 px
        return "torchvision's compiled roi_align, which it crops by, does not load beside this PyTorch"
    return None


HORAMA_CROP = 0.275  # mean side of its crops, a share of the canvas


def horama_render(
    activations: Callable[[Tensor], Tensor], unit: int, steps: int, device: str, canvas: int = 1280
) -> Tensor:
    """Horama's Fourier picture of a unit by its own recipe: (3, canvas, canvas), RGB in [0, 1].

    `activations` are those of a layer, (batch, units, ...), to pictures. Each step shows it six crops of the canvas, as
    is the default: of version 0.3.0, one alone ends with a ValueError.
    """
    horama = importlib.import_module("horama")
    picture: Tensor = horama.fourier(
        lambda shown: activations(shown)[:, unit].mean(),
        total_steps=steps,
        image_size=canvas,
        values_range=(0, 1),
        device=device,
    )[0]
    return picture.detach()


@contextmanager
def lucents_layer(module: nn.Module, layer: str) -> Iterator[Callable[[Tensor], Tensor]]:
    """Activations of a layer of Lucent's InceptionV1 to pictures, RGB in [0, 1]."""
    found: list[Tensor] = []

    def activations(pictures: Tensor) -> Tensor:
        module(pictures * 255 - 117)
        return found.pop()

    handle = dict(module.named_modules())[layer].register_forward_hook(lambda *given: found.append(given[2]))
    try:
        yield activations
    finally:
        handle.remove()
