"""The loop: gradient ascent on a batch of pictures, each of which goes its own way.

A picture depends on its seed, its objective and the settings, and on nothing else in the batch: streams, views and
canvases are its own, and the networks that we render treat samples alone. On a CPU this holds bit for bit in a process
with one thread.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from microscope_atlas.rendering.canvas import CanvasMaker, Fourier
from microscope_atlas.rendering.convolutions import Convolutions, FastConvolutions
from microscope_atlas.rendering.relu import RedirectedReLU
from microscope_atlas.rendering.replay import Replay
from microscope_atlas.rendering.views import Views, at_step, centre, draw_views, margin, sample_views
from microscope_atlas.structure import Absent, Count, above, at_least, between

Precision = Literal["float32", "bfloat16"]
Beta = Annotated[float, between(0, 0.9999)]


@dataclass(frozen=True)
class Ascent:
    """Settings of the loop."""

    steps: Count
    learning_rate: Annotated[float, above(0)] = 0.05  # Adam's, at the first step; Lucid's recipes
    last_learning_rate: Annotated[float, above(0)] | None = None  # at the last, straight between; None: as the first
    beta1: Beta = 0.9  # Adam's: how much of the mean gradient a step keeps
    beta2: Beta = 0.999  # and of the mean square
    spectrum_std: Annotated[float, above(0)] = 0.01  # of the spectra to start from; Lucid's param/spatial.py
    redirect_steps: Annotated[int, at_least(0)] = 16
    # how long dead rectifiers let the gradient through; Lucid's redirected_relu_grad.py
    views: Views = field(default_factory=Views)
    precision: Precision = "float32"  # of the network's matrix products, while pictures are made
    convolutions: Annotated[Convolutions, Absent("direct")] = "fast"
    # how the network's are computed meanwhile, on a CPU and in float32; see convolutions


# What lenses ascend with: a rate that is high at first, covers the way and then settles, of steps that keep little of
# those before them, whose views were others. By benchmarks/quality.py; docs/decisions.md has the numbers
SETTLING = Ascent(steps=64, learning_rate=0.14, last_learning_rate=0.03, beta1=0.2, beta2=0.9)
SETTLING_LONGER = replace(SETTLING, steps=224, learning_rate=0.1, last_learning_rate=0.02)


@dataclass(frozen=True)
class Frame:
    """The pictures after some steps."""

    step: int
    pictures: Tensor  # (batch, channels, size, size) in [0, 1]: grey, RGB, or RGB and opacity
    scores: Tensor  # (batch,): the objective on exactly these pictures
    opacity: Tensor | None = None  # (batch, size, size) in [0, 1]; None on canvases that have none
    robust: Tensor | None = (
        None  # (batch,): the mean objective on random views of these; None where none were asked for
    )


def ascend(
    activations: Callable[[Tensor], Tensor] | Callable[[Tensor], list[Tensor]],
    objective: Callable[..., Tensor],
    seeds: Sequence[int],
    settings: Ascent,
    size: int,
    device: torch.device,
    score: Callable[..., Tensor] | None = None,
    min_batch: int = 2,
    every: int | None = None,
    make_canvas: CanvasMaker | None = None,
    references: Tensor | None = None,
    robust_views: int = 0,
) -> Iterator[Frame]:
    """Pictures of `size` px on a side that score high, one for each seed.

    `activations` maps the canvas' pictures, (batch, channels, size, size) in [0, 1], to what `objective` reads: of a
    canvas that shows several views of each picture, those of one picture in a row. Yields a frame after each `every`
    steps, if given, and always the last one; asking for frames changes nothing else. A frame's scores are `score`'s,
    which is the objective unless another is given, and the network's in float32, whatever the precision of the ascent.
    The canvas is Fourier, in RGB, unless `make_canvas` makes another.

    `references` are pictures to compare with, as large as the canvas, (batch, 3, side, side): see `canvas_size`. At
    each step they are shown in the views of the canvases, and what the network makes of them is the objective's second
    argument; no gradient flows there. With them, `activations` may also give a list with a tensor of its own shape for
    each picture.

    With `robust_views` the last frame says, too, what the pictures score on average in so many random views of the
    settings' kind. A picture can be fitted to the one way in which it is looked at; then this is far below its score.

    Fewer than `min_batch` pictures are joined by copies that nobody looks at: with a batch of one, convolutions take
    another kernel, which rounds differently, and on accelerators any other size may. On a CPU the last canvas is always
    a copy, if need be one that the network is not shown: where a tensor does not fill the processor's vectors, its last
    few numbers are computed by other code, of Adam, of complex products, of the sigmoid, and rounded differently.
    """
    count, joined = len(seeds), max(len(seeds), min_batch)
    spare = int(device.type == "cpu" and joined == count)
    streams = [torch.Generator().manual_seed(seeds[i % count]) for i in range(joined + spare)]
    make_canvas = make_canvas or partial(Fourier, std=settings.spectrum_std, views=settings.views)
    canvas = make_canvas(streams, settings.steps, size, device)
    others = () if references is None else (references[torch.arange(len(streams)) % count].to(device),)
    on_cuda = device.type == "cuda"
    rates = torch.tensor(learning_rates(settings), device=device)
    adam = torch.optim.Adam(
        [canvas.parameters],
        lr=rates[0].clone() if on_cuda else settings.learning_rate,
        betas=(float(settings.beta1), float(settings.beta2)),
        fused=device.type != "mps",
        capturable=on_cuda,
    )
    step = torch.zeros((), dtype=torch.int64, device=device)

    def seen(shown: Tensor, precision: Precision) -> Any:
        each = len(shown) // len(streams)  # views of a picture
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            shown = shown[: joined * each].contiguous(memory_format=torch.channels_last)
            acts = activations(shown)[: count * each]
        return acts.float() if isinstance(acts, Tensor) else [each.float() for each in acts]

    def judged(by: Callable[..., Tensor], precision: Precision, shown: Tensor, *compared: Tensor) -> Tensor:
        with torch.no_grad():
            others = [seen(other, precision) for other in compared]
        return by(seen(shown, precision), *others)

    def robust(pictures: Tensor, compared: Sequence[Tensor]) -> Tensor:
        drawn = [torch.Generator().manual_seed(seeds[i % count]) for i in range(len(streams))]
        each_view = draw_views(drawn, robust_views, settings.views).to(device)
        scores = [
            judged(score or objective, "float32", *(sample_views(each, view, size) for each in (pictures, *compared)))
            for view in each_view
        ]
        return reduce(torch.add, scores) / robust_views  # one by one: `mean` adds up in an order that the batch changes

    def set_rate() -> None:
        (group,) = adam.param_groups
        if on_cuda:  # a recorded step must read it from the device
            group["lr"].copy_(at_step(rates, step))
        else:
            group["lr"] = float(at_step(rates, step))

    def climb() -> None:
        adam.zero_grad()
        shown, penalty = canvas.views(step)
        scores = judged(objective, settings.precision, shown, *(canvas.apply_views(other, step) for other in others))
        loss = -(scores - penalty[: len(scores)] * scores.clamp(min=0)).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        if settings.last_learning_rate is not None:
            set_rate()
        adam.step()
        step.add_(1)

    advance = Replay(climb, settings.redirect_steps, canvas.streams) if on_cuda else climb
    fast = FastConvolutions() if settings.convolutions == "fast" and device.type == "cpu" else nullcontext()
    for done in range(1, settings.steps + 1):
        with fast, RedirectedReLU() if done <= settings.redirect_steps else nullcontext():
            advance()
        if done == settings.steps or (every and done % every == 0):
            with torch.no_grad():
                pictures, opacity = canvas.pictures(), canvas.opacity()
                compared = [centre(other, size) for other in others]
                scores = judged(score or objective, "float32", pictures, *compared)
                in_views = robust(pictures, compared) if robust_views and done == settings.steps else None
            yield Frame(done, pictures[:count], scores, None if opacity is None else opacity[:count], in_views)


def learning_rates(settings: Ascent) -> list[float]:
    """Adam's learning rate at each step: from the first one straight to the last."""
    first, last = settings.learning_rate, settings.last_learning_rate or settings.learning_rate
    return [first + (last - first) * step / max(settings.steps - 1, 1) for step in range(settings.steps)]


def canvas_size(settings: Ascent, size: int) -> int:
    """Pixels on a side of the Fourier canvas behind pictures of `size` px: with the margin that views reach into."""
    return size + 2 * margin(settings.views, size)
