"""Text towers in the cache: each beside the image tower that it was trained with, and known by that one's weights."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from microscope_atlas.atlas.provenance import Provenance
from microscope_atlas.cache import cache
from microscope_atlas.errors import WeightsError
from microscope_atlas.models import converted, mirror
from microscope_atlas.models.converted import Weights
from microscope_atlas.models.organism import Organism
from microscope_atlas.models.texts.tower import fitted


def tower_in(organism: Organism, path: Path, provenance: Provenance) -> Weights | None:
    """The text tower in a file of the organism's weights; None where there is none.

    Raises WeightsError where what there is of it is not whole.
    """
    if organism.texts is None or not (found := organism.texts.read(path)):
        return None
    return _fitted(organism, found, str(path), provenance)


def obtain(organism: Organism, sha256: str, provenance: Provenance) -> None:
    """Have the text tower of weights with this sha256 in the cache, where a library gives it; else do nothing.

    WeightsError where the library cannot load it.
    """
    if organism.texts is None or organism.texts.load is None or kept_file(organism, sha256).exists():
        return
    keep(organism, sha256, _fitted(organism, organism.texts.load(), provenance.source, provenance))


def _fitted(organism: Organism, found: Mapping[str, Tensor], origin: str, provenance: Provenance) -> Weights:
    assert organism.texts is not None
    tensors = fitted(found, organism.layer(organism.texts.layer).units, origin)
    return Weights(tensors, converted.identity(tensors), provenance)


def keep(organism: Organism, sha256: str, tower: Weights) -> None:
    """Put the text tower of weights with this sha256 into the cache."""
    converted.write(kept_file(organism, sha256), tower)


def load(organism: Organism, sha256: str) -> Weights:
    """The text tower of weights with this sha256; WeightsError where it is not in the cache, or damaged."""
    refuse_absent(organism, sha256)
    return read(kept_file(organism, sha256))


def read(file: Path) -> Weights:
    """A text tower that was kept in this file; WeightsError, which says what to do, where it is damaged."""
    try:
        return converted.read(file)
    except WeightsError as error:
        raise WeightsError(f"{error}; delete it, and give the file again with --from") from error


def refuse_absent(organism: Organism, sha256: str) -> None:
    """WeightsError, which says what to do, where the text tower of weights with this sha256 is not in the cache."""
    if organism.texts is None:
        raise WeightsError(f"{organism.name} has no text tower")
    if not kept_file(organism, sha256).exists():
        raise WeightsError(
            f"the text tower of {organism.name}'s weights {sha256[:12]} is not here; give the file that holds both, "
            f"{organism.texts.files}: microscope-atlas weights {organism.name} --from FILE"
        )


def kept_file(organism: Organism, sha256: str) -> Path:
    """Where the text tower of weights with this sha256 lies."""
    return file_named(organism.name, sha256)


def file_named(model: str, sha256: str) -> Path:
    """The same, of a network that is only named."""
    file = cache() / "weights" / mirror.filename(model)
    return file.with_name(f"{file.stem}.texts@{sha256}{file.suffix}")
