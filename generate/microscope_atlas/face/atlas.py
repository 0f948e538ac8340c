"""An atlas to look at from Python: models, layers, units, and every table. Needs no PyTorch."""

import io
from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from microscope_atlas.atlas import find_labels, schema
from microscope_atlas.atlas.find_labels import Found
from microscope_atlas.atlas.label_files import Stated
from microscope_atlas.atlas.locate import open_atlas
from microscope_atlas.atlas.reader import Atlas as Reader
from microscope_atlas.atlas.schema import METHODS
from microscope_atlas.atlas.shards import read_shard
from microscope_atlas.errors import InvalidKey, InvalidSetting, NotRendered, UnknownName, WrongLevel, unknown
from microscope_atlas.face.given import whole
from microscope_atlas.keys import Key, parse_key
from microscope_atlas.pictures.decoder import decoded
from microscope_atlas.publish import labels as imported

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = dict[str, Any]


def open(atlas: str | PathLike[str]) -> "Atlas":
    """Open an atlas: a folder, a URL such as `s3://bucket/atlas`, or `owner/name@revision` on the Hub.

    Loads no PyTorch and reads the manifest alone; rows and pictures are read when they are asked for.

    Raises:
        AtlasDamaged: there is no atlas, or its manifest cannot be read.
        HubFailed: the Hub refuses, or does not answer.
        StorageFailed: storage refuses, or does not answer.

    """
    return Atlas(Reader(open_atlas(fspath(atlas))))


class Atlas:
    """An atlas that was opened; see `open`."""

    def __init__(self, reader: Reader):
        self._reader = reader

    def __repr__(self) -> str:
        return f"<atlas {self.name}: {', '.join(self.models)}>"

    @property
    def name(self) -> str:
        """Where it is, as `open` takes it."""
        return self._reader.storage.name

    @property
    def revision(self) -> str:
        """What to cite it by: version and commit of a published atlas, a hash of the manifest of another."""
        return self._reader.revision

    @property
    def models(self) -> list[str]:
        """Names of the models that have rows, oldest network first."""
        return self._reader.models

    @property
    def tables(self) -> list[str]:
        """Names of the tables that have rows, as `table` and `load_dataset` take them."""
        there = {shard.units.lens for shard in self._reader.manifest.shards.values()}
        return sorted(there)

    def layers(self, model: str) -> dict[str, int]:
        """The layers of a model that have rows, from input to logits, and the number of units that may have some.

        UnknownName where the atlas has no such model.
        """
        return self._reader.layers(model)

    def unit(self, key: str) -> "Unit":
        """A unit, `inceptionv1/mixed4c/447`.

        Raises:
            InvalidKey: the key is not that of a unit.
            UnknownName: the atlas has no rows of it.

        """
        parsed = parse_key(key)
        if parsed.layer is None or parsed.unit is None:
            raise InvalidKey(f"{key!r} is no unit; expected model/layer/unit, such as inceptionv1/mixed4c/447")
        total = self._reader.num_units(parsed.model, parsed.layer)
        for shard in self._reader.manifest.shards.values():
            units = shard.units
            same_layer = (units.model, units.layer) == (parsed.model, parsed.layer)
            about_units = self._reader.manifest.table(units.lens).level == "unit"
            if same_layer and about_units and units.start <= parsed.unit < units.stop:
                return Unit(self, parsed)
        raise UnknownName(f"{key} is not in {self.name}; its layer has units 0 to {total - 1}, of which some are there")

    def table(
        self, name: str, key: str | None = None, columns: str | Sequence[str] | None = None, images: bool = False
    ) -> pa.Table:
        """Rows of a table: of the whole atlas, or of the model, layer or unit `key`.

        Args:
            name: the table, `units`; `tables` has those that the atlas holds.
            key: `inceptionv1`, `inceptionv1/mixed4c` or `inceptionv1/mixed4c/447`; None: all.
            columns: the one, or those, that are wanted, in this order; None: all.
            images: whether image columns hold the encoded files, as `load_dataset` gives them; else they hold file
                names, for which no picture is read.

        Returns:
            a pyarrow.Table, sorted by model, layer and the table's key columns; `.to_pandas()` where pandas is.

        Raises:
            UnknownName: no such table, column, or rows of that key.
            WrongLevel: the key is a unit's, and the table is about layers.

        """
        known = self._reader.manifest.table(name)
        names = [column.name for column in known.columns]
        columns = [columns] if isinstance(columns, str) else columns
        for column in columns or ():
            if column not in names:
                raise unknown("column", column, name, names)
        asked = parse_key(key) if key is not None else None
        if asked is not None and asked.unit is not None and known.level == "layer":
            raise WrongLevel(f"{name} is about layers; {key} is a unit, ask for {asked.model}/{asked.layer}")
        of_config = self._reader.manifest.of_config(name)
        parts = [
            self._rows(name, shard.path, asked, images)
            for shard in sorted(self._reader.manifest.shards.values(), key=lambda shard: shard.path)
            if shard.units.lens in of_config and _covers(shard.units.model, shard.units.layer, asked)
        ]
        rows = pa.concat_tables(parts) if parts else None
        if rows is None or not rows.num_rows:
            raise UnknownName(
                f"{self.name} has no {name}{f' of {key}' if key else ''}; it has {', '.join(self.tables)}"
            )
        return rows.select(columns) if columns is not None else rows

    def image(self, table: str, model: str, name: str, column: str = "image") -> Image.Image:
        """A picture by the file name that stands in a row: RGB, RGBA, or L for masks.

        One read, or one range request, of the picture's own bytes. UnknownName with the nearest where it is not there.
        """
        return decoded(self._reader.image(table, model, name, column))

    def find(self, words: str, by: str = "label", most: int = 20) -> list[Found]:
        """Units that some words are said of, or mean, each with what it was found by and who says so.

        Args:
            words: some, such as "dog snout".
            by: `label`: labels that have the words, and where there are none classes; `meaning`: what is nearest to the
                words in the embedding of the CLIP that `labels_clip_dissect` was made with, whose text tower has to be
                on this machine. Loads PyTorch for the latter.
            most: that are given.

        Returns:
            the likeliest first; none where nothing has the words.

        Raises:
            InvalidSetting: no words, or another `by`.
            NotRendered: by meaning, where the atlas has no embeddings.
            WeightsError: by meaning, where the text tower is not here.

        """
        most = whole("most", most, 1)
        if by == "label":
            return find_labels.find(self._reader, words, most)
        if by == "meaning":
            from microscope_atlas.lenses.meaning import meant

            return meant(self._reader, words, most)
        raise InvalidSetting(f"by is {by!r}, expected label or meaning")

    def label(
        self,
        file: str | PathLike[str],
        source: str | None = None,
        license: str | None = None,
        method: str = "imported",
        measure: str | None = None,
        model: str | None = None,
        layer: str | None = None,
        columns: Mapping[str, str] | None = None,
        name: str | None = None,
        skip_absent: bool = False,
    ) -> int:
        """Take a table of labels from outside into the atlas; returns how many there were.

        Args:
            file: CSV, TSV, JSON, JSON lines or Parquet, a row a label; see docs/own-labels.md.
            source: who made them, and where they are to be had, unless a column of that name says so.
            license: likewise, such as `CC-BY-4.0`.
            method: likewise, how somebody came by them.
            measure: likewise, what a column `score` measures.
            model: likewise, the model that all rows are about.
            layer: likewise, their layer.
            columns: what the file calls our columns: `{"label": "family"}`.
            name: of their table, `labels_NAME`; the file's unless given.
            skip_absent: whether rows about units that the atlas has not are left out, rather than refused.

        Raises:
            InvalidSetting: a file or row that is none, or that was taken in already; nothing is stored.
            UnknownName: a unit that the atlas has no rows of; nothing is stored.
            AtlasUnwritable: a published version, which never changes.

        """
        stated = Stated(source, license, method, measure, model, layer, columns or {})
        taken = imported.take(self._reader.storage, Path(file), stated, name, skip_absent)
        self._reader = Reader(self._reader.storage)
        return taken.labels

    def forget_labels(self, name: str) -> int:
        """Take back the labels that were imported as `labels_NAME`; returns how many went.

        UnknownName where there are none.
        """
        gone = imported.take_back(self._reader.storage, name)
        self._reader = Reader(self._reader.storage)
        return gone

    def _rows(self, name: str, path: str, key: Key | None, images: bool) -> pa.Table:
        if images:
            with self._reader.storage.local_copy(path) as file:
                rows = read_shard(file)
        else:
            rows = self._reader.shard(path)
        if key is not None and key.unit is not None:
            rows = rows.filter(pc.equal(rows["unit"], key.unit))
        return rows


class Unit:
    """A unit of an atlas; see `Atlas.unit`."""

    def __init__(self, atlas: Atlas, key: Key):
        self._atlas, self._key = atlas, key

    def __repr__(self) -> str:
        return f"<unit {self.key} of {self._atlas.name}>"

    @property
    def key(self) -> str:
        """`inceptionv1/mixed4c/447`."""
        return str(self._key)

    def rows(self, table: str) -> list[Row]:
        """Its rows in a table, as dictionaries; in image columns stand file names. Empty where there are none."""
        assert self._key.layer is not None
        return self._atlas._reader.rows(table, self._key.model, self._key.layer, self._key.unit)

    def about(self) -> Row:
        """Its row of `units`: kind, branch, statistics, nearest units. NotRendered where the atlas has none."""
        return self._one("units", {})

    def image(
        self, method: str = "fourier", objective: str = "channel", direction: int = 1, variant: int = 0
    ) -> Image.Image:
        """A picture that was made to excite it, or with direction -1 to silence it: RGB, for `transparent` RGBA.

        Of a dense unit `neuron` means `channel`, which is the same objective where there is one position.

        Raises:
            NotRendered: the atlas has no such picture, or rendering failed, which its row's flag says.

        """
        rows = self.rows("feature_visualization")
        shown = {row["objective"] for row in rows if row["method"] == method}
        if objective == "neuron" and shown == {"channel"} and ("neuron", 1) in METHODS.get(method, ()):
            objective = "channel"  # of a convolution's channel there would be both
        about = {"method": method, "objective": objective, "direction": direction, "variant": variant}
        row = self._one("feature_visualization", about)
        if row["image"] is None:
            raise NotRendered(f"{self.key} has no such picture: its row is flagged {row['flag']}")
        return self._atlas.image("feature_visualization", self._key.model, row["image"])

    def samples(self, bucket: str = "top") -> list[Row]:
        """Natural pictures that excite it, strongest first: rows of `dataset_samples` with `image` as a picture.

        `image` is None where the atlas points at pictures without holding them. Empty where it has no samples.
        """
        rows = [row for row in self.rows("dataset_samples") if row["bucket"] == bucket]
        return [
            {**row, "image": row["image"] and self._atlas.image("dataset_samples", self._key.model, row["image"])}
            for row in sorted(rows, key=lambda row: row["rank"])
        ]

    def labels(self) -> list[Row]:
        """What it is said to be for, each with method, source and license; imported labels first, then computed ones.

        Empty where nobody says anything.
        """
        columns = schema.LEAST_SAID
        return [{name: row[name] for name in columns} for row in self.rows(schema.LABELS.name)]

    def connections(self, towards: str | None = None) -> list[Row]:
        """What it is wired to: rows of `connections`, strongest first within a layer and sign.

        `towards` is `input`, `output` or None for both. Empty where the atlas has none.
        """
        return [row for row in self.rows("connections") if towards in (None, row["towards"])]

    def plot(self) -> "Figure":
        """A matplotlib Figure: its picture, its strongest samples and its response to each tuning family.

        ExtraMissing where matplotlib is not installed: pip install 'microscope-atlas[plot]'.
        """
        from microscope_atlas.face.plot import figure

        return figure(self)

    def _repr_png_(self) -> bytes | None:
        """Its picture, where a notebook shows the unit."""
        try:
            picture = self.image()
        except NotRendered:
            return None
        file = io.BytesIO()
        picture.save(file, "PNG")
        return file.getvalue()

    def _one(self, table: str, about: Row) -> Row:
        for row in self.rows(table):
            if all(row[name] == value for name, value in about.items()):
                return row
        stated = ", ".join(f"{name} {value}" for name, value in about.items())
        there = f"{self._atlas.name} has no {table} of {self.key}"
        raise NotRendered(f"{there}{f' with {stated}' if stated else ''}; render it first: --lens {table}")


def _covers(model: str, layer: str, key: Key | None) -> bool:
    return key is None or (key.model == model and key.layer in (None, layer))
