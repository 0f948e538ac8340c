"""Whom the natural pictures are owed to that an atlas' rows show, whole, in parts or as caricatures."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from microscope_atlas.atlas.manifest import Manifest
from microscope_atlas.pictures.cuts import cut_of
from microscope_atlas.pictures.sources import DEFAULT, SOURCES, Picture
from microscope_atlas.pictures.terms import Terms

SAMPLES = "dataset_samples"
CROPPING = (SAMPLES, "activation_atlas", "groups")  # lenses whose rows may hold crops of a set of pictures
SHOWING = (*CROPPING, "deepdream", "caricature")  # lenses whose images natural pictures can be seen in


@dataclass(frozen=True)
class ShownSet:
    """A set of pictures that is not the package's own, of which rows hold crops."""

    name: str
    revision: str
    terms: Terms | None  # None: nobody has stated any


def photos(manifest: Manifest) -> dict[str, Picture]:
    """The pictures of the package that rows show."""
    named: set[str] = set()
    for lens in SHOWING:
        recipe = manifest.lenses.get(lens, {})
        named.update(_texts({name: value for name, value in recipe.items() if name not in ("pictures", "revision")}))
        if recipe.get("pictures") == DEFAULT and recipe.get("crops"):
            cut = cut_of(recipe.get("revision"))
            named.update(cut.photos if cut else ())
    return {name: picture for name, picture in SOURCES.items() if name in named}


def shown_sets(manifest: Manifest) -> list[ShownSet]:
    """The sets that rows hold crops of, those that are not the package's own."""
    found: dict[tuple[str, str], ShownSet] = {}
    for lens in CROPPING:
        recipe = manifest.lenses.get(lens, {})
        name, revision = recipe.get("pictures"), str(recipe.get("revision"))
        if name not in (None, DEFAULT) and recipe.get("crops"):
            known = manifest.pictures.get(revision, {})
            license = known.get("license")
            terms = Terms(license, known.get("credit")) if license else None
            found[str(name), revision] = ShownSet(str(name), revision, terms)
    return list(found.values())


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)
