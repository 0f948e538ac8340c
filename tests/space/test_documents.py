"""Pages as documents over HTTP: one page a link however it is spelt, its status, what is said of it, and caches."""

import gzip
import io
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gradio.routes
import httpx
import pytest
from fastapi import FastAPI
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from microscope_atlas.atlas.manifest import Manifest
from microscope_atlas.atlas.reader import Atlas
from microscope_space import answers, api, documents, preview
from microscope_space.html import links
from tests.atlases import MODEL
from tests.space.test_pages import PAGES, Elements

KEY = f"{MODEL}/blocks_4/2"


@pytest.fixture(scope="module")
def client(server: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server, timeout=60) as client:
        yield client


def plain(atlas: Atlas, root_path: str = "", **more: str) -> TestClient:
    """The routes alone, without Gradio, behind a proxy that says where they are."""
    routes = [*api.plain(atlas), *documents.documents(atlas)]
    return TestClient(Starlette(routes=routes), root_path=root_path, headers=more)


def meta(html: str) -> dict[str, str]:
    """What a document says of itself, by name or property."""
    found = Elements(re.sub("<script.*?</script>", "", html))
    told = {str(each.get("name") or each.get("property")): str(each.get("content")) for each in found.of("meta")}
    canonical = [str(each["href"]) for each in found.of("link") if each["rel"] == "canonical"]
    return told | ({"canonical": canonical[0]} if canonical else {})


@pytest.mark.parametrize(
    ("canonical", "others"),
    [
        ("/", ["/?", "/models", "/?url=https://microscope.openai.com/models/"]),
        (f"/{MODEL}", [f"/?model={MODEL}", f"/{MODEL}/", f"/models/{MODEL}", f"/?url=/models/{MODEL}"]),
        (f"/{MODEL}/blocks_4", [f"/?model={MODEL}&layer=blocks_4", f"/{MODEL}?layer=blocks_4"]),
        (f"/{KEY}", [f"/?model={MODEL}&layer=blocks_4&unit=2", f"/?unit=2&layer=blocks_4&model={MODEL}", f"/{KEY}/"]),
        (f"/{MODEL}/blocks_4?sort=maximum", [f"/?model={MODEL}&layer=blocks_4&sort=maximum&branch=any"]),
        ("/?view=about", ["/?url=https://microscope.openai.com/about"]),
        ("/?q=blocks", ["/?q=+blocks+"]),
    ],
)
def test_every_spelling_of_a_link_gives_the_same_bytes(client: httpx.Client, canonical: str, others: list[str]) -> None:
    answer = client.get(canonical)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert meta(answer.text)["canonical"] == f"{str(client.base_url).rstrip('/')}{canonical}"
    for other in others:
        assert client.get(other).content == answer.content, other


@pytest.mark.parametrize(
    ("link", "status", "near"),
    [
        ("/inceptionv9/mixed4c/447", 404, f"/{MODEL}"),
        (f"/{MODEL}/block_4", 404, f"/{MODEL}/blocks_4"),
        (f"/{MODEL}/blocks_4/40", 404, f"/{MODEL}/blocks_4/39"),
        ("/models/inceptionv1/mixed4c_0/447", 404, f"/{MODEL}"),
        ("/?url=/models/inceptionv1/mixed9z", 404, "/"),
        (f"/?view=compare&a={MODEL}/blocks_4/40", 404, "/"),
        (f"/{MODEL}/blocks_4/x", 400, f"/{MODEL}/blocks_4"),
        (f"/{MODEL}/blocks_4/2/3", 400, "/"),
        (f"/{MODEL}//2", 400, "/"),
        ("/?layer=blocks_4", 400, f"/{MODEL}"),
        ("/?view=compere", 400, f"/{MODEL}"),
        (f"/{MODEL}/blocks_4?sort=size", 400, f"/{MODEL}/blocks_4"),
        (f"/{MODEL}?lens=x", 400, f"/{MODEL}"),
        ("/?url=https://example.com/", 400, "/"),
        ("/?view=compare&a=x/y", 404, "/"),
        (f"/?model={'x' * 300}", 400, f"/{MODEL}"),
        ("/?view=compare&a=a/b/c/d", 400, "/"),
    ],
)
def test_a_wrong_link_has_its_status_a_sentence_and_the_nearest_page(
    client: httpx.Client, link: str, status: int, near: str
) -> None:
    answer = client.get(link)
    assert answer.status_code == status
    assert re.search('<p class="error" role="alert">[^<]{20,}', answer.text)
    assert f'href="{near}"' in answer.text
    assert "canonical" not in meta(answer.text)


@pytest.mark.parametrize("link", ["/", f"/{KEY}", "/?view=about", f"/picture?table=units&model={MODEL}&name=x"])
def test_head_is_answered_as_get_is(client: httpx.Client, link: str) -> None:
    head, got = client.head(link), client.get(link)
    assert (head.status_code, head.content) == (got.status_code, b"")
    assert head.headers["content-length"] == got.headers["content-length"]


def test_a_document_that_is_known_is_not_sent_again(client: httpx.Client) -> None:
    for encoding in ("gzip", "identity"):
        known = client.get(f"/{KEY}", headers={"Accept-Encoding": encoding})
        assert known.headers["cache-control"] == "no-cache"
        for said in (known.headers["etag"], f'"other", {known.headers["etag"]}', "*"):
            again = client.get(f"/{KEY}", headers={"Accept-Encoding": encoding, "If-None-Match": said})
            assert (again.status_code, again.content) == (304, b"")
        assert client.get("/", headers={"If-None-Match": known.headers["etag"]}).status_code == 200


def test_documents_are_compressed_once(client: httpx.Client) -> None:
    with client.stream("GET", f"/{KEY}", headers={"Accept-Encoding": "gzip, br"}) as answer:
        assert answer.headers["content-encoding"] == "gzip"
        assert answer.headers["vary"] == "Accept-Encoding"
        raw = b"".join(answer.iter_raw())
    plain = client.get(f"/{KEY}", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert gzip.decompress(raw) == plain.content
    assert len(raw) < len(plain.content) / 4


@pytest.mark.parametrize("name", PAGES)
def test_every_document_is_sound_and_says_what_it_is(client: httpx.Client, name: str) -> None:
    html = client.get("/", params=PAGES[name]).text
    told = meta(html)
    title = html.partition("<title>")[2].partition("</title>")[0]
    assert title.endswith("Microscope Atlas")
    assert 20 < len(told["description"]) < 400
    assert told["og:title"] in unescape(title)
    assert told["og:description"] == told["description"]
    picture = httpx.get(told["og:image"])
    assert (picture.status_code, picture.headers["content-type"]) == (200, "image/jpeg")
    assert "immutable" in picture.headers["cache-control"]
    assert Image.open(io.BytesIO(picture.content)).size == (1200, 630)
    assert (told["og:image:width"], told["og:image:height"]) == ("1200", "630")


def test_the_picture_of_a_link_shows_its_unit(known: Atlas) -> None:
    row = known.rows("feature_visualization", MODEL, "blocks_4", 2)[0]
    made = Image.open(io.BytesIO(known.image("feature_visualization", MODEL, row["image"]))).convert("RGB")
    previews = preview.Previews(most=2)
    keys = [links_key(unit) for unit in (2, 1, 0)]
    cards = [previews.of(known, key) for key in keys]
    assert len(set(cards)) == 3
    assert len(previews._kept) == 2
    large = Image.open(io.BytesIO(cards[0])).crop((0, 0, 630, 630)).resize(made.size)
    difference = sum(abs(a - b) for a, b in zip(large.tobytes(), made.tobytes(), strict=True)) / len(made.tobytes())
    assert difference < 12  # of 255: it was enlarged, and encoded again
    assert previews.of(known, keys[2]) is cards[2]


def links_key(unit: int):
    from microscope_atlas.keys import Key

    return Key(MODEL, "blocks_4", unit)


@pytest.mark.parametrize(
    ("path", "status"), [("x/y/1", 404), (f"{MODEL}/blocks_4/99", 404), (f"{MODEL}/blocks_4/x", 400), ("../..", 400)]
)
def test_there_is_no_picture_of_what_is_not_there(known: Atlas, path: str, status: int) -> None:
    assert plain(known).get(f"/preview/{path.replace('..', '%2e%2e')}").status_code == status


def test_own_files_have_a_link_that_changes_with_them(client: httpx.Client) -> None:
    html = client.get(f"/{KEY}").text
    files = re.findall(r'(?:href|src)="(/files/[^"]*)"', html)
    assert len(files) == 3
    for link in files:
        answer = client.get(link)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        other = client.get(re.sub(r"\.[0-9a-f]{12}\.", ".000000000000.", link))
        assert (other.content, other.headers["cache-control"]) == (answer.content, "no-cache")
    assert client.get("/files/secret.000000000000.py").status_code == 404


@pytest.mark.parametrize("view", ["caricature", "probe"])
def test_live_views_are_gradios(client: httpx.Client, view: str) -> None:
    answer = client.get("/", params={"view": view, "model": MODEL})
    assert answer.status_code == 200
    assert "gradio_config" in answer.text
    assert "gradio_config" not in client.get("/", params={"model": MODEL}).text


def test_gradios_own_paths_are_left_to_it(client: httpx.Client) -> None:
    """A new one in another version of Gradio would be taken for a network."""
    found = set(re.findall(r'@app\.\w+\(\s*"/([^/{"]+)', Path(gradio.routes.__file__).read_text()))
    found |= {gradio.routes.API_PREFIX.strip("/"), FastAPI().openapi_url.strip("/")}
    assert {"config", "theme.css", "assets", "gradio_api"} <= found <= links.TAKEN
    for path in ("/config", "/theme.css", "/gradio_api/info"):
        assert client.get(path).status_code == 200


def test_a_network_of_a_taken_name_is_still_reached() -> None:
    assert links.href("assets", "conv1", 3) == "./?model=assets&layer=conv1&unit=3"
    assert links.href("timm:resnet50.a1_in1k", "layer1") == "./timm:resnet50.a1_in1k/layer1"


@pytest.mark.parametrize(
    ("root_path", "headers", "begins"),
    [
        ("/atlas", {}, "http://testserver/atlas/"),
        ("https://example.org/deep/atlas/", {}, "https://example.org/deep/atlas/"),
        ("", {"x-forwarded-host": "a.hf.space, inner", "x-forwarded-proto": "https"}, "https://a.hf.space/"),
        ("", {"x-forwarded-host": 'a"><script>', "x-forwarded-proto": "https"}, "/"),
    ],
)
def test_links_lead_on_behind_a_prefix(known: Atlas, root_path: str, headers: dict[str, str], begins: str) -> None:
    html = plain(known, root_path, **headers).get(f"/{KEY}").text
    assert "<script>" not in html.replace("</script>", "")
    told = meta(html)
    assert told["canonical"] == f"{begins}{KEY}"
    assert told["og:image"] == f"{begins}preview/{KEY}?v={known.version}"
    path = urlsplit(begins).path
    found = Elements(re.sub("<script.*?</script>", "", html))
    for name, tags in (("href", ("a", "link")), ("src", ("img",)), ("action", ("form",))):
        for attrs in found.of(*tags):
            target = str(attrs[name])
            assert target.startswith((path, "#", "https://", begins)), target


def test_a_full_prefix_in_the_request_is_taken_off(known: Atlas) -> None:
    with plain(known, "/atlas") as client:
        assert client.get(f"/atlas/{KEY}").content == client.get(f"/{KEY}").content


def test_a_unit_page_looks_at_its_own_part_of_the_manifest_alone(known: Atlas, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    to_json = Manifest.to_json
    monkeypatch.setattr(Manifest, "to_json", lambda self: calls.append(self) or to_json(self))
    atlas = Atlas(known.storage)
    with plain(atlas) as client:
        client.get(f"/{KEY}"), client.get("/?view=about")
        assert len(calls) == 1

        class Closed(dict):
            """All shards of the atlas, which nobody goes through."""

            def values(self):
                raise AssertionError

            items = __iter__ = values

        monkeypatch.setattr(atlas.manifest, "shards", Closed(atlas.manifest.shards))
        for link in (f"/{KEY}", f"/{MODEL}/blocks_6/1", f"/{MODEL}/blocks_4", f"/{MODEL}", "/", "/?view=about"):
            assert client.get(link).status_code == 200
    assert len(calls) == 1


def test_a_page_that_is_finished_is_given_again(known: Atlas, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    document = documents.document
    monkeypatch.setattr(documents, "document", lambda *asked: made.append(asked[1].shown) or document(*asked))
    with plain(Atlas(known.storage)) as client:
        first, again = (client.get(f"/{KEY}") for _ in range(2))
        assert first.content == again.content and first.headers == again.headers
        assert len(made) == 1
        assert client.get(f"/{KEY}", headers={"If-None-Match": first.headers["etag"]}).status_code == 304
        assert client.get(f"/{KEY}", headers={"Accept-Encoding": "identity"}).text == first.text
        assert len(made) == 1
        client.get(f"/{KEY}", headers={"Host": "elsewhere"})  # whose links are others
        client.get(f"/{KEY}?__theme=dark")
        assert len(made) == 3
        for link in ("/list", "/?view=about", "/?q=blocks", f"/{MODEL}/blocks_9"):  # not of the atlas' version alone
            made.clear()
            client.get(link), client.get(link)
            assert len(made) == 2, link


def test_of_another_atlas_nothing_finished_is_given(known: Atlas, monkeypatch: pytest.MonkeyPatch) -> None:
    atlas = Atlas(known.storage)
    with plain(atlas) as client:
        before = client.get(f"/{KEY}").text
        other = Atlas(known.storage)
        other.__dict__["identity"] = "f" * 64
        monkeypatch.setattr(atlas._newest, "_atlas", other)
        other_words = before.replace(atlas.identity, "f" * 64).replace(atlas.version, "f" * 12)
        assert client.get(f"/{KEY}").text == other_words


@pytest.mark.parametrize("near", [True, False])
def test_pictures_of_this_machine_and_finished_pages_are_answered_where_requests_are_read(
    known: Atlas, monkeypatch: pytest.MonkeyPatch, near: bool
) -> None:
    handed = []

    async def noting(endpoint: Any, request: Any) -> Any:
        handed.append(request.url.path)
        return endpoint(request)

    monkeypatch.setattr(answers, "run_in_threadpool", noting)
    monkeypatch.setattr(type(known.storage), "near", near)
    with plain(Atlas(known.storage)) as client:
        page = client.get(f"/{KEY}").text
        picture = unescape(re.findall(r'src="(/picture[^"]*)"', page)[0])
        file = re.findall(r'href="(/files/[^"]*)"', page)[0]
        client.get(picture)  # which reads the index
        assert handed == [f"/{KEY}", "/picture"]
        handed.clear()
        for link in (f"/{KEY}", picture, file):
            assert client.get(link).status_code == 200
        assert handed == ([] if near else ["/picture"])
        handed.clear()
        client.get(f"{picture}&mask=none")  # is put together first
        assert handed == ["/picture"]
