"""The atlas for programs: endpoints, pictures, cards and old links."""

import json
import re
from collections.abc import Iterator
from html import unescape
from types import SimpleNamespace
from typing import Any

import httpx
import jsonschema
import openapi_spec_validator
import pytest

from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.errors import InvalidKey, UnknownName
from microscope_atlas.keys import Key
from microscope_space import app, records
from microscope_space.search.find import find
from tests.atlases import MODEL
from tests.space.test_pages import PAGES

KEY = f"{MODEL}/blocks_4/2"


@pytest.fixture(scope="module")
def client(server: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server, timeout=60) as client:
        yield client


def call(client: httpx.Client, name: str, *data: object) -> tuple[str, Any]:
    """What an endpoint answers: `complete` or `error`, and what it says."""
    event = client.post(f"/gradio_api/call/{name}", json={"data": data}).json()["event_id"]
    kind, said = client.get(f"/gradio_api/call/{name}/{event}").text.strip().splitlines()
    return kind.removeprefix("event: "), json.loads(said.removeprefix("data: "))


def named(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows without the links to their pictures."""
    return [{name: value for name, value in row.items() if not name.endswith("_url")} for row in rows]


def test_unit_is_all_rows_about_it(known: Atlas) -> None:
    answer = json.loads(json.dumps(records.of_unit(known, MODEL, "blocks_4", 2)))
    assert answer["key"] == KEY
    assert answer["revision"] == known.revision
    assert answer["page"] == f"./{KEY}?revision={known.pin}"
    assert named(answer["feature_visualization"]) == known.rows("feature_visualization", MODEL, "blocks_4", 2)
    assert {row["unit"] for table in ("responses", "connections") for row in answer[table]} == {2}


def test_layer_is_its_units(known: Atlas) -> None:
    answer = json.loads(json.dumps(records.of_layer(known, MODEL, "blocks_4")))
    assert (answer["num_units"], [row["unit"] for row in answer["units"]]) == (40, [0, 1, 2, 3])
    assert [row["source"] for row in answer["caricature"]] == ["cat"]


def test_what_is_not_there_is_said(known: Atlas) -> None:
    with pytest.raises(UnknownName, match=f"nearest: {MODEL}/blocks_4/39"):
        records.of_unit(known, MODEL, "blocks_4", 40)
    with pytest.raises(UnknownName, match="nearest: blocks_"):
        records.of_layer(known, MODEL, "blocks_5")
    with pytest.raises(InvalidKey):
        records.of_unit(known, MODEL, "../x", 0)


def test_endpoints_have_names_and_parameters(client: httpx.Client) -> None:
    endpoints = client.get("/gradio_api/info").json()["named_endpoints"]
    asked = {name: [each["parameter_name"] for each in endpoint["parameters"]] for name, endpoint in endpoints.items()}
    assert asked["/unit"] == ["model", "layer", "unit"]
    assert asked["/layer"] == ["model", "layer"]
    assert asked["/search"] == ["words"]


def test_endpoints_answer(client: httpx.Client, known: Atlas) -> None:
    for name, *asked in (("unit", MODEL, "blocks_4", 2), ("layer", MODEL, "blocks_4")):
        kind, (said,) = call(client, name, *asked)
        path = "/".join(map(str, asked))
        assert (kind, said) == ("complete", client.get(f"/json/{path}").json())
    kind, ((found,),) = call(client, "search", KEY)
    assert (kind, found["key"], found["what"]) == ("complete", KEY, "key")
    assert client.get(found["picture"]).headers["content-type"] == "image/jpeg"


@pytest.mark.parametrize("name", PAGES)
def test_every_page_is_json_too(client: httpx.Client, name: str) -> None:
    page = client.get("/", params=PAGES[name])
    alternate = re.findall('<link rel="alternate" type="application/json" href="([^"]*)">', page.text)
    answer = client.get(unescape(alternate[0]) if alternate else "/json", params=None if alternate else PAGES[name])
    assert (answer.status_code, answer.headers["content-type"]) == (page.status_code, "application/json")
    assert answer.headers["access-control-allow-origin"] == "*"
    told = answer.json()
    assert ("error" in told) == (page.status_code != 200)
    pictures = set(re.findall(r'"(?:picture|\w+_url)": "([^"]+)"', answer.text))
    assert all(link.startswith(str(client.base_url)) for link in pictures)
    for link in sorted(pictures)[:3]:
        assert client.get(link).headers["content-type"].startswith("image/")


def test_json_says_what_is_wrong_and_what_is_near(client: httpx.Client) -> None:
    answer = client.get(f"/json/{MODEL}/blocks_4/40")
    assert answer.status_code == 404
    assert "it has 0 to 39" in answer.json()["error"] or "not in this atlas" in answer.json()["error"]
    assert [each["key"] for each in answer.json()["nearest"]] == [f"{MODEL}/blocks_4/39", f"{MODEL}/blocks_4"]
    assert client.get("/json/a/b/c/d").status_code == 400
    assert client.get("/json", params={"view": "compare", "a": MODEL}).status_code in (400, 404)
    assert client.get("/json", params={"q": "x" * 10_000}).status_code == 400


def test_json_has_no_number_that_json_lacks() -> None:
    assert (
        records.encoded({"a": [1.5, float("inf"), float("nan")], "b": (None, 2)})
        == b'{"a": [1.5, null, null], "b": [null, 2]}'
    )


def test_openapi_is_valid_and_describes_what_is_answered(client: httpx.Client) -> None:
    described = client.get("/openapi.json").json()
    openapi_spec_validator.validate(described)
    assert described["servers"] == [{"url": str(client.base_url).rstrip("/")}]
    for path, schema in ((f"/json/{KEY}", "Unit"), (f"/json/{MODEL}/blocks_4", "Layer"), (f"/json/{MODEL}", "Model")):
        rules = {"$ref": f"#/components/schemas/{schema}", "components": described["components"]}
        jsonschema.validate(client.get(path).json(), rules)
    filled = {"model": MODEL, "layer": "blocks_4", "unit": "2"}
    for path in described["paths"]:
        if path != "/picture":
            assert client.get(path.format_map(filled)).status_code == 200


def test_endpoint_says_what_is_wrong(client: httpx.Client) -> None:
    kind, said = call(client, "unit", MODEL, "blocks_5", 2)
    assert kind == "error"
    assert f"{MODEL}/blocks_5/2 is not in this atlas" in said["error"]


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (KEY, Key(MODEL, "blocks_4", 2)),
        (f"  {MODEL}/blocks_6 ", Key(MODEL, "blocks_6")),
        ("Lite0", Key(MODEL)),
        ("BLOCKS_6", Key(MODEL, "blocks_6")),
    ],
)
def test_search_finds(known: Atlas, words: str, key: Key) -> None:
    assert find(known, words).found[0].key == key


@pytest.mark.parametrize("words", ["", " ", "nothing like it", f"{MODEL}/blocks_4/40", "<script>", "%", ".*"])
def test_search_finds_nothing_where_nothing_is(known: Atlas, words: str) -> None:
    found = find(known, words)
    assert found.nearest or not found.found


def test_picture_is_the_atlas_own(client: httpx.Client, known: Atlas) -> None:
    name = known.rows("feature_visualization", MODEL, "blocks_4", 2)[0]["image"]
    asked = {"table": "feature_visualization", "model": MODEL, "name": name, "column": "image"}
    answer = client.get("/picture", params=asked)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    assert answer.content == known.image("feature_visualization", MODEL, name)
    # a folder may hold another picture under the same name tomorrow: without the atlas' hash browsers ask again
    assert client.get("/picture", params={**asked, "v": known.version}).headers["cache-control"].endswith("immutable")
    assert client.get("/picture", params={**asked, "v": "another"}).headers["cache-control"] == "no-cache"
    assert answer.headers["cache-control"] == "no-cache"
    known_already = {"If-None-Match": answer.headers["etag"]}
    assert client.get("/picture", params=asked, headers=known_already).status_code == 304
    for wrong in ({"name": "../../atlas.json"}, {"table": "x"}, {"model": "../"}, {"column": "recipe"}, {"name": ""}):
        answer = client.get("/picture", params={**asked, **wrong})
        assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (404, "text/plain")


def test_whatever_a_key_names_has_a_thumbnail(client: httpx.Client, known: Atlas) -> None:
    row = known.rows("units", MODEL, "blocks_4", 2)[0]
    answer = client.get(f"/thumbnail/{KEY}")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    assert answer.content == known.image("units", MODEL, row["thumbnail"], "thumbnail")
    assert client.get(f"/thumbnail/{KEY}", headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
    dream = next(row for row in known.rows("deepdream", MODEL, "blocks_4") if row["image"])
    assert client.get(f"/thumbnail/{MODEL}/blocks_4").content == known.image("deepdream", MODEL, dream["image"])
    assert client.get(f"/thumbnail/{MODEL}").headers["content-type"] == "image/jpeg"
    answer = client.get(f"/thumbnail/{MODEL}/blocks_4/39")  # not rendered
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/svg+xml")
    for key in (f"{MODEL}/blocks_4/40", "x", "../atlas.json", "%3Csvg%3E", ""):
        answer = client.get(f"/thumbnail/{key}")
        assert answer.status_code == 404
        assert "<svg" not in answer.text or answer.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize(
    ("asked", "table", "told"),
    [
        ({}, "feature_visualization", ("fourier", "channel", 1)),
        ({"objective": "neuron", "direction": "-1"}, "feature_visualization", ("fourier", "neuron", -1)),
        ({"method": "top", "objective": "neuron"}, "dataset_samples", 0),
        ({"method": "gratings"}, "synthetic_tuning", "gratings"),
        ({"method": "<b>"}, "feature_visualization", ("fourier", "channel", 1)),
    ],
)
def test_a_glance_is_the_tiles_picture_and_the_best_samples(
    client: httpx.Client, known: Atlas, asked: dict[str, str], table: str, told: object
) -> None:
    answer = client.get(f"/glance/{KEY}", params={**asked, "v": known.version})
    assert (answer.status_code, answer.headers["cache-control"].endswith("immutable")) == (200, True)
    by = {
        "feature_visualization": lambda row: (row["method"], row["objective"], row["direction"]),
        "dataset_samples": lambda row: row["rank"],
        "synthetic_tuning": lambda row: row["family"],
    }[table]
    (row, *_) = (row for row in known.rows(table, MODEL, "blocks_4", 2) if by(row) == told)
    names = re.findall("name=([^&]*)&", answer.text)
    assert names[0] == row["image"]
    best = [row["image"] for row in known.rows("dataset_samples", MODEL, "blocks_4", 2) if row["bucket"] == "top"]
    assert set(names[1:]) == set(best[:8])
    assert client.get(f"/glance/{MODEL}/blocks_4/40").status_code == 404


def test_card_can_be_framed_and_loads_nothing(client: httpx.Client, known: Atlas) -> None:
    answer = client.get(f"/embed/{KEY}")
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "frame-ancestors *" in policy
    assert "default-src 'none'" in policy
    assert "x-frame-options" not in answer.headers
    assert KEY in answer.text
    assert all(src.startswith("data:image/") for src in re.findall(r'src="([^"]*)"', answer.text))
    assert len(re.findall("<img", answer.text)) > 1
    assert f'href="/{KEY}?revision={known.version}"' in answer.text
    # what is copied to frame it names the Space itself
    assert f"&lt;iframe src=&#34;{str(client.base_url).rstrip('/')}/embed/{KEY}&#34;" in client.get(f"/{KEY}").text


def test_a_list_has_a_path_of_its_own(client: httpx.Client) -> None:
    answer = client.get("/list", params={"units": KEY, "title": "A & B"})
    assert answer.status_code == 200
    assert '<h1 tabindex="-1">A &amp; B</h1>' in answer.text


@pytest.mark.parametrize("key", [f"{MODEL}/blocks_4/40", f"{MODEL}/blocks_5/0", "x/y/z", "%3Cscript%3E/a/1"])
def test_card_of_what_is_not_there_says_so(client: httpx.Client, key: str) -> None:
    answer = client.get(f"/embed/{key}")
    assert answer.status_code == 404
    assert "There is nothing at this link" in answer.text
    assert "<script" not in answer.text


def test_no_more_visitors_are_remembered_than_memory_is_for(known: Atlas, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(app, "ready", lambda _: None)
    blocks = SimpleNamespace(
        launch=lambda **settings: given.update(settings) or "abc",
        server=SimpleNamespace(config=SimpleNamespace()),
        block_thread=lambda: given.update(waited=True),
    )
    monkeypatch.setattr(app, "_blocks", lambda _: blocks)
    app.serve(known.storage)
    assert blocks.server.config.timeout_keep_alive > 60  # as proxies keep theirs
    assert given["waited"]
    assert given["state_session_capacity"] == app.SESSIONS <= 1000  # Gradio's own limit is 3 GB of them
