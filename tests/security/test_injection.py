"""Whatever an atlas or a visitor says is shown as text: none of it becomes an element, an attribute or a script."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from microscope_atlas.atlas import images as index
from microscope_atlas.atlas import schema
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.manifest import read_manifest, write_manifest
from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.atlas.shards import read_shard, write_shard
from microscope_atlas.atlas.units import content_id
from microscope_atlas.publish import card
from microscope_space import api, routes
from tests.atlases import MODEL
from tests.security.conftest import Space
from tests.space.test_pages import HOSTILE, PAGES, Elements

EVIL = '"\'><script>alert(1)</script><img src=x onerror=alert(1)><a href="javascript:alert(1)">'
SCRIPTS = re.compile(r"<script|<img src=x|<a href=.javascript", re.IGNORECASE)


OWN = re.compile(r'<script src="/files/script\.[0-9a-f]{12}\.js" defer></script>')


def sound(html: str) -> None:
    """Of a page, or of a document, whose one script is the Space's own."""
    html, own = OWN.subn("", html, count=1)
    page = Elements(html)
    assert not page.open
    assert not SCRIPTS.search(html)
    for tag, attrs in page.all:
        assert tag not in ("script", "iframe", "object", "embed", "base")
        assert own or tag not in ("meta", "link")
        assert "http-equiv" not in attrs
        assert not any(name.startswith("on") or name == "srcdoc" for name in attrs)
        assert not re.match(r"\s*(javascript|vbscript|data:text)", attrs.get("href") or "", re.IGNORECASE)


@pytest.fixture(scope="module")
def hostile(every: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An atlas whose every text is a script, as far as it is text: of its rows, its manifest and its releases."""
    import shutil

    root = Path(shutil.copytree(every, tmp_path_factory.mktemp("hostile") / "atlas"))
    manifest = read_manifest(Folder(root))
    manifest.models[MODEL] = {
        "weights_sha256": EVIL,
        "provenance": {**manifest.models[MODEL]["provenance"], "source": EVIL, "license": EVIL},
    }
    manifest.software = EVIL
    for path, shard in list(manifest.shards.items()):
        table = schema.table(shard.units.lens)
        rows = [evil(row, {column.name for column in table.keys}) for row in read_shard(root / path).to_pylist()]
        id_ = content_id(shard.units, manifest.lenses[shard.units.lens], EVIL)
        manifest.shards[path] = write_shard(Folder(root), shard.units, id_, rows)
    manifest.indexes = {}
    index.update(Folder(root), manifest)
    write_manifest(Folder(root), manifest)
    release = {"repo": "a/b", "version": "2026.1.0", "manifest": "0", "changes": [EVIL], "space": "a/b"}
    (root / schema.RELEASES).write_text(json.dumps({"releases": [release]}))
    return root


def evil(value: Any, kept: set[str]) -> Any:
    """The same with a script in place of every text, but of what identifies a row, of recipes and of images."""
    if isinstance(value, str):
        return EVIL
    if isinstance(value, list):
        return [evil(each, kept) for each in value]
    if isinstance(value, dict):
        kept = {*kept, "model", "layer", "recipe", "bytes"}
        return {name: each if name in kept else evil(each, kept) for name, each in value.items()}
    return value


@pytest.mark.parametrize("name", PAGES)
def test_no_text_of_an_atlas_is_code(hostile: Path, name: str) -> None:
    sound(routes.show(Atlas(Folder(hostile)), PAGES[name]))


def test_the_hostile_text_is_shown(hostile: Path) -> None:
    """Or the test above might hold because nothing of it is."""
    shown = "".join(routes.show(Atlas(Folder(hostile)), asked) for asked in PAGES.values())
    assert shown.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 10


def test_a_hostile_atlas_has_sound_cards(hostile: Path) -> None:
    html, status = api.shown(Atlas(Folder(hostile)), {"model": MODEL, "layer": "blocks_4", "unit": "2"})
    assert status == 200 and not SCRIPTS.search(html)


@pytest.mark.parametrize("words", [*HOSTILE, EVIL])
def test_no_word_of_a_visitor_is_code(space: Space, words: str) -> None:
    words = words[:2000].replace("\0", "")
    for path, asked in (
        ("/", {"q": words}),
        ("/", {"model": words}),
        ("/", {"model": MODEL, "layer": words}),
        ("/", {"url": words}),
        ("/", {"revision": words}),
        ("/picture", {"table": words, "model": words, "name": words}),
    ):
        answer = space.client.get(path, params=asked)
        if answer.headers["content-type"].startswith("text/html"):
            sound(answer.text)
        else:
            assert answer.headers["content-type"].startswith("text/plain")
            assert answer.headers["x-content-type-options"] == "nosniff"


def test_pictures_are_never_taken_for_pages(space: Space, known: Atlas) -> None:
    name = known.rows("feature_visualization", MODEL, "blocks_4", 2)[0]["image"]
    asked = {"table": "feature_visualization", "model": MODEL, "name": name, "column": "image"}
    answer = space.client.get("/picture", params=asked)
    assert (answer.headers["content-type"], answer.headers["x-content-type-options"]) == ("image/jpeg", "nosniff")


def test_no_name_of_an_upload_is_code(space: Space) -> None:
    from tests.fuzz.test_pictures import files
    from tests.security.test_fetching import file_data, taken

    name = "<script>alert(1)</script>.png"
    sent = space.client.post("/gradio_api/upload", files={"files": (name, files()[2], "image/png")}).json()[0]
    answer = taken(space, {**file_data(sent), "orig_name": name})
    assert "success" in answer and not SCRIPTS.search(answer.replace("\\", ""))


def test_no_text_of_an_atlas_breaks_out_of_its_card(hostile: Path) -> None:
    """The dataset card is Markdown on the Hub, which shows none of a page's scripts; its YAML head is ours alone."""
    manifest = read_manifest(Folder(hostile))
    manifest.software = "x\n---\nlicense: mit\n---\n{{ head }}"
    head = card.render_card(manifest).split("\n---\n")[0]
    assert "mit" not in head and head.startswith("---\n")
