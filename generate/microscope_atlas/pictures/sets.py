"""Sets of natural pictures that lenses look at: the package's own, a folder, or any dataset that `datasets` loads.

    default                            pictures that come with the package, cut into overlapping squares
    FOLDER                             the image files in it and below it, sorted by path
    DATASET[:CONFIG][@REVISION]#SPLIT  as in load_dataset: `owner/name#train`, `owner/name:small@v1.0#train[:1000]`

Rows name a set by what it is and by the revision of its content, never by where it lies: `folder`, `folder#train`.
"""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from microscope_atlas.errors import PicturesFailed
from microscope_atlas.pictures import places
from microscope_atlas.pictures.dataset import dataset_set
from microscope_atlas.pictures.folder import READABLE, WHOLE, folder_set, folder_set_of_0_1
from microscope_atlas.pictures.own import own_set
from microscope_atlas.pictures.picture_set import PictureSet
from microscope_atlas.pictures.places import Place
from microscope_atlas.pictures.sources import DEFAULT

T = TypeVar("T")

ELSEWHERE = re.compile(rf"{WHOLE}(:[^#]+)?(#.+)?")  # names of sets that lie somewhere on their maker's machine


def picture_set(name: str, revision: str | None = None, skip_bad: bool = False) -> PictureSet:
    """The set called `name`; see the head of this file. With a revision, as rows name it.

    PicturesFailed where there is no such set, where it has no pictures, or where its revision is not the one expected.
    """
    if name == DEFAULT:
        found = own_set(revision)
    else:
        found = _given(name, skip_bad) if revision is None else _seen(name, revision)
    if not found.length:
        raise PicturesFailed(f"{name} has no pictures")
    if revision is not None and found.revision != revision:
        raise PicturesFailed(
            f"{name} has revision {found.revision} here, {revision} is expected: its pictures are not the same"
        )
    return found


def with_pictures(recipe: T, name: str, skip_bad: bool = False) -> T:
    """A recipe with `pictures` and `revision` among its settings, set to another set."""
    found = picture_set(name, skip_bad=skip_bad)
    return replace(recipe, pictures=found.name, revision=found.revision)  # type: ignore[type-var]


def note_place(name: str) -> None:
    """Remember where a set is, for rows that name it by its content; its bad files may be what they left out."""
    picture_set(name, skip_bad=_is_folder(name))


def place_of(recipe: Any) -> str | None:
    """Where on this machine the pictures of a recipe lie, for other machines that see the same disk; see `at_place`."""
    name, revision = getattr(recipe, "pictures", None), getattr(recipe, "revision", None)
    place = places.find(revision) if revision and isinstance(name, str) and ELSEWHERE.fullmatch(name) else None
    return place.where if place else None


def at_place(recipe: Any, where: str | None) -> None:
    """Note where the pictures of a recipe lie, unless it is known here."""
    if where is not None and places.find(recipe.revision) is None:
        places.note(recipe.revision, Place(where))


def _given(name: str, skip_bad: bool) -> PictureSet:
    """As a person names it: a folder that exists is one, whatever its name."""
    if _is_folder(name):
        return folder_set(Path(name), skip_bad)
    if skip_bad:
        raise PicturesFailed(f"{name} is no folder; --skip-bad-pictures leaves files of a folder out")
    if "#" in name:
        return dataset_set(name)
    raise PicturesFailed(
        f"pictures {name!r} are not to be had: there is no such folder; expected {DEFAULT!r}, a folder with "
        "image files, or a dataset and its split: OWNER/NAME#SPLIT"
    )


def _seen(name: str, revision: str) -> PictureSet:
    """As rows name it."""
    if not ELSEWHERE.fullmatch(name):
        if _is_folder(name) and (old := folder_set_of_0_1(Path(name), revision)):
            return old
        return _given(name, skip_bad=False)
    place = places.find(revision)
    if place is None:
        raise PicturesFailed(
            f"nobody noted where on this machine the {name} of pictures with revision {revision} is; "
            "say it with --pictures"
        )
    if name in (WHOLE, READABLE):
        if not _is_folder(place.where):
            raise PicturesFailed(
                f"{place.where}, with the pictures of revision {revision}, is gone; say with --pictures where it is now"
            )
        return folder_set(Path(place.where), skip_bad=name == READABLE)
    return dataset_set(place.where)


def _is_folder(name: str) -> bool:
    try:
        return Path(name).is_dir()
    except (OSError, ValueError):  # a name longer than any file's, or one with a zero in it
        return False
