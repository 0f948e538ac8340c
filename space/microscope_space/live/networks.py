"""The networks of an atlas, to run on visitors' pictures: with the very weights that its rows were made with.

PyTorch is loaded with the first of them: pages that are read do without, which is a third of the memory.
"""

import logging
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Literal

from microscope_atlas.atlas.kept import Kept
from microscope_atlas.atlas.organisms import organisms
from microscope_atlas.atlas.provenance import is_untrained
from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.errors import WeightsError, unknown
from microscope_space.live.drawing import zero_gpu

if TYPE_CHECKING:
    import torch

    from microscope_atlas.models.converted import Weights
    from microscope_atlas.models.networks.network import Network
    from microscope_atlas.models.organism import Organism
    from microscope_atlas.models.weights import WeightsKind

KEPT = 800 << 20  # bytes of networks in memory, and as many of their weights; one has 20 to 600 MB

log = logging.getLogger(__name__)


def choices(atlas: Atlas) -> list[str]:
    """The atlas' models that can be run here: the catalog's. Others are whatever code their names lead to."""
    return [name for name in atlas.models if name in organisms()]


def runnable(atlas: Atlas, model: str) -> "Organism":
    """What is known of a model of the atlas; UnknownName with the nearest where it cannot be run here."""
    from microscope_atlas.models.catalog import organism

    if model not in choices(atlas):
        raise unknown("model", model, "what can be run here", choices(atlas))
    return organism(model)


def weights_kind(atlas: Atlas, model: str) -> "WeightsKind":
    """Which weights the atlas' rows of a model were made with, having seen that they can be had here.

    WeightsError, in words for visitors, where they cannot, or are others.
    """
    stated = atlas.manifest.models[runnable(atlas, model).name]
    kind: WeightsKind = "random" if is_untrained(stated["provenance"]) else "pretrained"
    try:
        found = _weights(model, kind)
    except WeightsError as error:
        log.warning("weights of %s: %s", model, error)  # which may name this machine's paths
        raise WeightsError(
            f"the weights of {model} cannot be had here, so it cannot look at your picture; choose another model"
        ) from error
    if found.sha256 != stated["weights_sha256"]:
        raise WeightsError(
            f"the weights of {model} here, sha256 {found.sha256[:12]}, are not those that this atlas was made with, "
            f"{stated['weights_sha256'][:12]}; choose another model"
        )
    return kind


def network(model: str, kind: "WeightsKind", device: "torch.device") -> "Network":
    """The network of a model on a device; as many are kept as `KEPT` bytes hold."""
    return _network(model, kind, device)


def quick() -> Literal["draft", "standard"]:
    """The quality to begin with: the better one where there seems to be a GPU. PyTorch, which knows, loads long."""
    return "standard" if zero_gpu() or any(Path("/dev").glob("nvidia[0-9]*")) else "draft"


def ahead(atlas: Atlas, model: str) -> Thread:
    """Load a network that a visitor looks at, meanwhile: it takes seconds, which the first picture then does not."""

    def load() -> None:
        with suppress(WeightsError):  # said when it is run, and logged
            import torch

            kind = weights_kind(atlas, model)
            if not torch.cuda.is_available():
                network(model, kind, torch.device("cpu"))

    thread = Thread(target=load, daemon=True)
    thread.start()
    return thread


def forked() -> None:
    """Let forks of this process load networks, whatever was being loaded when they were made."""

    def unlock() -> None:
        for each in (_weights, _network):  # locks of theirs another thread may have held, that is not there
            each.unlock()

    os.register_at_fork(after_in_child=unlock)


def _load(model: str, kind: "WeightsKind") -> "Weights":
    from microscope_atlas.models import weights
    from microscope_atlas.models.catalog import organism

    return weights.load(organism(model), kind)


def _build(model: str, kind: "WeightsKind", device: "torch.device") -> "Network":
    from microscope_atlas.models import weights
    from microscope_atlas.models.catalog import organism

    return weights.network(organism(model), _weights(model, kind), device)


def _size(tensors: Iterable["torch.Tensor"]) -> int:
    return sum(each.nbytes for each in tensors)


_weights = Kept(_load, lambda found: _size(found.tensors.values()), KEPT)
_network = Kept(_build, lambda found: _size((*found.parameters(), *found.buffers())), KEPT)
