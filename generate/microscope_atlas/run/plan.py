"""From what is asked for to shards: models x lenses x layers x units. Pure: looks at nothing but its arguments."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from microscope_atlas.atlas.dictionaries import Attached
from microscope_atlas.atlas.organisms import Kind
from microscope_atlas.atlas.tables import Table
from microscope_atlas.atlas.units import Input, UnitRange, content_id
from microscope_atlas.errors import UnknownName
from microscope_atlas.lenses.lens import Lens
from microscope_atlas.lenses.recipe import Recipe, settings
from microscope_atlas.lenses.registry import lens
from microscope_atlas.models.organism import Organism
from microscope_atlas.models.weights import WeightsKind

# What `render` makes without flags: textures to patterns, on weights that come with packages. Layers adjoin, so that
# connections lead somewhere, and there are two networks, so that units have likenesses elsewhere
DEFAULT_UNITS = {
    "efficientnet_lite0": {
        "blocks_2": range(16),
        "blocks_3": range(24),
        "blocks_4": range(24),
        "blocks_5": range(24),
        "blocks_6": range(24),
    },
    "efficientnet_lite1": {
        "blocks_5": range(16),
        "blocks_6": range(16),
        "blocks_7": range(16),
    },
}


def units_per_shard(device: str) -> int:
    """Units of a shard, at most, by the kind of device: on a CPU it should not take long, others want many at once."""
    return 16 if device == "cpu" else 64


@dataclass(frozen=True)
class Job:
    """One shard to make."""

    units: UnitRange
    recipe: Recipe
    weights: WeightsKind
    weights_sha256: str
    inputs: tuple[Input, ...] = ()  # of a lens that reads what others have made
    batch: int | None = None  # most at once, where memory is too short for the recipe's; rows say so, the id does not
    maker: str | None = None  # what the registry knows its lens by; None: its name
    stated: str | None = None  # the settings as the atlas has them, as JSON; None: they are the recipe's, word for word

    pictures: str | None = None  # where the recipe's set of pictures lies; neither rows nor the id say so
    dictionaries: tuple[tuple[str, Attached], ...] = ()  # of the model, by the layers that they make

    @property
    def lens(self) -> Lens[Any]:
        """What makes its rows."""
        return lens(self.maker or self.units.lens)

    @property
    def table(self) -> Table:
        """What its rows are of, with the columns that they have under its recipe."""
        return self.lens.table.made_with(self._settings())

    @property
    def id(self) -> str:
        """Of the shard's content."""
        made_by = self.dictionary.identity if self.dictionary else None
        return content_id(self.units, self._settings(), self.weights_sha256, self.inputs, dictionary=made_by)

    @property
    def dictionary(self) -> Attached | None:
        """The one that makes the layer's units; None of a network's own."""
        return dict(self.dictionaries).get(self.units.layer)

    def shares_pass_with(self, other: "Job") -> bool:
        """Whether one pass gives both: they are alike but for their layers and units."""
        return self.lens.shares_pass and self == replace(
            other, units=replace(self.units, model=other.units.model, lens=other.units.lens), inputs=self.inputs
        )

    def rows_each(self, kind: Kind) -> int | None:
        """Rows of a unit, or of the layer, which is of this kind; None: it depends."""
        return self.lens.count(self._settings(), kind)

    def _settings(self) -> dict[str, Any]:
        stated: dict[str, Any] = settings(self.recipe) if self.stated is None else json.loads(self.stated)
        return stated


Bundle = tuple[Job, ...]  # jobs that share a pass, or one alone


def bundles(jobs: Iterable[Job]) -> list[Bundle]:
    """Jobs as workers take them: neighbours that can share a pass go together."""
    found: list[Bundle] = []
    for job in jobs:
        if found and job.shares_pass_with(found[-1][0]):
            found[-1] = (*found[-1], job)
        else:
            found.append((job,))
    return found


def halves(bundle: Bundle) -> list[Bundle]:
    """A bundle in two, of which one may be empty and is then left out."""
    middle = (len(bundle) + 1) // 2
    return [half for half in (bundle[:middle], bundle[middle:]) if half]


def select(organism: Organism, layers: Sequence[str], units: range | None) -> dict[str, range]:
    """The units of each layer that are meant: all units where no range is given.

    Where no layers are named, all are meant but those that are rendered only where they are named.

    Raises UnknownName for a layer that the organism lacks, or units that a layer lacks.
    """
    chosen = {}
    for name in layers or [name for name, layer in organism.layers.items() if not layer.named_only]:
        layer = organism.layer(name)
        wanted = range(layer.units) if units is None else units
        if wanted.stop > layer.units:
            several = f"units {wanted.start}:{wanted.stop} are not all"
            asked = several if len(wanted) > 1 else f"unit {wanted.start} is not"
            raise UnknownName(f"{asked} in {organism.name}/{name}; it has 0:{layer.units}, from 0 to {layer.units - 1}")
        chosen[name] = wanted
    return chosen


def differences(asked: Mapping[str, Any], there: Mapping[str, Any], prefix: str = "") -> list[str]:
    """What two settings disagree on: `ascent.steps is 512 in the atlas, 128 asked`."""
    found = []
    for name in sorted({*asked, *there}):
        a, b = asked.get(name), there.get(name)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += differences(a, b, f"{prefix}{name}.")
        elif a != b:
            found.append(f"{prefix}{name} is {b!r} in the atlas, {a!r} asked")
    return found
