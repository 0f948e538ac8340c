"""What of ours is measured: the pictures of a layer's units as the lens makes them, in a process of its own."""

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from benchmarks.workers import peak_memory
from microscope_atlas.lenses.feature_visualization import at_once
from microscope_atlas.lenses.geometry import unit_size
from microscope_atlas.lenses.lens import Row, Subject
from microscope_atlas.lenses.recipe import Quality, changed
from microscope_atlas.lenses.registry import lens
from microscope_atlas.models import weights
from microscope_atlas.models.catalog import organism
from microscope_atlas.models.networks.network import Network
from microscope_atlas.run.engines.local import keep_freed_memory
from microscope_atlas.run.plan import units_per_shard

LENS = "feature_visualization"
REDIRECTED = 16 / 512  # of a render's steps, in standard quality: the share that short measurements have as well

Load = Callable[[str, weights.WeightsKind, torch.device], Network]


def loaded(model: str, kind: weights.WeightsKind, device: torch.device) -> Network:
    """A network as shards are rendered with it."""
    known = organism(model)
    return weights.network(known, weights.load(known, kind), device)


@dataclass(frozen=True)
class Case:
    """One layer, and how its units are rendered."""

    model: str
    layer: str
    device: str = "cpu"
    kind: weights.WeightsKind = "random"
    quality: Quality = "standard"
    changes: Mapping[str, Any] = field(default_factory=dict)  # to the recipe, by path: see recipe.changed
    size: int | None = None  # px on a side; None: what the recipe has, by the layer's receptive field
    load: Load = loaded

    @property
    def recipe(self) -> Any:
        """Its settings: those of the quality, with the changes."""
        return changed(lens(LENS).recipe(self.quality), {"methods": ("fourier",), "variants": 0, **self.changes})

    @property
    def batch(self) -> int:
        """How many of its pictures are made at once: no more than units in a shard."""
        known, recipe = self.subject, self.recipe
        px = unit_size(known.layer, known.organism.input_size, recipe.max_size)
        return min(at_once(recipe, px), units_per_shard(known.device.type))

    @property
    def subject(self) -> Subject:
        """What the lens looks at, the network not yet loaded. With a size given the layer is taken to see all of it."""
        known = organism(self.model)
        layer = known.layer(self.layer)
        if self.size:
            known, layer = replace(known, input_size=self.size), replace(layer, receptive_field=None)
        device = torch.device(self.device)
        return Subject(known, layer, device, lambda: self.load(self.model, self.kind, device))


@dataclass(frozen=True)
class Render:
    """A task: pictures of some units, at most a batch, with so many steps."""

    units: Sequence[int]
    steps: int


def prepare(case: Case) -> Callable[[Render], tuple[list[Row], int]]:
    """Load the network; what is given then renders: rows, and the most bytes that were held so far."""
    keep_freed_memory()
    subject, recipe = case.subject, case.recipe
    assert subject.graph is not None  # loaded before anything is measured

    def render(task: Render) -> tuple[list[Row], int]:
        redirected = max(1, round(task.steps * REDIRECTED))
        short = changed(recipe, {"ascent.steps": task.steps, "ascent.redirect_steps": redirected})
        return rendered(subject, task.units, short), peak_memory(case.device)

    return render


def rendered(subject: Subject, units: Sequence[int], recipe: Any) -> list[Row]:
    """The best pictures of one batch of units by the `channel` objective: the first rows that the lens makes."""
    rows = next(iter(lens(LENS).rows(subject, units, recipe)))
    assert len(rows) == len(units), f"{len(units)} units are more than a batch of {len(rows)}"
    if subject.device.type == "cuda":
        torch.cuda.synchronize()
    return rows


def settings(text: str) -> dict[str, Any]:
    """Changes as the command line has them: `ascent.steps=64,batch=8`; what is no Python value is text."""
    changes = {}
    for part in filter(None, re.split(r",(?=\s*[\w.]+=)", text.strip())):
        path, separator, value = part.partition("=")
        if not separator:
            raise ValueError(f"{part!r} is no setting; expected PATH=VALUE, as in ascent.steps=64")
        try:
            changes[path.strip()] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            changes[path.strip()] = value.strip()
    return changes


def few(device: str) -> int:
    """Steps of the shorter of two renders whose difference is taken: on CUDA the first five are not like the rest.

    They warm up, and record the graph that the rest replay.
    """
    return 8 if torch.device(device).type == "cuda" else 2


def first(count: int, num_units: int) -> list[int]:
    """So many units, from the first; where the layer has fewer they are taken again."""
    return [at % num_units for at in range(count)]
