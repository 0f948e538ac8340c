"""Caricatures of a visitor's picture, rendered as they are watched.

One is rendered at a time, in a thread of its own, so that pages are answered meanwhile; who is next, the caller says.
"""

import hashlib
import importlib
import json
import math
import os
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache, partial
from threading import get_native_id
from typing import get_args

import torch
from PIL import Image
from torch import Tensor

from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.errors import UnknownName, unknown
from microscope_atlas.keys import Key
from microscope_atlas.lenses import caricature
from microscope_atlas.lenses.caricature import RECIPES, Recipe
from microscope_atlas.lenses.frames import flags, pixels, square
from microscope_atlas.lenses.geometry import layer_size
from microscope_atlas.lenses.lens import seed
from microscope_atlas.lenses.recipe import Quality, settings
from microscope_atlas.models.networks.network import Network
from microscope_atlas.models.weights import WeightsKind
from microscope_atlas.pictures.sources import source
from microscope_atlas.rendering import objectives
from microscope_atlas.rendering.ascend import Frame as Canvases
from microscope_atlas.rendering.ascend import canvas_size
from microscope_atlas.rendering.views import centre
from microscope_atlas.run.shard import device_name, software
from microscope_space.live import networks
from microscope_space.live.drawing import MAX_LAYERS, QUALITIES, Frame, Pixels, zero_gpu

FRAMES = 16  # of a caricature: each costs a quarter of a step
MOST_STEPS = 8  # between two frames, so that leaving is noticed soon
GPU_SECONDS = 15  # that ZeroGPU lends; an anonymous visitor has about two minutes a day
NICE = 10  # of the thread that renders: on busy cores pages come first
BUDGET_SECONDS = {"cpu": 60.0, "cuda": 12.0}  # then what there is is the result; of what ZeroGPU lends, less its start


def device() -> torch.device:
    """Where caricatures are rendered: a GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def frames(
    atlas: Atlas, picture: Image.Image | str, model: str, layers: Sequence[str], quality: str = "draft"
) -> Generator[Frame, None, None]:
    """Caricatures of a picture, or of one of the package's by its name, at layers of a model of the atlas.

    Frames come as they are made; the last one says how. Closing the generator ends the work. UnknownName for a name or
    a number of layers that cannot be, WeightsError where the network cannot be had: both before any work.
    """
    job = _job(atlas, picture, model, layers, quality, device())
    yield from zero_gpu_render()(job) if zero_gpu() else _in_a_thread(partial(_render, job))


@dataclass(frozen=True)
class Job:
    """What is to be made; plain values, so that it can be sent to another process."""

    atlas: str  # its revision
    model: str
    weights: WeightsKind
    weights_sha256: str
    layers: tuple[str, ...]
    picture: Pixels  # (canvas, canvas, 3)
    about: dict[str, str]  # the picture: its name, or its sha256
    seeds: tuple[int, ...]
    recipe: Recipe
    size: int  # px on a side
    device: str


def _job(
    atlas: Atlas,
    picture: Image.Image | str,
    model: str,
    layers: Sequence[str],
    quality: str,
    device: torch.device,
) -> Job:
    organism, there = networks.runnable(atlas, model), atlas.layers(model)
    for layer in layers:
        if layer not in there:
            raise unknown("layer", layer, f"this atlas' {model}", there)
    if not 1 <= len(set(layers)) == len(layers) <= MAX_LAYERS:
        raise UnknownName(f"{len(layers)} layers are asked for; choose 1 to {MAX_LAYERS}, each once")
    if quality not in QUALITIES:
        raise unknown("quality", quality, "what is rendered live", QUALITIES)
    kind = networks.weights_kind(atlas, model)
    sha256 = atlas.manifest.models[model]["weights_sha256"]
    known = [each for each in get_args(Quality) if each == quality]
    recipe = replace(RECIPES[known[0]], sources=(), batch=len(layers), robust_views=0)
    # one size for all: where a layer has no size of its own, its network's input is the size for them all
    size = max(layer_size(organism.layer(layer), organism.input_size, recipe.max_size) for layer in layers)
    canvas = pixels(
        square(source(picture) if isinstance(picture, str) else picture, canvas_size(recipe.ascent, size))
    ).numpy()
    about = {"source": picture} if isinstance(picture, str) else {"picture_sha256": _sha256(canvas)}
    # of the package's pictures, the atlas' own seeds
    seeds = tuple(seed(Key(model, layer), caricature.Caricature.table.name, *about.values()) for layer in layers)
    return Job(atlas.revision, model, kind, sha256, tuple(layers), canvas, about, seeds, recipe, size, str(device))


def _sha256(picture: Pixels) -> str:
    return hashlib.sha256(picture.tobytes()).hexdigest()


def _render(job: Job) -> Generator[Frame, None, None]:
    """The work itself."""
    where = torch.device(job.device)
    network = networks.network(job.model, job.weights, where)
    count, steps = len(job.layers), job.recipe.ascent.steps
    pictures = (torch.tensor(job.picture).permute(2, 0, 1) / 255).expand(count, -1, -1, -1).to(where)
    budget = BUDGET_SECONDS[where.type]
    started = time.monotonic()
    first: tuple[int, float] | None = None
    # alone where it is alone: the copy that keeps an atlas' rows from depending on one another would double the time
    begun = partial(
        caricature.caricatures, network, pictures, job.layers, job.seeds, job.recipe, job.size, min_batch=count
    )
    every = min(MOST_STEPS, max(1, steps // FRAMES))
    for canvases in _soon(begun, every):
        seconds = time.monotonic() - started
        pace = seconds / canvases.step if first is None else (seconds - first[1]) / (canvases.step - first[0])
        first = first or (canvases.step, seconds)  # which took longer than those that follow
        last = canvases.step == steps or seconds + pace * MOST_STEPS > budget
        yield Frame(
            tuple(pixels(each).numpy() for each in canvases.pictures.nan_to_num()),
            tuple(canvases.scores.tolist()),
            canvases.step,
            steps,
            seconds,
            seconds_left=0.0 if last else pace * (steps - canvases.step),
            made=_made(job, network, pictures, canvases, seconds) if last else (),
        )
        if last:
            return


def _soon(begun: Callable[..., Generator[Canvases, None, None]], every: int) -> Generator[Canvases, None, None]:
    """A frame after the first step, and then each `every` steps: begun twice, so that no later one costs more."""
    if every > 1:
        with closing(begun(every=1)) as look:
            yield next(look)
    yield from begun(every=every)


def _made(job: Job, network: Network, pictures: Tensor, canvases: Canvases, seconds: float) -> tuple[str, ...]:
    """How each caricature was made, as JSON: what the rows of an atlas say, and what is particular to it."""
    with torch.no_grad():
        acts, others = (
            network(shown.contiguous(memory_format=torch.channels_last), job.layers)
            for shown in (canvases.pictures, centre(pictures, job.size))
        )
    return tuple(
        json.dumps(
            {
                "model": job.model,
                "layer": layer,
                **job.about,
                "score": finite(canvases.scores[i].item()),
                "cosine": finite(objectives.cosine(acts[i][i], others[i][i]).item()),
                "flag": flag,
                "seed": job.seeds[i],
                "recipe": {**settings(job.recipe), "size": job.size, "canvas_size": pictures.shape[-1]},
                "steps": canvases.step,  # fewer than the recipe's where time was out
                "seconds": round(seconds, 2),
                "weights_sha256": job.weights_sha256,
                "software": software(),
                "device": device_name(torch.device(job.device)),
                "atlas": job.atlas,
            }
        )
        for i, (layer, flag) in enumerate(zip(job.layers, flags(canvases, zero_is_dead=True), strict=True))
    )


def finite(value: float) -> float | None:
    """A number as JSON has it."""
    return value if math.isfinite(value) else None


# PyTorch keeps the number of threads and whether gradients flow by thread, and a server continues a generator on any
# of its own; so all work is done on this one. With two, threads of a process on a busy machine wait for one another:
# 4 steps on EfficientNet-Lite0 took 0.3 s with one and 1 to 7 s with two.
def _in_the_background() -> None:
    """Settings of the thread that renders."""
    torch.set_num_threads(1)
    if sys.platform == "linux":  # where a thread has a priority of its own
        os.setpriority(os.PRIO_PROCESS, get_native_id(), NICE)


_WORKER = ThreadPoolExecutor(1, "caricature", initializer=_in_the_background)


def _in_a_thread(start: Callable[[], Generator[Frame, None, None]]) -> Generator[Frame, None, None]:
    """The same frames, made on the one thread that renders."""
    work = start()
    try:
        while (frame := _WORKER.submit(next, work, None).result()) is not None:
            yield frame
    finally:
        _WORKER.submit(work.close)  # in its turn, before whatever comes next; a server that cancels must not wait


@cache
def zero_gpu_render() -> Callable[..., Iterator[Frame]]:
    """`_render` in a process that has a GPU for `GPU_SECONDS`.

    ZeroGPU asks for it before the server is launched: a Space where nothing was decorated by then is given no GPU.
    """
    networks.forked()
    decorated: Callable[..., Iterator[Frame]] = importlib.import_module("spaces").GPU(duration=GPU_SECONDS)(_render)
    return decorated
