"""Files of labels from outside: CSV, JSON, JSON lines or Parquet, a row a label of a unit.

    key,label
    inceptionv1/mixed3b/379,curves
    inceptionv1/mixed3b/385,curves

A unit is named by its key, by a link to OpenAI Microscope, as `3b:379` where the model is known, or by the columns
model, layer and unit. What all rows have in common, such as their source and license, may be said beside the file.
"""

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from microscope_atlas.atlas import links
from microscope_atlas.atlas.manifest import Manifest
from microscope_atlas.atlas.present import refuse_absent
from microscope_atlas.atlas.units import UnitRange, union
from microscope_atlas.errors import AtlasError, InvalidKey, InvalidSetting, UnknownName, nearest
from microscope_atlas.keys import LAYER, MODEL, NUMBER, Key, parse_key

MOST_BYTES = 1 << 26  # of a file
MOST_ROWS = 1_000_000
MOST_CHARACTERS = {"label": 200, "source": 1000, "license": 200, "method": 100, "measure": 300}
COLUMNS = ("key", "model", "layer", "unit", "label", "score", "measure", "method", "source", "license")
SAID = ("source", "license", "method", "measure", "model", "layer")  # that may be said of all rows at once
BRIEF = re.compile(r"([A-Za-z0-9_]+):(0|[1-9][0-9]{0,8})")  # `4c:447`, as papers write it

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Stated:
    """What is said of all rows of a file that do not say it themselves, and what its columns are called."""

    source: str | None = None  # who made the labels, and where they are to be had
    license: str | None = None
    method: str = "imported"
    measure: str | None = None  # what `score` measures
    model: str | None = None
    layer: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)  # ours -> the file's: `{"label": "family"}`

    def __post_init__(self) -> None:
        """Take space around words away; InvalidSetting for what is no text, and for columns that are none of ours."""
        for name in SAID:
            value = getattr(self, name)
            if not isinstance(value, str | None):
                raise InvalidSetting(f"{name} of labels is {str(value)[:60]!r}, expected text")
            object.__setattr__(self, name, value and value.strip())
        for name in self.columns:
            if name not in COLUMNS:
                raise InvalidSetting(f"labels have no column {name!r}; nearest: {nearest(name, COLUMNS)}")


@dataclass(frozen=True)
class Label:
    """A label of a unit, and who says so."""

    key: Key
    label: str
    method: str
    source: str
    license: str
    score: float | None
    measure: str | None


@dataclass(frozen=True)
class LabelFile:
    """What a file holds."""

    name: str
    sha256: str
    labels: tuple[Label, ...]  # in its order
    left_out: int  # rows about units that the atlas does not have


def read(path: Path, manifest: Manifest, stated: Stated, skip_absent: bool = False) -> LabelFile:
    """The labels of a file, each of a unit that the atlas has rows of.

    InvalidSetting, with the row, for what is no label or says the same twice; UnknownName for a unit that the atlas
    does not have, unless `skip_absent` leaves those out.
    """
    content = _content(path)
    known, left_out = _Units(manifest), 0
    found: list[Label] = []
    first: dict[tuple[Key, str, str, str], int] = {}  # the row in which somebody says something of a unit
    for number, row in enumerate(_rows(path, content), 1):
        if number > MOST_ROWS:
            raise InvalidSetting(f"{path} has more than {MOST_ROWS:,} rows; expected a label a row, fewer of them")
        where = f"{path}, row {number}"
        values = _values(row, stated, where)
        try:
            key = known.named(values, where)
        except UnknownName:
            if not skip_absent:
                raise
            left_out += 1
            continue
        label = _label(key, values, where)
        found.append(label)
        if (there := first.setdefault((key, label.label, label.method, label.source), number)) != number:
            raise InvalidSetting(f"{where}: {key} {label.label!r} stands in row {there} already; take it out")
    if not found:
        told = f", of {left_out} rows about units that it does not have" if left_out else ""
        raise InvalidSetting(f"{path} has no label of a unit that is in the atlas{told}")
    return LabelFile(path.name, hashlib.sha256(content).hexdigest(), tuple(found), left_out)


class _Units:
    """The units that an atlas has rows of."""

    def __init__(self, manifest: Manifest):
        self.manifest = manifest
        self.there: dict[str, dict[str, list[UnitRange]]] = {}
        about = [each.units for each in manifest.shards.values() if manifest.table(each.units.lens).level == "unit"]
        for run in union(UnitRange("all", each.model, each.layer, each.start, each.stop) for each in about):
            self.there.setdefault(run.model, {}).setdefault(run.layer, []).append(run)

    def named(self, values: Row, where: str) -> Key:
        """The unit that a row is about; UnknownName where the atlas has none such."""
        try:
            keys = list(self._meant(values))
        except InvalidKey as error:
            raise InvalidKey(f"{where}: {error}") from None
        for key in keys:
            runs = self.there.get(key.model, {}).get(str(key.layer), ())
            if key.unit is not None and any(run.start <= key.unit < run.stop for run in runs):
                return key
        try:
            refuse_absent(self.manifest, keys[0])
        except UnknownName as error:
            raise UnknownName(f"{where}: {error}") from None
        raise UnknownName(f"{where}: the atlas has no rows about unit {keys[0]}")

    def _meant(self, values: Row) -> Iterator[Key]:
        """What a row may mean, the likeliest first."""
        key, model, layer = values["key"], values["model"], values["layer"]
        if key:
            brief = BRIEF.fullmatch(key)
            if brief and model:
                yield Key(model, self._layer(model, brief[1]), int(brief[2]))
            elif links.HOST in key:
                yield links.resolve(key)
            else:
                yield from _either(key)
            return
        unit = values["unit"]
        if not (model and layer and unit is not None):
            lacking = [name for name in ("model", "layer", "unit") if values[name] in (None, "")]
            raise InvalidKey(f"it names no unit: it has no key, and no {', no '.join(lacking)}")
        if not (MODEL.fullmatch(model) and NUMBER.fullmatch(unit)):
            raise InvalidKey(f"{model!r}, {layer!r}, {unit!r} name no unit; expected inceptionv1, mixed4c, 447")
        yield from _either(f"{model}/{layer}/{unit}")
        yield Key(model, self._layer(model, layer), int(unit))

    def _layer(self, model: str, called: str) -> str:
        """The layer of a model that papers call so: `4c` -> mixed4c, inception_4c; as it is where none or two are."""
        if not LAYER.fullmatch(called):
            raise InvalidKey(f"layer {called!r}; expected, for example, mixed4c")
        alike = [name for name in self.there.get(model, ()) if re.fullmatch(rf"[A-Za-z]+_?{called}", name)]
        return alike[0] if len(alike) == 1 and called not in self.there.get(model, ()) else called


def _either(key: str) -> Iterator[Key]:
    """A key as it is, then as OpenAI Microscope named its layer."""
    as_it_is = parse_key(key)
    if as_it_is.unit is None:
        raise InvalidKey(f"key {key!r} names no unit; expected model/layer/unit, such as inceptionv1/mixed4c/447")
    yield as_it_is
    try:
        yield links.resolve(f"/models/{key}")
    except AtlasError:  # then it is as it is
        return


def _label(key: Key, values: Row, where: str) -> Label:
    """A label whose every claim has an owner; InvalidSetting where one has none."""
    if not values["label"]:
        raise InvalidSetting(f"{where}: its label is empty; expected words, such as curves")
    for name, hint in (
        ("source", "who says so"),
        ("license", "under which license, such as CC-BY-4.0"),
        ("method", "how somebody came by it, such as by eye"),
    ):
        if not values[name]:
            raise InvalidSetting(f"{where} has no {name}: say {hint}, in a column of that name or with --{name}")
    score = _score(values["score"], where)
    if score is not None and not values["measure"]:
        raise InvalidSetting(
            f"{where} has a score, and nobody says what it measures: in a column measure, or with --measure"
        )
    for name, most in MOST_CHARACTERS.items():
        text = values[name] or ""
        if not text.isprintable() or len(text) > most:
            raise InvalidSetting(f"{where}: its {name} is {text[:60]!r}; expected a line of at most {most} characters")
    measure = values["measure"] if score is not None else None
    return Label(key, values["label"], values["method"], values["source"], values["license"], score, measure)


def _score(value: Any, where: str) -> float | None:
    if value in (None, ""):
        return None
    try:
        score = float(value)
    except (TypeError, ValueError, OverflowError):
        score = float("nan")
    if isinstance(value, bool) or not isfinite(score):
        raise InvalidSetting(f"{where}: its score is {str(value)[:60]!r}, expected a number")
    return score


def _values(row: Row, stated: Stated, where: str) -> dict[str, Any]:
    """A row's values under our names, text without space around it; what it does not say, as it is stated."""
    found: dict[str, Any] = {}
    for name in COLUMNS:
        called = stated.columns.get(name, name)
        if name in stated.columns and called not in row:
            raise InvalidSetting(f"{where} has no column {called!r}; nearest: {nearest(called, map(str, row))}")
        value = _as_written(row.get(called)) if name == "unit" else row.get(called)
        if name != "score" and not isinstance(value, str | None):
            raise InvalidSetting(f"{where}: its {called} is {str(value)[:60]!r}, expected text")
        found[name] = value.strip() if isinstance(value, str) else value
        if found[name] in (None, ""):
            found[name] = getattr(stated, name, None)
    return found


def _as_written(unit: Any) -> Any:
    """A unit's number as a file of text has it; what is no whole number, as it is."""
    if isinstance(unit, int) and not isinstance(unit, bool):
        return str(unit)
    return str(int(unit)) if isinstance(unit, float) and unit.is_integer() else unit


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InvalidSetting(f"{path} has more than {MOST_BYTES:,} bytes; expected a table with a label a row")
        return path.read_bytes()
    except (OSError, ValueError) as error:  # the latter: a zero in the name
        raise InvalidSetting(f"the labels {str(path)!r} cannot be read: {error}") from error


def _rows(path: Path, content: bytes) -> Iterator[Row]:
    """The rows of a file of one of the forms that are read, by its ending."""
    ending = path.suffix.lower()
    if ending not in READERS:
        raise InvalidSetting(f"{path} is no table that is read; expected {', '.join(READERS)}")
    try:
        for number, row in enumerate(READERS[ending](content), 1):
            if not isinstance(row, dict):
                raise InvalidSetting(f"{path}, row {number}: {str(row)[:60]!r}; expected columns with values")
            if None in row:
                raise InvalidSetting(f"{path}, row {number} has more cells than the table's head")
            yield row
    except (OSError, ValueError, RecursionError, csv.Error, pa.ArrowException) as error:  # the first: of Parquet
        raise InvalidSetting(f"{path} cannot be read as {ending.removeprefix('.')}: {error}") from error


def _csv(content: bytes) -> Iterator[Any]:
    return iter(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True))


def _tsv(content: bytes) -> Iterator[Any]:
    return iter(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), delimiter="\t", strict=True))


def _json(content: bytes) -> Iterator[Any]:
    """A list of objects, or one under `labels`."""
    plain = json.loads(content.decode("utf-8-sig"))
    rows = plain.get("labels") if isinstance(plain, dict) else plain
    if not isinstance(rows, list):
        raise ValueError("expected a list of objects, or one under the name labels")
    return iter(rows)


def _json_lines(content: bytes) -> Iterator[Any]:
    return (json.loads(line) for line in content.decode("utf-8-sig").split("\n") if line.strip())


def _parquet(content: bytes) -> Sequence[Any]:
    table = pq.read_table(pa.BufferReader(content))
    if table.num_rows > MOST_ROWS:
        raise ValueError(f"{table.num_rows:,} rows; expected at most {MOST_ROWS:,}")
    rows: Sequence[Any] = table.to_pylist()
    return rows


READERS = {
    ".csv": _csv,
    ".tsv": _tsv,
    ".json": _json,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".parquet": _parquet,
}
