"""A file of measured rates, as `python -m benchmarks.atlas_cost` writes it, or whoever measures otherwise:

    {"about": {"workers": 2, "quality": "draft", "device": "cpu"},
     "rates": [{"lens": "feature_visualization", "model": "inceptionv1", "layer": "mixed4c", "seconds_per_unit": 1.5}]}

`seconds_per_unit` is that of so many workers together; of a lens that looks at layers, the layer's seconds over the
number of its units. More keys may be there. The file is data: it names models, and loads none.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, TypeVar

from microscope_atlas.atlas.organisms import organisms
from microscope_atlas.errors import UnknownName, nearest
from microscope_atlas.lenses.recipe import Quality
from microscope_atlas.lenses.registry import LENSES
from microscope_atlas.models.catalog import organism
from microscope_atlas.run.costs import Costs, Rate
from microscope_atlas.structure import PRINTABLE, between, structure

MOST_BYTES = 64 << 20  # of a file; every layer of the catalog through every lens is 0.3 MB

T = TypeVar("T")
Text = Annotated[str, PRINTABLE]


@dataclass(frozen=True)
class About:
    """How the rates were measured."""

    workers: Annotated[int, between(1, 1_000_000)]
    quality: Quality | None = None
    device: Text = "cpu"  # `cpu`, or an accelerator's own name


@dataclass(frozen=True)
class Line:
    """What a unit of a layer takes."""

    lens: Text
    model: Text
    layer: Text
    seconds_per_unit: Annotated[float, between(1e-9, 1e9)]


def load(path: Path, models: Iterable[str] = (), lenses: Iterable[str] = ()) -> Costs:
    """The rates in a file, of the catalog's models and of `models`; of our lenses and of those called `lenses`.

    Rates of other models are left out: what their layers ask for could be told by their code alone, which is not run.
    UnknownName, in one sentence, where the file is none of rates, or has none that is of use.
    """
    here = f"{path} holds no rates"
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES:,} bytes")
        plain = json.loads(path.read_bytes()) if path.is_file() else None
        if not isinstance(plain, dict) or not isinstance(plain.get("rates"), list):
            raise ValueError('expected a file of JSON with "about" and a list "rates"')
        about = _read(About, plain.get("about"), "about")
        lines = [_read(Line, each, f"rates[{at}]") for at, each in enumerate(plain["rates"])]
        known = {*LENSES, *lenses}
        for at, line in enumerate(lines):
            if line.lens not in known:
                near = nearest(line.lens, known)
                raise ValueError(f"rates[{at}].lens is {line.lens!r}, expected a lens; nearest: {near}")
        asked = set(models)
        lines = [line for line in lines if line.model in asked or line.model in organisms()]
        for line in lines:
            there = organisms()[line.model] if line.model in organisms() else organism(line.model)
            if line.layer not in there.layers:
                raise ValueError(f"a rate is of layer {line.layer!r}, which {line.model} does not have")
        counted = Counter((line.lens, line.model, line.layer) for line in lines)
        if twice := [f"{name} of {model}/{layer}" for (name, model, layer), count in counted.items() if count > 1]:
            raise ValueError(f"it has two rates for {twice[0]}")
        if not lines:
            raise ValueError("none of its rates is of a model that is asked for, or of the catalog")
    except RecursionError:  # before ValueError, because it has nothing to say of itself
        raise UnknownName(f"{here}: lists in lists in lists, too deep to be any; {_HOW}") from None
    except (OSError, ValueError) as error:
        raise UnknownName(f"{here}: {_one_line(error)}; {_HOW}") from error
    rates = {
        (line.lens, line.model, line.layer): Rate(about.workers * line.seconds_per_unit, "a rate of the file")
        for line in lines
    }
    return Costs(rates, about.quality, about.device)


_HOW = "python -m benchmarks.atlas_cost writes some"


def _read(kind: type[T], plain: Any, at: str) -> T:
    """Of an object the fields that are known, whatever else is there."""
    if isinstance(plain, Mapping):
        known = {field.name for field in fields(kind)}  # type: ignore[arg-type]  # of dataclasses
        plain = {name: value for name, value in plain.items() if name in known}
    return structure(kind, plain, at)


def _one_line(error: Exception) -> str:
    words = error.strerror or str(error) if isinstance(error, OSError) else str(error)
    return " ".join(words.split())
