"""Weights as they are kept: tensors that fit a network, under its own names, with their provenance.

In a file they are safetensors with the provenance in the header. Weights are known by the sha256 of their tensors, not
of a file, so the same weights have one identity in whatever container they came.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from microscope_atlas.atlas.provenance import Provenance
from microscope_atlas.cache import whole
from microscope_atlas.errors import WeightsError
from microscope_atlas.models.networks.network import Network
from microscope_atlas.models.organism import Organism
from microscope_atlas.structure import structure

LACKING = "lacking"  # in a file's header, as JSON


@dataclass(frozen=True)
class Weights:
    """Tensors that fit an organism, with their identity."""

    tensors: dict[str, Tensor]
    sha256: str  # of names, shapes and bytes of all tensors
    provenance: Provenance
    lacking: tuple[str, ...] = ()  # layers of the network that there are no tensors for


def expected(network: Network) -> dict[str, Tensor]:
    """The tensors that a network wants, by name; its parameters as such."""
    tensors: dict[str, Tensor] = network.state_dict(keep_vars=True)
    return {name: value for name, value in tensors.items() if not uncounted(name)}


def uncounted(name: str) -> bool:
    """Batch norms count the batches they were trained on; nothing reads that."""
    return name.endswith("num_batches_tracked")


def fit(organism: Organism, given: dict[str, Tensor], origin: str) -> dict[str, Tensor]:
    """The tensors that the network wants, each checked for its shape; singleton axes (old Caffe files) are dropped.

    Raises WeightsError, naming `origin`, where one is missing, of another shape or not finite.
    """
    wants = expected(organism.blank())
    given = unscoped(given, wants)
    fitted = {}
    for name, wanted in wants.items():
        if name not in given:
            raise WeightsError(
                f"{origin} is not of {organism.name}: it has no {name}, expected with shape {tuple(wanted.shape)}; "
                f"its first tensors are {', '.join(list(given)[:3])}"
            )
        value = given[name]
        if [n for n in value.shape if n != 1] != [n for n in wanted.shape if n != 1]:
            raise WeightsError(
                f"{origin} is not of {organism.name}: {name} has shape {tuple(value.shape)}, "
                f"expected {tuple(wanted.shape)}"
            )
        if not value.isfinite().all():
            raise WeightsError(f"{origin}: {name} holds values that are not finite")
        fitted[name] = value.detach().reshape(wanted.shape).to(torch.float32).contiguous()
    return fitted


def unscoped(given: dict[str, Tensor], wants: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What is given under the network's own names, where all of these stand in one scope: `import/` before each."""
    first = next(iter(wants))
    scopes = [name.removesuffix(first) for name in given if name.endswith(f"/{first}")]
    if first in given or len(scopes) != 1:
        return given
    return {name.removeprefix(scopes[0]): value for name, value in given.items()}


def identity(tensors: dict[str, Tensor]) -> str:
    """sha256 of names, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tuple(tensors[name].shape)} float32\n".encode())
        digest.update(tensors[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


def write(path: Path, weights: Weights) -> None:
    """Write weights whole or not at all; WeightsError where the disk refuses."""
    header = {"sha256": weights.sha256, "provenance": json.dumps(asdict(weights.provenance))}
    if weights.lacking:
        header[LACKING] = json.dumps(weights.lacking)
    try:
        with whole(path) as beside:
            save_file(weights.tensors, beside, metadata=header)
    except (OSError, SafetensorError) as error:  # the latter for a full disk, too
        raise WeightsError(
            f"{path} cannot be written: {error}; free some space, or have MICROSCOPE_ATLAS_CACHE name another folder"
        ) from error


def read(path: Path) -> Weights:
    """Weights from a file, verified against the sha256 they were written with; WeightsError where it is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        stated = header["sha256"]
        origin = structure(Provenance, json.loads(header["provenance"]), "provenance")
        lacking = structure(tuple[str, ...], json.loads(header.get(LACKING, "[]")), LACKING)
    # RuntimeError: numbers of another type; RecursionError: JSON within JSON within JSON
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError, RecursionError) as error:
        raise WeightsError(f"{path} is damaged: {error!r}") from error
    if other := [name for name, value in tensors.items() if value.dtype != torch.float32]:
        raise WeightsError(f"{path} is damaged: {other[0]!r} is {tensors[other[0]].dtype}, expected float32")
    found = identity(tensors)
    if found != stated:
        raise WeightsError(f"{path} is damaged: its tensors have sha256 {found}, expected {stated}")
    return Weights(tensors, found, origin, lacking)
