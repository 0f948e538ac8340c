"""A function of one's own, through the same door as the catalog."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from microscope_atlas import cli
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.manifest import read_manifest, write_manifest
from microscope_atlas.atlas.shards import read_shard
from microscope_atlas.atlas.units import content_id
from microscope_atlas.errors import NetworkFailed, SettingsDiffer, UnknownName
from microscope_atlas.keys import parse_key
from microscope_atlas.lenses.feature_visualization import RECIPES, Recipe
from microscope_atlas.models import weights
from microscope_atlas.models.catalog import organism
from microscope_atlas.publish.check import check
from microscope_atlas.rendering.ascend import Ascent
from tests.models import own_networks

LENS = "feature_visualization"
SMALL, CHOSEN, GATED = (f"own:tests.models.own_networks.{name}" for name in ("small", "chosen", "gated"))


def run(*arguments: object) -> str:
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def _brief(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(RECIPES, "draft", Recipe(Ascent(steps=8), max_size=32, variants=0))
    monkeypatch.setenv("MICROSCOPE_ATLAS_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("late", [False, True])
def test_import_of_version_0_1_names_the_one_of_today(
    late: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = "from generate.models.own import Trained"
    (tmp_path / f"old_{late}.py").write_text(f"def network():\n    {line}\n" if late else f"{line}\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(NetworkFailed, match=r"version 0.1's; write: from microscope_atlas import Trained$"):
        organism(f"own:old_{late}.network")


@pytest.mark.parametrize(
    ("text", "reason"),
    [("1 +", "SyntaxError"), ("raise RuntimeError('no card')", "RuntimeError: no card"), ("import nowhere", "nowhere")],
)
def test_module_that_fails_when_it_is_imported_is_quoted(
    text: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken", raising=False)
    with pytest.raises(NetworkFailed, match=f"own:broken.network: .*{reason}"):
        organism("own:broken.network")


def test_its_name_is_a_key() -> None:
    assert parse_key(f"{SMALL}/stem_0/3").model == SMALL


@pytest.mark.usefixtures("_brief")
@pytest.mark.parametrize(
    ("name", "layers", "targets"),
    [
        (SMALL, ["logits", "stem_0"], {"stem_0", "logits"}),
        (CHOSEN, ["block", "block_conv2"], {"block", "block/pre_relu", "block_conv2"}),
    ],
)
def test_render_status_check_and_card_take_it(name: str, layers: list[str], targets: set[str], tmp_path: Path) -> None:
    atlas = tmp_path / "atlas"
    chosen = [part for layer in layers for part in ("--layer", layer)]
    run("render", atlas, "--model", name, *chosen, "--lens", LENS, "--units", "0:2", "--workers", 1, "--device", "cpu")
    assert not list(check(Folder(atlas)))
    coverage = json.loads(run("status", atlas, "--json"))["coverage"]
    assert [(row["model"], row["layer"], row["present"]) for row in coverage] == [(name, layer, 2) for layer in layers]
    assert f"| `{name}` |" in (atlas / "README.md").read_text()
    rows = [row for path in read_manifest(Folder(atlas)).shards for row in read_shard(atlas / path).to_pylist()]
    assert {json.loads(row["recipe"])["target"] for row in rows} == targets
    assert all(row["model"] == name and row["flag"] != "nan" for row in rows)
    assert not (tmp_path / "cache").exists()  # what the function returns today may not be what it does tomorrow


def test_models_tells_of_it() -> None:
    told = json.loads(run("models", SMALL, "--json"))
    assert told["layers"][0]["name"] == "stem_0"
    assert told["classes"] == ["a", "b", "c", "d"]
    assert ["stem_0", "mixer"] in told["edges"]
    assert run("models", SMALL)


def test_weights_are_what_the_function_returns() -> None:
    known = organism(SMALL)
    given = weights.load(known)
    assert given.provenance.source == SMALL
    module = own_networks.small().module.eval()
    pictures = torch.rand(2, 3, 32, 32)
    mean, std = torch.tensor((0.5, 0.4, 0.3)), torch.tensor((0.2, 0.25, 0.5))
    expected = module((pictures - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1))
    torch.testing.assert_close(weights.network(known, given)(pictures, ["logits"])[0], expected)


def test_random_weights_are_others_and_the_same_in_every_run() -> None:
    known = organism(SMALL)
    assert weights.random(known).sha256 == weights.random(known).sha256 != weights.load(known).sha256


@pytest.mark.usefixtures("_brief")
@pytest.mark.parametrize(
    ("model", "layer"), [(SMALL, "block_conv2"), (SMALL, "logits"), (GATED, "conv"), (GATED, "logits")]
)
def test_unit_alone_equals_unit_among_others(model: str, layer: str, tmp_path: Path) -> None:
    for units in ("1:2", "0:4"):
        run(
            "render",
            tmp_path / units,
            "--model",
            model,
            "--layer",
            layer,
            "--lens",
            LENS,
            "--units",
            units,
            "--workers",
            1,
        )
    alone, among = (
        [
            row
            for path in read_manifest(Folder(atlas)).shards
            for row in read_shard(atlas / path).to_pylist()
            if row["unit"] == 1
        ]
        for atlas in (tmp_path / "1:2", tmp_path / "0:4")
    )
    assert len(alone) == (2 if layer == "logits" else 4)
    assert alone == among


@pytest.mark.usefixtures("_brief")
def test_rows_of_version_0_1_are_not_joined_by_others(tmp_path: Path) -> None:
    asked = ("render", tmp_path, "--model", SMALL, "--layer", "logits", "--lens", LENS, "--workers", 1, "--units")
    run(*asked, "0:2")
    manifest = read_manifest(Folder(tmp_path))
    ((path, shard),) = manifest.shards.items()
    weights_sha256 = manifest.models[SMALL]["weights_sha256"]
    by_0_1 = content_id(shard.units, manifest.lenses[LENS], weights_sha256, renderer=1)
    manifest.shards[path] = replace(shard, id=by_0_1)
    write_manifest(Folder(tmp_path), manifest)
    run(*asked, "0:2")  # nothing is missing
    assert read_manifest(Folder(tmp_path)).shards[path].id == by_0_1
    with pytest.raises(SettingsDiffer, match=f"holds rows of {SMALL} by version 0.1"):
        run(*asked, "0:3")


@pytest.mark.parametrize(
    ("name", "error", "reason"),
    [
        ("own:nowhere.network", NetworkFailed, "'nowhere' cannot be imported.*PYTHONPATH"),
        ("own:small", NetworkFailed, "expected own:PACKAGE.MODULE.FUNCTION"),
        ("own:tests.models.own_networks.smal", UnknownName, "function 'smal'.*nearest: small"),
        ("own:tests.models.own_networks.bare", NetworkFailed, "returns Small, expected a microscope_atlas.Trained"),
        ("tests.models.own_networks:small", UnknownName, "none of own, timm, torchvision, transformers"),
    ],
)
def test_what_is_no_such_function_is_refused(name: str, error: type[Exception], reason: str) -> None:
    with pytest.raises(error, match=reason):
        organism(name)
