"""The promises of a network that only its own code can break, tried once before any work is spent on it.

A unit's picture must not depend on its companions or on the day, and what is read from one picture must hold for all:
so the same pictures give the same answers, a picture's are its own, and the way from layer to layer is always the same.
"""

import torch
from torch import Tensor

from microscope_atlas.errors import NetworkFailed
from microscope_atlas.models.networks import autograd
from microscope_atlas.models.networks.traced import Traced
from microscope_atlas.models.networks.watch import Watch

SAME = 1e-5  # share of a layer's largest value, up to which two answers are the same but for rounding
OF_ANY_BATCH = 1e-3  # the same for batches of other lengths, whose kernels round in other ways


def refuse_broken_promises(network: Traced) -> None:
    """NetworkFailed, with the reason, where the module's own code breaks one. A few forward passes, on the CPU."""
    if training := [path or "itself" for path, each in network.module.named_modules() if each.training]:
        raise NetworkFailed(
            f"after eval() some of its modules are still training: {', '.join(training[:3])}; a unit's picture would "
            "depend on its companions"
        )
    stream = torch.Generator().manual_seed(0)
    first, second, third = torch.rand(3, network.channels, network.input_size, network.input_size, generator=stream)
    pair = torch.stack([first, second])
    with Watch(network.module) as watch:
        answers = network.look(pair)
    if watch.dropouts:
        where = watch.dropouts[0] or "its forward pass"
        raise NetworkFailed(f"dropout is on in {where}; expected F.dropout(..., training=self.training)")
    if name := _unlike(answers, network.look(pair), slice(None), SAME):
        raise NetworkFailed(f"{name} answers otherwise when it is shown the same pictures again: nothing may be random")
    if name := _unlike(answers, network.look(torch.stack([first, third])), slice(1), SAME):
        raise NetworkFailed(f"{name} mixes the pictures of a batch: the answer to one depends on the other")
    if name := _unlike(answers, network.look(torch.stack([first, second, third])), slice(2), OF_ANY_BATCH):
        raise NetworkFailed(f"{name} answers otherwise in a batch of three than in one of two")
    ways = _ways(answers)
    for what, pictures in (("black", network.black()), ("white", torch.ones_like(pair))):
        _refuse_other_ways(ways, _ways(network.look(pictures)), what)


def _unlike(answers: dict[str, Tensor], others: dict[str, Tensor], of: slice, most: float) -> str | None:
    """The first layer whose answers to the pictures `of` differ, by more than a share of its largest."""
    for name, answer in answers.items():
        if name not in others:
            return name
        one, other = answer.detach()[of], others[name].detach()[of]
        if one.shape != other.shape:
            continue  # its batch is not of pictures, so it is not shown
        largest = float(one.abs().nan_to_num().max()) if one.numel() else 0.0
        if not torch.allclose(one, other, rtol=0.0, atol=most * largest, equal_nan=True):
            return name
    return None


def _ways(found: dict[str, Tensor]) -> list[str]:
    """The steps that autograd recorded, in order."""
    return [step.name() for step in autograd.steps(found.values())]


def _refuse_other_ways(ways: list[str], other: list[str], what: str) -> None:
    if ways == other:
        return
    at = next((at for at, (a, b) in enumerate(zip(ways, other, strict=False)) if a != b), min(len(ways), len(other)))
    steps = [way[at] if at < len(way) else "nothing" for way in (ways, other)]
    raise NetworkFailed(
        f"its forward pass goes other ways for other pictures: at step {at + 1} of noise {steps[0]}, of {what} ones "
        f"{steps[1]}; expected the same steps for all"
    )
