"""The page of a map: a plain picture whose cells are links, at each zoom, and what fell into one."""

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
from tests import atlases
from tests.atlases import MODEL
from tests.commands import Commands
from tests.space.test_pages import HOSTILE, Elements

LAYER = f"/{MODEL}/stem"
PAGE = f"{LAYER}?view=activation_atlas"


@pytest.fixture(scope="module")
def root(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An atlas of a layer that has a map. Nobody may write to it."""
    root = tmp_path_factory.mktemp("mapped") / "atlas"
    atlases.render_every(root, {"stem": range(1)}, lenses=["activation_atlas", "deepdream"])
    return root


@pytest.fixture(scope="module")
def client(root: Path) -> Iterator[TestClient]:
    atlas = Atlas(Folder(root))
    with TestClient(Starlette(routes=[*api.plain(atlas), *documents.documents(atlas)])) as client:
        yield client


def page(client: TestClient, link: str, status: int = 200) -> Elements:
    answer = client.get(link)
    assert answer.status_code == status, answer.text
    elements = Elements(re.sub("<script.*?</script>", "", answer.text))
    assert elements.open in ([], ["html"])
    return elements


def pictured(client: TestClient, src: str) -> Image.Image:
    answer = client.get(src)
    assert answer.status_code == 200
    assert "immutable" in answer.headers["Cache-Control"]
    return Image.open(io.BytesIO(answer.content))


def test_layer_leads_to_its_map(client: TestClient) -> None:
    assert PAGE in {each["href"] for each in page(client, LAYER).of("a")}


def test_every_cell_is_a_link_to_what_fell_into_it(client: TestClient) -> None:
    cells = [str(each["href"]) for each in page(client, PAGE).of("a") if "cell=" in str(each["href"])]
    assert len(cells) == len(set(cells)) >= 1
    for link in cells:
        shown = client.get(link).text
        assert re.search(r"<dt>activations</dt><dd>\d+</dd>", shown)
        assert "What falls here" in shown
        for image in page(client, link).of("img"):
            assert min(pictured(client, str(image["src"])).size) >= 32


def test_map_is_a_picture_at_every_zoom(client: TestClient) -> None:
    for zoom in (0, 1, 2):
        (image,) = page(client, f"{PAGE}&zoom={zoom}").of("img")
        assert pictured(client, str(image["src"])).size == (640, 640)
        assert image["alt"]


def test_picture_is_called_what_it_is(client: TestClient) -> None:
    for link in (f"/map{LAYER}?zoom=0", f"/map{LAYER}?zoom=0&part="):
        answer = client.get(link)
        assert (answer.headers["content-type"], Image.open(io.BytesIO(answer.content)).format) == ("image/jpeg", "JPEG")


def test_programs_are_told_the_cells(client: TestClient) -> None:
    told = client.get(f"/json{PAGE}").json()
    assert told["zoom"] == max(told["zooms"]) == "2"
    cells = told["activation_atlas"]
    assert cells and {(cell["zoom"], cell["grid"]) for cell in cells} == {(2, 2)}
    assert "mean" not in cells[0] and pictured(client, cells[0]["image_url"]).width >= 32
    (cell,) = client.get(f"/json{PAGE}&cell={cells[0]['row']}-{cells[0]['column']}").json()["activation_atlas"]
    assert cell == cells[0]
    assert client.get(f"/json{PAGE}&zoom=7").status_code == 400


def test_finest_zoom_is_shown_unasked(client: TestClient) -> None:
    chosen = [each for each in page(client, PAGE).of("a") if each.get("aria-current") == "true"]
    assert [str(each["href"]).partition("zoom=")[2] for each in chosen] == ["2"]


@pytest.mark.parametrize(
    ("link", "status"),
    [
        (f"{PAGE}&zoom=7", 400),
        (f"{PAGE}&cell=9-9", 400),
        (f"{PAGE}&cell=somewhere", 400),
        (f"/{MODEL}/blocks_0?view=activation_atlas", 404),
        (f"{LAYER}?view=groups", 404),
        (f"/{MODEL}?view=activation_atlas", 400),
        ("/?view=activation_atlas", 400),
        (f"/map{LAYER}?zoom=7", 404),
        (f"/map/{MODEL}?zoom=0", 404),
        ("/map/?zoom=0", 404),
        (f"/map{LAYER}", 404),
    ],
)
def test_wrong_link_is_told(client: TestClient, link: str, status: int) -> None:
    assert client.get(link).status_code == status


@pytest.mark.parametrize("hostile", HOSTILE[:-1], ids=range(len(HOSTILE) - 1))
def test_nothing_gets_in_through_a_link(client: TestClient, hostile: str) -> None:
    for name in ("zoom", "cell"):
        shown = client.get(LAYER, params={"view": "activation_atlas", name: hostile})
        assert shown.status_code == 400
        for tag, attrs in Elements(re.sub("<script src.*?</script>", "", shown.text)).all:
            assert tag != "script"
            assert not any(key.startswith("on") for key in attrs)


def test_map_is_drawn_by_a_command(root: Path, tmp_path: Path, commands: Commands) -> None:
    ended = commands("map", root, f"{MODEL}/stem", tmp_path / "out")
    assert ended.status == 0, ended.err
    assert "stem.dzi beside it zooms through 1 x 1, 1 x 1, 2 x 2 cells" in ended.out
    with Image.open(tmp_path / "out" / "stem.jpg") as picture:
        assert picture.size == (64, 64)
    again = commands("map", root, f"{MODEL}/stem", tmp_path / "out")
    assert (again.status, again.out) == (1, "")
    assert "is there already" in again.err


@pytest.mark.parametrize(
    ("key", "told"),
    [
        (f"{MODEL}/stem/3", "looks at a layer"),
        (MODEL, "looks at a layer"),
        (f"{MODEL}/blocks_1", "is not in the atlas"),
    ],
)
def test_command_says_what_cannot_be_drawn(root: Path, tmp_path: Path, commands: Commands, key: str, told: str) -> None:
    ended = commands("map", root, key, tmp_path / "out")
    assert ended.status == 2
    assert told in ended.err
    assert not (tmp_path / "out").exists()
