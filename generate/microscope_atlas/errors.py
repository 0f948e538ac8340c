"""Every error that the package raises on purpose.

    AtlasError
    ├── InvalidKey        a key, range or version that cannot be parsed
    ├── UnknownName       no such model, layer, unit, lens, quality
    ├── InvalidSetting    a setting that a lens does not have, or a value that it cannot have
    ├── WrongLevel        a lens that is pointed at a layer and looks at units, or the reverse
    ├── ExtraMissing      a library that comes with an extra of this package is not installed
    ├── NetworkFailed     a network from outside that cannot be imported, built or read
    ├── DictionaryFailed  a dictionary that cannot be read, or that does not fit the layer it is to stand behind
    ├── LensFailed        a lens from outside that cannot be imported, or that cannot stand in an atlas
    │   └── RowsFailed    rows that a lens made are not those of its table, or not of the units asked for
    ├── WeightsError      weights that cannot be had, read or fitted to a network
    ├── PicturesFailed    pictures that cannot be found or read, or are not the ones expected
    ├── SettingsDiffer    an atlas that was rendered with other settings
    ├── AtlasBusy         another run is writing the atlas
    ├── AtlasDamaged      a file of the atlas that is not what it should be
    ├── AtlasUnwritable   the atlas' disk is full, read-only, or refuses in another way
    ├── OutOfMemory       a shard that the memory is too small for, however few pictures are made at once
    ├── NotRendered       rows that a derived lens is made from are not in the atlas
    ├── RenderFailed      one or more shards failed; the others are there
    ├── StorageFailed     storage with a URL that refuses, or does not answer
    ├── ClusterFailed     a Ray cluster that cannot be joined, or has no room for a task
    ├── HubFailed         the Hugging Face Hub refuses, or does not answer
    ├── PublishFailed     an atlas that may not be published as it is
    └── VersionTaken      a version that was published with other content

A message says what, which value, what was expected, and what to do. The command line prints it as it is: exit status 2
for the first four, NetworkFailed, DictionaryFailed, LensFailed itself, SettingsDiffer and VersionTaken, which are the
caller's to mend, 1 for the rest.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class AtlasError(Exception):
    """Base of all errors that the package raises on purpose."""

    exit_status = 1


class InvalidKey(AtlasError):
    """A key, range or version that cannot be parsed."""

    exit_status = 2


class UnknownName(AtlasError):
    """No such model, layer, unit, lens or quality."""

    exit_status = 2


class InvalidSetting(AtlasError):
    """A setting that a lens does not have, or a value that it cannot have."""

    exit_status = 2


class WrongLevel(AtlasError):
    """A lens that is pointed at a layer and looks at units, or the reverse."""

    exit_status = 2


class ExtraMissing(AtlasError):
    """A library that comes with an extra of this package is not installed."""


class NetworkFailed(AtlasError):
    """A network from outside that cannot be imported, built or read."""

    exit_status = 2


class DictionaryFailed(AtlasError):
    """A dictionary that cannot be read, or that does not fit the layer it is to stand behind."""

    exit_status = 2


class LensFailed(AtlasError):
    """A lens from outside that cannot be imported, or that cannot stand in an atlas."""

    exit_status = 2


class RowsFailed(LensFailed):
    """Rows that a lens made are not those of its table, or not of the units asked for."""

    exit_status = 1


class WeightsError(AtlasError):
    """Weights that cannot be had, read or fitted to a network."""


class PicturesFailed(AtlasError):
    """Pictures that cannot be found or read, or are not the ones expected."""


class SettingsDiffer(AtlasError):
    """An atlas that was rendered with other settings: those are another atlas."""

    exit_status = 2


class AtlasBusy(AtlasError):
    """Another run is writing the atlas."""


class AtlasDamaged(AtlasError):
    """A file of the atlas that is missing, unreadable or not what it should be."""


class AtlasUnwritable(AtlasError):
    """The atlas' disk is full, read-only, or refuses in another way that every further shard would meet too."""


class OutOfMemory(AtlasError):
    """A shard that the memory is too small for, however few pictures are made at once."""


class NotRendered(AtlasError):
    """Rows that a derived lens is made from are not in the atlas: to be rendered first."""


class RenderFailed(AtlasError):
    """One or more shards failed; the others are there."""


class StorageFailed(AtlasError):
    """Storage with a URL that refuses, or does not answer."""


class ClusterFailed(AtlasError):
    """A Ray cluster that cannot be joined, or has no room for a task."""


class HubFailed(AtlasError):
    """The Hugging Face Hub refuses, or does not answer."""


class PublishFailed(AtlasError):
    """An atlas that may not be published as it is."""


class VersionTaken(AtlasError):
    """A version that was published with other content: published versions never change."""

    exit_status = 2


def unknown(kind: str, name: str, where: str, known: Iterable[str]) -> UnknownName:
    """`layer 'conv5_9' is not in vgg19_caffe; nearest: conv5_4, conv5_3`, ready to raise."""
    near = nearest(name, known)
    return UnknownName(f"{kind} {name!r} is not in {where}" + (f"; nearest: {near}" if near else "; there is none"))


def nearest(name: str, known: Iterable[str]) -> str:
    """Up to three of the names that are known, those most like `name`, in words."""
    names = list(known)
    return ", ".join(get_close_matches(name, names, n=3, cutoff=0.4) or names[:3])


def first_line(error: BaseException) -> str:
    """What an error of somebody else's says first: libraries go on for many lines."""
    return str(error).strip().partition("\n")[0]
