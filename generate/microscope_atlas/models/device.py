"""Which device renders."""

import torch

from microscope_atlas.errors import UnknownName


def chosen(name: str | torch.device | None) -> torch.device:
    """The device `name`: `cpu`, `cuda`, `cuda:1`, `mps`; None: the best there is.

    UnknownName where it is not to be had.
    """
    best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if name is None:
        return torch.device(best)
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).tolist()  # on `meta` there are tensors, but nothing in them
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        raise UnknownName(f"device {str(name)!r} is not to be had here; the best there is: {best}") from error
    return device


def named(name: str) -> torch.device:
    """A device that need not be here, as one of a cluster's machines; UnknownName for what is no name of one."""
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise UnknownName(f"device {name!r}; expected cpu, cuda or mps") from error
