"""Modules of a user's own, which `own:PACKAGE.MODULE.NAME` names; whatever goes wrong in them is told in a sentence."""

from importlib import import_module
from types import ModuleType

from microscope_atlas.errors import AtlasError


def imported(name: str, what: str, failed: type[AtlasError]) -> tuple[ModuleType, str]:
    """The module of `own:NAME`, and the last part of the name; `what` that part is, as a message names it: `LENS`.

    Raises `failed` where NAME is no such name, or the module cannot be imported, for whatever reason its code gives.
    """
    path, _, last = name.rpartition(".")
    expected = f"expected own:PACKAGE.MODULE.{what}"
    if name.startswith(".") or ".." in name or not last:
        raise failed(f"own:{name} has an empty part; {expected}")
    try:
        return import_module(path), last
    except AtlasError:
        raise
    except (ImportError, ValueError) as error:  # the latter: of an empty name
        raise failed(
            f"own:{name}: {path or 'its module'!r} cannot be imported: {error}; {expected}, "
            "installed, or found with PYTHONPATH=FOLDER"
        ) from error
    except (Exception, SystemExit) as error:  # whatever a user's code raises
        raise failed(f"own:{name}: importing {path} fails: {type(error).__name__}: {error}") from error
