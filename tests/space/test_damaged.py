"""An atlas that is lost in part, or holds what nobody expects: it costs what is wrong alone, and gives nothing away."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient

from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.errors import AtlasDamaged
from microscope_space import api, network_map, records, routes
from microscope_space.html import text
from tests import atlases
from tests.atlases import MODEL
from tests.space.test_documents import plain
from tests.space.test_pages import UNIT, Elements

LAYER, LONG = "blocks_4", pytest.mark.long
LINKS = (
    "/", f"/{MODEL}", f"/{MODEL}?lens=caricature", f"/{MODEL}/{LAYER}", f"/{MODEL}/{LAYER}/2",
    f"/?view=compare&a={MODEL}/{LAYER}/1&b={MODEL}/{LAYER}/2", "/?view=about", "/?q=blocks",
    f"/embed/{MODEL}/{LAYER}/2", f"/figure?units={MODEL}/{LAYER}/2", f"/preview/{MODEL}/{LAYER}/2", "/preview/",
)  # fmt: skip


@pytest.fixture
def copy(every: Path, tmp_path: Path) -> Path:
    """An atlas with every lens, to do with as one likes."""
    return Path(shutil.copytree(every, tmp_path / "microscope-atlas"))


def shard(atlas: Atlas, table: str, unit: int = 2) -> str:
    """The file with a table's rows about a unit."""
    return atlas._shards(table, MODEL, LAYER, unit)[0].path


def pictures(html: str) -> Iterator[str]:
    for attrs in Elements(re.sub("<script.*?</script>", "", html)).of("img"):
        if not str(attrs["src"]).startswith("data:"):
            yield str(attrs["src"])


def gone(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    """In place, as a disk does that loses its end."""
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 3)


def rubbish(path: Path) -> None:
    path.write_bytes(b"\x00" * path.stat().st_size)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("harm", [gone, cut, *(pytest.param(each, marks=LONG) for each in (rubbish, folder))])
@pytest.mark.parametrize("table", ["feature_visualization", "units", pytest.param("responses", marks=LONG)])
def test_a_damaged_shard_costs_its_own_rows_and_pictures_alone(
    copy: Path, table: str, harm: Callable[[Path], None]
) -> None:
    atlas = Atlas(Folder(copy))
    with plain(atlas) as client:
        before = client.get(f"/{MODEL}/{LAYER}/2")
        assert all(client.get(src).status_code == 200 for src in pictures(before.text))
        harm(copy / shard(atlas, table))
        # one that had read its rows before, and one that comes after
        for client_ in (client, plain(Atlas(Folder(copy)))):
            for src in pictures(before.text):
                status = client_.get(src).status_code
                assert status in ((200, 503) if f"table={table}&" in src else (200,)), src
            for link in LINKS:
                answer = client_.get(link)
                assert answer.status_code == 200, link
    after = plain(Atlas(Folder(copy))).get(f"/{MODEL}/{LAYER}/2").text
    if table != "units":
        assert text.LOST in after
    assert after.count("<section") == before.text.count("<section")


@pytest.mark.parametrize("key", [f"{MODEL}/{LAYER}/2", f"{MODEL}/{LAYER}"])
def test_the_json_beside_a_page_has_what_can_be_read(copy: Path, key: str) -> None:
    atlas = Atlas(Folder(copy))
    with plain(atlas) as client:
        before = client.get(f"/json/{key}").json()
    assert "lost" not in before
    cut(copy / shard(atlas, "units"))
    with plain(Atlas(Folder(copy))) as client:
        answer = client.get(f"/json/{key}")
    assert answer.status_code == 200
    after = answer.json()
    assert (after.pop("lost"), after["units"]) == (["units"], [])
    assert after == {**before, "units": []}


def test_a_picture_whose_shard_was_cut_is_refused_and_the_server_lives(copy: Path) -> None:
    atlas = Atlas(Folder(copy))
    rows = {table: atlas.rows(table, MODEL, LAYER, 2) for table in ("feature_visualization", "dataset_samples")}
    name = {table: next(row["image"] for row in own if row["image"]) for table, own in rows.items()}
    assert atlas.image("dataset_samples", MODEL, name["dataset_samples"])
    with (copy / shard(atlas, "feature_visualization")).open("r+b") as file:
        file.truncate(5)
    with pytest.raises(AtlasDamaged, match="is shorter than it was"):
        atlas.image("feature_visualization", MODEL, name["feature_visualization"])
    assert atlas.image("dataset_samples", MODEL, name["dataset_samples"])


def test_no_answer_names_a_folder_of_the_server(copy: Path) -> None:
    atlas = Atlas(Folder(copy))
    shutil.rmtree(copy / "index")
    damaged = ("feature_visualization", "dataset_samples", "units", "responses", "synthetic_tuning", "connections")
    for table in damaged:
        (copy / shard(atlas, table)).write_bytes(b"PAR1 nothing PAR1")
    name = {"table": "feature_visualization", "model": MODEL, "name": "x", "column": "image"}
    for known in (atlas, Atlas(Folder(copy))):
        with plain(known) as client:
            answers = [client.get(link) for link in (*LINKS, f"/json/{MODEL}/{LAYER}/2")] + [
                client.get("/picture", params=name)
            ]
        for answer in answers:
            # of one's own machine the code that loads rows says where they are
            said = re.sub(r"<pre.*?</pre>", "", answer.text, flags=re.DOTALL)
            assert str(copy.parent) not in said, answer.url
            assert "Traceback" not in answer.text
        assert answers[-1].status_code == 503
        request = SimpleNamespace(request=None)
        with api.asked_by(known, request) as now:
            told = records.of_unit(now, MODEL, LAYER, 2)
        assert set(damaged) <= set(told["lost"])
        assert str(copy.parent) not in json.dumps(told)


def replaced(root: Path, table: str, change: Callable[[dict[str, Any]], dict[str, Any]], layer: str = LAYER) -> None:
    """Have a table's rows hold something else, which the manifest vouches for."""
    atlas = Atlas(Folder(root))
    for found in atlas._shards(table, MODEL, layer):
        rows = pq.read_table(root / found.path).to_pylist()
        atlases.replace_rows(root, found.path, [{**row, **change(row)} for row in rows])


INFINITE = float("inf")
UNEXPECTED: dict[str, tuple[str, Callable[[dict[str, Any]], dict[str, Any]], str]] = {
    "method": ("feature_visualization", lambda row: {"method": "dreamt"}, "dreamt"),
    "direction": ("feature_visualization", lambda row: {"direction": 0}, "direction 0"),
    "objective": ("feature_visualization", lambda row: {"objective": "<whole>"}, "&lt;whole&gt;"),
    "infinite score": ("feature_visualization", lambda row: {"score": INFINITE}, "score inf"),
    "recipe": ("feature_visualization", lambda row: {"recipe": "{no json"}, "{no json"),
    "deep recipe": ("feature_visualization", lambda row: {"recipe": "[" * 100_000}, "[[["),
    "bucket": ("dataset_samples", lambda row: {"bucket": "median"}, "<h3>median</h3>"),
    "short quantiles": ("responses", lambda row: {"quantiles": row["quantiles"][:3]}, "Statistics"),
    "infinite responses": ("responses", lambda row: {"responses": [INFINITE, 1.0, float("nan")]}, "1 responses"),
    "infinite maximum": ("units", lambda row: {"maximum": -INFINITE}, "Feature visualization"),
    "no axis": ("synthetic_tuning", lambda row: {"x_values": []}, text.UNEXPECTED),
    "infinite tuning": ("synthetic_tuning", lambda row: {"responses": [[INFINITE] * 3]}, "No response is finite"),
    "infinite peak": ("synthetic_tuning", lambda row: {"preferred_x": INFINITE, "preferred_y": INFINITE}, "peak at"),
    "infinite weight": ("connections", lambda row: {"kernel": [[INFINITE]]}, "kernel"),
    "empty kernel": ("connections", lambda row: {"kernel": []}, "kernel"),
    "own link": ("units", lambda row: {"legacy_url": "javascript:alert(1)"}, "in OpenAI Microscope"),
    "sheet": ("sheets", lambda row: {"columns": 0, "num_units": 0}, "blocks_4"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNEXPECTED)
def test_rows_that_a_page_does_not_expect_are_shown_as_what_they_are(copy: Path, name: str) -> None:
    table, change, seen = UNEXPECTED[name]
    before = routes.show(Atlas(Folder(copy)), UNIT)
    replaced(copy, table, change)
    atlas = Atlas(Folder(copy))
    with plain(atlas) as client:
        for link in LINKS:
            answer = client.get(link)
            assert answer.status_code == 200 or "direction" in name, link
            assert "javascript:" not in answer.text if "text" in answer.headers["content-type"] else True
    shown = routes.show(atlas, UNIT)
    assert not Elements(shown).open
    assert seen in shown
    assert shown.count("<section") == before.count("<section")
    json.dumps(records.of_unit(atlas, MODEL, LAYER, 2))


@pytest.mark.parametrize("start", [None, 3])
def test_layer_whose_picture_starts_from_nothing_known_is_shown_without(
    copy: Path, monkeypatch: pytest.MonkeyPatch, start: Any
) -> None:
    known = Atlas.some

    def some(self: Atlas, *asked: Any) -> pa.Table:
        rows = known(self, *asked)
        return rows.set_column(0, "start", pa.array([start] * len(rows))) if asked[0] == "deepdream" else rows

    monkeypatch.setattr(Atlas, "some", some)
    page = plain(Atlas(Folder(copy))).get(f"/{MODEL}")
    assert page.status_code == 200
    assert "not rendered" in page.text


def test_units_without_a_finite_place_are_on_no_map(copy: Path) -> None:
    for x, y, there in ((0.5, 0.5, True), (INFINITE, 0.5, False), (0.5, float("nan"), False)):
        place = {"x": x, "y": y, "trustworthiness": 1.0}
        for layer in Atlas(Folder(copy)).layers(MODEL):
            replaced(copy, "units", lambda row, place=place: {"model_map": place}, layer)
        assert network_map.has_one(Atlas(Folder(copy)), MODEL) == there


def test_a_picture_that_is_none_is_not_passed_on_as_one(copy: Path) -> None:
    atlas = Atlas(Folder(copy))
    row = atlas.rows("feature_visualization", MODEL, LAYER, 2)[0]
    rubbish(copy / shard(atlas, "feature_visualization"))
    asked = {"table": "feature_visualization", "model": MODEL, "name": row["image"], "column": "image"}
    answer: Any = TestClient.get(plain(atlas), "/picture", params=asked)
    assert answer.status_code == 503
    assert answer.headers["content-type"].startswith("text/plain")
