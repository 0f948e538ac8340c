"""The page of a layer's groups: the picture of each, its units as links, and where it is strongest."""

import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.reader import Atlas
from microscope_space import api, documents
from microscope_space.html import text
from tests import atlases
from tests.atlases import MODEL
from tests.space.test_pages import Elements

LAYER = f"/{MODEL}/stem"
PAGE = f"{LAYER}?view=groups"


@pytest.fixture(scope="module")
def client(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    root = tmp_path_factory.mktemp("grouped") / "atlas"
    atlases.render_every(root, {"stem": range(1)}, lenses=["groups", "deepdream"])
    atlas = Atlas(Folder(root))
    with TestClient(Starlette(routes=[*api.plain(atlas), *documents.documents(atlas)])) as client:
        yield client


def page(client: TestClient, link: str) -> Elements:
    answer = client.get(link)
    assert answer.status_code == 200, answer.text
    elements = Elements(re.sub("<script.*?</script>", "", answer.text))
    assert elements.open in ([], ["html"])
    return elements


def test_layer_leads_to_its_groups(client: TestClient) -> None:
    assert PAGE in {each["href"] for each in page(client, LAYER).of("a")}


def test_every_group_has_its_picture_its_photos_and_its_units(client: TestClient) -> None:
    shown, elements = client.get(PAGE).text, page(client, PAGE)
    assert re.findall(r'<h2 id="group-\d+">(.*?)</h2>', shown) == ["Group 0", "Group 1"]
    assert text.GROUPS_WARNING in shown
    sizes = []
    for image in elements.of("img"):
        answer = client.get(str(image["src"]))
        sizes.append(Image.open(io.BytesIO(answer.content)).size)
    assert len([size for size in sizes if size[0] == size[1]]) == 2
    assert [size[1] for size in sizes if size[0] != size[1]] == [64, 64]
    rows = client.get(f"/json{PAGE}").json()["groups"]
    for row in rows:
        first = row["strongest"][0]["unit"]
        assert f"{LAYER}/{first}" in {each["href"] for each in elements.of("a")}
        assert client.get(row["photos_url"]).status_code == 200


@pytest.mark.parametrize(
    ("link", "status"),
    [
        (f"/{MODEL}/blocks_0?view=groups", 404),
        (f"{LAYER}?view=activation_atlas", 404),
        (f"{LAYER}/0?view=groups", 400),
        (f"/{MODEL}?view=groups", 400),
        ("/?view=groups", 400),
    ],
)
def test_wrong_link_is_told(client: TestClient, link: str, status: int) -> None:
    assert client.get(link).status_code == status
    assert client.get(f"/json{link}").status_code == status


@pytest.mark.parametrize("link", ["/?view=map", f"{LAYER}/0?view=map"])
def test_map_of_what_is_no_layer_is_told_as_well(client: TestClient, link: str) -> None:
    answer = client.get(link)
    assert answer.status_code == 400
    assert "A map is of a layer" in answer.text
