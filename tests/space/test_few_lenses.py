"""Atlases of few lenses: every page says what is true of them, and leads to nothing that is not there."""

import shutil
from dataclasses import replace
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.manifest import read_manifest, write_manifest
from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.errors import UnknownName, unknown
from microscope_atlas.keys import Key
from microscope_atlas.lenses.registry import lens
from microscope_atlas.models.catalog import organism
from microscope_atlas.run import run
from microscope_space import api, brief, documents
from microscope_space.html import text
from microscope_space.thumbnail import STRIPES
from tests import atlases
from tests.atlases import LAYER, MODEL, RECIPE
from tests.space.test_pages import Elements

UNITS = organism(MODEL).layers[LAYER].units
FIRST, WITHOUT = f"{MODEL}/{LAYER}/0", f"{MODEL}/{LAYER}/{UNITS - 1}"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An atlas with feature visualizations of two units, in one method that is not the usual, and nothing else."""
    root = tmp_path_factory.mktemp("few") / "folder" / "microscope-atlas"
    atlases.render(root, range(2), replace(RECIPE, methods=("transparent",)), kind="random")
    return root


@pytest.fixture(scope="module")
def dreamt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An atlas with a deepdream of one layer, and nothing else."""
    root = tmp_path_factory.mktemp("few") / "microscope-atlas"
    known = atlases.request({LAYER: range(UNITS)}, "random")
    run.render(Folder(root), [known], {"deepdream": lens("deepdream").quick()}, atlases.HERE, 2, lambda *_: None)
    return root


def visitor(root: Path) -> tuple[Atlas, TestClient]:
    atlas = Atlas(Folder(root))
    space = Starlette(routes=[*api.plain(atlas), *documents.documents(atlas)])
    return atlas, TestClient(space, base_url="http://space.test")


def test_a_layer_has_as_many_units_as_its_network_has_there(made: Path) -> None:
    atlas, client = visitor(made)
    assert atlas.num_units(MODEL, LAYER) == UNITS > 2
    assert f"2 of {UNITS} units are rendered" in client.get(f"/{MODEL}/{LAYER}").text
    assert f"0 of {UNITS}" in client.get(f"/{FIRST}").text
    page = client.get(f"/{WITHOUT}")
    assert page.status_code == 200
    assert "This atlas has no feature visualization of" in page.text
    assert client.get(f"/{MODEL}/{LAYER}/{UNITS}").status_code == 404
    assert brief.brief_layer(atlas, Key(MODEL, LAYER))["num_rendered"] == 2


def test_what_is_rendered_is_shown_whatever_the_method(made: Path) -> None:
    _, client = visitor(made)
    page = client.get(f"/?view=compare&a={FIRST}&b={WITHOUT}")
    assert f"no feature visualization of {FIRST}" not in page.text
    assert f"no feature visualization of {WITHOUT}" in page.text
    assert any("table=feature_visualization" in str(each["src"]) for each in Elements(page.text).of("img"))


@pytest.mark.parametrize("path", [f"/thumbnail/{FIRST}", f"/thumbnail/{MODEL}/{LAYER}", f"/thumbnail/{MODEL}"])
def test_without_thumbnails_the_large_picture_stands_for_it(made: Path, path: str) -> None:
    atlas, client = visitor(made)
    picture = client.get(path)
    assert picture.status_code == 200
    assert picture.content != STRIPES.encode()
    assert "table=feature_visualization" in client.get("/").text
    assert atlas.thumbnails(MODEL, LAYER) == {}


def test_a_layer_says_why_it_has_no_pictures(made: Path, dreamt: Path) -> None:
    page = visitor(made)[1].get(f"/{MODEL}/{LAYER}").text
    assert text.NO_SHEET.replace("'", "&#39;") in page
    assert 'class="filter"' not in page  # there is nothing to choose
    page = visitor(dreamt)[1].get(f"/{MODEL}/{LAYER}").text
    assert text.NO_UNITS in page
    assert text.NO_SHEET.replace("'", "&#39;") not in page


def test_an_atlas_without_rows_says_so(made: Path, tmp_path: Path) -> None:
    write_manifest(Folder(tmp_path), replace(read_manifest(Folder(made)), shards={}, indexes={}))
    page = visitor(tmp_path)[1].get("/")
    assert page.status_code == 200
    assert text.NO_NETWORKS in page.text


def test_code_loads_what_there_is(made: Path, dreamt: Path) -> None:
    assert "load_dataset" in visitor(made)[1].get(f"/{FIRST}").text
    assert "load_dataset" not in visitor(made)[1].get(f"/{WITHOUT}").text
    assert "load_dataset" not in visitor(dreamt)[1].get(f"/{FIRST}").text


def test_a_damaged_shard_is_not_called_missing(made: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(made, tmp_path / "microscope-atlas"))
    for path in (root / "feature_visualization").rglob("*.parquet"):
        path.write_bytes(b"\0" * path.stat().st_size)
    _, client = visitor(root)
    for link in (f"/embed/{FIRST}", f"/glance/{FIRST}", f"/{FIRST}"):
        page = client.get(link)
        assert page.status_code == 200
        assert text.LOST in page.text
        assert "no feature visualization" not in page.text


@pytest.mark.parametrize(
    "link", ["/?view=about", f"/{FIRST}", "/?q=dog&by=meaning", "/json/?view=about", "/json/?q=dog&by=meaning"]
)
def test_nobody_is_told_where_the_atlas_lies(made: Path, link: str) -> None:
    answer = visitor(made)[1].get(link)
    assert str(made.parent) not in answer.text
    assert answer.status_code == (404 if "meaning" in link else 200)


def test_what_is_not_there_is_a_404_that_says_so(made: Path) -> None:
    _, client = visitor(made)
    assert client.get("/?list=wheels").status_code == 404
    assert client.get("/json/?list=wheels").status_code == 404
    page = client.get(f"/{MODEL}?source=noise")
    assert f"is not in the deepdreams of {MODEL}; there is none." in page.text
    with pytest.raises(UnknownName, match=r"^layer 'a' is not in b; there is none$"):
        raise unknown("layer", "a", "b", [])


@pytest.mark.parametrize("kind", ["made", "dreamt"])
def test_no_link_between_pages_is_dead(kind: str, request: pytest.FixtureRequest) -> None:
    _, client = visitor(request.getfixturevalue(kind))
    seen: dict[str, int] = {}
    left = ["http://space.test/"]
    while left:
        link = left.pop().partition("#")[0]
        where = urlsplit(link)
        if link in seen or where.netloc != "space.test" or "view=caricature" in link or "view=probe" in link:
            continue
        answer = client.get(link)
        seen[link] = answer.status_code
        if answer.headers["content-type"].startswith("text/html"):
            page = Elements(answer.text)
            found = [
                each.get(name)
                for tag in ("a", "img", "link", "script")
                for each in page.of(tag)
                for name in ("href", "src")
            ]
            left += [urljoin(link, str(each)) for each in found if each]
            assert "<title>" in answer.text
            assert 'rel="canonical"' in answer.text
    assert len(seen) > 10
    assert {link: status for link, status in seen.items() if status != 200} == {}
