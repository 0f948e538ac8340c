"""Whose pictures are shown: credited, and not published where nobody says that they may be."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.manifest import Manifest, read_manifest, write_manifest
from microscope_atlas.errors import PublishFailed
from microscope_atlas.lenses.recipe import settings
from microscope_atlas.lenses.registry import lens
from microscope_atlas.pictures.cuts import OF_0_1
from microscope_atlas.pictures.sets import picture_set, with_pictures
from microscope_atlas.pictures.sources import FIRST, SOURCES
from microscope_atlas.pictures.terms import Terms, beside, of_card, stated
from microscope_atlas.publish import publish
from microscope_atlas.publish.card import render_card
from microscope_atlas.publish.check import check
from microscope_atlas.publish.cite import cite
from microscope_atlas.publish.credits import photos, shown_sets
from microscope_atlas.run import run
from tests import atlases
from tests.hub_double import Hub


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for shade in (50, 120, 200):
        Image.new("RGB", (60, 50), (shade, 0, 0)).save(tmp_path / "photos" / f"{shade}.png")
    return tmp_path / "photos"


def made(root: Path, folder: Path, crops: bool = True, terms: Terms | None = None) -> Folder:
    """An atlas of the samples of one unit."""
    recipes = {
        name: with_pictures(lens(name).recipe("draft"), str(folder)) for name in ("responses", "dataset_samples")
    }
    recipes["dataset_samples"] = replace(recipes["dataset_samples"], crops=crops)
    one = [atlases.request({"stem": range(1)})]
    run.render(Folder(root), one, recipes, atlases.HERE, 1, lambda *_: None, terms=terms)
    return Folder(root)


def test_crops_of_a_set_whose_license_nobody_stated_are_not_published(hub: Hub, tmp_path: Path, folder: Path) -> None:
    atlas = made(tmp_path / "atlas", folder)
    with pytest.raises(PublishFailed, match=r"hold crops of folder at .*--pictures-license TEXT.*--pointers"):
        publish.plan(atlas, "someone/atlas", "2026.11.0")
    assert "nobody has stated a license" in cite(atlas)
    assert "not stated" in render_card(read_manifest(atlas))
    ids = {shard.id for shard in read_manifest(atlas).shards.values()}
    made(atlas.root, folder, terms=stated("CC BY 4.0", "Ada | <b>Lovelace</b>"))
    assert {shard.id for shard in read_manifest(atlas).shards.values()} == ids  # a statement is no setting
    publish.plan(atlas, "someone/atlas", "2026.11.0")
    assert not list(check(atlas))
    assert "Ada | <b>Lovelace</b>, license CC BY 4.0" in cite(atlas)
    assert r"Ada \| \<b\>Lovelace\</b\>" in render_card(read_manifest(atlas))
    made(atlas.root, folder)  # what was stated stays
    assert len(shown_sets(read_manifest(atlas))) == 1
    publish.plan(atlas, "someone/atlas", "2026.11.0")


def test_pointers_need_no_license(hub: Hub, tmp_path: Path, folder: Path) -> None:
    atlas = made(tmp_path / "atlas", folder, crops=False)
    publish.plan(atlas, "someone/atlas", "2026.11.0")
    assert "Natural pictures" not in cite(atlas)


def test_manifest_states_what_is_known_of_pictures_and_nothing_else(tmp_path: Path, folder: Path) -> None:
    atlas = made(tmp_path / "atlas", folder, terms=Terms("CC0 1.0"))
    text = read_manifest(atlas).to_json()
    (stated_,) = json.loads(text)["pictures"].values()
    assert stated_ == {"name": "folder", "license": "CC0 1.0", "credit": None}
    assert Manifest.from_json(text).to_json() == text
    assert "pictures" not in json.loads(Manifest().to_json())
    for wrong in ([], [1], {"1": 1}, {"1": {"name": "a"}}, {"1": {"name": 1, "license": None, "credit": None}}):
        with pytest.raises((ValueError, TypeError, AttributeError)):
            Manifest.from_json(json.dumps({**json.loads(text), "pictures": wrong}))


def test_photos_are_those_of_the_rows_sets() -> None:
    of_0_1 = {"pictures": "default", "revision": OF_0_1.revision, "crops": True}
    now = {"pictures": "default", "revision": picture_set("default").revision, "crops": True}
    assert tuple(photos(Manifest(lenses={"dataset_samples": of_0_1}))) == FIRST
    assert photos(Manifest(lenses={"dataset_samples": now})) == SOURCES
    assert not photos(Manifest(lenses={"dataset_samples": {**now, "crops": False}, "responses": now}))
    assert set(photos(Manifest(lenses={"caricature": {"sources": ["cat", "panda"]}}))) == {"cat", "panda"}
    assert not shown_sets(Manifest(lenses={"dataset_samples": now}))


@pytest.mark.parametrize("name", ["activation_atlas", "groups"])
def test_photos_of_places_are_credited_as_samples_are(name: str) -> None:
    own = settings(lens(name).recipe("draft"))
    assert photos(Manifest(lenses={name: own})) == SOURCES
    assert not photos(Manifest(lenses={name: {**own, "crops": False}}))
    other = Manifest(lenses={name: {**own, "pictures": "folder", "revision": "abc"}})
    assert len(shown_sets(other)) == 1
    pointing = {**own, "pictures": "folder", "revision": "abc", "crops": False}
    assert not shown_sets(Manifest(lenses={name: pointing}))


def test_each_set_needs_a_license_and_is_credited(hub: Hub, tmp_path: Path, folder: Path) -> None:
    first = made(tmp_path / "first", folder, terms=Terms("CC0 1.0", "Ada"))
    manifest = read_manifest(first)
    own = settings(lens("activation_atlas").recipe("draft"))
    manifest.lenses["activation_atlas"] = {**own, "pictures": "other", "revision": "abc"}
    assert [each.terms for each in shown_sets(manifest)] == [Terms("CC0 1.0", "Ada"), None]
    write_manifest(first, manifest)
    assert "CC0 1.0" in cite(first) and "other, revision abc: nobody has stated" in cite(first)
    assert "| `other` | `abc` | not stated |" in render_card(manifest)
    manifest.lenses["activation_atlas"] = {**manifest.lenses["dataset_samples"]}
    assert len(shown_sets(manifest)) == 1


@pytest.mark.parametrize("name", ["LICENSE", "LICENSE.txt", "LICENSE.md"])
def test_files_beside_the_pictures_state_their_terms(folder: Path, name: str) -> None:
    assert beside(folder) is None
    (folder / name).write_text("\n# CC BY 4.0\n=====\nas follows ...")
    assert beside(folder) == Terms("CC BY 4.0")
    (folder / "CREDITS.txt").write_text("Photos by Ada,\n  \x1b[31mexample.org\n" + "x" * 5000)
    terms = picture_set(str(folder)).terms
    assert terms is not None and terms.license == "CC BY 4.0"
    assert terms.credit is not None and terms.credit.startswith("Photos by Ada, [31mexample.org xxx")
    assert len(terms.credit) == 500
    (folder / name).write_bytes(b"\xff\xfe\x00")
    beside(folder)  # read or not, without a word


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("---\nlicense: cc-by-4.0\n---\n# Card", Terms("cc-by-4.0")),
        ("---\nlicense: [mit, cc0-1.0]\n---\n", Terms("mit, cc0-1.0")),
        ("---\nlicense: other\nlicense_name: house-rules\n---\n", Terms("house-rules")),
        ("---\ntags: [a]\n---\n", None),
        ("# No head", None),
        ("---\n: [\n---\n", None),
    ],
)
def test_card_of_a_dataset_states_its_license(tmp_path: Path, head: str, expected: Terms | None) -> None:
    (tmp_path / "README.md").write_text(head)
    assert of_card(tmp_path / "README.md") == expected
