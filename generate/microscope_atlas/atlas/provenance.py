"""Where things come from: a model's weights, as a manifest states it, and rows, by the package that makes them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from microscope_atlas.structure import PRINTABLE
from microscope_atlas.version import __version__


def package() -> str:
    """The package that makes rows here, with its version: `microscope-atlas 0.2.0`."""
    return f"microscope-atlas {__version__}"


Words = Annotated[str, PRINTABLE]


@dataclass(frozen=True)
class Provenance:
    """Where weights come from."""

    source: Words  # the URL or package; for a file at hand its name
    file_sha256: Words  # of the file as it came; empty where no file did
    license: Words
    official: bool  # the file is the published one: its package's own, or its hash is the stated one
    ignored: tuple[Words, ...] = ()  # tensors in the file that the network has no use for


UNTRAINED = Provenance("random", file_sha256="", license="none", official=False)  # nobody published these


def is_untrained(provenance: Mapping[str, Any]) -> bool:
    """Whether a manifest's provenance is that of random weights."""
    return (provenance["source"], provenance["license"]) == (UNTRAINED.source, UNTRAINED.license)
