"""What is cited or made again is in the atlas, and what is not is said with what is."""

from pathlib import Path

import pytest

from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.manifest import Manifest, read_manifest
from microscope_atlas.atlas.present import refuse_absent
from microscope_atlas.errors import UnknownName
from microscope_atlas.keys import parse_key

ATLAS = Path(__file__).parents[1] / "version_0_1" / "atlas"
MODEL = "efficientnet_lite0"


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return read_manifest(Folder(ATLAS))


@pytest.mark.parametrize("key", [MODEL, f"{MODEL}/stem", f"{MODEL}/stem/1", f"{MODEL}/blocks_2/0"])
def test_what_is_there_is_not_refused(manifest: Manifest, key: str) -> None:
    refuse_absent(manifest, parse_key(key))


@pytest.mark.parametrize(
    ("key", "lens", "said"),
    [
        ("alexnet/conv1/1", None, f"model 'alexnet' is not in it; nearest: {MODEL}"),
        (f"{MODEL}/stam", None, f"layer 'stam' is not in its {MODEL}; nearest: stem"),
        # layers are made whole by some lenses, whatever units were asked for: that makes no unit
        (f"{MODEL}/stem/2", None, f"{MODEL}/stem has units 0:2 there"),
        (f"{MODEL}/stem/2", "units", f"units of {MODEL}/stem has units 0:2 there"),
        (f"{MODEL}/stem/1", "unit", f"lens 'unit' is not in what it has of {MODEL}/stem; nearest: units"),
        ("alexnet/conv1/1", "units", "model 'alexnet' is not in it"),
    ],
)
def test_what_is_missing_is_named_itself(manifest: Manifest, key: str, lens: str | None, said: str) -> None:
    with pytest.raises(UnknownName) as refused:
        refuse_absent(manifest, parse_key(key), lens)
    assert str(refused.value) == f"{key} is not in the atlas: {said}" or said in str(refused.value)
