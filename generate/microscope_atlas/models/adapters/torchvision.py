"""torchvision's classification networks: `torchvision:resnet50`, or with its weights named
`torchvision:resnet50.IMAGENET1K_V1`.

Layers are all convolutions and dense layers. The library is imported only when such a network is asked for.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from microscope_atlas.errors import NetworkFailed, WeightsError, first_line, unknown
from microscope_atlas.models.networks.traced import Traced
from microscope_atlas.models.organism import UNSTATED, Library, Organism

# What the builders do differently when they are given weights
WITH_WEIGHTS = {"googlenet": {"transform_input": True, "init_weights": False}}
WITH_WEIGHTS["inception_v3"] = WITH_WEIGHTS["googlenet"]


def organism(name: str) -> Organism:
    """The organism `torchvision:NAME`; NetworkFailed without the library, UnknownName without such a network."""
    library = imported()
    models = library.models
    architecture, _, tag = name.partition(".")
    if architecture not in (known := models.list_models(module=models)):
        raise unknown("model", architecture, "torchvision", known)
    choices = models.get_model_weights(architecture)
    if tag and tag not in choices.__members__:
        raise unknown("weights", tag, f"torchvision's {architecture}", choices.__members__)
    weights = choices[tag or "DEFAULT"]
    preset = weights.transforms()
    (size,) = preset.crop_size
    options: dict[str, Any] = {"image_size": size} if architecture.startswith("vit_") else {}

    def build() -> Traced:
        with built(f"torchvision:{name}"):
            module = models.get_model(architecture, weights=None, **options, **WITH_WEIGHTS.get(architecture, {}))
        return Traced(module, preset.mean, preset.std, size)

    return Organism(
        name=f"torchvision:{name}",
        title=f"{architecture} (torchvision, {weights.name})",
        paper=None,
        year=None,
        dataset="ImageNet",
        input_size=size,
        build=build,
        legacy_ops={},
        sources=(
            Library(
                where=f"torchvision {library.__version__}: {weights}",
                load=partial(_load, weights, build),
                license=weights.meta.get("license", UNSTATED),
            ),
        ),
        name_classes=lambda: tuple(weights.meta["categories"]),
    )


@cache
def imported() -> ModuleType:
    """torchvision, or NetworkFailed with the command that installs it.

    Its wheel on PyPI is built for CUDA. Beside a PyTorch without, its operators do not load and the import stops at two
    that it expects; declaring these is all that its networks need.
    """
    try:
        import torchvision
    except ImportError as error:
        raise NetworkFailed(
            f"torchvision cannot be imported ({error}); pip install 'microscope-atlas[torchvision]'"
        ) from error
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        _declare_operators()
        import torchvision
    library: ModuleType = torchvision
    return library


@cache  # declarations last as long as their library is kept
def _declare_operators() -> torch.library.Library:
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for operator in ("nms", "qnms"):
        library.define(  # type: ignore[no-untyped-call]
            f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        )
    return library


@contextmanager
def built(name: str) -> Iterator[None]:
    """NetworkFailed, with what it says, where a library cannot build a network; on the meta device not all can be."""
    try:
        yield
    except Exception as error:  # whatever a library raises
        said = first_line(error)
        raise NetworkFailed(f"{name} cannot be built: {type(error).__name__}: {said}") from error


def _load(weights: Any, build: Callable[[], Traced]) -> dict[str, Tensor]:
    """The trained tensors, under the names of the network as it is built here: the file's may be older."""
    try:
        state = weights.get_state_dict(check_hash=True)
    except (OSError, RuntimeError) as error:
        raise WeightsError(f"{weights.url}: {error}") from error
    module = build().module
    try:
        module.load_state_dict(state)
    except (RuntimeError, ValueError) as error:
        raise WeightsError(f"{weights.url} does not fit: {error}") from error
    return dict(module.state_dict())
