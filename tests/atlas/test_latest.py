"""An atlas that changes under whoever reads it is read anew, whole."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from microscope_atlas.atlas import reader, schema
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.manifest import read_manifest, write_manifest
from microscope_atlas.atlas.reader import Atlas
from tests.atlases import IMAGES, LAYER, LENS, MODEL, RECIPE, render


@pytest.fixture
def looking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes are looked for at every look."""
    monkeypatch.setattr(reader, "LOOK_SECONDS", 0.0)


def test_atlas_that_has_grown_is_shown_whole(looking: None, atlas: Path) -> None:
    before = Atlas(Folder(atlas))
    assert before.latest() is before
    render(atlas, range(5))
    after = before.latest()
    assert [len(each.table(LENS, MODEL, LAYER)) for each in (before, after)] == [3 * IMAGES, 5 * IMAGES]
    for row in after.rows(LENS, MODEL, LAYER):
        assert after.image(LENS, MODEL, row["image"])
    assert after.latest() is before.latest() is after


def test_atlas_that_was_replaced_shows_the_other_one(looking: None, atlas: Path, tmp_path: Path) -> None:
    before = Atlas(Folder(atlas))
    shutil.rmtree(atlas)
    render(atlas, range(3), recipe=replace(RECIPE, ascent=replace(RECIPE.ascent, steps=1)))
    after = before.latest()
    assert after is not before
    assert after.manifest == read_manifest(Folder(atlas))


def test_run_that_goes_on_is_shown_once_its_index_is_there(looking: None, atlas: Path) -> None:
    before = Atlas(Folder(atlas))
    render(atlas, range(5))
    whole = read_manifest(Folder(atlas))
    half = read_manifest(Folder(atlas))
    half.indexes[MODEL] = before.manifest.indexes[MODEL]
    write_manifest(Folder(atlas), half)
    assert before.latest() is before
    write_manifest(Folder(atlas), whole)
    assert before.latest().manifest == whole


def test_manifest_that_cannot_be_read_leaves_what_was_there(looking: None, atlas: Path) -> None:
    before = Atlas(Folder(atlas))
    (atlas / schema.MANIFEST).write_text("{")
    assert before.latest() is before


def test_images_are_opened_once_while_their_index_stays(looking: None, atlas: Path) -> None:
    first = Atlas(Folder(atlas))
    (name,) = {row["image"] for row in first.rows(LENS, MODEL, LAYER, 0)[:1]}
    content, files = first.image(LENS, MODEL, name), len(os.listdir("/dev/fd"))
    state = first
    for at in range(5):
        manifest = read_manifest(Folder(atlas))
        manifest.software = f"another {at}"
        write_manifest(Folder(atlas), manifest)
        before, state = state, first.latest()
        assert state is not before
        assert state.is_open(MODEL)
        assert state.image(LENS, MODEL, name) == content
    assert len(os.listdir("/dev/fd")) <= files  # fewer where those of an earlier test were closed meanwhile
