"""Rendering an atlas from Python: what `microscope-atlas render` does."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike, fspath
from typing import Any

from microscope_atlas.atlas.locate import storage_at
from microscope_atlas.atlas.manifest import manifest_or_new
from microscope_atlas.errors import UnknownName, WrongLevel
from microscope_atlas.face.given import names, ranges
from microscope_atlas.lenses.recipe import QUALITIES, Quality, changed, precision_for
from microscope_atlas.lenses.registry import UNASKED, lens
from microscope_atlas.models import weights as trained
from microscope_atlas.models.catalog import organism
from microscope_atlas.models.device import chosen as device_called
from microscope_atlas.models.dictionaries.asked import attach_all
from microscope_atlas.run import run
from microscope_atlas.run.engines.local import LocalEngine, num_workers
from microscope_atlas.run.plan import DEFAULT_UNITS, select, units_per_shard
from microscope_atlas.run.recipes import chosen
from microscope_atlas.run.wishes import begun


def render(
    atlas: str | PathLike[str],
    models: str | Sequence[str] | None = None,
    lenses: str | Sequence[str] | None = None,
    layers: str | Sequence[str] | None = None,
    units: int | Iterable[int] | None = None,
    *,
    quality: Quality | None = None,
    pictures: str | None = None,
    dictionaries: str | Sequence[str] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    weights: trained.WeightsKind = "pretrained",
    workers: int | None = None,
    device: str | None = None,
    listen: Callable[[run.Progress], None] = lambda progress: None,
) -> run.Outcome:
    """Render what an atlas lacks; it can be stopped at any moment and called again.

    With several workers a script needs `if __name__ == "__main__":`, as multiprocessing asks.

    Args:
        atlas: a folder, or a URL such as `s3://bucket/atlas`; made where there is none.
        models: a name, or several, as `load` takes them; None: a small atlas of two EfficientNets.
        lenses: a name, or several; None: all but those that are rendered only where they are named.
        layers: of every model, one or several; None: all.
        units: of every layer: one, several, or a range; None: all. A lens that looks at layers sees all of them.
        quality: `draft`, `standard` or `microscope`; None: as the atlas began, of a new one `draft`.
        pictures: natural pictures: a folder, or a dataset as `OWNER/NAME#SPLIT`; None: the package's own.
        dictionaries: behind layers of the one model, `LAYER[:NAME]=PATH` or `LAYER[:NAME]=hub:OWNER/NAME[@REV]`; where
            no layers are named, those that they make are meant.
        settings: changes of recipes, `{"feature_visualization": {"ascent.steps": 256}}`.
        weights: `random` for tests.
        workers: processes; None: one a core on a CPU, else one.
        device: `cpu`, `cuda` or `mps`; None: the best there is.
        listen: called with how far each lens is.

    Returns:
        how many rows were there, and how many were made.

    Raises:
        UnknownName: no such model, lens, layer, unit or quality.
        InvalidSetting: a setting that is not there, or cannot be.
        DictionaryFailed: a dictionary that cannot be read, or does not fit its layer.
        SettingsDiffer: the atlas was rendered with other settings.
        AtlasBusy: another run is writing it.
        RenderFailed: shards failed; the others are there.

    """
    if quality not in (None, *QUALITIES):
        raise UnknownName(f"quality {quality!r}; expected one of {', '.join(QUALITIES)}")
    asked_models, asked_layers, some = names("model", models), names("layer", layers), ranges(units)
    if not asked_models and (asked_layers or units is not None):
        raise UnknownName("layers and units need models")
    makers = names("lens", lenses) or list(UNASKED)
    for name in names("lens", lenses):
        if units is not None and lens(name).level == "layer":
            raise WrongLevel(f"{name} looks at a layer; units {units!r} are units")
    storage = storage_at(fspath(atlas))
    manifest = manifest_or_new(storage)
    where = device_called(device)
    recipes = chosen(makers, quality, pictures, there=begun(storage, manifest), precision=precision_for(where))
    made = attach_all(manifest.models, asked_models, names("dictionary", dictionaries))
    asked_layers = asked_layers or made
    by_name = {lens(name).name: name for name in recipes}
    for name, changes in (settings or {}).items():
        if name not in by_name:
            raise UnknownName(f"settings of {name}, which is not among the lenses: {', '.join(by_name)}")
        recipes[by_name[name]] = changed(recipes[by_name[name]], changes)
    engine = LocalEngine(where, num_workers(workers, where))
    asked = [(name, select(organism(name), asked_layers, each)) for name in asked_models for each in some]
    requests = [
        run.RenderRequest(organism(name), trained.load(organism(name), weights), weights, chosen_units)
        for name, chosen_units in asked or DEFAULT_UNITS.items()
    ]
    return run.render(storage, requests, recipes, engine, units_per_shard(where.type), listen)
