"""What a version brings, from two manifests; and the list of versions as a file."""

from pathlib import Path

import pytest

from microscope_atlas.atlas import releases, schema
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.manifest import Manifest, Shard
from microscope_atlas.atlas.releases import Release, differences
from microscope_atlas.atlas.units import UnitRange
from microscope_atlas.errors import AtlasDamaged
from tests.atlases import LENS


def manifest(*runs: tuple[str, str, int, int], steps: int = 2, weights: str = "00") -> Manifest:
    """Of shards of (model, layer, start, stop)."""
    units = [UnitRange(LENS, *run) for run in runs]
    return Manifest(
        models={run[0]: {"weights_sha256": weights, "provenance": {"source": "s", "license": "l"}} for run in runs},
        lenses={LENS: {"steps": steps}},
        shards={each.path: Shard(each, "id", "sha256", 1, 1) for each in units},
    )


ONE = manifest(("vgg19_caffe", "conv1_1", 0, 8))


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        (
            Manifest(),
            ONE,
            [
                "model `vgg19_caffe` added",
                "lens `feature_visualization` added",
                "`feature_visualization` of `vgg19_caffe`: 8 units in 1 layer added",
            ],
        ),
        (
            ONE,
            manifest(("vgg19_caffe", "conv1_1", 0, 9), ("vgg19_caffe", "conv1_2", 0, 1000)),
            ["`feature_visualization` of `vgg19_caffe`: 1,001 units in 2 layers added"],
        ),
        (
            ONE,
            manifest(("vgg19_caffe", "conv1_1", 0, 3)),
            ["`feature_visualization` of `vgg19_caffe`: 5 units in 1 layer removed"],
        ),
        (
            ONE,
            Manifest(lenses=ONE.lenses),
            [
                "model `vgg19_caffe` removed",
                "`feature_visualization` of `vgg19_caffe`: 8 units in 1 layer removed",
            ],
        ),
        (ONE, manifest(("vgg19_caffe", "conv1_1", 0, 4), ("vgg19_caffe", "conv1_1", 4, 8)), ["the same units"]),
        (ONE, manifest(("vgg19_caffe", "conv1_1", 0, 8), steps=3), ["`feature_visualization`: other settings"]),
        (ONE, manifest(("vgg19_caffe", "conv1_1", 0, 8), weights="11"), ["`vgg19_caffe`: other weights"]),
    ],
)
def test_differences_are_told(before: Manifest, after: Manifest, lines: list[str]) -> None:
    assert list(differences(before, after)) == lines


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert releases.read(Folder(tmp_path)) == []
    made = [Release("a/b", "2026.9.0", "00", ("x", "y")), Release("a/b", "2026.10.0", "11", (), "a/space")]
    (tmp_path / schema.RELEASES).write_text(releases.to_json(made))
    assert releases.read(Folder(tmp_path)) == made


@pytest.mark.parametrize("text", ["", "{}", '{"releases": [{"version": "2026.9.0"}]}', "[]"])
def test_damaged_list_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / schema.RELEASES).write_text(text)
    with pytest.raises(AtlasDamaged, match="is not a list of releases"):
        releases.read(Folder(tmp_path))


def test_versions_are_sorted_by_number() -> None:
    assert sorted(["2026.10.0", "2026.9.10", "2026.9.2"], key=releases.order) == ["2026.9.2", "2026.9.10", "2026.10.0"]
