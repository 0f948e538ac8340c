"""What pages read of an atlas: the right rows, by the right bytes and no others."""

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from microscope_atlas.atlas import ranges, schema
from microscope_atlas.atlas.classes import imagenet
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.locate import open_atlas
from microscope_atlas.atlas.manifest import Manifest, read_manifest, write_manifest
from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.atlas.releases import Release, identity, to_json
from microscope_atlas.atlas.schema import Column, Table
from microscope_atlas.atlas.shards import read_shard, write_shard
from microscope_atlas.atlas.units import UnitRange
from microscope_atlas.errors import AtlasDamaged, UnknownName
from microscope_atlas.lenses.registry import UNASKED
from microscope_atlas.publish.cite import bibtex
from microscope_space import routes
from microscope_space.search.find import find
from tests.atlases import MODEL
from tests.hub_double import Hub

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Recorded(Folder):
    """Storage far away that notes which slices were asked for."""

    near: ClassVar[bool] = False
    slices: list[tuple[str, int, int]] = field(default_factory=list, hash=False, compare=False)

    def slice(self, path: str, offset: int, length: int) -> bytes:
        self.slices.append((path, offset, length))
        return super().slice(path, offset, length)


def stored(root: Path, table: str, layer: str, unit: int | None) -> list[dict[str, Any]]:
    """Rows as the store reads them, with the names of images in their place."""
    manifest = read_manifest(Folder(root))
    rows = []
    for path, shard in sorted(manifest.shards.items()):
        if (shard.units.lens, shard.units.layer) == (table, layer):
            rows += read_shard(root / path).to_pylist()
    images = schema.table(table).images
    named = [{**row, **{name: row[name] and row[name]["path"] for name in images}} for row in rows]
    return [row for row in named if unit is None or row["unit"] == unit]


@pytest.mark.parametrize("table", UNASKED)
def test_rows_are_those_of_the_store(every: Path, known: Atlas, table: str) -> None:
    per_unit = any(column.name == "unit" for column in schema.table(table).columns)
    for unit in (1, None) if per_unit else (None,):
        rows = known.rows(table, MODEL, "blocks_4", unit)
        assert rows
        assert rows == stored(every, table, "blocks_4", unit)


def test_no_image_is_read_for_rows(every: Path, tmp_path: Path) -> None:
    rows = stored(every, "sheets", "blocks_4", None)
    large = [
        {**row, "image": {"bytes": random.Random(at).randbytes(1 << 20), "path": f"{at}"}}
        for at, row in enumerate(rows)
    ]
    shard = write_shard(Folder(tmp_path), UnitRange("sheets", MODEL, "blocks_4", 0, 40), "id", large)
    source = Recorded(tmp_path)
    assert ranges.read(source, shard.path, shard.bytes, schema.SHEETS).to_pylist() == [
        {**row, "image": f"{at}"} for at, row in enumerate(rows)
    ]
    assert shard.bytes > 4 << 20
    assert 0 < sum(length for _, _, length in source.slices) < 1 << 17


class Other(Folder):
    """Storage far away that gives fewer bytes than it is asked for, or more."""

    near: ClassVar[bool] = False
    by: ClassVar[int] = 0

    def slice(self, path: str, offset: int, length: int) -> bytes:
        return super().slice(path, offset, length + (self.by if offset else 0))


@pytest.mark.parametrize("by", [-1, 1, -100, 100])
def test_slices_of_another_length_are_refused(every: Path, monkeypatch: pytest.MonkeyPatch, by: int) -> None:
    source = Other(every)
    shards = [each for each in read_manifest(source).shards.values() if each.bytes > 1 << 17]
    assert shards
    for shard in shards:
        right = ranges.read(Folder(every), shard.path, shard.bytes, schema.table(shard.units.lens))
        monkeypatch.setattr(Other, "by", 0)
        assert ranges.read(source, shard.path, shard.bytes, schema.table(shard.units.lens)).equals(right)
        monkeypatch.setattr(Other, "by", by)
        with pytest.raises(AtlasDamaged, match="cannot be read: of its bytes"):
            ranges.read(source, shard.path, shard.bytes, schema.table(shard.units.lens))


@pytest.mark.parametrize("by", [-1, 1])
def test_file_of_another_length_is_damaged(every: Path, by: int) -> None:
    shard = next(iter(read_manifest(Folder(every)).shards.values()))
    with pytest.raises(AtlasDamaged, match=r"it has [0-9,]+ bytes, not"):
        ranges.read(Folder(every), shard.path, shard.bytes + by, schema.table(shard.units.lens))


def test_footers_are_not_asked_where_columns_lie(every: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a damaged file, that ends the process."""
    monkeypatch.setattr(pq.ParquetFile, "metadata", property(lambda _: pytest.fail("it is")))
    shard = next(iter(read_manifest(Folder(every)).shards.values()))
    for source in (Folder(every), Other(every)):
        assert len(ranges.read(source, shard.path, shard.bytes, schema.table(shard.units.lens))) == shard.rows


def test_a_footer_larger_than_usual_is_read(tmp_path: Path) -> None:
    table = Table("units", "", (Column("unit", pa.int32(), ""),))
    rows = pa.table({"unit": pa.array([1, 2], pa.int32())}).replace_schema_metadata({"long": "x" * 200_000})
    pq.write_table(rows, tmp_path / "units.parquet")
    size = (tmp_path / "units.parquet").stat().st_size
    assert ranges.read(Folder(tmp_path), "units.parquet", size, table)["unit"].to_pylist() == [1, 2]


def test_images_are_those_of_the_rows(every: Path, known: Atlas) -> None:
    row = known.rows("feature_visualization", MODEL, "blocks_4", 2)[0]
    manifest = read_manifest(Folder(every))
    content = {
        each["image"]["path"]: each["image"]["bytes"]
        for path, shard in manifest.shards.items()
        if shard.units.lens == "feature_visualization"
        for each in read_shard(every / path).to_pylist()
    }
    assert known.image("feature_visualization", MODEL, row["image"]) == content[row["image"]]


@pytest.mark.parametrize("name", ["../atlas.json", "/etc/passwd", "", "x" * 5000])
def test_nothing_but_images_can_be_read(known: Atlas, name: str) -> None:
    for model in (MODEL, name):
        with pytest.raises(UnknownName):
            known.image("feature_visualization", model, name)


def test_many_threads_read_one_atlas(every: Path) -> None:
    atlas = Atlas(Folder(every))

    def read(at: int) -> int:
        rows = atlas.rows("dataset_samples", MODEL, "blocks_4", at % 4)
        return len(rows) + len(atlas.image("dataset_samples", MODEL, rows[0]["image"]))

    with ThreadPoolExecutor(8) as pool:
        first = list(pool.map(read, range(64)))
    assert first == [read(at) for at in range(64)]


def test_layers_are_in_the_networks_order(known: Atlas) -> None:
    assert known.models == [MODEL]
    assert known.layers(MODEL) == {"blocks_4": 40, "blocks_6": 80}
    with pytest.raises(UnknownName, match="nearest: blocks_"):
        known.num_units(MODEL, "blocks_5")
    with pytest.raises(UnknownName, match=f"nearest: {MODEL}"):
        known.layers("efficientnet")


def test_units_of_a_model_are_all_that_there_are(known: Atlas) -> None:
    there = [(layer, unit) for layer, count in (("blocks_4", 4), ("blocks_6", 2)) for unit in range(count)]
    asked = known.units(MODEL, ("unit", "thumbnail", "layer"))
    assert asked.column_names == ["unit", "thumbnail", "layer"]
    for row in asked.to_pylist():
        assert row["thumbnail"] == known.thumbnails(MODEL, row["layer"]).get(row["unit"])
    assert [(row["layer"], row["unit"]) for row in asked.to_pylist()] == there
    assert known.units(MODEL, ("unit",), "blocks_6").to_pylist() == [{"unit": 0}, {"unit": 1}]
    assert known.units(MODEL, ("unit",), "blocks_5").to_pylist() == []


def test_revision_says_what_is_shown(every: Path, tmp_path: Path) -> None:
    atlas = Atlas(Folder(every))
    assert atlas.revision == f"not published, manifest {identity(atlas.manifest)[:12]}"
    release = Release("someone/atlas", "2026.11.0", identity(atlas.manifest), ())
    Folder(tmp_path).write(schema.MANIFEST, atlas.manifest.to_json())
    Folder(tmp_path).write(schema.RELEASES, to_json([release]))
    published = Atlas(Folder(tmp_path))
    assert (published.revision, published.pin) == ("someone/atlas v2026.11.0", "v2026.11.0")
    assert "2026.11.0" in bibtex(published.release)


def test_a_revision_on_the_hub_is_read_by_ranges_alone(hub: Hub, every: Path) -> None:
    files = {path.relative_to(every).as_posix(): path.read_bytes() for path in every.rglob("*") if path.is_file()}
    hub.commit("datasets/someone/atlas", {path: files[path] for path in files if not path.startswith(".")})
    atlas = Atlas(open_atlas("someone/atlas@main"))
    here = Atlas(Folder(every))
    before = len(hub.requests)
    for table in ("feature_visualization", "units", "sheets"):
        assert atlas.rows(table, MODEL, "blocks_4") == here.rows(table, MODEL, "blocks_4")
    row = atlas.rows("sheets", MODEL, "blocks_4")[0]
    assert atlas.image("sheets", MODEL, row["image"]) == here.image("sheets", MODEL, row["image"])
    made = len(hub.requests)
    assert made > before
    atlas.rows("sheets", MODEL, "blocks_4")
    atlas.image("sheets", MODEL, row["image"])
    assert len(hub.requests) == made
    assert atlas.revision.startswith("someone/atlas@main, commit ")


def test_a_class_is_found_by_few_bytes(hub: Hub, tmp_path: Path) -> None:
    """Of an atlas on the Hub, the names of its classes are read, no other columns and no other layers."""
    names, bulk = imagenet(), random.Random(0)
    counts = {"blocks_4": 320, "head": 1280, "logits": len(names)}
    nothing = dict.fromkeys(column.name for column in schema.UNITS.columns)
    made = dict.fromkeys(("kind", "weights_sha256", "software", "device"), "")
    manifest = Manifest(
        models={
            MODEL: {
                "weights_sha256": "",
                "provenance": {"source": "", "file_sha256": "", "license": "", "official": False, "ignored": []},
            }
        },
        shards={},
    )
    for layer, count in counts.items():
        rows = [
            {
                **nothing,
                **made,
                "model": MODEL,
                "layer": layer,
                "unit": unit,
                "nearest": [],
                "nearest_elsewhere": [],
                "visualizations": [],
                "class_name": names[unit] if layer == "logits" else None,
                "recipe": bulk.randbytes(500).hex(),
            }
            for unit in range(count)
        ]
        shard = write_shard(Folder(tmp_path), UnitRange("units", MODEL, layer, 0, count), "id", rows)
        manifest.shards[shard.path] = shard
    write_manifest(Folder(tmp_path), manifest)
    hub.commit(
        "datasets/someone/atlas", {path: (tmp_path / path).read_bytes() for path in ("atlas.json", *manifest.shards)}
    )
    atlas = Atlas(open_atlas("someone/atlas@main"))
    assert not hub.ranges
    (found,) = find(atlas, "tabby").found
    assert (found.key.layer, found.what) == ("logits", names[found.key.unit or 0])
    read = sum(
        int(stop) - int(start) + 1 for start, stop in (each.removeprefix("bytes=").split("-") for each in hub.ranges)
    )
    assert read < 100_000 < 500_000 < manifest.shards[shard.path].bytes


def test_there_must_be_an_atlas(tmp_path: Path) -> None:
    with pytest.raises(AtlasDamaged, match="holds no atlas"):
        Atlas(Folder(tmp_path))


def test_file_that_lacks_a_column_is_damaged(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"model": ["toy"], "layer": ["conv1"], "unit": pa.array([0], pa.int32())}), tmp_path / "one"
    )
    with pytest.raises(AtlasDamaged, match="lacks a column"):
        ranges.read(Folder(tmp_path), "one", (tmp_path / "one").stat().st_size, schema.UNITS, ("unit", "model_map"))


def test_columns_that_came_later_are_null_in_an_atlas_from_before() -> None:
    atlas = Atlas(Folder(ROOT / "version_0_1" / "atlas"))
    for model in atlas.models:
        rows = atlas.units(model, ("unit", "model_map", "layer_map"))
        assert rows.num_rows > 0
        assert rows["model_map"].null_count == rows["layer_map"].null_count == rows.num_rows
        assert atlas.units(model, ("model_map",)).column_names == ["model_map"]
        assert routes.answer(atlas, {"model": model})[0].status == 200
