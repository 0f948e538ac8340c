"""timm's networks: `timm:resnet50.a1_in1k`, or with its default weights `timm:resnet50`.

Layers are all convolutions and dense layers. The library is imported only when such a network is asked for.
"""

from functools import cache, partial
from types import ModuleType

from torch import Tensor

from microscope_atlas.atlas.classes import imagenet
from microscope_atlas.errors import NetworkFailed, WeightsError, unknown
from microscope_atlas.models.adapters import torchvision
from microscope_atlas.models.networks.traced import Traced
from microscope_atlas.models.organism import UNSTATED, Library, Organism


def organism(name: str) -> Organism:
    """The organism `timm:NAME`; NetworkFailed without the library, UnknownName without such a network."""
    library = imported()
    architecture, _, tag = name.partition(".")
    if not library.is_model(architecture):
        raise unknown("model", architecture, "timm", library.list_models())
    known = library.list_pretrained(f"{architecture}.*")
    if tag and name not in known:
        raise unknown("weights", name, "timm", known or [architecture])
    config = library.get_pretrained_cfg(name)
    channels, _, size = config.input_size
    label = f"{architecture}.{config.tag}" if config.tag else architecture

    def build() -> Traced:
        with torchvision.built(f"timm:{name}"):
            module = library.create_model(name, pretrained=False)
        return Traced(module, config.mean, config.std, size, channels=channels)

    return Organism(
        name=f"timm:{name}",
        title=f"{label} (timm)",
        paper=None,
        year=None,
        dataset="ImageNet" if config.num_classes == 1000 else UNSTATED,
        input_size=size,
        build=build,
        legacy_ops={},
        sources=(
            Library(
                where=f"timm {library.__version__}: {label}",
                load=partial(_load, library, name),
                license=config.license or UNSTATED,
            ),
        ),
        name_classes=imagenet if config.num_classes == 1000 else None,
        channels=channels,
    )


@cache
def imported() -> ModuleType:
    """timm, or NetworkFailed with the command that installs it."""
    torchvision.imported()  # which timm imports, and cannot by itself beside a PyTorch without CUDA
    try:
        import timm
    except ImportError as error:
        raise NetworkFailed(f"timm cannot be imported ({error}); pip install 'microscope-atlas[timm]'") from error
    library: ModuleType = timm
    return library


def _load(library: ModuleType, name: str) -> dict[str, Tensor]:
    try:
        trained = library.create_model(name, pretrained=True)
    except (OSError, RuntimeError) as error:
        raise WeightsError(f"timm's {name}: {error}") from error
    return {key: value.clone() for key, value in trained.state_dict().items()}
