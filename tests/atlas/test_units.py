import pytest

from microscope_atlas.atlas.tables import Scope
from microscope_atlas.atlas.units import Input, UnitRange, inputs

HERE = UnitRange("scores", "net", "layer", 2, 3)
SHARDS = {
    "same": UnitRange("responses", "net", "layer", 0, 4),
    "beside": UnitRange("responses", "net", "layer", 4, 8),
    "layer": UnitRange("responses", "net", "other", 0, 4),
    "model": UnitRange("responses", "else", "layer", 0, 4),
}


@pytest.mark.parametrize(
    ("scope", "read"),
    [("layer", ["same"]), ("whole", ["same", "beside"]), ("atlas", ["same", "beside", "layer", "model"])],
)
def test_rows_are_made_from_as_much_as_their_table_reads(scope: Scope, read: list[str]) -> None:
    there = [Input(units, name) for name, units in SHARDS.items()]
    found = inputs(HERE, {"responses": scope}, there)
    assert sorted(each.id for each in found) == sorted(read)
    assert inputs(HERE, {"dataset_samples": scope}, there) == ()
