"""A user's module as it is watched and run here: out of its wrappers, in float32, its lazy parts made.

Its attention is explicit, see attention.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin

from microscope_atlas.errors import NetworkFailed, first_line
from microscope_atlas.models.networks.attention import make_explicit


def plain(module: nn.Module) -> nn.Module:
    """The module without what runs it in another way: torch.compile, DataParallel.

    So its modules have the names, and its forward pass the steps, of its own code. It is changed in place: half and
    bfloat16 weights become float32, which holds the same values.
    """
    refuse_opaque(module)
    module = _unwrapped(module)
    for each in list(module.modules()):
        for name, child in list(each._modules.items()):
            if child is not None:
                each._modules[name] = _unwrapped(child)
    make_explicit(module)
    for each in module.modules():
        each._compiled_call_impl = None  # of nn.Module.compile
    return module if is_lazy(module) else module.float()


@contextmanager
def plainly(device: str) -> Iterator[None]:
    """In float32 and with gradients, whatever context this is in: what is found out must not depend on that."""
    precise = nullcontext() if device == "meta" else torch.autocast(device, enabled=False)
    with torch.inference_mode(False), torch.enable_grad(), precise:
        yield


def refuse_opaque(module: nn.Module) -> None:
    """NetworkFailed where a module's own parts cannot be watched: TorchScript, exported and quantised programs."""
    if isinstance(module, torch.jit.ScriptModule):
        raise NetworkFailed(
            f"{_kind(module)} is TorchScript, whose parts no hook can watch; give the module that it was made from"
        )
    try:
        module.eval()
    except NotImplementedError as error:
        raise NetworkFailed(
            f"{_kind(module)} refuses eval() ({first_line(error)}): an exported program; give the module that it was "
            "made from"
        ) from error


def is_lazy(module: nn.Module) -> bool:
    """Whether parts of it get their shapes from the first picture."""
    return any(isinstance(each, LazyModuleMixin) for each in module.modules())


def _unwrapped(module: nn.Module) -> nn.Module:
    while True:
        if "_orig_mod" in module._modules:  # torch.compile's; its class is costly to import
            inner = module._modules["_orig_mod"]
        elif isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = module.module
        else:
            return module
        assert isinstance(inner, nn.Module)
        module = inner


def _kind(module: nn.Module) -> str:
    return type(module).__name__
