"""The set of pictures that comes with the package: photos, cut into squares."""

from microscope_atlas.errors import PicturesFailed
from microscope_atlas.pictures.cuts import cut_of, default_revision, squares
from microscope_atlas.pictures.picture_set import PictureSet
from microscope_atlas.pictures.sources import DEFAULT, source


def own_set(revision: str | None = None) -> PictureSet:
    """The package's own pictures: the set of a revision, or the present one.

    PicturesFailed where this version has none of that revision.
    """
    cut = cut_of(revision)
    if cut is None:
        raise PicturesFailed(
            f"{DEFAULT} has revision {default_revision()} here, {revision} is expected: its pictures are not the same; "
            "use the version of microscope-atlas that its rows name"
        )
    photos = {name: source(name) for name in cut.photos}
    crops = [(name, box) for name, photo in photos.items() for box in squares(*photo.size, cut.shares, cut.step)]
    return PictureSet(
        DEFAULT,
        cut.revision,
        len(crops),
        lambda number: photos[crops[number][0]].crop(crops[number][1]),
        lambda number: "{} of the package, {}".format(*crops[number]),
        photos=tuple(name for name, _ in crops) if cut.spread else None,
    )
