"""Networks of a user's own: `own:mypackage.mymodule.function` is what that function returns.

    # mypackage/mymodule.py
    from microscope_atlas import Trained

    def network() -> Trained:
        module = MyNetwork()
        module.load_state_dict(torch.load("mine.pt"))
        return Trained(module, input_size=64, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))

    PYTHONPATH=. microscope-atlas render atlas --model own:mypackage.mymodule.network

Before anything is rendered the network is run a few times, and what would go wrong later is said at once: see
networks.dry_run. `--weights random` keeps the architecture and leaves the trained weights aside. The weights are not
cached: the function says each time what they are.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from microscope_atlas.errors import InvalidKey, NetworkFailed, UnknownName, WeightsError, unknown
from microscope_atlas.keys import MAX_LENGTH, MODEL
from microscope_atlas.models import converted
from microscope_atlas.models.adapters.imported import imported
from microscope_atlas.models.adapters.trained import Trained
from microscope_atlas.models.networks.dry_run import refuse_broken_promises
from microscope_atlas.models.networks.traced import Traced
from microscope_atlas.models.organism import Library, Organism, Structure, structure

MAX_NAME = 200  # characters of a model's or a layer's name: file systems take 255, and files add to it


def organism(name: str) -> Organism:
    """The organism `own:NAME`; NetworkFailed or UnknownName where NAME is no function that returns a Trained.

    The network is run: NetworkFailed, too, with the reason, where it cannot be shown as it is.
    """
    _refuse_name(name)
    function = _function(name)
    return organism_of(name, lambda: _call(function, name))


def organism_of(name: str, make: Callable[[], Trained]) -> Organism:
    """The organism `own:NAME` of what `make` gives, which is called each time that the network is built."""
    trained = make()
    try:
        network = _traced(trained)
        known = _examined(network, trained, name)
    except (NetworkFailed, UnknownName) as error:
        raise type(error)(f"own:{name}: {error}") from error
    identity = _identity(network)

    def build() -> Traced:
        with torch.device("cpu"):
            return _traced(make())

    def load() -> dict[str, Tensor]:
        again = _traced(make())
        if _identity(again) != identity:
            raise WeightsError(
                f"own:{name} returned other weights when it was called again; load trained ones, or seed them"
            )
        return again.state_dict()

    classes = trained.classes
    return Organism(
        name=f"own:{name}",
        title=trained.title or name,
        paper=None,
        year=None,
        dataset=trained.dataset,
        input_size=trained.input_size,
        build=build,
        legacy_ops={},
        sources=(Library(f"own:{name}", load, trained.license, lasting=False),),
        name_classes=(lambda: tuple(classes)) if classes else None,
        channels=trained.channels,
        known=known,
    )


def _traced(trained: Trained) -> Traced:
    return Traced(trained.module, trained.mean, trained.std, trained.input_size, trained.layers, trained.channels)


def _examined(network: Traced, trained: Trained, name: str) -> Structure:
    """The network's structure, its promises tried; NetworkFailed with the reason where it cannot be shown."""
    known = structure(network, trained.input_size, {})
    refuse_broken_promises(network)
    for layer in known.layers.values():
        if len(layer.name) > MAX_NAME or len(f"own:{name}/{layer.name}/{layer.units}") > MAX_LENGTH:
            raise NetworkFailed(
                f"layer {layer.name[:40]}... has a name of {len(layer.name)} characters; file systems and keys take "
                f"{MAX_NAME}, with the model's {MAX_LENGTH} together"
            )
    units = [layer.units for layer in known.layers.values() if layer.kind == "dense" and not layer.named_only]
    if trained.classes and len(trained.classes) not in units:
        has = f"the last dense layer has {units[-1]} units" if units else "no dense layer is shown"
        raise NetworkFailed(f"{len(trained.classes)} classes are named, but {has}; expected a name for each logit")
    return known


def _identity(network: Traced) -> str:
    """What tells its weights from others."""
    return converted.identity({name: value.float() for name, value in converted.expected(network).items()})


def _refuse_name(name: str) -> None:
    if not MODEL.fullmatch(f"own:{name}") or len(name) > MAX_NAME:
        raise InvalidKey(
            f"own:{name[:60]} names no function; expected own:PACKAGE.MODULE.FUNCTION, of letters A to Z, digits and "
            f"_, up to {MAX_NAME} characters"
        )


def _function(name: str) -> Callable[[], object]:
    try:
        module, last = imported(name, "FUNCTION", NetworkFailed)
    except NetworkFailed as error:
        if told := _moved(name, error.__cause__):
            raise NetworkFailed(told) from error
        raise
    found = getattr(module, last, None)
    if not callable(found):
        raise unknown(
            "function", last, module.__name__, [key for key, value in vars(module).items() if callable(value)]
        )
    function: Callable[[], object] = found
    return function


def _call(function: Callable[[], object], name: str) -> Trained:
    try:
        with torch.device("cpu"):
            trained = function()
    except NetworkFailed as error:
        raise NetworkFailed(f"own:{name}: {error}") from error
    except (Exception, SystemExit) as error:  # whatever a user's code raises
        raise NetworkFailed(
            _moved(name, error) or f"own:{name}: the function fails: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(trained, Trained):
        raise NetworkFailed(f"own:{name} returns {type(trained).__name__}, expected a microscope_atlas.Trained")
    return trained


def _moved(name: str, error: BaseException | None) -> str | None:
    """What to write where version 0.1 had `from generate.models.own import Trained`."""
    missing = getattr(error, "name", None) or ""
    if isinstance(error, ImportError) and missing.partition(".")[0] == "generate":
        return f"own:{name}: {missing} is version 0.1's; write: from microscope_atlas import Trained"
    return None
