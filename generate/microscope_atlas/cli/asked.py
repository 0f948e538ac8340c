"""What `render` and `plan` are asked alike: options, and what they mean."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, fields
from enum import StrEnum
from functools import cached_property, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from microscope_atlas.atlas.manifest import Manifest
    from microscope_atlas.atlas.storage import WritableStorage
    from microscope_atlas.lenses.recipe import Precision, Quality, Recipe
    from microscope_atlas.run.costs import Costs


class QualityName(StrEnum):
    draft = "draft"
    standard = "standard"
    microscope = "microscope"


class PrecisionName(StrEnum):
    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"


class MethodName(StrEnum):
    fourier = "fourier"
    maco = "maco"
    transparent = "transparent"


@dataclass(frozen=True)
class Asked:
    """What is asked for; each field is an option of the commands that are `asking`."""

    atlas: Annotated[
        str, typer.Argument(help="Folder of the atlas, or a URL such as s3://bucket/atlas.", show_default=False)
    ]
    model: Annotated[
        list[str] | None, typer.Option(help="Again for several. Default: a small atlas of two EfficientNets.")
    ] = None
    lens_names: Annotated[
        list[str] | None,
        typer.Option(
            "--lens", help="Again for several. Default: all but activation_atlas, groups, texts, scores and labels_*."
        ),
    ] = None
    layer: Annotated[list[str] | None, typer.Option(help="Again for several. Default: all.")] = None
    dictionary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LAYER[:NAME]=PATH",
            help="Units as directions behind a layer: a file, a folder, or hub:OWNER/NAME[@REV]. Again for several.",
        ),
    ] = None
    units: Annotated[
        str | None,
        typer.Option(help="One, 447; START:STOP, without the stop; or several, 3,7,64:80. Default: all."),
    ] = None
    quality: Annotated[
        QualityName | None,
        typer.Option(help="Of new pictures. Default: as the atlas began; of a new one, draft."),
    ] = None
    pictures: Annotated[
        str | None,
        typer.Option(
            metavar="SET",
            help="Natural pictures: a folder, or a dataset as OWNER/NAME#SPLIT. Default: the atlas' own, or ours.",
        ),
    ] = None
    skip_bad_pictures: Annotated[
        bool, typer.Option("--skip-bad-pictures", help="Leave out what cannot be read of the folder; rows say so.")
    ] = False
    pointers: Annotated[bool, typer.Option("--pointers", help="Point at natural pictures, do not copy them.")] = False
    method: Annotated[
        list[MethodName] | None,
        typer.Option(help="Of feature_visualization, again for several. Default: fourier; all but for drafts."),
    ] = None
    precision: Annotated[
        PrecisionName | None,
        typer.Option(
            help="Of networks while pictures are made; auto: bfloat16 where this machine multiplies it faster. "
            "Default: auto for new drafts, bfloat16 for standard quality, else float32."
        ),
    ] = None
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="LENS.PATH=VALUE",
            help="Any setting of a lens, again for several: deepdream.ascent.steps=256.",
        ),
    ] = None
    batch_pixels: Annotated[
        int | None,
        typer.Option(
            min=1, help="Of a batch of feature_visualization together. Default: 802816, 16 pictures of 224 px."
        ),
    ] = None
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1_000_000,
            help="Processes, or tasks. Default: one a core on a CPU, else 1; all of a Ray cluster.",
        ),
    ] = None
    device: Annotated[str | None, typer.Option(help="cpu, cuda or mps. Default: the best there is.")] = None
    shard_units: Annotated[
        int | None, typer.Option(min=1, help="Units a file at most. Default: 16 on a CPU, else 64.")
    ] = None
    rates: Annotated[
        Path | None,
        typer.Option(help="File of measured seconds: then no shard takes more than a few minutes."),
    ] = None

    @property
    def storage(self) -> "WritableStorage":
        """Where the atlas is, or will be."""
        from microscope_atlas.atlas.locate import storage_at

        return storage_at(self.atlas)

    @cached_property
    def there(self) -> "Manifest":
        """What the atlas holds already."""
        from microscope_atlas.atlas.manifest import manifest_or_new

        return manifest_or_new(self.storage)

    def recipes(self) -> "dict[str, Recipe]":
        """Of the lenses asked for; refuses what does not go together."""
        from microscope_atlas.errors import UnknownName, WrongLevel
        from microscope_atlas.lenses.registry import UNASKED, lens
        from microscope_atlas.run.recipes import chosen
        from microscope_atlas.run.wishes import begun

        if not self.model and (self.layer or self.units):
            raise UnknownName("--layer and --units need a --model")
        if self.skip_bad_pictures and not self.pictures:
            raise UnknownName("--skip-bad-pictures needs --pictures FOLDER")
        for name in self.lens_names or []:
            if self.units and lens(name).level == "layer":
                raise WrongLevel(f"{name} looks at a layer; --units {self.units} are units")
        names = self.lens_names or list(UNASKED)
        here = self._precision_here()
        precision = here if self.precision is PrecisionName.auto else self.precision and self.precision.value
        short = _spelled_out(names, precision, self.method, self.batch_pixels, self.pointers)
        changes = [*short, *(self.changes or [])]
        there = begun(self.storage, self.there)
        quality: Quality | None = self.quality.value if self.quality else None
        return chosen(names, quality, self.pictures, changes, self.skip_bad_pictures, there, here)

    def _precision_here(self) -> "Precision":
        """The fastest on the device asked for, as this machine has it: float32 of one that is elsewhere."""
        import torch

        from microscope_atlas.lenses.recipe import precision_for
        from microscope_atlas.models.device import chosen

        try:
            return precision_for(chosen(None) if self.device is None else torch.device(self.device))
        except RuntimeError:  # no name of a device; who renders on it refuses it, and knows which there are
            return "float32"

    def layers(self) -> list[tuple[str, dict[str, range]]]:
        """Models and the units of their layers, again for each range of units."""
        from microscope_atlas.keys import parse_units
        from microscope_atlas.models.catalog import note_origin, organism
        from microscope_atlas.models.dictionaries.asked import attach_all
        from microscope_atlas.run.plan import DEFAULT_UNITS, select

        there = self.there.models
        for name in self.model or []:
            if name in there:  # an atlas says what its own keys mean
                note_origin(name, there[name]["provenance"]["source"])
        made = attach_all(there, self.model or [], self.dictionary or [])
        layers = self.layer or made  # a dictionary that is named is what is meant
        known = [organism(name) for name in self.model or []]
        ranges = parse_units(self.units) if self.units else [None]
        asked = [(each.name, select(each, layers, some)) for each in known for some in ranges]
        return asked or list(DEFAULT_UNITS.items())

    def costs(self) -> "Costs | None":
        """Those of --rates; UnknownName where they are of another quality."""
        from microscope_atlas.errors import UnknownName
        from microscope_atlas.lenses.registry import lens
        from microscope_atlas.models.catalog import organism
        from microscope_atlas.run.rates import load
        from microscope_atlas.run.recipes import DRAFT

        if self.rates is None:
            return None
        models = [organism(name).name for name in self.model or []]
        costs = load(self.rates, models, [lens(name).name for name in self.lens_names or []])
        quality = self.quality.value if self.quality else DRAFT
        if costs.quality not in (None, quality):
            raise UnknownName(f"{self.rates} has rates of {costs.quality} quality, --quality is {quality}")
        return costs


def asking(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose first argument is what was Asked, with the options that say so before its own."""
    hints = get_type_hints(Asked, include_extras=True)
    (first, *own), kind = inspect.signature(command).parameters.values(), inspect.Parameter.KEYWORD_ONLY
    shared = [
        inspect.Parameter(each.name, kind, annotation=hints[each.name], default=_default(each.default))
        for each in fields(Asked)
    ]

    @wraps(command)
    def with_options(**values: Any) -> None:
        asked = Asked(**{each.name: values.pop(each.name) for each in fields(Asked)})
        command(asked, **values)

    parameters = [*shared, *(each.replace(kind=kind) for each in own)]
    with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    annotated = {name: hint for name, hint in command.__annotations__.items() if name != first.name}
    with_options.__annotations__ = {**hints, **annotated}
    return with_options


def _default(value: Any) -> Any:
    return inspect.Parameter.empty if value is MISSING else value


def _spelled_out(
    lenses: Sequence[str],
    precision: str | None,
    methods: Sequence[MethodName] | None,
    batch_pixels: int | None,
    pointers: bool,
) -> list[str]:
    """What options that are short for `--set` stand for."""
    from microscope_atlas.errors import InvalidSetting
    from microscope_atlas.lenses.registry import lens

    changes = []
    if precision:
        changes += [
            f"{lens(name).name}.{ascent}.precision={precision}"
            for name in lenses
            for ascent in lens(name).recipe("draft").ascents
        ]
        if not changes:
            raise InvalidSetting(f"--precision {precision}: {', '.join(lenses)} make no pictures by ascent")
    if methods:
        words = ",".join(name.value for name in MethodName if name in methods)
        changes.append(f"feature_visualization.methods={words}")
    if batch_pixels:
        changes.append(f"feature_visualization.batch_pixels={batch_pixels}")
    if pointers:
        crops = [lens(name).name for name in lenses if hasattr(lens(name).recipe("draft"), "crops")]
        changes += [f"{name}.crops=false" for name in crops or ["dataset_samples"]]
    return changes
