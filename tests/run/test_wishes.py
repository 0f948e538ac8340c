"""What was planned and is not made binds nobody, and can be taken back."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from microscope_atlas.atlas.coverage import coverage
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.manifest import read_manifest
from microscope_atlas.atlas.storage import WritableStorage
from microscope_atlas.errors import SettingsDiffer
from microscope_atlas.publish.check import check
from microscope_atlas.run import run
from microscope_atlas.run.engines.engine import Event
from microscope_atlas.run.plan import Job
from microscope_atlas.run.wishes import forget, unmade
from tests.atlases import LAYER, LENS, MODEL, RECIPE, content, render
from tests.commands import Commands

OTHER = replace(RECIPE, max_size=48)


class Stopped:
    """An engine of a run that is stopped before its first row."""

    def run(self, jobs: Sequence[Job], storage: WritableStorage) -> Iterator[Event]:
        return iter(())


def test_plan_of_which_nothing_was_made_gives_way_to_other_settings(tmp_path: Path) -> None:
    render(tmp_path, range(9), engine=Stopped())
    assert [(each.planned, each.present) for each in coverage(Folder(tmp_path))] == [(9, 0)]
    render(tmp_path, range(2), OTHER)
    manifest = read_manifest(Folder(tmp_path))
    assert manifest.lenses[LENS]["max_size"] == 48
    assert [(run.start, run.stop) for run in manifest.planned] == [(0, 2)]
    assert list(check(Folder(tmp_path))) == []


def test_same_settings_keep_what_was_planned(tmp_path: Path) -> None:
    render(tmp_path, range(3, 5), engine=Stopped())
    render(tmp_path, range(2))
    assert [(run.start, run.stop) for run in read_manifest(Folder(tmp_path)).planned] == [(0, 2), (3, 5)]


def test_plan_of_which_nothing_was_made_gives_way_to_other_weights(tmp_path: Path) -> None:
    render(tmp_path, range(2), kind="random", engine=Stopped())
    render(tmp_path, range(2))
    assert list(check(Folder(tmp_path))) == []


def test_rows_bind_those_that_follow_even_where_no_manifest_notes_them(atlas: Path) -> None:
    manifest = read_manifest(Folder(atlas))
    manifest.shards.clear()
    run.save(Folder(atlas), manifest)
    with pytest.raises(SettingsDiffer, match="max_size is 32 in the atlas, 48 asked"):
        render(atlas, range(3), OTHER)


def test_what_is_unmade_is_forgotten_and_nothing_else(atlas: Path) -> None:
    before = content(atlas)
    manifest = read_manifest(Folder(atlas))
    render(atlas, range(2, 9), engine=Stopped())
    planned = read_manifest(Folder(atlas))
    assert [(run.start, run.stop) for run in unmade(Folder(atlas), planned)] == [(3, 9)]
    assert unmade(Folder(atlas), planned, layers=["blocks_0"]) == []
    forget(planned, unmade(Folder(atlas), planned))
    run.save(Folder(atlas), planned)
    assert planned == manifest
    assert content(atlas) == before


def test_lens_and_model_of_which_nothing_was_made_go_with_their_plan(tmp_path: Path) -> None:
    render(tmp_path, range(2), engine=Stopped())
    manifest = read_manifest(Folder(tmp_path))
    forget(manifest, unmade(Folder(tmp_path), manifest))
    assert (manifest.planned, manifest.lenses, manifest.models) == ([], {}, {})


def test_command_tells_first_and_does_it_when_it_is_told_to(commands: Commands, atlas: Path) -> None:
    render(atlas, range(9), engine=Stopped())
    before = content(atlas)
    for arguments, status, words in (
        (["--layer", "stme"], 2, "nearest: stem"),
        (["--lens", LENS], 0, "Nothing is forgotten yet"),
    ):
        ended = commands("forget", atlas, *arguments)
        assert (ended.status, words in ended.out + ended.err) == (status, True)
        assert content(atlas) == before
    told = commands("forget", atlas, "--yes").out
    assert [MODEL, LAYER, LENS, "units", "9", "3"] in [line.split() for line in told.splitlines()]
    assert commands("check", atlas).status == 0
    assert json.loads(commands("status", atlas, "--json").out)["coverage"][0]["planned"] == 3
    assert "nothing to forget" in commands("forget", atlas, "--yes").out
