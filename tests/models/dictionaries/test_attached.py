"""Dictionaries behind layers, from the command line to the atlas and back."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from microscope_atlas import cli
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.manifest import read_manifest
from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.atlas.shards import read_shard
from microscope_atlas.errors import DictionaryFailed, NetworkFailed, UnknownName
from microscope_atlas.keys import parse_key
from microscope_atlas.lenses import feature_visualization, responses
from microscope_atlas.lenses.lens import Row, Subject
from microscope_atlas.lenses.registry import lens
from microscope_atlas.models import weights
from microscope_atlas.models.catalog import organism
from microscope_atlas.models.dictionaries.asked import attach_all
from microscope_atlas.models.dictionaries.attached import attach, fits, keep
from microscope_atlas.models.dictionaries.behind import Behind
from microscope_atlas.models.dictionaries.dictionary import Dictionary
from microscope_atlas.models.networks.network import Network
from microscope_atlas.pictures.sets import picture_set
from microscope_atlas.publish.check import check
from microscope_atlas.publish.cite import cite
from microscope_atlas.rendering.ascend import Ascent
from microscope_atlas.run import shard as shard_rendering
from microscope_atlas.run.shard import one_thread
from microscope_space import routes
from microscope_space.html import text
from tests import atlases
from tests.models.dictionaries.test_reading import Settings, saev

MODEL, LAYER = "own:tests.models.own_networks.small", "block_conv1"  # of 8 channels
WIDTH = 8


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("MICROSCOPE_ATLAS_CACHE", str(tmp_path / "cache"))
    yield
    attach(MODEL, {})


def sparse(path: Path, units: int = 24, seed: int = 0, width: int = WIDTH, activation: str = "Relu") -> Path:
    """A dictionary as saev writes it."""
    stream = torch.Generator().manual_seed(seed)
    shapes = {"W_enc": (width, units), "b_enc": (units,), "W_dec": (units, width), "b_dec": (width,)}
    told = {"cls": activation, "params": {"top_k": 3}}
    tensors = {name: torch.randn(shape, generator=stream) for name, shape in shapes.items()}
    return saev(path, {"schema": 5, "cfg": {"activation": told}}, tensors)


def network(*asked: str) -> tuple[Network, list[str]]:
    made = attach_all({}, [MODEL], asked)
    known = organism(MODEL)
    return weights.network(known, weights.load(known)), made


def subject(layer: str, net: Network) -> Subject:
    known = organism(MODEL)
    return Subject(known, known.layer(layer), torch.device("cpu"), lambda: net)


def test_visitor_is_shown_a_dictionarys_layers_beside_the_networks_own(tmp_path: Path) -> None:
    one, other = sparse(tmp_path / "one.pt"), sparse(tmp_path / "other.pt", seed=1)
    net, made = network(f"{LAYER}:one={one}", f"{LAYER}:other={other}")
    pictures = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    targets = [made[0], LAYER, net.preactivation(made[0]), made[1], "block_conv2"]
    seen: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        net.visit(pictures, targets, seen.__setitem__)
        for target, value in zip(targets, net(pictures, targets), strict=True):
            assert value.equal(seen[target])
    assert set(seen) == set(targets)


def test_identity_shows_the_layers_own_channels_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "eye.npy", np.eye(WIDTH, dtype=np.float32))
    net, (made,) = network(f"{LAYER}:eye={tmp_path / 'eye.npy'}")
    seed = feature_visualization.seed
    monkeypatch.setattr(feature_visualization, "seed", lambda key, *rest: seed(key.replace("_eye", ""), *rest))
    one = lens("feature_visualization")
    recipe = replace(one.quick(), variants=2)
    with one_thread():
        own, directions = (
            [row for some in one.rows(subject(layer, net), [1, 5], recipe) for row in some] for layer in (LAYER, made)
        )
    for a, b in zip(own, directions, strict=True):
        assert (a["score"], a["flag"]) == (b["score"], b["flag"])
        assert (a["agreement"] or 0.0) == pytest.approx(b["agreement"] or 0.0, rel=1e-6)
        assert np.array_equal(a["image"], b["image"])


@pytest.mark.parametrize("activation", ["Relu", "TopK"])
def test_unit_alone_equals_unit_among_others(activation: str, tmp_path: Path) -> None:
    net, (made,) = network(f"{LAYER}:sae={sparse(tmp_path / 'a.pt', activation=activation)}")
    one = lens("feature_visualization")

    def rows(units: list[int]) -> list[Row]:
        with one_thread():
            return [row for some in one.rows(subject(made, net), units, one.quick()) for row in some]

    among = [row for row in rows([2, 7, 11, 20]) if row["unit"] == 7]
    for alone, row in zip(rows([7]), among, strict=True):
        assert alone["score"] == row["score"]
        assert np.array_equal(alone["image"], row["image"])


def test_units_are_those_of_the_encoder_on_what_the_layer_gives(tmp_path: Path) -> None:
    net, (made,) = network(f"{LAYER}={sparse(tmp_path / 'a.pt')}")
    assert isinstance(net, Behind)
    pictures = torch.rand(2, 3, 32, 32)
    acts, codes, own, before = net(pictures, [LAYER, made, "logits", net.objective_node(made, -1)])
    assert torch.equal(acts, net.network(pictures, [LAYER])[0])
    expected = torch.einsum("buhw,cu->bchw", acts, net.encoder(made).rows) + net.encoder(made).bias[:, None, None]  # type: ignore[index]
    assert torch.allclose(before, expected, atol=1e-5)
    assert torch.allclose(codes, expected.relu(), atol=1e-5)
    assert own.shape == (2, 4)
    layer = organism(MODEL).layer(made)
    assert (layer.units, layer.kind, layer.named_only) == (24, "conv", True)
    assert layer.sides == organism(MODEL).layer(LAYER).sides
    assert made.startswith(f"{LAYER}_sae")


def test_what_a_dictionary_makes_of_what_lies_behind_an_earlier_layer_follows_from_that(tmp_path: Path) -> None:
    net, (made,) = network(f"block_conv2={sparse(tmp_path / 'a.pt')}")
    pictures = torch.rand(2, 3, 32, 32)
    targets = [made, "logits", net.preactivation(made)]
    with torch.no_grad():
        acts, onwards = net.cut(pictures, LAYER, targets)
        for own, expected in zip([acts, *onwards(acts)], net(pictures, [LAYER, *targets]), strict=True):
            assert torch.allclose(own, expected, atol=1e-5)
        assert not onwards(acts * 0)[0].allclose(onwards(acts)[0])
    with pytest.raises(NetworkFailed, match=f"layer {made} is made by a dictionary, and no other reads it"):
        net.cut(pictures, made, ["logits"])


def run(*arguments: object, status: int = 0) -> str:
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    said = result.output + (str(result.exception) if result.exception else "")
    assert (result.exit_code == 0) == (status == 0), said
    return said


def test_dictionary_is_rendered_checked_resumed_and_reproduced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After its file is gone, too; another file under its name is refused, rows of other layers stay."""
    draft = feature_visualization.Recipe(Ascent(steps=2), max_size=32, variants=0)
    monkeypatch.setitem(feature_visualization.RECIPES, "draft", draft)
    root, path = tmp_path / "atlas", sparse(tmp_path / "a.pt", units=40)
    common = ("render", root, "--model", MODEL, "--workers", 1)
    lenses = [word for name in ("feature_visualization", "responses", "units", "sheets") for word in ("--lens", name)]
    run(*common, "--layer", LAYER, "--units", 0, "--lens", "feature_visualization")
    before = {path: shard.id for path, shard in read_manifest(Folder(root)).shards.items()}
    said = run(*common, *lenses, "--dictionary", f"{LAYER}:mine={path}")
    assert "40 units, relu, of block_conv1, positions; a.pt" in " ".join(said.split())
    path.unlink()
    made = f"{LAYER}_mine"
    assert "0 rows made" in run(*common, *lenses, "--layer", made)
    manifest = read_manifest(Folder(root))
    assert before.items() <= {path: shard.id for path, shard in manifest.shards.items()}.items()
    stated = manifest.models[MODEL]["dictionaries"][made]
    assert (stated["behind"], stated["source"], stated["units"]) == (LAYER, "a.pt", 40)
    assert str(tmp_path) not in manifest.to_json()
    assert list(check(Folder(root))) == []
    shard = next(each for each in manifest.shards.values() if each.units.layer == made and each.units.lens != "sheets")
    told = json.loads(read_shard(root / shard.path).to_pylist()[0]["recipe"])["dictionary"]
    assert told == {name: stated[name] for name in ("behind", "sha256", "tokens", "what")}
    assert made in run("status", root)
    run("reproduce", root, f"{MODEL}/{made}/3", "--lens", "feature_visualization")
    atlas = Atlas(Folder(root))
    assert atlas.layers(MODEL)[made] == 40
    assert list(atlas.layers(MODEL)).index(made) == list(atlas.layers(MODEL)).index(LAYER) + 1
    other = sparse(tmp_path / "b.pt", units=40, seed=1)
    said = run(*common, *lenses, "--dictionary", f"{LAYER}:mine={other}", status=2)
    assert "mine: its dictionary is" in said
    assert "give another one another NAME" in said
    shutil.rmtree(tmp_path / "cache")
    shard_rendering._network.cache_clear()  # as in a process of its own
    said = run("reproduce", root, f"{MODEL}/{made}/3", "--lens", "feature_visualization", status=2)
    assert f"say where it is: --dictionary {LAYER}:mine=PATH" in said


def test_models_lists_what_a_dictionary_makes(tmp_path: Path) -> None:
    told = json.loads(run("models", MODEL, "--json", "--dictionary", f"{LAYER}:sae={sparse(tmp_path / 'a.pt')}"))
    assert {layer["name"]: layer["units"] for layer in told["layers"]}[f"{LAYER}_sae"] == 24


def matrix(path: Path, **says: str) -> Path:
    save_file({"rows": torch.eye(WIDTH)}, path, metadata=says)
    return path


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("{layer}={wide}", "it reads 9 units, own:tests.models.own_networks.small/block_conv1 has 8"),
        ("{layer}={absent}", "no such file"),
        ("nowhere={good}", "layer 'nowhere' is not in"),
        ("{layer}", "expected LAYER=PATH"),
        ("{layer}:no-name={good}", "letters, digits and _"),
        ("{layer}={good} again", "no such file"),
        ("{layer}={of_other}", "it is of vgg19_caffe, not of own:"),
        ("{layer}={of_layer}", "it is of layer stem_0, not of block_conv1"),
        ("{layer}={of_layer_alone}", "it is of layer block_conv2, not of block_conv1"),
        ("{layer}={class_only}", "class token alone"),
        ("block:conv1={good}", "block_conv1 is a layer already"),
        (f"{{layer}}:{'x' * 300}={{good}}", "has 312 letters, 200 at most; give a shorter NAME"),
        ("{layer}=hub:nobody", "is no repository"),
    ],
)
def test_dictionary_that_does_not_fit_is_refused_in_a_sentence(words: str, told: str, tmp_path: Path) -> None:
    class_only = {**vars(Settings()), "hook_point_layer": None, "hook_point": "conv1"}
    (tmp_path / "prisma").mkdir()
    (tmp_path / "prisma" / "config.json").write_text(json.dumps(class_only))
    shapes = {"W_enc": (WIDTH, 24), "b_enc": (24,), "W_dec": (24, WIDTH), "b_dec": (WIDTH,)}
    torch.save({name: torch.ones(shape) for name, shape in shapes.items()}, tmp_path / "prisma" / "weights.pt")
    files = {
        "layer": LAYER,
        "good": sparse(tmp_path / "good.pt"),
        "wide": sparse(tmp_path / "wide.pt", width=9),
        "absent": tmp_path / "absent.pt",
        "of_other": matrix(tmp_path / "a.safetensors", model="vgg19_caffe"),
        "of_layer": matrix(tmp_path / "b.safetensors", model=MODEL, layer="stem_0"),
        "of_layer_alone": matrix(tmp_path / "c.safetensors", layer="block_conv2"),
        "class_only": tmp_path / "prisma",
    }
    with pytest.raises((DictionaryFailed, UnknownName), match=told):
        attach_all({}, [MODEL], [words.format(**files)])


def test_two_dictionaries_of_one_name_are_refused(tmp_path: Path) -> None:
    one, other = (f"{LAYER}:sae={sparse(tmp_path / f'{seed}.pt', seed=seed)}" for seed in (0, 1))
    with pytest.raises(DictionaryFailed, match="another one makes block_conv1_sae too"):
        attach_all({}, [MODEL], [one, other])


def test_dictionary_needs_one_model(tmp_path: Path) -> None:
    with pytest.raises(DictionaryFailed, match="2 models are named"):
        attach_all({}, [MODEL, "inceptionv1"], [f"{LAYER}={sparse(tmp_path / 'a.pt')}"])


@pytest.mark.parametrize("activation", ["Relu", "TopK"])
def test_every_lens_and_page_takes_what_a_dictionary_makes(activation: str, tmp_path: Path) -> None:
    attach_all({}, [MODEL], [f"{LAYER}:sae={sparse(tmp_path / 'a.pt', activation=activation)}"])
    root, made = tmp_path / "atlas", f"{LAYER}_sae"
    atlases.render_every(root, {made: range(6)}, MODEL)
    assert list(check(Folder(root))) == []
    assert all(shard.rows for shard in read_manifest(Folder(root)).shards.values())  # a file without is read by nobody
    read = Atlas(Folder(root))
    for about in ({"model": MODEL}, {"model": MODEL, "layer": made}, {"model": MODEL, "layer": made, "unit": "3"}):
        shown = routes.show(read, about)
        assert made in shown
        assert text.WRONG not in shown
        assert organism(MODEL).dictionaries[made].sha256 in re.sub("<wbr>", "", shown)
    for told in ((root / "README.md").read_text(), cite(Folder(root), parse_key(f"{MODEL}/{made}/3"))):
        assert "Dictionaries, under their own licenses:" in told
        assert organism(MODEL).dictionaries[made].sha256 in told
    assert "direction 3 of 24." in shown
    assert f"Before: {LAYER} <small>not in this atlas" in re.sub("<wbr>", "", shown)


def test_responses_of_a_large_dictionary_are_kept_of_fewer_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, (made,) = network(f"{LAYER}={sparse(tmp_path / 'a.pt')}")
    one, known = lens("responses"), organism(MODEL)
    recipe = one.quick().with_pictures(str(atlases.PICTURES))

    def kept(layer: str) -> tuple[int, int]:
        ((row,),) = list(one.rows(subject(layer, net), [1], recipe))
        return len(row["responses"]), row.get("recipe", {}).get("max_responses", recipe.max_responses)

    whole = len(picture_set(recipe.pictures, recipe.revision))
    assert kept(made) == (whole, recipe.max_responses)
    monkeypatch.setattr(responses, "MOST_RESPONSES", 2 * known.layer(made).units + 1)
    assert kept(made) == (2, 2)
    assert kept(LAYER) == (whole, recipe.max_responses)  # a network's own go on as they were


def test_bias_that_is_taken_away_and_added_again_is_kept(tmp_path: Path) -> None:
    bias = torch.arange(WIDTH, dtype=torch.float32)
    keep(Dictionary(torch.eye(WIDTH), "relu", shift=bias, decoder=torch.eye(WIDTH), decoder_bias=bias))
    (kept,) = (tmp_path / "cache" / "dictionaries").iterdir()
    assert kept.suffix == ".safetensors"


def test_same_name_behind_another_layer_is_another_dictionary(tmp_path: Path) -> None:
    file = sparse(tmp_path / "a.pt")
    attach_all({}, [MODEL], [f"{LAYER}:mine={file}"])
    (one,) = organism(MODEL).dictionaries.values()
    assert len({each.identity for each in (one, replace(one, behind="other"), replace(one, sha256="0" * 64))}) == 3


@pytest.mark.parametrize(
    ("trained_on", "behind", "fit"),
    [
        ("blocks.1.hook_resid_post", "dinov2_encoder_layer_1", True),
        ("blocks.2.hook_resid_post", "dinov2_encoder_layer_1", False),
        ("blocks.9.hook_mlp_out", "blocks_9_mlp_fc1", True),
        ("blocks.9.hook_mlp_out", "blocks_8_mlp_fc2", False),
        ("stages.2.blocks.1", "stages_2_blocks_1", True),
        ("", "blocks_1", True),
        ("blocks.9.hook_resid_pre", "blocks_8", True),  # what a block reads is the sum that the one before it ends with
        ("blocks.9.hook_resid_pre", "blocks_9", False),
        ("blocks.9.hook_resid_pre", "blocks_8_cls", True),
        ("blocks.0.hook_resid_pre", "blocks_0", False),
        ("blocks.9.hook_resid_mid", "blocks_9", False),
        ("blocks.9.hook_mlp_out", "blocks_9", False),
        ("blocks.9.hook_attn_out", "encoder_layer_9_prefix0", False),
        ("blocks.9.hook_resid_post", "blocks_9_heads", False),
        ("blocks.9.attn.hook_z", "blocks_9_heads", True),
        ("blocks.9.attn.hook_z", "blocks_9_heads_reg0", True),
        ("blocks.9.attn.hook_z", "blocks_9", False),
        ("blocks.9.mlp.hook_post", "blocks_9_mlp", True),
        ("blocks.9.hook_resid_post", "blocks_9_mlp_cls", False),
    ],
)
def test_place_that_a_dictionary_was_trained_on_is_compared(trained_on: str, behind: str, fit: bool) -> None:
    assert fits(trained_on, behind) is fit
