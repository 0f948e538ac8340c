"""Networks of a user's own: `own:mypackage.mymodule.function` is what that function returns.

    # mypackage/mymodule.py
    from microscope_atlas import Trained

    def network() -> Trained:
        module = MyNetwork()
        module.load_state_dict(torch.load("mine.pt"))
        return Trained(module, input_size=64, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))

    PYTHONPATH=. microscope-atlas render atlas --model own:mypackage.mymodule.network

`--weights random` keeps the architecture and leaves the trained weights aside. The weights are not cached: the function
says each time what they are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module

import torch
from torch import nn

from microscope_atlas.errors import NetworkFailed, unknown
from microscope_atlas.models.networks.traced import Traced
from microscope_atlas.models.organism import UNSTATED, Library, Organism


@dataclass(frozen=True)
class Trained:
    """A trained module, and what its pictures have to be."""

    module: nn.Module  # reads (batch, 3, height, width)
    input_size: int  # px on a side
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)  # taken from RGB in [0, 1]
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)  # what the rest is divided by
    layers: Sequence[str] = ()  # paths of modules, as `features.3`; none: all convolutions and dense layers
    title: str | None = None
    dataset: str = UNSTATED  # what it was trained on
    license: str = UNSTATED  # of the weights
    classes: tuple[str, ...] | None = None  # names of its logits, in their order


def organism(name: str) -> Organism:
    """The organism `own:NAME`; NetworkFailed or UnknownName where NAME is no function that returns a Trained."""
    function = _function(name)
    trained = _call(function, name)
    classes = trained.classes

    def build() -> Traced:
        with torch.device("cpu"):
            given = _call(function, name)
            return Traced(given.module, given.mean, given.std, given.input_size, given.layers)

    return Organism(
        name=f"own:{name}",
        title=trained.title or name,
        paper=None,
        year=None,
        dataset=trained.dataset,
        input_size=trained.input_size,
        build=build,
        legacy_ops={},
        sources=(Library(f"own:{name}", lambda: build().state_dict(), trained.license, lasting=False),),
        name_classes=(lambda: classes) if classes else None,
    )


def _function(name: str) -> Callable[[], object]:
    path, _, last = name.rpartition(".")
    try:
        module = import_module(path)
    except (ImportError, ValueError) as error:
        raise NetworkFailed(
            f"own:{name}: {path or 'its module'!r} cannot be imported: {error}; expected own:PACKAGE.MODULE.FUNCTION, "
            "installed, or found with PYTHONPATH=FOLDER"
        ) from error
    found = getattr(module, last, None)
    if not callable(found):
        raise unknown("function", last, path, [key for key, value in vars(module).items() if callable(value)])
    function: Callable[[], object] = found
    return function


def _call(function: Callable[[], object], name: str) -> Trained:
    trained = function()
    if not isinstance(trained, Trained):
        raise NetworkFailed(f"own:{name} returns {type(trained).__name__}, expected a microscope_atlas.Trained")
    return trained
