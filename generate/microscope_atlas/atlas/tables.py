"""What a table is: columns with a type and a meaning, and how `datasets`, Parquet and readers are told of them."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import pyarrow as pa

from microscope_atlas.atlas.organisms import Kind


def list_of(type: pa.DataType) -> pa.DataType:
    """A list, its elements named as Parquet names them, so that it reads back as it was written."""
    return pa.list_(pa.field("element", type))


IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])  # datasets' Image: the encoded file, and its name
FLOATS = list_of(pa.float32())


Level = Literal["layer", "unit"]  # what a row is about
Scope = Literal["layer", "whole", "atlas"]
# of rows that others are made from: about the same units of the same layer, about all of that layer, or of all models


@dataclass(frozen=True)
class Column:
    """A column, and what its values mean."""

    name: str
    type: pa.DataType
    meaning: str  # with unit and range
    key: bool = False  # part of what identifies a row; gets a dictionary and statistics, for filtering
    descending: bool = False  # order of the rows, for key columns
    optional: bool = False  # may be null; `datasets` knows an image by this, so images always are
    order: tuple[str, ...] = ()  # of the values of a key column that has an order of its own; else that of its type
    setting: str = ""  # of the recipe, where the column came later: rows made without it, as all older ones, lack it

    def rank(self, value: Any) -> Any:
        """What a value of a key column is sorted by."""
        if self.order:
            return self.order.index(value) if value in self.order else len(self.order)
        return -value if self.descending else value


@dataclass(frozen=True)
class Table:
    """The columns of one dataset config; its rows are sorted by the key columns, in their order."""

    name: str
    about: str  # what a row holds
    columns: tuple[Column, ...]
    level: Level = "unit"  # what a row is about; of a layer, a shard holds all of it
    reads: Mapping[str, Scope] = field(default_factory=dict)  # tables that its rows are made from; else: from a network
    count: Callable[[Mapping[str, Any]], int | None] = field(default=lambda settings: None)
    # rows that a unit, or a layer, gets with a recipe's settings; None: it depends
    count_dense: Callable[[Mapping[str, Any]], int | None] | None = None  # of dense layers, where that is another
    title: str = ""  # a heading; its name in words where none is given
    shows_pictures: bool = False  # whether natural pictures can be seen in its images, which are owed to somebody
    config: str = ""  # what `load_dataset` has its rows in, beside those of others with the same columns; else its name

    def __post_init__(self) -> None:
        if not self.title:
            object.__setattr__(self, "title", self.name.replace("_", " ").capitalize())
        if not self.config:
            object.__setattr__(self, "config", self.name)

    def rows_each(self, settings: Mapping[str, Any], kind: Kind) -> int | None:
        """Rows that a unit of a layer of this kind, or the layer, gets with a recipe's settings; None: it depends."""
        return self.count_dense(settings) if self.count_dense and kind == "dense" else self.count(settings)

    def made_with(self, settings: Mapping[str, Any]) -> "Table":
        """The table as rows have it that were made with a recipe's settings: without columns that came after it."""
        columns = tuple(column for column in self.columns if not column.setting or settings.get(column.setting))
        return self if columns == self.columns else replace(self, columns=columns)

    @cached_property
    def keys(self) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if column.key)

    @cached_property
    def images(self) -> tuple[str, ...]:
        """Columns that hold images."""
        return tuple(column.name for column in self.columns if column.type == IMAGE)

    @cached_property
    def leaves(self) -> tuple[str, ...]:
        """Parquet's names of what it stores: the columns, structs and lists taken apart."""
        return tuple(leaf for column in self.columns for leaf in _leaves(column.name, column.type))

    @cached_property
    def arrow(self) -> pa.Schema:
        """The Parquet schema, with the features that `datasets` reads from it."""
        fields = [pa.field(c.name, c.type, nullable=c.optional) for c in self.columns]
        features = {c.name: _feature(c.type) for c in self.columns}
        return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": features}})})

    def sort_key(self, row: dict[str, Any]) -> tuple[Any, ...]:
        """What rows of one shard are sorted by."""
        return tuple(c.rank(row[c.name]) for c in self.keys)


def described(type: pa.DataType) -> str:
    """A column's type for readers: `image`, `float32`, `list<float32>`, `list<struct<unit: int32>>`."""
    if type == IMAGE:
        return "image"
    if pa.types.is_struct(type):
        return f"struct<{', '.join(f'{field.name}: {described(field.type)}' for field in type)}>"
    if pa.types.is_list(type):
        return f"list<{described(type.value_type)}>"
    return _dtype(type)


def feature(type: pa.DataType) -> dict[str, Any]:
    """A column's type in the YAML of a dataset card: `{"dtype": "float32"}`, `{"list": "float32"}`."""
    if type == IMAGE:
        return {"dtype": "image"}
    if pa.types.is_struct(type):
        return {"struct": [{"name": field.name, **feature(field.type)} for field in type]}
    if pa.types.is_list(type):
        return {"list": _alone(feature(type.value_type))}
    return {"dtype": _dtype(type)}


def _leaves(name: str, type: pa.DataType) -> list[str]:
    if pa.types.is_struct(type):
        return [leaf for field in type for leaf in _leaves(f"{name}.{field.name}", field.type)]
    if pa.types.is_list(type):
        return _leaves(f"{name}.list.element", type.value_type)
    return [name]


def _alone(inner: dict[str, Any]) -> Any:
    """The type of a list's elements, as cards abbreviate it."""
    return inner.get("dtype") or inner.get("struct") or inner


def _feature(type: pa.DataType) -> dict[str, Any]:
    """A column's type in the metadata that `datasets` reads from Parquet."""
    if type == IMAGE:
        return {"_type": "Image"}
    if pa.types.is_struct(type):
        return {field.name: _feature(field.type) for field in type}
    if pa.types.is_list(type):
        return {"feature": _feature(type.value_type), "_type": "List"}
    return {"dtype": _dtype(type), "_type": "Value"}


def _dtype(type: pa.DataType) -> str:
    """`datasets`' name of a plain type."""
    return {"float": "float32", "halffloat": "float16", "double": "float64"}.get(str(type), str(type))
