"""Make a row of an atlas again, and say how close it comes.

On the machine and the software that made a row, on a CPU, the row comes out the same bit for bit, with one thread a
process as here. Elsewhere rounding differs, and grows through hundreds of steps into visible differences: a picture may
then show the same thing otherwise. So rows are judged by score and likeness, within tolerances stated here.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from microscope_atlas.atlas import schema
from microscope_atlas.atlas.manifest import Manifest, read_manifest
from microscope_atlas.atlas.present import refuse_absent
from microscope_atlas.atlas.provenance import is_untrained
from microscope_atlas.atlas.shards import read_shard
from microscope_atlas.atlas.storage import Storage
from microscope_atlas.atlas.tables import Table
from microscope_atlas.atlas.units import UnitRange
from microscope_atlas.errors import AtlasDamaged, AtlasError, RowsFailed, UnknownName
from microscope_atlas.keys import Key
from microscope_atlas.lenses.lens import Lens, refuse_level
from microscope_atlas.lenses.recipe import settings, with_what_came_later
from microscope_atlas.lenses.registry import LENSES, lens
from microscope_atlas.models.catalog import note_origin
from microscope_atlas.models.dictionaries import attached as dictionaries
from microscope_atlas.models.weights import WeightsKind
from microscope_atlas.pictures.decoder import decoded
from microscope_atlas.run import shard
from microscope_atlas.run.plan import Job

SCORE = 0.05  # most that a score may differ by, a share of the larger one
LIKENESS = 0.8  # least correlation of two pictures' values
NUMBERS = 0.01  # most that other numbers may differ by, a share of the largest of their column
SCORES = ("score", schema.ROBUST_SCORE.name)
PROVENANCE = {column.name for column in schema.PROVENANCE}
FORMERLY_FILLED = {"preferred_x"}  # columns in which version 0.1 named one of equals; null says so now

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """A row, beside the same row made again."""

    row: str  # what identifies it
    score: float | None  # the largest difference of its scores, a share of the larger one; None where it has none
    likeness: float | None  # the least correlation of its pictures with those made again; None where it has none
    numbers: float  # the largest difference of other numbers, a share of the largest of their column
    mismatched: tuple[str, ...]  # columns with other words, or lists of another length

    def __str__(self) -> str:
        told = [] if self.score is None else [f"score differs by {self.score:.2%}"]
        told += [] if self.likeness is None else [f"likeness {self.likeness:.4f}"]
        told += [f"other numbers differ by {self.numbers:.2%}"]
        told += [f"{column} is another" for column in self.mismatched]
        return f"{self.row}: {', '.join(told)}{'' if self.close else ': not close'}"

    @property
    def close(self) -> bool:
        """Whether it is within the tolerances."""
        return (
            (self.score is None or self.score <= SCORE)
            and (self.likeness is None or self.likeness >= LIKENESS)
            and self.numbers <= NUMBERS
            and not self.mismatched
        )


def reproduce(storage: Storage, key: Key, name: str, device: torch.device) -> tuple[list[str], Iterator[Comparison]]:
    """What is different here from where the rows of `key` in table `name` were made, and each row made again.

    Raises WrongLevel where the lens does not look at such a key, UnknownName where the atlas has no such rows, and
    WeightsError where the weights to be had here are not the row's.
    """
    manifest = read_manifest(storage)
    if name in manifest.tables:
        raise UnknownName(f"lens {name!r} is from outside; name it as --lens {manifest.tables[name]['lens']}")
    if name in manifest.given_labels:
        told = manifest.lenses[name]
        raise UnknownName(
            f"{name} was not made here: it was taken from {told.get('file')}, sha256 {told.get('file_sha256')}; "
            "compare that file with the rows"
        )
    known = lens(name)
    maker = name if name != known.name else None
    refuse_level(known, key)
    refuse_absent(manifest, key, known.name)
    note_origin(key.model, manifest.models[key.model]["provenance"]["source"])
    units = _units(manifest, known, key)
    there = _rows(storage, units, known.table.made_with(manifest.lenses[known.name]), key)
    job = _job(manifest, known, units if key.unit is None else _alone(units, key.unit), there[0])
    job = replace(job, maker=maker)
    here = {"software": shard.software(), "device": shard.device_name(device)}
    notes = [
        f"{column} was {value}, here it is {here[column]}"
        for column in here
        for value in sorted({row[column] for row in there} - {here[column]})
    ]
    return notes, _compared(there, job, storage, device)


def _units(manifest: Manifest, known: Lens[Any], key: Key) -> UnitRange:
    """Of the shard that holds the rows."""
    return next(
        made.units
        for made in manifest.shards.values()
        if (made.units.lens, made.units.model, made.units.layer) == (known.name, key.model, key.layer)
        and (key.unit is None or made.units.start <= key.unit < made.units.stop)
    )


def _alone(units: UnitRange, unit: int) -> UnitRange:
    return UnitRange(units.lens, units.model, units.layer, unit, unit + 1)


def _rows(storage: Storage, units: UnitRange, table: Table, key: Key) -> list[dict[str, Any]]:
    with storage.local_copy(units.path) as file:
        content = read_shard(file)
    if not content.schema.equals(table.arrow):
        raise AtlasDamaged(f"{storage.name}: {units.path} has other columns than schema {schema.SCHEMA_VERSION}")
    rows = [row for row in content.to_pylist() if key.unit is None or row["unit"] == key.unit]
    if not rows and table.config == schema.LABELS.name:
        raise UnknownName(f"{storage.name} has no {units.lens} of {key}: the lens found none that it would claim")
    if not rows:
        raise AtlasDamaged(
            f"{storage.name}: {units.path} has no rows of {key}; microscope-atlas check says what is wrong"
        )
    return rows


def _job(manifest: Manifest, known: Lens[Any], units: UnitRange, row: Mapping[str, Any]) -> Job:
    """What made a row, from what the row says; of a derived lens, from what the atlas holds."""
    try:
        made, stated = json.loads(row["recipe"]), manifest.lenses[known.name]
        recipe = known.restored({name: made[name] for name in stated})  # a row says more, such as its size
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise AtlasDamaged(
            f"the recipe of {units} is none of {known.name}: {error}; it cannot be made again"
        ) from error
    kind: WeightsKind = "random" if is_untrained(manifest.models[units.model]["provenance"]) else "pretrained"
    those = dictionaries.stated(manifest.models).get(units.model, {})
    return Job(units, recipe, kind, row["weights_sha256"], manifest.inputs(units), dictionaries=tuple(those.items()))


def _compared(there: list[dict[str, Any]], job: Job, storage: Storage, device: torch.device) -> Iterator[Comparison]:
    table = job.table
    try:
        rows = [row for some in shard.rows(job, storage, device) for row in some]
    except AtlasError:
        raise
    except (Exception, SystemExit) as error:  # whatever a user's code raises
        if job.lens.name in LENSES:
            raise
        raise RowsFailed(f"{job.maker} fails: {type(error).__name__}: {error}") from error
    made = pa.Table.from_pylist(rows, schema=table.arrow)
    again = {table.sort_key(row): row for row in made.to_pylist()}
    for row in there:
        stated = json.dumps(with_what_came_later(json.loads(row["recipe"]), settings(job.recipe)))
        yield compare({**row, "recipe": stated}, again.pop(table.sort_key(row), {}), table)


def compare(row: Mapping[str, Any], again: Mapping[str, Any], table: Table) -> Comparison:
    """How close a row made again, or nothing, comes to a row."""
    named = ", ".join(f"{c.name} {row[c.name]}" for c in table.keys if c.name not in ("model", "layer"))
    mismatched, numbers, score, likeness = [], 0.0, None, None
    for column in (column.name for column in table.columns if column.name not in PROVENANCE):
        a, b = row[column], again.get(column)
        if again and b is None and column in FORMERLY_FILLED and row["flag"] == again["flag"]:
            continue
        if (a is None) != (b is None):
            mismatched.append(column)
        elif a is None or b is None:
            continue
        elif column in table.images:
            alike = _likeness(_pixels(a), _pixels(b))
            likeness = alike if likeness is None else min(likeness, alike)
        elif column in SCORES:
            score = max(score or 0.0, _difference(np.array([a]), np.array([b])))
        else:
            (words, values), (words_again, values_again) = _taken_apart(a), _taken_apart(b)
            if words != words_again or len(values) != len(values_again):
                mismatched.append(column)
            elif values:
                numbers = max(numbers, _difference(np.array(values), np.array(values_again)))
    if again and json.loads(row["recipe"]) != json.loads(again["recipe"]):
        mismatched.append("recipe")
    return Comparison(named or f"{row['model']}/{row['layer']}", score, likeness, numbers, tuple(mismatched))


def _pixels(image: Mapping[str, Any]) -> Values:
    return np.asarray(decoded(image["bytes"] or b""), dtype=np.float64)


def _likeness(a: Values, b: Values) -> float:
    """Correlation of two pictures' values; of flat ones, whether they are the same."""
    if a.shape != b.shape:
        return 0.0
    if a.std() == 0 or b.std() == 0:
        return float(np.array_equal(a, b))
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def _difference(a: Values, b: Values) -> float:
    """The largest difference, a share of the largest value; what is not finite must be the same."""
    finite = np.isfinite(a) & np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return float("inf")
    a, b = a[finite], b[finite]
    largest = max(np.abs(a).max(initial=0), np.abs(b).max(initial=0))
    return float(np.abs(a - b).max(initial=0) / largest) if largest else 0.0


def _taken_apart(value: Any) -> tuple[list[Any], list[float]]:
    """The words and the numbers in a value, however nested, each in their order."""
    if isinstance(value, bool | str) or value is None:
        return [value], []
    if isinstance(value, int | float):
        return [], [float(value)]
    inner = [_taken_apart(each) for each in (value.values() if isinstance(value, dict) else value)]
    return [word for words, _ in inner for word in words], [number for _, numbers in inner for number in numbers]
