"""Rows as they are stored: those that a lens yields, held to what was asked of it, their images encoded."""

import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from microscope_atlas.atlas.tables import Column, Table
from microscope_atlas.atlas.units import UnitRange
from microscope_atlas.errors import RowsFailed, nearest
from microscope_atlas.lenses.lens import Row

JPEG, PNG = b"\xff\xd8", b"\x89PNG"  # how files of a kind begin


@dataclass(frozen=True)
class Expected:
    """What rows are expected of a lens."""

    lens: str  # as it was asked for
    table: Table
    units: UnitRange
    each: int | None  # rows of a unit, or of the layer; None: it depends
    least: int  # of them, where it depends


def whole(batches: Iterable[list[Row]], made_by: Mapping[str, Any], expected: Expected) -> Iterator[list[Row]]:
    """What a lens yields, with what the run says of each row: every unit asked for, and each key once.

    RowsFailed, which names the lens, what it yields and what was expected, where it is anything else.
    """
    table, units, keys, found = expected.table, expected.units, set(), Counter[int | None]()
    for some in _lists(batches, expected.lens):
        rows = [{**made_by, **row} for row in some]
        for row in rows:
            _refuse_unfit(row, table)
        for column in table.keys:
            _refuse_type(column, rows, table)
        for row in rows:
            key = tuple(row[column.name] for column in table.keys)
            if (row["model"], row["layer"]) != (units.model, units.layer):
                told = f"{row['model']}/{row['layer']}, expected {units.model}/{units.layer} alone"
                raise RowsFailed(f"{expected.lens} yields a row of {told}")
            if table.level == "unit" and row["unit"] not in range(units.start, units.stop):
                told = f"unit {row['unit']}, expected units {units.start}:{units.stop} alone"
                raise RowsFailed(f"{expected.lens} yields a row of {told}")
            if key in keys:
                named = ", ".join(f"{column.name} {row[column.name]}" for column in table.keys)
                raise RowsFailed(f"{expected.lens} yields two rows of {named}; expected one of each key")
            keys.add(key)
            found[row["unit"] if table.level == "unit" else None] += 1
        yield rows
    for unit in range(units.start, units.stop) if table.level == "unit" else [None]:
        about = "the layer" if unit is None else f"unit {unit}"
        if expected.each is not None and found[unit] != expected.each:
            told = f"{found[unit]} rows of {about}, expected {expected.each}, the count of table {table.name}"
            raise RowsFailed(f"{expected.lens} yields {told}")
        if expected.each is None and found[unit] < expected.least:
            raise RowsFailed(f"{expected.lens} yields no row of {about}, expected one or more")


def stored(rows: list[Row], table: Table) -> list[dict[str, Any]]:
    """Rows with their images encoded and named, and their recipe as JSON; RowsFailed for a value of another type."""
    finished = [_finished(row, table) for row in rows]
    for column in table.columns:
        if column.name not in table.images:
            _refuse_type(column, finished, table)
    return finished


def encode(pixels: Tensor | NDArray[np.uint8]) -> bytes:
    """Bytes -> a file: (height, width, 3) and (height, width), gray, JPEG; (height, width, 4), with opacity, PNG.

    JPEG has quality 95, and colour at full resolution.
    Renders are full of fine colour, which lossy WebP halves in both directions: on renders of inception_4c it keeps
    29 dB at quality 90, this 36 dB, at 8 and 17 KB an image of 112 px (PNG: 32 KB).
    """
    file = io.BytesIO()
    image = Image.fromarray(pixels.numpy() if isinstance(pixels, Tensor) else pixels)
    if image.mode == "RGBA":
        image.save(file, "PNG")
    else:
        image.save(file, "JPEG", quality=95, subsampling=0)
    return file.getvalue()


def _lists(batches: Any, lens: str) -> Iterator[list[Row]]:
    """The lists of rows that a lens yields; RowsFailed where it yields anything else."""
    if not isinstance(batches, Iterable):
        raise RowsFailed(f"rows of {lens} returns {type(batches).__name__}, expected to yield lists of rows")
    for some in batches:
        if not isinstance(some, list | tuple):
            raise RowsFailed(f"{lens} yields {type(some).__name__}, expected a list of rows: yield [row]")
        for row in some:
            if not isinstance(row, Mapping):
                raise RowsFailed(f"{lens} yields a row that is {type(row).__name__}, expected columns with values")
        yield list(some)


def _finished(row: Row, table: Table) -> dict[str, Any]:
    named = "-".join(str(row[column.name]) for column in table.keys)
    images = {name: _file(row[name], f"{name} of {table.name}", named) for name in table.images}
    try:
        recipe = json.dumps(row["recipe"], sort_keys=True)
    except (TypeError, ValueError) as error:
        raise RowsFailed(f"recipe of a row of {table.name} cannot be written as JSON: {error}") from error
    return {**row, **images, "recipe": recipe}


def _refuse_unfit(row: Row, table: Table) -> None:
    """RowsFailed for a row that does not give just its table's columns, or has null in one that may not be."""
    columns = {column.name: column for column in table.columns}
    wrong = [f"{name!r}, which is no column (nearest: {nearest(name, columns)})" for name in row if name not in columns]
    wrong += [f"no {name!r}; where there is nothing it is to say None" for name in columns if name not in row]
    wrong += [f"None as {name!r}" for name in columns if not columns[name].optional and row.get(name, "") is None]
    if wrong:
        raise RowsFailed(f"a row of {table.name} has {'; and '.join(wrong)}")


def _refuse_type(column: Column, rows: list[Row], table: Table) -> None:
    """RowsFailed where values are none of their column's type."""
    try:
        pa.array([row[column.name] for row in rows], column.type)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise RowsFailed(
            f"{column.name} of {table.name} is {column.type}, which a row does not fit: {error}"
        ) from error


def _file(image: Any, column: str, named: str) -> dict[str, Any] | None:
    """An image as `datasets` stores it: the encoded file, and its name."""
    if image is None:
        return None
    if isinstance(image, bytes) and image.startswith((JPEG, PNG)):
        return {"bytes": image, "path": f"{named}.{'jpg' if image.startswith(JPEG) else 'png'}"}
    pixels = image.detach().cpu().numpy() if isinstance(image, Tensor) else image
    if not (isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8 and pixels.size and _is_picture(pixels.shape)):
        told = f"{image.dtype} of {tuple(image.shape)}" if hasattr(image, "dtype") else type(image).__name__
        raise RowsFailed(
            f"{column} is {told}, expected uint8 of torch or numpy, (height, width, 3), (height, width, 4) with "
            "opacity or (height, width) gray, or the bytes of a JPEG or PNG file"
        )
    encoded = encode(np.ascontiguousarray(pixels))
    return {"bytes": encoded, "path": f"{named}.{'jpg' if encoded.startswith(JPEG) else 'png'}"}


def _is_picture(shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 or (len(shape) == 3 and shape[2] in (3, 4))
