"""An atlas, whoever made it, is read within its own folder; and the Space looks names up, and never follows them."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from microscope_atlas.atlas import releases, schema
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.images import Images
from microscope_atlas.atlas.manifest import read_manifest
from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.atlas.units import UnitRange
from microscope_atlas.errors import AtlasDamaged, UnknownName
from microscope_atlas.publish.space import space_files
from tests.atlases import LENS, MODEL
from tests.security.conftest import Space

OUTSIDE = (
    "../secret",
    "../../secret",
    "/etc/passwd",
    "..",
    "a/../../secret",
    "a\\..\\secret",
    "\0",
    "%2e%2e/secret",
    "",
)


@pytest.mark.parametrize("name", OUTSIDE)
def test_no_shard_has_such_a_name(name: str) -> None:
    for units in ((name, MODEL, "stem"), (LENS, name, "stem"), (LENS, MODEL, name)):
        with pytest.raises(ValueError, match="are no names"):
            UnitRange(*units, 0, 1)


def edited(root: Path, name: str, change: Any) -> None:
    path = root / name
    plain = json.loads(path.read_text())
    change(plain)
    path.write_text(json.dumps(plain))


@pytest.mark.parametrize("name", OUTSIDE)
def test_manifest_names_nothing_outside_of_its_atlas(atlas: Path, name: str) -> None:
    whole = (atlas / schema.MANIFEST).read_text()
    for change in (
        lambda plain: plain["shards"][0]["units"].update(layer=name),
        lambda plain: plain["shards"][0]["units"].update(model=name),
        lambda plain: plain["shards"][0]["units"].update(lens=name),
        lambda plain: plain["planned"][0].update(model=name),
        lambda plain: plain["models"].update({name: plain["models"][MODEL]}),
        lambda plain: plain["indexes"].update({name: plain["indexes"][MODEL]}),
        lambda plain: plain["lenses"].update({name: {}}),
    ):
        (atlas / schema.MANIFEST).write_text(whole)
        edited(atlas, schema.MANIFEST, change)
        with pytest.raises(AtlasDamaged, match="is not a manifest"):
            read_manifest(Folder(atlas))


@pytest.mark.parametrize("name", ["../..", "a", "https://example.org/x", 'a/b"><script>', "a/b/c", "a/b\n"])
def test_releases_name_repositories_alone(atlas: Path, name: str) -> None:
    for where in ("repo", "space"):
        each = {"repo": "a/b", "version": "2026.1.0", "manifest": "0", "changes": [], "space": "a/b", where: name}
        (atlas / schema.RELEASES).write_text(json.dumps({"releases": [each]}))
        with pytest.raises(AtlasDamaged, match="is not a list of releases"):
            releases.read(Folder(atlas))


def leading(root: Path, **change: Any) -> None:
    """Have the first row of the index lead elsewhere."""
    path = root / schema.index_path(MODEL)
    rows = pq.read_table(path).to_pylist()
    rows[0].update(change)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema.INDEX.arrow), path)


@pytest.mark.parametrize(
    "change",
    [
        {"file": "../secret.parquet"},
        {"file": "/etc/passwd"},
        {"file": "atlas.json"},
        {"file": "README.md"},
        {"file": f"{LENS}/../../secret.parquet"},
        {"offset": -10},
        {"length": -1},
        {"length": (1 << 31) - 1},
    ],
)
def test_index_leads_to_images_of_its_atlas_alone(atlas: Path, change: dict[str, Any]) -> None:
    (atlas.parent / "secret.parquet").write_bytes(b"nobody is to see this")
    assert Images(Folder(atlas), MODEL)
    leading(atlas, **change)
    with pytest.raises(AtlasDamaged, match="which is no image of this atlas"):
        Images(Folder(atlas), MODEL)


def test_index_of_other_columns_is_refused(atlas: Path) -> None:
    path = atlas / schema.index_path(MODEL)
    pq.write_table(pq.read_table(path).drop_columns(["file"]), path)
    with pytest.raises(AtlasDamaged, match="has other columns than an index"):
        Images(Folder(atlas), MODEL)


@pytest.mark.parametrize("name", [*OUTSIDE, "atlas.json", "README.md", "~", "C:\\x"])
def test_no_name_is_a_path_to_the_space(known: Atlas, name: str) -> None:
    for asked in ((name, MODEL, name, "image"), (LENS, name, name, "image"), (LENS, MODEL, name, name)):
        with pytest.raises(UnknownName):
            known.image(asked[0], asked[1], asked[2], asked[3])


@pytest.mark.parametrize(
    "path",
    [
        "/../atlas.json",
        "/..%2fatlas.json",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/picture/../../etc/passwd",
        "/embed/..%2f..%2f/etc/passwd",
        "/models/..%2f..%2f..%2fetc%2fpasswd",
        "/models//example.org",
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file=../../etc/passwd",
        "/gradio_api/file=atlas.json",
        "/gradio_api/file=pyproject.toml",
        "/static/../../../../etc/passwd",
        "/assets/..%2f..%2f..%2f..%2fetc%2fpasswd",
        "/theme.css/../../etc/passwd",
    ],
)
def test_no_route_leads_to_a_file(space: Space, path: str) -> None:
    before = len(space.touched())
    answer = space.client.get(path)
    assert "root:" not in answer.text and '"planned"' not in answer.text and "[project]" not in answer.text
    assert not answer.headers.get("location", "/").startswith(("http", "//"))
    assert not [line for line in space.touched()[before:] if "passwd" in line and line.startswith("open ")]


def test_the_published_space_holds_its_pages_and_the_package_alone() -> None:
    for path in space_files("someone/atlas@v2026.11.0"):
        assert ".." not in path and not path.startswith("/")
        assert path.startswith(("microscope_space/", "microscope_atlas/")) or "/" not in path
