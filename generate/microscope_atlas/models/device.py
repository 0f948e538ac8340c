"""Which device renders."""

import time
from functools import cache

import torch

from microscope_atlas.errors import UnknownName

SIDE, TIMES = 512, 5  # of matrices whose products are measured: rows and columns, and how often
SOONER = 0.9  # times the seconds of float32, from which another precision is worth it


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


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether products of matrices in bfloat16 are faster than in float32 there.

    True of CUDA devices since Ampere. Of processors with AVX-512 BF16 or AMX, if this torch tells of them, it is
    measured: one that has the first alone took 1.5 times as long as in float32.
    """
    if device.type == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    here: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.11 has none
    return bool(here.get("avx512_bf16") or here.get("amx_bf16")) and _measured_faster()


@cache
def _measured_faster() -> bool:
    """Whether a product of two matrices takes less time in bfloat16, on one thread of this processor."""
    return _seconds(torch.bfloat16) < SOONER * _seconds(torch.float32)


def _seconds(dtype: torch.dtype) -> float:
    """Of a product of two matrices; the least of several, on one thread."""
    matrix = torch.full((SIDE, SIDE), 0.5, dtype=dtype)
    threads, least = torch.get_num_threads(), float("inf")
    torch.set_num_threads(1)
    try:
        for _ in range(TIMES + 1):  # the first makes ready what the others use
            start = time.perf_counter()
            matrix @ matrix
            least = min(least, time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    return least


def named(name: str) -> torch.device:
    """A device that need not be here, as one of a cluster's machines; UnknownName for what is no name of one."""
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise UnknownName(f"device {name!r}; expected cpu, cuda or mps") from error
