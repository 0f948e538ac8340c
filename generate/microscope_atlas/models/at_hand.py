"""What files on this machine say of the catalog's networks: layers that the weights at hand lack, and names of classes.

Both stand in the cache, beside the weights. Names that may not travel with this package come with the weights, or from
a file of one's own.
"""

import json
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from safetensors import SafetensorError, safe_open

from microscope_atlas.cache import cache, whole
from microscope_atlas.errors import WeightsError
from microscope_atlas.models import mirror
from microscope_atlas.models.converted import LACKING
from microscope_atlas.models.networks.graph import Graph
from microscope_atlas.models.networks.network import Network
from microscope_atlas.models.organism import Organism

MOST_BYTES = 1 << 20  # of a file of names
SPARE = "no class"  # of a logit behind the last name: inceptionv1 has eight that were never trained


def at_hand(organism: Organism) -> Organism:
    """The organism without layers that its weights lack, and with the names of its classes, where they are here."""
    if lacking := _lacking(cached_file(organism)):
        organism = without(organism, lacking)
    if organism.name_classes is None and (names := names_file(organism)).exists():
        classes = tuple(names.read_text().splitlines())
        organism = replace(organism, name_classes=lambda: classes)
    return organism


def stamps(organism: Organism) -> tuple[tuple[int, int] | None, ...]:
    """What tells these files from what they were before."""
    return tuple(_stamp(path) for path in (cached_file(organism), names_file(organism)))


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def cached_file(organism: Organism) -> Path:
    """Where the organism's converted weights lie."""
    file = cache() / "weights" / mirror.filename(organism.name)
    return file.with_stem(f"{file.stem}@{organism.revision}") if organism.revision else file


def names_file(organism: Organism) -> Path:
    """Where the names of its classes lie, a line each, where they did not come with this package."""
    return cache() / "classes" / Path(mirror.filename(organism.name)).with_suffix(".txt").name


def _lacking(path: Path) -> tuple[str, ...]:
    if not path.exists():
        return ()
    try:
        with safe_open(path, framework="pt") as file:
            return tuple(map(str, json.loads((file.metadata() or {}).get(LACKING, "[]"))))
    except (SafetensorError, OSError, ValueError, TypeError):
        return ()  # whoever loads it says that it is damaged


def lacking(organism: Organism, given: Mapping[str, object], wants: Iterable[str]) -> tuple[str, ...]:
    """The layers that tensors of these names do not suffice for; none where they do for none, or it is no Graph."""
    graph = organism.blank()
    missing = {name.rpartition(".")[0] for name in wants if name not in given}
    if not missing or not isinstance(graph, Graph):
        return ()
    found = tuple(layer for layer in organism.layers if missing.intersection(graph.order((layer,))))
    return () if len(found) == len(organism.layers) else found


def without(organism: Organism, layers: Iterable[str]) -> Organism:
    """The organism without these layers, and what leads to them alone."""
    left_out = set(layers)
    kept = {name: op for name, op in organism.legacy_ops.items() if name not in left_out}
    return replace(
        organism,
        build=partial(_only, organism.build, tuple(kept)),
        legacy_ops=kept,
        legacy_parts={op: part for op, part in organism.legacy_parts.items() if part.layer not in left_out},
        lacking=tuple(layers),
    )


def _only(build: Callable[[], Network], layers: tuple[str, ...]) -> Network:
    """The part of a graph that these layers need."""
    graph = build()
    assert isinstance(graph, Graph)  # of no other is it known what a layer lacks
    part = Graph()
    for name in graph.order(layers):
        part.add(name, graph.get_submodule(name), *graph.reads[name])
    return part


def take_names(organism: Organism, names: Iterable[str], where: str) -> tuple[str, ...]:
    """Keep the names of an organism's classes, in the order of its logits; WeightsError where they do not fit it.

    Logits behind the last name are spare ones.
    """
    *_, last = organism.layers.values()
    found = [" ".join(name.split()) for name in names]
    while found and not found[-1]:
        found.pop()
    if not found or not all(found) or not 0 <= last.units - len(found) <= organism.spare_classes:
        expected = f"{last.units - organism.spare_classes} to {last.units}" if organism.spare_classes else last.units
        raise WeightsError(f"{where} has {len(found)} names of classes; {organism.name} has {expected}, a line each")
    found += [SPARE] * (last.units - len(found))
    path = names_file(organism)
    try:
        with whole(path) as beside:
            beside.write_text("\n".join(found) + "\n")
    except OSError as error:
        raise WeightsError(f"{path} cannot be written: {error}") from error
    return tuple(found)


def names_in(path: Path) -> list[str]:
    """Names of classes in a file of text, a line each; WeightsError where it is none.

    Of lines such as `/a/airfield 0`, as Places365 has them, `airfield`.
    """
    try:
        with path.open("rb") as file:
            return lines(file.read(MOST_BYTES + 1), str(path))
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error}") from error


def names_within(path: Path, member: str) -> list[str] | None:
    """The same of a file within a zip archive; None where there is none."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(member) as file:
            return lines(file.read(MOST_BYTES + 1), f"{path}: {member}")
    except (zipfile.BadZipFile, KeyError, OSError, NotImplementedError, RuntimeError):
        return None


def lines(content: bytes, where: str) -> list[str]:
    """Names out of the bytes of a text."""
    if len(content) > MOST_BYTES:
        raise WeightsError(f"{where} has more than {MOST_BYTES} bytes; expected names of classes, a line each")
    try:
        found = content.decode().splitlines()
    except UnicodeDecodeError as error:
        raise WeightsError(f"{where} is no text: {error}; expected names of classes, a line each") from error
    return [_plain(line) for line in found if not line.startswith("#")]


def _plain(line: str) -> str:
    """A name: of `/a/airfield/indoor 0` it is `airfield, indoor`."""
    if not line.startswith("/"):
        return line
    words = line.rpartition(" ")[0] or line
    return ", ".join(words.replace("_", " ").split("/")[2:])
