"""The manifest, `atlas.json`: what an atlas holds and how it was made. A shard counts once the manifest names it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

from microscope_atlas.atlas import outside, schema
from microscope_atlas.atlas.dictionaries import Attached, identity_of
from microscope_atlas.atlas.organisms import organisms
from microscope_atlas.atlas.provenance import Provenance
from microscope_atlas.atlas.storage import Storage, WritableStorage
from microscope_atlas.atlas.tables import Table
from microscope_atlas.atlas.units import (
    Input,
    Made,
    UnitRange,
    content_id,
    inputs,
    made_by_layer,
    near,
    renderers,
    union,
)
from microscope_atlas.errors import AtlasDamaged
from microscope_atlas.keys import LAYER, MODEL
from microscope_atlas.structure import structure


@dataclass(frozen=True)
class Shard:
    """A finished shard, as the manifest has it."""

    units: UnitRange
    id: str  # of its content, from the plan
    sha256: str  # of the file
    bytes: int
    rows: int
    software: str = ""  # that made it, where that is not the manifest's

    @property
    def path(self) -> str:
        return self.units.path


@dataclass(frozen=True)
class Index:
    """The index of a model's images, as the manifest has it."""

    sha256: str  # of the file
    bytes: int
    rows: int
    of: str  # names the shards that it is of


DIGEST = "sha256"  # of all else in the manifest
STATED = {"name", "license", "credit"}  # of a set of pictures


@dataclass(frozen=True)
class Origin:
    """A model, as the manifest has it."""

    weights_sha256: str
    provenance: Provenance
    layers: tuple[str, ...] = ()  # from the input on, of networks that the catalog does not know
    dictionaries: dict[str, Attached] = field(default_factory=dict)  # by the layers that they make


@dataclass
class Manifest:
    """What an atlas holds and how it was made."""

    schema: str = schema.SCHEMA_VERSION
    software: str = ""  # of the last run that wrote to it, and of all shards that do not say otherwise
    models: dict[str, dict[str, Any]] = field(default_factory=dict)  # name -> weights' sha256 and provenance
    lenses: dict[str, dict[str, Any]] = field(default_factory=dict)  # name -> recipe
    planned: list[UnitRange] = field(default_factory=list)
    shards: dict[str, Shard] = field(default_factory=dict)  # by path
    indexes: dict[str, Index] = field(default_factory=dict)  # by model
    cover: str | None = None  # sha256 of the card's picture
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)  # of lenses from outside, by name; see outside
    # what their makers state of sets of natural pictures, by revision: name, license and credit. No part of any content
    # id: a statement may come later, or be mended
    pictures: dict[str, dict[str, str | None]] = field(default_factory=dict)
    intact: bool = field(default=True, compare=False)  # the file was written by this package as it stands

    @property
    def every_software(self) -> tuple[str, ...]:
        """What made its rows, each once; of an atlas without rows what would."""
        return tuple(sorted({shard.software or self.software for shard in self.shards.values()})) or (self.software,)

    def goes_on_with(self, software: str) -> None:
        """Note that a run of this software writes to it from now on; shards that are there keep what made them."""
        if software != self.software:
            for path, shard in self.shards.items():
                self.shards[path] = replace(shard, software=shard.software or self.software)
        self.software = software

    def table(self, name: str) -> Table:
        """The table called `name`, with the columns that it has in this atlas, ours or one from outside.

        UnknownName with the nearest where there is none.
        """
        return self._known(name).made_with(self.lenses.get(name, {}))

    def _known(self, name: str) -> Table:
        return outside.table(name, self.tables[name]) if name in self.tables else schema.table(name)

    @property
    def every_table(self) -> dict[str, Table]:
        """Ours, those from outside, and imported labels, by name."""
        return {**schema.TABLES, **{name: self.table(name) for name in (*self.tables, *self.given_labels)}}

    @property
    def given_labels(self) -> list[str]:
        """Tables of labels that were imported, by name."""
        return sorted(n for n in self.lenses if schema.GIVEN_LABELS.fullmatch(n) and n not in schema.TABLES)

    def of_config(self, config: str) -> list[str]:
        """The tables that are together one config, those that people gave first; a table alone is one."""
        order = [*self.given_labels, *schema.TABLES]
        names = [name for name in order if name in self.lenses and self.table(name).config == config]
        return names or [config]

    def expects(self, shard: Shard, made: Made | None = None) -> bool:
        """Whether a shard's content is what these settings make; `made` are its shards, where many are looked at."""
        return self.renderer(shard, made) is not None

    def renderer(self, shard: Shard, of: Made | None = None) -> int | None:
        """Which of `renderers` made a shard's content with these settings; None: it has other settings."""
        recipe, model = self.lenses.get(shard.units.lens), self.models.get(shard.units.model)
        if recipe is None or model is None:
            return None
        made = partial(content_id, shard.units, recipe, model["weights_sha256"], self.inputs(shard.units, of))
        made = partial(made, dictionary=identity_of(model, shard.units.layer))
        return next((number for number in renderers(shard.units.model) if made(renderer=number) == shard.id), None)

    @property
    def made(self) -> Made:
        """Its shards, by lens, model and layer, for who asks after the inputs of many."""
        return made_by_layer(Input(shard.units, shard.id) for shard in self.shards.values())

    def inputs(self, units: UnitRange, made: Made | None = None) -> tuple[Input, ...]:
        """The shards that rows about `units` are made from; none where their lens looks at the network."""
        reads = self._known(units.lens).reads
        if not reads:
            return ()
        if made is None:
            return inputs(units, reads, (Input(shard.units, shard.id) for shard in self.shards.values()))
        return inputs(units, reads, near(units, reads, made))

    def depth(self, model: str, layer: str) -> int:
        """Where a layer stands in its network, 0 next to the picture; behind all others where nobody says."""
        known = organisms().get(model)
        layers: list[str] = self.models.get(model, {}).get("layers") or (list(known.layers) if known else [])
        made = self.models.get(model, {}).get("dictionaries", {}).get(layer)
        own = made["behind"] if made else layer
        return layers.index(own) if own in layers else len(layers)

    def to_json(self) -> str:
        plain = {
            **{name: getattr(self, name) for name in ("schema", "software", "models", "lenses")},
            "planned": [asdict(run) for run in union(self.planned)],
            "shards": [_stated(self.shards[path]) for path in sorted(self.shards)],
            "cover": self.cover,
            "indexes": {model: asdict(index) for model, index in self.indexes.items()},
            **({"tables": self.tables} if self.tables else {}),
            **({"pictures": self.pictures} if self.pictures else {}),  # an atlas of before states none
        }
        return json.dumps({**plain, DIGEST: _digest(plain)}, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        plain = json.loads(text)
        json.dumps(plain, ensure_ascii=False).encode()  # a ValueError for half characters, which nobody could print
        if plain["schema"] != schema.SCHEMA_VERSION:
            raise AtlasDamaged(
                f"has schema {plain['schema']!r}, this version reads {schema.SCHEMA_VERSION!r}; "
                "use the version of microscope-atlas that its rows name"
            )
        for name, model in plain["models"].items():
            structure(Origin, model, name)
        for name in (*plain["models"], *plain["indexes"]):
            if not MODEL.fullmatch(name):  # it becomes part of paths
                raise ValueError(f"{name!r} is no model's name")
        for name, recipe in plain["lenses"].items():
            if not (LAYER.fullmatch(name) and isinstance(recipe, dict)):
                raise ValueError(f"{name!r} has no recipe")
        tables = plain.get("tables", {})
        for name, told in tables.items():
            outside.table(name, told)
        for stated in plain.get("pictures", {}).values():
            if not (set(stated) == STATED and all(isinstance(text, str | None) for text in stated.values())):
                raise ValueError(f"{stated!r} is nothing that is stated of pictures")
        if not isinstance(plain["software"], str) or not isinstance(plain["cover"], str | None):
            raise TypeError("software and cover are to be text")
        shards = structure(tuple[Shard, ...], plain["shards"], "shards")
        return cls(
            **{name: plain[name] for name in ("schema", "software", "models", "lenses")},
            planned=list(structure(tuple[UnitRange, ...], plain["planned"], "planned")),
            shards={shard.path: shard for shard in shards},
            cover=plain["cover"],
            tables=tables,
            indexes=structure(dict[str, Index], plain["indexes"], "indexes"),
            pictures=plain.get("pictures", {}),
            intact=plain.pop(DIGEST, None) in (_digest(plain), None),  # version 0.1 stated none
        )


def _stated(shard: Shard) -> dict[str, Any]:
    """A shard as JSON has it: `asdict`, in a fifth of its time, of which there are tens of thousands."""
    plain = {**vars(shard), "units": dict(vars(shard.units))}
    return plain if shard.software else {name: value for name, value in plain.items() if name != "software"}


def _digest(plain: Mapping[str, Any]) -> str:
    """What tells whether anything of a manifest was changed since it was written: sha256 of all else that it states."""
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def manifest_or_new(storage: Storage) -> Manifest:
    """The manifest of an atlas, or that of an empty one where there is nothing yet.

    AtlasDamaged where there are shards without a manifest: nobody could say which settings they were made with.
    """
    if storage.size(schema.MANIFEST) is not None:
        return read_manifest(storage)
    if any(path.endswith(".parquet") for path in storage.files()):
        raise AtlasDamaged(
            f"{storage} holds shards but no {schema.MANIFEST}; put it back, or render into another folder"
        )
    return Manifest()


def read_manifest(storage: Storage) -> Manifest:
    """The manifest of an atlas; AtlasDamaged where there is none or it cannot be read."""
    path = f"{storage}/{schema.MANIFEST}"
    try:
        return Manifest.from_json(storage.read(schema.MANIFEST).decode())
    except FileNotFoundError as error:
        hint = f"; microscope-atlas render {storage} makes one" if isinstance(storage, WritableStorage) else ""
        raise AtlasDamaged(f"{storage} holds no atlas (no {schema.MANIFEST}){hint}") from error
    except AtlasDamaged as error:
        raise AtlasDamaged(f"{path} {error}") from error
    # RecursionError: lists in lists in lists
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise AtlasDamaged(
            f"{path} is not a manifest: {error!r}; put it back, or render into another folder"
        ) from error


def write_manifest(storage: WritableStorage, manifest: Manifest) -> None:
    """Write the manifest; AtlasDamaged, with the one that is there left as it is, where nobody could read it again."""
    text = manifest.to_json()
    try:
        Manifest.from_json(text)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AtlasDamaged(
            f"{storage.name}/{schema.MANIFEST} is not written, as it could not be read again: {error}"
        ) from error
    storage.write(schema.MANIFEST, text)
