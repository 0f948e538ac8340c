"""Networks to look into from Python: load one, visualize what its units see, caricature a picture."""

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Literal

import torch
from PIL import Image

from microscope_atlas.atlas.organisms import Layer
from microscope_atlas.errors import PicturesFailed, UnknownName
from microscope_atlas.face.given import names, number, whole
from microscope_atlas.face.objectives import Objective, channel, scored
from microscope_atlas.keys import Key
from microscope_atlas.lenses import caricature as caricatures
from microscope_atlas.lenses import feature_visualization
from microscope_atlas.lenses.frames import pixels, square
from microscope_atlas.lenses.geometry import shift, unit_size
from microscope_atlas.lenses.lens import seed as seed_of
from microscope_atlas.lenses.recipe import precision_for
from microscope_atlas.models import weights as trained
from microscope_atlas.models.adapters import own
from microscope_atlas.models.adapters.trained import Trained
from microscope_atlas.models.catalog import organism
from microscope_atlas.models.device import chosen
from microscope_atlas.models.dictionaries.asked import attach_all
from microscope_atlas.models.networks.network import Network
from microscope_atlas.models.organism import Organism
from microscope_atlas.pictures.decoder import BOMBS, DAMAGED, MAX_PIXELS, plain
from microscope_atlas.pictures.decoder import picture as decoded
from microscope_atlas.pictures.sources import SOURCES, source
from microscope_atlas.rendering.ascend import SETTLING, Ascent, Frame, ascend, canvas_size
from microscope_atlas.rendering.canvas import Fourier


@dataclass(frozen=True)
class Net:
    """A network with its weights, ready to be looked into; see `load`."""

    organism: Organism
    network: Network
    device: torch.device
    weights_sha256: str  # of its tensors

    @property
    def name(self) -> str:
        """The model's name, `inceptionv1`."""
        return self.organism.name

    @property
    def layers(self) -> dict[str, Layer]:
        """Its layers, from input to logits: kind, units, receptive field in px, stride in px."""
        return dict(self.organism.layers)

    def __repr__(self) -> str:
        return f"<network {self.name} on {self.device}, {len(self.layers)} layers>"


MOST_SIZE = 4096  # px on a side of a picture

AnyNet = Net | str | Trained


def load(
    model: AnyNet,
    weights: Literal["pretrained", "random"] = "pretrained",
    device: str | torch.device | None = None,
    dictionaries: str | Sequence[str] = (),
) -> Net:
    """Load a network with its trained weights.

    Args:
        model: a name of the catalog, `torchvision:NAME`, `timm:NAME`, `transformers:OWNER/NAME` or
            `own:PACKAGE.MODULE.FUNCTION`; or a `Trained`, whose module is copied and left as it is.
        weights: `random` for tests.
        device: `cpu`, `cuda` or `mps`; None: the best there is.
        dictionaries: behind its layers, `LAYER[:NAME]=PATH` each; their units are the layers `LAYER_NAME`.

    Raises:
        UnknownName: no such model.
        DictionaryFailed: a dictionary that cannot be read, or does not fit its layer.
        WeightsError: its weights cannot be had; `microscope-atlas weights MODEL` says more.
        NetworkFailed: a network of one's own that cannot be shown, with the reason.

    """
    if isinstance(model, Net):
        return model
    if not isinstance(model, str | Trained):
        raise UnknownName(
            f"model {type(model).__name__}; expected a name, such as 'inceptionv1', or a Trained, which says what a "
            "module's pictures have to be"
        )
    where = chosen(device)
    if isinstance(model, Trained):
        given = model
        known = own.organism_of("given", lambda: replace(given, module=copy.deepcopy(given.module)))
    else:
        attach_all({}, [model], names("dictionary", dictionaries))
        known = organism(model)
    found = trained.load(known, weights)
    return Net(known, trained.network(known, found, where), where, found.sha256)


def visualize(
    net: AnyNet,
    layer: str | None = None,
    unit: int | Sequence[int] | None = None,
    *,
    objective: Objective | Sequence[Objective] | None = None,
    steps: int = SETTLING.steps,
    size: int | None = None,
    learning_rate: float | None = None,
    seed: int = 0,
) -> list[Image.Image]:
    """Make pictures that excite units, by gradient ascent from noise: one for each unit or objective.

    With `layer` and `unit` and nothing else said they are those of an atlas in draft quality: the same recipe and seed.

    Args:
        net: a network, or what `load` takes.
        layer: a layer's name; with `unit`, a number or several.
        unit: from 0.
        objective: in place of these, what is sought: see `channel`, `neuron`, `deepdream`, `direction`. Several give a
            picture each, made together.
        steps: of Adam, 1 or more.
        size: px on a side, 8 or more; None: what the layer's receptive field asks for, at most 112.
        learning_rate: Adam's, above 0, throughout; None: as drafts have it, long steps at first that settle.
        seed: another one gives another picture.

    Returns:
        Pictures in RGB (or L, RGBA, as the network reads). `picture.info["score"]` is the objective on the picture,
        before it was rounded to bytes; `picture.info["objective"]` says it in words.

    Raises:
        UnknownName: no such layer or unit.
        InvalidSetting: a setting that cannot be.

    """
    loaded = load(net)
    objectives = _objectives(layer, unit, objective)
    draft = feature_visualization.RECIPES["draft"].ascent
    draft = replace(draft, steps=whole("steps", steps, 1), precision=precision_for(loaded.device))
    if learning_rate is not None:
        rate = number("learning_rate", learning_rate, above=0)
        draft = replace(draft, learning_rate=rate, last_learning_rate=None)
    size, seed = None if size is None else whole("size", size, 8, MOST_SIZE), whole("seed", seed, -(2**63), 2**63)
    for each in objectives:
        each.refuse_unknown(loaded.name, loaded.layers)
    ascents = [_ascent(loaded, each, draft, size) for each in objectives]
    made: dict[int, Image.Image] = {}
    for like in dict.fromkeys(ascents):  # those of one size and shift are made together
        numbers = [at for at, each in enumerate(ascents) if each == like]
        some = [objectives[at] for at in numbers]
        made |= dict(zip(numbers, _ascended(loaded, some, *like, seed), strict=True))
    return [made[at] for at in range(len(objectives))]


def _ascent(net: Net, objective: Objective, ascent: Ascent, size: int | None) -> tuple[Ascent, int]:
    """The loop's settings for an objective, and px on a side: what the layers that it names ask for."""
    named = [net.layers[term.layer] for _, term in objective.terms]
    most = feature_visualization.RECIPES["draft"].max_size
    px = size or max(unit_size(known, net.organism.input_size, most) for known in named)
    views = replace(ascent.views, shift=max(shift(known, ascent.views.shift) for known in named))
    return replace(ascent, views=views), px


def _ascended(net: Net, objectives: Sequence[Objective], ascent: Ascent, px: int, seed: int) -> list[Image.Image]:
    activations, score = scored(net.network, objectives)
    *_, last = ascend(
        activations,
        score,
        [_seed(net, each, seed) for each in objectives],
        ascent,
        px,
        net.device,
        make_canvas=lambda streams, steps, size, device: Fourier(
            streams, steps, size, device, ascent.spectrum_std, ascent.views, channels=net.network.channels
        ),
    )
    return _pictures(last, [str(each) for each in objectives])


def caricature(
    net: AnyNet,
    layer: str,
    picture: Image.Image | str | PathLike[str],
    *,
    steps: int = 64,
    every: int = 8,
    size: int | None = None,
    seed: int = 0,
) -> Iterator[Image.Image]:
    """Exaggerate what a layer sees in a picture; yields a frame after each `every` steps, the last one finished.

    Olah et al. 2018, https://distill.pub/2018/building-blocks.

    Args:
        net: a network, or what `load` takes.
        layer: a layer's name.
        picture: a picture, a file, or the name of one that comes with the package, `cat`. Its middle square is taken.
        steps: of Adam, 1 or more.
        every: steps between two frames, 1 or more.
        size: px on a side, 8 or more; None: as an atlas in draft quality has it.
        seed: another one gives another caricature.

    Yields:
        Pictures as of `visualize`; `info["score"]` is the dot product with the layer's activations of the picture over
        that of the picture with itself, times the cosine to the power of 2; `info["step"]` the step.

    Raises:
        UnknownName: no such layer.
        PicturesFailed: the picture cannot be read.
        InvalidSetting: a setting that cannot be.

    """
    loaded = load(net)
    known = loaded.organism.layer(layer)
    steps, every, seed = whole("steps", steps, 1), whole("every", every, 1), whole("seed", seed, -(2**63), 2**63)
    size = None if size is None else whole("size", size, 8, MOST_SIZE)
    recipe = caricatures.RECIPES["draft"]
    recipe = replace(recipe, ascent=replace(recipe.ascent, steps=steps))
    px = size or recipe.picture_size(known, loaded.organism.input_size)
    given = square(opened(picture), canvas_size(recipe.ascent, px))[None].to(loaded.device)
    return _frames(loaded, layer, given, recipe, px, every, seed)


def _frames(
    net: Net, layer: str, given: torch.Tensor, recipe: caricatures.Recipe, px: int, every: int, seed: int
) -> Iterator[Image.Image]:
    seeds = [seed_of(Key(net.name, layer), "caricature", seed)]
    for frame in caricatures.caricatures(net.network, given, [layer], seeds, recipe, px, every=every):
        (picture,) = _pictures(frame, [f"caricature({layer})"])
        yield picture


def _objectives(
    layer: str | None, unit: int | Sequence[int] | None, objective: Objective | Sequence[Objective] | None
) -> list[Objective]:
    """What is asked for, one a picture; UnknownName where it is nothing, or twice something."""
    if objective is not None and layer is None and unit is None:
        given = [objective] if isinstance(objective, Objective) else list(objective)
        if given and all(isinstance(each, Objective) and each.terms for each in given):
            return given
    elif objective is None and layer is not None and unit is not None:
        units = list(unit) if isinstance(unit, Iterable) and not isinstance(unit, str) else [unit]
        if units:
            return [channel(layer, whole("unit", each)) for each in units]
    raise UnknownName(
        "expected a layer and a unit, visualize(net, 'mixed4c', unit=447), or objective=channel('mixed4c', 447) + ..."
    )


def _seed(net: Net, objective: Objective, seed: int) -> int:
    """Of a single channel what an atlas has for it, unless another is asked for."""
    ((weight, term), *more) = objective.terms
    if not more and weight == 1 and term.kind in ("channel", "neuron") and term.place is None and seed == 0:
        return seed_of(str(Key(net.name, term.layer, term.unit)), term.kind, 1, 0)
    return seed_of(net.name, objective, seed)


def _pictures(frame: Frame, said: Sequence[str]) -> list[Image.Image]:
    made = []
    for picture, score, words in zip(frame.pictures, frame.scores.tolist(), said, strict=True):
        plane = picture[0] if len(picture) == 1 else picture
        image = Image.fromarray(pixels(plane.nan_to_num()).numpy())
        image.info.update({"score": score, "objective": words, "step": frame.step})
        made.append(image)
    return made


def opened(picture: Image.Image | str | PathLike[str]) -> Image.Image:
    """A picture in RGB, whatever it is given as."""
    if isinstance(picture, Image.Image):
        return plain(picture)
    if isinstance(picture, str) and picture in SOURCES:
        return source(picture)
    try:
        with Path(picture).open("rb") as file:
            return decoded(file, MAX_PIXELS)
    except (*DAMAGED, *BOMBS) as error:
        some = ", ".join(list(SOURCES)[:3])
        raise PicturesFailed(
            f"picture {str(picture)!r} cannot be read: {error}; expected a file, or a name such as {some}"
        ) from error
