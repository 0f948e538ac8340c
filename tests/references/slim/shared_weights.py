"""Random weights that an organism and its independent reference share, and what the reference computed with them.

A reference is made once, where its framework is installed, by a script beside this file. It keeps a sample of every
layer's activations, so that comparing needs no framework but PyTorch.
"""

import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from microscope_atlas.atlas.provenance import Provenance
from microscope_atlas.models.converted import Weights
from microscope_atlas.models.organism import Organism
from microscope_atlas.models.weights import network

FOLDER = Path(__file__).parent
SAMPLES = 200  # values kept of a layer's activations


def shared_weights(organism: Organism) -> dict[str, Tensor]:
    """Weights under the graph's names, each drawn from a stream of its own.

    Batch norms get statistics as training leaves them, neither 0 nor 1, so that epsilon and each of them count.
    """
    with torch.device("meta"):
        expected: dict[str, Tensor] = organism.build().state_dict()
    return {
        name: _draw(name, tuple(value.shape))
        for name, value in expected.items()
        if not name.endswith("num_batches_tracked")
    }


def _draw(name: str, shape: tuple[int, ...]) -> Tensor:
    stream = _stream(name)
    if name.endswith("running_var"):
        return torch.rand(shape, generator=stream) + 0.5
    if name.endswith("weight") and len(shape) == 1:
        return torch.rand(shape, generator=stream) * 0.5 + 0.75
    if len(shape) == 1:
        return torch.randn(shape, generator=stream) * 0.2
    scale: float = (1.8 / int(np.prod(shape[1:]))) ** 0.5
    return torch.randn(shape, generator=stream) * scale


def picture(size: int) -> Tensor:
    """One picture (1, 3, size, size) of noise, RGB in [0, 1]."""
    return torch.rand((1, 3, size, size), generator=_stream(f"picture {size}"))


def sample(layer: str, activations: Tensor) -> np.ndarray:
    """A layer's activations, channels first, at places drawn from its name."""
    places = torch.randint(activations.numel(), (SAMPLES,), generator=_stream(layer))
    return activations.flatten()[places].numpy()


def _stream(name: str) -> torch.Generator:
    return torch.Generator().manual_seed(zlib.crc32(name.encode()))


def write_reference(
    organism: Organism,
    versions: str,
    activations: dict[int, dict[str, Tensor]],
    folder: Path = FOLDER,
    **more: np.ndarray,
) -> None:
    """Keep a sample of activations, channels first, by size of the picture and layer; and `more` beside it."""
    arrays = {"versions": np.array(versions), **more}
    for size, layers in activations.items():
        for layer, values in layers.items():
            arrays[f"{size}/{layer}/shape"] = np.array(values.shape)
            arrays[f"{size}/{layer}/sample"] = sample(layer, values)
    np.savez_compressed(folder / f"{organism.name}.npz", allow_pickle=False, **arrays)


def disagreements(organism: Organism, size: int, folder: Path = FOLDER) -> dict[str, float]:
    """By layer, the largest difference from the reference, relative to the largest value there.

    The network is the one that is rendered, with batch norms folded. A layer of another shape is infinitely far off.
    """
    weights = Weights(shared_weights(organism), "", Provenance("shared", "", "none", official=False))
    reference = np.load(folder / f"{organism.name}.npz")
    layers = [layer for layer in organism.layers if f"{size}/{layer}/sample" in reference]
    with torch.no_grad():
        computed = network(organism, weights)(picture(size), layers)
    found = {}
    for layer, values in zip(layers, computed, strict=True):
        expected = reference[f"{size}/{layer}/sample"]
        if tuple(values.shape) != tuple(reference[f"{size}/{layer}/shape"]):
            found[layer] = float("inf")
        else:
            found[layer] = float(np.abs(sample(layer, values) - expected).max() / np.abs(expected).max())
    return found
