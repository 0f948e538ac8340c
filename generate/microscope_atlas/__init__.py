"""A microscope for vision networks: every unit, through every lens, in a dataset that can be cited."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from microscope_atlas.version import __version__ as __version__

if TYPE_CHECKING:
    from microscope_atlas.face.atlas import Atlas, Unit, open
    from microscope_atlas.face.attribution import attribute
    from microscope_atlas.face.networks import Net, caricature, load, visualize
    from microscope_atlas.face.objectives import Objective, channel, deepdream, direction, neuron
    from microscope_atlas.face.render import render
    from microscope_atlas.lenses.lens import Lens
    from microscope_atlas.lenses.recipe import Recipe
    from microscope_atlas.models.adapters.trained import Trained
    from microscope_atlas.rendering.attribution import Attribution

__all__ = [
    "Atlas",
    "Attribution",
    "Lens",
    "Net",
    "Objective",
    "Recipe",
    "Trained",
    "Unit",
    "attribute",
    "caricature",
    "channel",
    "deepdream",
    "direction",
    "load",
    "neuron",
    "open",
    "render",
    "visualize",
]

# where each public name lives; it is imported when it is first asked for
_HOMES = {
    **dict.fromkeys(("Atlas", "Unit", "open"), "microscope_atlas.face.atlas"),
    **dict.fromkeys(("Net", "caricature", "load", "visualize"), "microscope_atlas.face.networks"),
    **dict.fromkeys(("Objective", "channel", "deepdream", "direction", "neuron"), "microscope_atlas.face.objectives"),
    "attribute": "microscope_atlas.face.attribution",
    "Attribution": "microscope_atlas.rendering.attribution",
    "render": "microscope_atlas.face.render",
    "Lens": "microscope_atlas.lenses.lens",
    "Recipe": "microscope_atlas.lenses.recipe",
    "Trained": "microscope_atlas.models.adapters.trained",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
