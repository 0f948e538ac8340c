"""The pictures of a folder, and of the folders in it, in the order of their paths.

What a set is, its content says: the hash of every file, in that order. Neither where the folder is nor when its files
were written matters, so a copy, a clone and an archive of it are the same set. To hash them, all files are read once;
on that occasion they are decoded too, which a run does anyway for each layer, so that one that is damaged is named now
and not in an hour. Both are remembered for as long as no file has another size or time.
"""

import hashlib
import io
import os
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from microscope_atlas.errors import PicturesFailed
from microscope_atlas.pictures import places
from microscope_atlas.pictures.decoder import BOMBS, DAMAGED, picture
from microscope_atlas.pictures.labels import of_folder
from microscope_atlas.pictures.picture_set import MAX_PIXELS, THREADS, PictureSet, ahead
from microscope_atlas.pictures.places import Place
from microscope_atlas.pictures.revisions import revision_of
from microscope_atlas.pictures.terms import beside

WHOLE = "folder"  # the set's name in rows
READABLE = "folder#readable"  # the same, where files that cannot be read were left out because the maker said so

FILES = {".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}  # of image files
ENOUGH = 64  # px that a JPEG is decoded at to see whether it is whole: all of its bytes are looked at
NAMED = 20  # damaged files that an error lists


def folder_set(folder: Path, skip_bad: bool = False) -> PictureSet:
    """The set of a folder's pictures; PicturesFailed, with all that are, where some cannot be read.

    With `skip_bad` those are left out, and the set has another name.
    """
    folder = folder.resolve()
    paths = pictures_in(folder)
    place = Place(str(folder), _fingerprint(folder, paths))
    revision = places.revision(place)
    known = places.find(revision) if revision else None
    if revision is None or known is None or (known.left_out and not skip_bad):
        hashes, bad = _read(paths)
        if bad and not skip_bad:
            raise _all(folder, bad)
        revision = revision_of([hashes[path] for path in paths if path in hashes])
        known = replace(place, left_out=tuple(path.relative_to(folder).as_posix() for path in bad))
        places.note(revision, known)
    paths = [path for path in paths if path.relative_to(folder).as_posix() not in known.left_out]

    def read(number: int) -> Image.Image:
        with paths[number].open("rb") as file:
            return picture(file, MAX_PIXELS)

    name = READABLE if skip_bad else WHOLE
    return PictureSet(
        name,
        revision,
        len(paths),
        read,
        lambda number: str(paths[number]),
        beside(folder),
        read_labels=lambda: of_folder(folder, paths),
    )


def folder_set_of_0_1(folder: Path, revision: str) -> PictureSet | None:
    """The same as version 0.1 knew it, by names and sizes alone; None where that had another revision."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in FILES and path.is_file())
    if revision_of([[path.relative_to(folder).as_posix(), path.stat().st_size] for path in paths]) != revision:
        return None

    def read(number: int) -> Image.Image:
        with paths[number].open("rb") as file:
            return picture(file, MAX_PIXELS)

    return PictureSet(str(folder), revision, len(paths), read, lambda number: str(paths[number]), beside(folder))


def pictures_in(folder: Path) -> list[Path]:
    """The image files in a folder and below it, links followed, but hidden ones: `._a.jpg` is no picture."""
    found, seen = [], set()
    for at, inner, names in os.walk(folder, followlinks=True):
        inner[:] = [name for name in inner if not name.startswith(".")]
        if (real := os.path.realpath(at)) in seen:  # a link that leads back is followed once
            inner.clear()
            continue
        seen.add(real)
        found += [Path(at, name) for name in names if not name.startswith(".") and Path(name).suffix.lower() in FILES]
    return sorted(found, key=lambda path: _order(path.relative_to(folder)))


def _order(path: Path) -> tuple[str, ...]:
    """What pictures are sorted by: their path, however a file system spells its accents."""
    return tuple(unicodedata.normalize("NFC", part) for part in path.parts)


def _read(paths: Sequence[Path]) -> tuple[dict[Path, str], dict[Path, str]]:
    """The hash of each file that holds a picture, and what is wrong with each that does not."""

    def look(path: Path) -> tuple[Path, str, str]:
        try:
            file = path.read_bytes()
            picture(io.BytesIO(file), MAX_PIXELS, ENOUGH)
        except (*DAMAGED, *BOMBS) as error:
            return path, "", str(error) or repr(error)
        return path, hashlib.sha256(file).hexdigest(), ""

    looked = list(ahead(look, paths, 2 * THREADS))
    return (
        {path: found for path, found, wrong in looked if not wrong},
        {path: wrong for path, _, wrong in looked if wrong},
    )


def _all(folder: Path, bad: dict[Path, str]) -> PicturesFailed:
    listed = "".join(f"\n  {path.relative_to(folder)}: {wrong}" for path, wrong in list(bad.items())[:NAMED])
    more = f"\n  and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
    return PicturesFailed(
        f"{len(bad)} files in {folder} cannot be read as pictures; mend them, take them out, "
        f"or leave them out with --skip-bad-pictures:{listed}{more}"
    )


def _fingerprint(folder: Path, paths: Sequence[Path]) -> str:
    """Of the files' names, sizes and times."""
    stats = [(path, path.stat() if path.exists() else None) for path in paths]
    return revision_of(
        [[path.relative_to(folder).as_posix(), *((at.st_size, at.st_mtime_ns) if at else ())] for path, at in stats]
    )
