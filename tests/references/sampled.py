"""Activations of an independent implementation, kept as a small sample: written once, compared in every run."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from microscope_atlas.models.networks.graph import Graph
from microscope_atlas.models.organism import Organism
from microscope_atlas.models.weights import Weights

HERE = Path(__file__).parent
SAMPLES = 128  # values kept of a layer
TOLERANCE = 1e-4  # of the layer's largest value


def picture(height: int, width: int) -> NDArray[np.float32]:
    """RGB (3, height, width) in [0, 1]: waves that differ by channel and direction, and noise, the same everywhere."""
    channel, y, x = np.meshgrid(np.arange(3), np.arange(height), np.arange(width), indexing="ij")
    wave = np.sin(0.11 * x * (channel + 1) + 0.07 * y + channel) * np.cos(0.05 * y * (channel + 2) - 0.02 * x)
    noise = ((channel * 7919 + y * 104729 + x * 1299709) * 2654435761 % 4294967296) / 4294967296
    return (0.2 + 0.15 * channel + 0.2 * wave + 0.25 * (noise - 0.5)).clip(0, 1).astype(np.float32)


def write(name: str, weights: Weights, maps: Mapping[tuple[int, int], Mapping[str, NDArray[np.float32]]]) -> None:
    """Keep a sample of activations by the picture's height and width and by layer, each without its batch."""
    rng = np.random.default_rng(0)
    arrays: dict[str, NDArray[np.generic]] = {"weights_sha256": np.array(weights.sha256)}
    for (height, width), layers in maps.items():
        for layer, values in layers.items():
            where = rng.choice(values.size, min(SAMPLES, values.size), replace=False).astype(np.uint32)
            key = f"{height}x{width}/{layer}"
            arrays[f"{key}/shape"] = np.array(values.shape, np.uint32)
            arrays[f"{key}/largest"] = np.abs(values).max()
            arrays[f"{key}/where"] = where
            arrays[f"{key}/values"] = values.reshape(-1)[where]
    np.savez_compressed(HERE / f"{name}.npz", allow_pickle=False, **arrays)


def sizes(name: str) -> dict[tuple[int, int], list[str]]:
    """What the sample called `name` holds: layers by the picture's height and width."""
    found: dict[tuple[int, int], list[str]] = {}
    with np.load(HERE / f"{name}.npz") as file:
        for key in file.files:
            if key.endswith("/values"):
                size, layer, _ = key.split("/")
                height, width = map(int, size.split("x"))
                found.setdefault((height, width), []).append(layer)
    return found


def differences(organism: Organism, weights: Weights, graph: Graph) -> Iterator[tuple[str, float]]:
    """How far each layer is from the reference, at every size: the largest difference over the layer's largest value.

    A layer of another shape is infinitely far.
    """
    with np.load(HERE / f"{organism.name}.npz") as file:
        assert file["weights_sha256"] == weights.sha256, (
            "the reference has other weights: run tests/references/make_*.py"
        )
        for (height, width), layers in sizes(organism.name).items():
            with torch.no_grad():
                outputs = graph(torch.from_numpy(picture(height, width))[None], layers)
            for layer, output in zip(layers, outputs, strict=True):
                key = f"{height}x{width}/{layer}"
                yield key, _difference(output[0], {field: file[f"{key}/{field}"] for field in FIELDS})


FIELDS = ("shape", "largest", "where", "values")


def _difference(output: Tensor, reference: Mapping[str, NDArray[np.float32]]) -> float:
    if tuple(output.shape) != tuple(reference["shape"]):
        return math.inf
    values = output.reshape(-1).numpy()[reference["where"]]
    return float(np.abs(values - reference["values"]).max() / reference["largest"])
