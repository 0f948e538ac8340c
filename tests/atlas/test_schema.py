import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Features, Image

from microscope_atlas.atlas import schema
from microscope_atlas.atlas.schema import TABLES
from microscope_atlas.atlas.tables import IMAGE, Column, Table, feature
from microscope_atlas.errors import UnknownName
from microscope_atlas.lenses.recipe import settings
from microscope_atlas.lenses.registry import LENSES, lens
from microscope_atlas.publish.card import template

EVERY = [pytest.param(table, column, id=column.name) for table in TABLES.values() for column in table.columns]


NESTED = Table(
    "nested",
    "",
    (
        Column("unit", pa.int32(), "", key=True),
        Column("image", IMAGE, "", optional=True),
        Column("quantiles", pa.list_(pa.float32()), ""),
        Column("kernel", pa.list_(pa.list_(pa.float32())), ""),
        Column("nearest", pa.list_(pa.struct([("unit", pa.int32()), ("path", pa.list_(pa.string()))])), ""),
        Column("box", pa.struct([("left", pa.int16())]), ""),
    ),
)


@pytest.mark.parametrize("table", [*TABLES.values(), NESTED], ids=lambda table: table.name)
def test_features_are_in_the_parquet_schema(table: Table) -> None:
    features = Features.from_arrow_schema(table.arrow)
    assert list(features) == [column.name for column in table.columns]
    assert features.arrow_schema.types == table.arrow.types
    for name in table.images:
        assert features[name] == Image()


@pytest.mark.parametrize("table", [*TABLES.values(), NESTED], ids=lambda table: table.name)
def test_features_in_a_card_are_those_in_the_parquet_schema(table: Table) -> None:
    in_card = [{"name": column.name, **feature(column.type)} for column in table.columns]
    assert Features._from_yaml_list(in_card) == Features.from_arrow_schema(table.arrow)


@pytest.mark.parametrize("table", [*TABLES.values(), NESTED], ids=lambda table: table.name)
def test_leaves_are_what_parquet_stores(table: Table, tmp_path: Path) -> None:
    pq.write_table(table.arrow.empty_table(), tmp_path / "empty.parquet")
    stored = pq.ParquetFile(tmp_path / "empty.parquet").schema
    assert table.leaves == tuple(stored.column(i).path for i in range(len(stored)))


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_schema_reads_back_from_parquet_as_it_was_written(table: Table, tmp_path: Path) -> None:
    pq.write_table(table.arrow.empty_table(), tmp_path / "empty.parquet")
    assert pq.read_schema(tmp_path / "empty.parquet").equals(table.arrow, check_metadata=True)


@pytest.mark.parametrize(("table", "column"), EVERY)
def test_column_has_a_meaning(table: Table, column: Column) -> None:
    assert re.fullmatch(r"\w+", column.name)
    assert len(column.meaning) > 10


@pytest.mark.parametrize(("table", "column"), EVERY)
def test_column_stands_in_the_card(table: Table, column: Column) -> None:
    if len(template().splitlines()) < 20:
        pytest.skip("dataset_card.md is not written yet")
    assert f"`{column.name}`" in template()


def test_column_that_came_later_is_there_where_the_recipe_has_its_setting() -> None:
    later = Column("mood", pa.string(), "", optional=True, setting="moods")
    table = Table("own", "", (*NESTED.columns, later))
    with_it, without = table.made_with({"moods": 3}), table.made_with({"steps": 8})
    assert with_it.arrow.names == [*without.arrow.names, "mood"]
    assert table.made_with({"moods": 0}).arrow == without.arrow
    assert without.arrow == NESTED.arrow


@pytest.mark.parametrize("name", [table.name for table in TABLES.values() if any(c.setting for c in table.columns)])
def test_column_that_came_later_may_be_null_and_names_a_setting_which_older_recipes_lack(name: str) -> None:
    settings_now = settings(lens(name).recipe("draft"))
    for column in (column for column in TABLES[name].columns if column.setting):
        assert column.optional
        assert settings_now[column.setting]
        without = {each: value for each, value in settings_now.items() if each != column.setting}
        assert not settings(lens(name).restored(without))[column.setting]


def test_every_lens_has_its_table() -> None:
    assert set(LENSES) <= set(TABLES)
    assert all(name == table.name for name, table in TABLES.items())


def test_unknown_table_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="nearest: feature_visualization"):
        schema.table("feature_visualisation")


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_rows_are_identified_by_model_layer_and_unit_first(table: Table) -> None:
    assert [column.name for column in table.keys][:2] == ["model", "layer"]
    assert not any(column.optional for column in table.keys)


def test_rows_sort_by_keys_with_descending_ones_backwards() -> None:
    table = Table(
        "toy",
        "",
        (
            Column("unit", pa.int32(), "", key=True),
            Column("direction", pa.int8(), "", key=True, descending=True),
            Column("score", pa.float32(), ""),
        ),
    )
    rows = [{"unit": unit, "direction": direction, "score": 0.0} for unit in (1, 0) for direction in (-1, 1)]
    ordered = sorted(rows, key=table.sort_key)
    assert [(row["unit"], row["direction"]) for row in ordered] == [(0, 1), (0, -1), (1, 1), (1, -1)]


def test_split_is_a_name_that_datasets_takes() -> None:
    assert schema.split("timm:resnet50.a1_in1k") == "timm.resnet50.a1_in1k"
    assert re.fullmatch(r"\w+(\.\w+)*", schema.split("timm:resnet50.a1_in1k"))


def test_pattern_meets_the_paths_of_its_model_alone() -> None:
    path = Path(schema.shard_path("lens", "timm:net", "stem", 0, 64))
    assert path.match(schema.shard_pattern("lens", "timm:net"))
    assert not path.match(schema.shard_pattern("lens", "net"))


def test_rows_come_in_the_order_of_their_buckets() -> None:
    table = schema.DATASET_SAMPLES
    about = {"model": "m", "layer": "l", "unit": 0}
    buckets = ("top", "0.9-0.99", "0.75-0.9", "0.5-0.75", "0.25-0.5", "0-0.25", "random")
    shuffled = [{**about, "bucket": bucket, "rank": rank} for bucket in sorted(buckets) for rank in (1, 0)]
    ordered = sorted(shuffled, key=table.sort_key)
    assert [(row["bucket"], row["rank"]) for row in ordered] == [(b, rank) for b in buckets for rank in (0, 1)]
