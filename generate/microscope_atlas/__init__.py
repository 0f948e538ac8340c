"""A microscope for vision networks: every unit, through every lens, in a dataset that can be cited."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from microscope_atlas.face.atlas import Atlas, Unit, open
    from microscope_atlas.models.adapters.trained import Trained

__all__ = ["Atlas", "Trained", "Unit", "open"]

# where each public name lives; it is imported when it is first asked for
_HOMES = {
    **dict.fromkeys(("Atlas", "Unit", "open"), "microscope_atlas.face.atlas"),
    "Trained": "microscope_atlas.models.adapters.trained",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
