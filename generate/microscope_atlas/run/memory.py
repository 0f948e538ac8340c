"""Running out of memory: what it looks like, and recipes that need less of it."""

import ctypes
import gc
from contextlib import suppress

import torch

from microscope_atlas.lenses.recipe import R, Recipe

# In the words of a RuntimeError, which is all that allocators without an exception of their own raise
ALLOCATORS = (
    "DefaultCPUAllocator",  # c10/core/impl/alloc_cpu.cpp
    "Cannot allocate memory",  # ENOMEM, of what maps files
    "could not create a primitive",  # oneDNN's word for whatever it lacks, which is memory where it has worked before
    "MPS backend out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


def ran_out(error: Exception) -> bool:
    """Whether an error says that there is no memory left, of the machine or of an accelerator."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in ALLOCATORS)


def capped(recipe: R, batch: int | None) -> R:
    """The recipe with no more than `batch` pictures at once; as it is where it has no batch, or None is given."""
    own = recipe.max_batch
    return recipe if own is None or batch is None else recipe.with_batch(min(own, batch))


def halved_batch(recipe: Recipe, device: torch.device) -> int | None:
    """Half a recipe's batch; None where there is nothing to halve.

    On a CPU the least is two: one picture is joined by its copy, see Subject.least.
    """
    least = 2 if device.type == "cpu" else 1
    own = recipe.max_batch or least
    return max(least, own // 2) if own > least else None


def free_cached_memory(device: torch.device) -> None:
    """Give back what is held for nobody, so that another attempt has all the memory there is."""
    gc.collect()
    if device.type == "cpu":
        with suppress(OSError, AttributeError):  # a C library other than glibc
            ctypes.CDLL(None).malloc_trim(0)
    elif device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
