"""Every benchmark runs, as small as it can be, and writes what it says."""

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import TimeoutError as Timeout
from playwright.sync_api import sync_playwright

from benchmarks import (
    ascents,
    atlas_cost,
    batch,
    before,
    check_before,
    convolutions,
    early_stop,
    files,
    organism,
    quality,
    responses,
    space_before,
    space_scale,
    startup,
    throughput,
    to_score,
    vs_lucent,
)
from benchmarks.ours import Case
from benchmarks.peers import MODEL
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.manifest import read_manifest
from microscope_atlas.lenses.registry import UNASKED
from microscope_atlas.models import catalog
from microscope_atlas.publish.check import check
from tests import atlases
from tests.atlases import PICTURES
from tests.benchmarks import lucent

ROOT = Path(__file__).parents[2]
PLACE = "efficientnet_lite0/blocks_0"
TINY = "own:tests.models.own_networks.small"
SMALL = ("--workers", "1")
VERSION_0_1 = "4284f89"
FREE = [name for name in UNASKED if name != "dataset_samples"]  # of pictures whose license nobody stated
Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a benchmark with these arguments: its results."""

    def run(main: Callable[[Sequence[str]], None], *arguments: str) -> dict[str, Any]:
        out = tmp_path / "out.json"
        main([*arguments, *SMALL, "--out", str(out)])
        results: dict[str, Any] = json.loads(out.read_text())
        assert {"machine", "software", "commit", "device"} <= results["about"].keys()
        return results

    return run


@pytest.mark.long
def test_throughput(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("--turns", "1", "--steps", "4", "--matrix", "256", "--set", "batch=2,max_size=32")
    (layer,) = run(throughput.main, PLACE, *asked)["layers"]
    assert (layer["model"], layer["layer"], layer["size"], layer["batch"]) == ("efficientnet_lite0", "blocks_0", 32, 2)
    assert layer["units_x_steps_per_second"] * layer["seconds_per_step"] == pytest.approx(1, rel=1e-3)
    assert layer["flop_per_step"] > 0
    assert set(layer["of_matrix_rate"]) == {"float32", "bfloat16"}
    assert layer["peak_memory_bytes"] > 1e8
    assert PLACE in capsys.readouterr().out


@pytest.mark.long
def test_scaling(run: Run) -> None:
    asked = ("--scaling", "--units", "1", "3", "--steps", "1", "--scaling-layer", PLACE, "--matrix", "256")
    results = run(throughput.main, *asked)
    few, many = results["by_units"]
    assert (few["pictures"], many["pictures"]) == (4, 12)
    assert "seconds_per_further_unit" in many
    assert [row["steps"] for row in results["by_steps"]] == [1, 4, 16]
    assert all(row["pictures"] == 12 for row in results["by_steps"])
    assert "seconds_per_further_step" in results["by_steps"][-1]


@pytest.mark.long
def test_overhead(run: Run) -> None:
    asked = ("--overhead", "--shard-units", "1", "--quality", "draft", "--matrix", "256")
    (row,) = run(throughput.main, PLACE, *asked, "--set", "ascent.steps=2,max_size=32")["overhead"]
    assert row["pictures"] == 4
    assert row["share"] == pytest.approx((row["encoding_seconds"] + row["writing_seconds"]) / row["seconds"], rel=0.01)


def test_convolutions(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    asked = ("--shapes", "1", "--turns", "2", "--steps", "1", "--units", "2", "--set", "max_size=32")
    convolutions.main([PLACE, *asked, "--out", str(out)])
    found = json.loads(out.read_text())
    for each in (*found["shapes"], *found["layers"]):
        assert each["times_faster"] == pytest.approx(each["direct"] / each["fast"], rel=0.1)
    assert (found["shapes"][0]["px"], found["layers"][0]["batch"]) == (10, 2)


@pytest.mark.long
def test_batch(run: Run) -> None:
    asked = ("--batches", "2", "3", "--turns", "1", "--steps", "1", "--set", "max_size=32")
    (layer,) = run(batch.main, PLACE, *asked)["layers"]
    assert [each["batch"] for each in layer["batches"]] == [2, 3]
    assert layer["proposed"] in (2, 3)


@pytest.mark.long
def test_quality(run: Run, tmp_path: Path) -> None:
    asked = ("--units", "2", "--steps", "1", "--reference", "6", "--size", "32", "--no-lucent")
    still = ("--against", "still: ascent.learning_rate=1e-9,ascent.last_learning_rate=None", "--seeds")
    results = run(
        quality.main, PLACE, *asked, *still, "--variant", "ever: ascent.views.shift=0", "--pictures", str(tmp_path)
    )
    assert results["settings"]["ever"] == {"ascent.views.shift": 0}
    (layer,) = results["layers"]
    found = {(row["who"], row["steps"]): row for row in layer["of"]}
    assert set(found) == {("ours", 1), ("ever", 1), ("still", 6)}
    assert found["still", 6]["score_ratio"]["mean"] == 1
    assert all(a < b for a, b in zip(found["still", 6]["scores"], found["ours", 1]["scores"], strict=True))
    assert 0 < found["ours", 1]["agreement"] <= 1
    assert (tmp_path / "efficientnet_lite0-blocks_0.png").is_file()


@pytest.mark.long
@pytest.mark.parametrize(("lens", "rows"), [("deepdream", 1), ("feature_visualization", 8), ("groups", 12)])
def test_ascents(run: Run, lens: str, rows: int) -> None:
    asked = ("--units", "2", "--set", "max_size=32,ascent.steps=4")
    still = ("--against", "still: ascent.learning_rate=1e-9,ascent.last_learning_rate=None")
    (layer,) = run(ascents.main, lens, PLACE, *asked, *still)["layers"]
    ours, other = layer["of"]
    assert (other["who"], other["score"]["mean"], other["score"]["count"]) == ("still", 1, rows)
    assert ours["robust_score"]["mean"] > 1


@pytest.mark.long
def test_early_stop(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early_stop, "WINDOWS", (32,))
    (layer,) = run(early_stop.main, PLACE, "--units", "2", "--steps", "96")["layers"]
    assert [rule["tolerance"] for rule in layer["rules"]] == list(early_stop.TOLERANCES)
    assert all(rule["mean steps"] in range(64, 97) for rule in layer["rules"])
    assert all(0 < rule["lowest"] <= rule["settled"] < 1.5 for rule in layer["rules"])


@pytest.mark.long
def test_atlas_cost(run: Run) -> None:
    asked = ("--models", TINY, "--minutes", "0", "--units", "1", "--steps", "1", "--digest", PLACE)
    results = run(atlas_cost.main, *asked)
    own, total = results["hours"]
    assert {**own, "model": "all"} == total
    assert sum(total[name] for name in UNASKED) == pytest.approx(total["all"], rel=1e-2)
    assert all(total[name] > 0 for name in UNASKED)
    assert len(results["rates"]) == len(organism(TINY).layers) * len(UNASKED)
    measured = [rate["lens"] for rate in results["rates"] if rate["how"] == "measured"]
    assert sorted(measured) == sorted(atlas_cost.NETWORK_LENSES)
    assert {rate["how"] for rate in results["rates"]} == {"measured", "interpolated", f"as of {PLACE}"}


@pytest.mark.long
def test_responses(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICROSCOPE_ATLAS_CACHE", "")  # which the benchmark sets
    asked = ("--model", TINY, "--pictures", str(PICTURES), "--count", "2", "--turns", "1")
    results = run(responses.main, *asked)
    assert (results["pictures"], results["turns"]) == (2, 1)
    assert results["rows"] == sum(layer.units for layer in organism(TINY).layers.values() if not layer.named_only)
    assert all(results[name] > 0 for name in responses.Taken._fields)


@lucent.needed
def test_vs_lucent(run: Run) -> None:
    asked = ("--layer", "conv2d0", "--steps", "1", "--turns", "1", "--batch", "2", "--threads", "1")
    results = run(vs_lucent.main, *asked, "--every-layer", "--only", "conv2d0")
    peers = results["one_layer"]["peers"]
    assert {"Lucent", "Lucent without views"} <= set(peers)
    (layer,) = results["every_layer"]["layers"]
    assert (layer["size"], results["one_layer"]["size"]) == (48, 224)
    assert results["every_layer"]["mean_ratio_of_a_unit"] == layer["peers"]["Lucent"]["ratio"]["median"]
    assert Case(MODEL, "conv2d0").subject.layer.units == layer["units"]


@lucent.needed
def test_to_score(tmp_path: Path) -> None:
    place = "efficientnet_lite0/stem"
    asked = ("--weights", "random", "--units", "2", "--steps", "2", "--canvas", "32", "--ladder", "1", "2", "3")
    to_score.main([place, *asked, "--out", str(tmp_path / "out.json")])
    results = json.loads((tmp_path / "out.json").read_text())
    (layer,) = results["layers"]
    peer = layer["peers"]["Lucent"]
    assert (layer["units"], layer["of"], layer["batch"]) == (32, [3, 19], 16)
    assert [each["steps"] for each in layer["ours"]][:2] == [1, 2]
    assert peer["robust"].keys() == layer["ours"][0]["robust"].keys() == {"3", "19"}
    assert peer["seconds"] > 0
    reached = peer["times_ours"]
    assert results["mean"] == ({} if reached is None else {"Lucent": reached})


@pytest.mark.long
def test_startup_counts_a_commands_time_and_memory() -> None:
    found = startup.cost("microscope_atlas.cli", [startup.HERE / "generate", startup.HERE / "space"], ["--help"])
    assert 0.05 < found.cpu_seconds < 20
    assert found.megabytes > 10
    with pytest.raises(RuntimeError, match="ended with"):
        startup.cost("microscope_atlas.cli", [startup.HERE / "generate"], ["models", "alexnot"])


def test_memory_is_the_commands_own_and_not_that_of_who_started_it() -> None:
    held = bytearray(300_000_000)
    assert startup.cost("microscope_atlas.cli", [startup.HERE / "generate"], ["--help"]).megabytes < 150
    assert len(held)


@pytest.mark.long
def test_files_counts_what_many_cost(tmp_path: Path) -> None:
    files.main(["--files", "3", "--runs", "1", "--out", str(tmp_path / "files.json")])
    found = json.loads((tmp_path / "files.json").read_text())
    assert found["files"]["3"].keys() == {*files.COMMANDS, "publish"}
    assert all(each["cpu_seconds"] > 0.05 and each["megabytes"] > 10 for each in found["files"]["3"].values())


@pytest.mark.long
def test_files_that_are_multiplied_are_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    assert list(check(Folder(files.made(tmp_path, 3)))) == []


@pytest.mark.long
def test_before_renders_with_packages_of_its_own() -> None:
    roots = [before.HERE / "generate", before.HERE / "space", before.HERE]
    steps, seconds, megabytes = before.rendered(roots, [False, *PLACE.split("/"), "draft", "random", 2, 2])
    assert (steps, seconds > 0, megabytes > 100) == (2, True, True)
    with pytest.raises(RuntimeError, match=r"ended with 1.*unheard"):
        before.rendered(roots, [False, "unheard", "of", "draft", "random", 2, 2])


@pytest.mark.long
def test_script_for_an_accelerator_does_every_part(tmp_path: Path) -> None:
    asked = ["--device", "cpu", "--steps", "2", "--place", PLACE, "--models", "efficientnet_lite0", "--seconds", "1500"]
    asked += ["--quality", "draft", "--set", "max_size=32"]
    ended = subprocess.run(
        [ROOT / "benchmarks" / "device.sh", *asked, "--into", tmp_path],
        env={**os.environ, "PYTHON": sys.executable, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        timeout=1600,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["about"]["device"] == "cpu"
    parts = {name: part["ended"] for name, part in summary["parts"].items()}
    assert parts.pop("vs_lucent") in ("ok", "left out: no Lucent")
    assert parts == dict.fromkeys(("tests", "sheet", "throughput", "batch", "atlas_cost"), "ok")
    assert {"throughput.json", "batch.json", "atlas_cost.json", "sheet.png"} <= {
        path.name for path in tmp_path.iterdir()
    }


def test_script_for_an_accelerator_refuses_what_is_no_option(tmp_path: Path) -> None:
    ended = subprocess.run(
        [ROOT / "benchmarks" / "device.sh", "--into", tmp_path, "--fast"], capture_output=True, text=True
    )
    assert (ended.returncode, "--fast is no option" in ended.stderr) == (2, True)
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_space_scale(tmp_path: Path) -> None:
    space_scale.main(["--models", "efficientnet_lite0", "--units", "3", "--out", str(tmp_path / "out.json")])
    found = json.loads((tmp_path / "out.json").read_text())
    units = sum(layer.units for layer in catalog.organism("efficientnet_lite0").layers.values())
    assert found["about"]["units"] == units
    assert found["about"]["rows"] > 10 * units
    assert 0 < found["unit_cpu_ms"] <= found["unit_most_cpu_ms"]
    assert found["picture_cpu_ms"] > 0 and 100 < found["start_megabytes"] <= found["megabytes"]


@pytest.mark.long
def test_check_before_has_both_versions_check_what_0_1_wrote(tmp_path: Path) -> None:
    archive = subprocess.run(["git", "archive", VERSION_0_1], cwd=ROOT, capture_output=True)
    if archive.returncode:
        pytest.skip("no history here, so no version 0.1")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as packed:
        packed.extractall(tmp_path / "clone", filter="data")
    check_before.main([str(tmp_path / "clone"), "--files", "3", "--turns", "1", "--out", str(tmp_path / "out.json")])
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["about"]["files"] == 3
    assert found["times_less"] > 1
    assert all(turn["cpu_seconds"] > 0.1 and turn["megabytes"] > 10 for (turn,) in found["turns"].values())


@pytest.mark.long
def test_organism_is_checked_published_loaded_streamed_and_browsed(tmp_path: Path) -> None:
    atlases.render_every(tmp_path / "atlas", {"blocks_4": range(3)}, lenses=FREE)
    manifest = read_manifest(Folder(tmp_path / "atlas"))
    organism.main([str(tmp_path / "atlas"), "--units", "2", "--out", str(tmp_path / "out.json")])
    found = json.loads((tmp_path / "out.json").read_text())
    assert (found["about"]["units"], found["about"]["files"]) == (3, len(manifest.shards))
    assert {table["table"] for table in found["tables"]} == {shard.units.lens for shard in manifest.shards.values()}
    assert all(table["loaded_seconds"] > 0 and table["streamed_seconds"] > 0 for table in found["tables"])
    assert found["check"]["cpu_seconds"] > 0 and found["publish"]["cpu_seconds"] > 0
    assert found["browse"]["pictures"] > 2 and found["browse"]["unit_cpu_ms"] > 0


@pytest.mark.long
def test_organism_ends_where_rows_are_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    atlases.render_every(tmp_path / "atlas", {"blocks_4": range(3)}, lenses=FREE)
    fewer = organism.READ.replace("found = 0", "found = -1")
    monkeypatch.setattr(organism, "READ", fewer)
    with pytest.raises(RuntimeError, match=r"caricature has \d+ rows, \d+ in the manifest"):
        organism.main([str(tmp_path / "atlas"), "--out", str(tmp_path / "out.json")])


@pytest.mark.long
@pytest.mark.browser
@pytest.mark.skipif(not shutil.which("chromium"), reason="no Chromium")
def test_space_before_waits_for_heading_and_pictures(tmp_path: Path) -> None:
    Image.new("RGB", (40, 40), "red").save(tmp_path / "near.png")
    page = '<h1>A unit</h1><img src="near.png"><p style="margin-top: 3000px"></p><img src="gone.png">'
    (tmp_path / "page.html").write_text(f"<!doctype html><body>{page}")
    (tmp_path / "wrong.html").write_text(f"<!doctype html><body>{page.replace('near', 'gone')}")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        assert 0 < space_before.shown(chromium, (tmp_path / "page.html").as_uri()) < 30
        with pytest.raises(Timeout):
            space_before.shown(chromium, (tmp_path / "wrong.html").as_uri(), patience=2)
        chromium.close()
