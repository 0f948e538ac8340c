"""The view of caricatures without a browser: words, figures and plain values."""

import base64
import io
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.errors import PicturesFailed, UnknownName
from microscope_atlas.lenses.caricature import RECIPES
from microscope_atlas.pictures.sources import source
from microscope_atlas.rendering.ascend import Ascent
from microscope_space.live import caricature, chooser
from microscope_space.live.turns import Turns
from tests.atlases import MODEL

PHOTO = source("cat").rotate(90)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECIPES, "draft", replace(RECIPES["draft"], ascent=Ascent(steps=3), max_size=32))


def file_of(uri: str) -> bytes:
    return base64.b64decode(uri.partition(",")[2])


def test_what_the_atlas_has_is_shown_at_once(known: Atlas) -> None:
    (only,) = caricature.plain(known, "cat", MODEL, ["blocks_4"], "draft")
    (row,) = known.rows("caricature", MODEL, "blocks_4")
    (made,) = only["caricatures"]
    assert made["from_atlas"] and file_of(made["image"]) == known.image("caricature", MODEL, row["image"])
    assert made["made"]["software"] == row["software"] and made["made"]["recipe"] == json.loads(row["recipe"])
    ((words, figures),) = caricature.shown(known, "cat", MODEL, ["blocks_4"], "draft")
    assert "The atlas has this already" in words
    assert f"From the atlas: {row['software']}, on cpu" in figures and "download=" in figures


def test_what_it_has_not_is_rendered_beside(known: Atlas) -> None:
    first, *others = caricature.plain(known, "temple", MODEL, ["blocks_4"], "draft")
    assert [each["image"] for each in first["caricatures"]] == [None]
    assert [each["step"] for each in others] == [1, 2, 3]
    assert json.loads(json.dumps(others)) == others
    assert not any(each["from_atlas"] for each in others[-1]["caricatures"])


def test_the_picture_holds_its_recipe(known: Atlas) -> None:
    *_, last = caricature.plain(known, PHOTO, MODEL, ["blocks_4", "blocks_6"], "draft")
    for each in last["caricatures"]:
        with Image.open(io.BytesIO(file_of(each["image"]))) as png:
            assert png.format == "PNG" and png.size == (32, 32)
            assert json.loads(png.text["recipe"]) == each["made"]  # type: ignore[attr-defined]


def test_progress_is_told_in_words(known: Atlas) -> None:
    told = [words for words, _ in caricature.shown(known, PHOTO, MODEL, ["blocks_4"], "draft")]
    assert f"Loading {MODEL}" in told[0]
    assert "Step 1 of 3" in told[1] and " left." in told[1]
    assert "Done: 3 steps in" in told[-1]
    assert all('role="status"' in each for each in told)


def test_figures_lead_to_their_layer(known: Atlas) -> None:
    *_, (_, figures) = caricature.shown(known, PHOTO, MODEL, ["blocks_4"], "draft")
    assert f'href="./{MODEL}/blocks_4"' in figures
    assert f'download="caricature-{MODEL}-blocks_4.png"' in figures


def test_what_goes_wrong_is_said_escaped(known: Atlas) -> None:
    for asked in ((MODEL, ["<img src=x>"]), ("<img src=x>", ["blocks_4"]), (MODEL, [])):
        *_, (words, _) = caricature.shown(known, PHOTO, *asked, "draft")
        assert 'role="alert"' in words and "<img src=x>" not in words
    *_, (words, _) = caricature.shown(known, None, MODEL, ["blocks_4"], "draft")  # type: ignore[arg-type]
    assert chooser.FORGOTTEN[1:] in words


def test_programs_are_told_what_is_wrong(known: Atlas) -> None:
    with pytest.raises(UnknownName):
        list(caricature.plain(known, PHOTO, MODEL, ["blocks_9"], "draft"))
    with pytest.raises(PicturesFailed):
        chooser.given("/etc/passwd")


def test_an_upload_is_taken_and_deleted(tmp_path: Path) -> None:
    path = tmp_path / "own" / "<b>.png"
    path.parent.mkdir()
    PHOTO.save(path)
    picture, shown, file, named = chooser.take(str(path))
    assert picture.mode == "RGB" and "Your picture" in shown and (file, named) == (None, None)
    assert not path.parent.exists()
    (tmp_path / "bad.png").write_bytes(b"<script>")
    picture, shown, *_ = chooser.take(str(tmp_path / "bad.png"))
    # what was chosen before is not started by mistake
    assert 'role="alert"' in shown and "<script>" not in shown and picture is None


def test_links_say_what_to_begin_with(known: Atlas) -> None:
    assert chooser.asked(known, {"model": MODEL, "layer": "blocks_6"}) == (MODEL, ["blocks_6"])
    assert chooser.asked(known, {"model": "<script>", "layer": "../.."}) == (MODEL, ["blocks_6"])
    assert chooser.asked(known, {"model": MODEL, "layer": "blocks_6,x,blocks_4"}) == (MODEL, ["blocks_6", "blocks_4"])


def test_a_result_has_a_link_where_its_picture_is_one_of_ours(known: Atlas) -> None:
    link = f"./?model={MODEL}&amp;layer=blocks_4&amp;view=caricature&amp;picture="
    for name in ("cat", "temple"):  # the atlas has the one, the other is rendered
        *others, (_, figures) = caricature.shown(known, name, MODEL, ["blocks_4"], "draft")
        assert f'href="{link}{name}"' in figures
        assert not any("picture=" in each for _, each in others)
    *_, (_, figures) = caricature.shown(known, PHOTO, MODEL, ["blocks_4"], "draft")
    assert "view=caricature" not in figures
    assert chooser.begun({"picture": "cat"})[:2] == ("cat", "cat")
    words, figures = caricature.known(known, "cat", MODEL, ["blocks_4"])
    assert "The atlas has this already" in words and "From the atlas" in figures
    assert "Press Start" in caricature.known(known, "temple", MODEL, ["blocks_4"])[0]
    assert caricature.known(known, "../x", MODEL, ["blocks_4"]) == (caricature.status(""), "")


def test_who_waits_is_told_how_many_are_before_and_for_how_long() -> None:
    def event(session: str, queue: str = "here") -> SimpleNamespace:
        return SimpleNamespace(session_hash=session, concurrency_id=queue)

    turns = Turns("here")
    queue = SimpleNamespace(
        active_jobs=[None, [event("a")], [event("x", "elsewhere")]],
        event_queue_per_concurrency_id={"here": SimpleNamespace(queue=[event("b"), event("me")])},
    )
    assert turns.before(queue, "me") == 2
    assert turns.before(queue, "new") == 3
    assert turns.before(queue, "a") == 0
    assert turns.words(2) == "Waiting: 2 before you."  # nobody knows yet for how long
    turns._seconds.extend((10, 30))
    assert turns.words(2) == "Waiting: 2 before you, about 40 s."
    assert turns.words(0) == ""
    with turns.taken():
        pass
    assert turns._seconds[-1] < 1
