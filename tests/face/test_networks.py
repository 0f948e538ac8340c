"""Looking into networks from Python."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import microscope_atlas as ma
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.shards import read_shard
from microscope_atlas.errors import InvalidSetting, PicturesFailed, UnknownName, WrongLevel
from microscope_atlas.face.objectives import scored
from microscope_atlas.run.stored import encode
from tests.toy import handmade

MODEL, LAYER = "efficientnet_lite0", "stem"


def tiny(channels: int = 3) -> "ma.Trained":
    """Unit 0 of its first layer is red minus the mean of green and blue, or brightness; unit 1 its negative."""
    first, second = nn.Conv2d(channels, 2, 1, bias=False), nn.Conv2d(2, 2, 1, bias=False)
    with torch.no_grad():
        weights = torch.tensor([1.0, -0.5, -0.5]) if channels == 3 else torch.ones(channels)
        first.weight[0, :, 0, 0], first.weight[1, :, 0, 0] = weights, -weights
        second.weight.copy_(torch.eye(2)[:, :, None, None])
    return ma.Trained(nn.Sequential(first, nn.ReLU(), second), input_size=16, license="CC0-1.0", channels=channels)


@pytest.fixture(scope="module")
def net() -> "ma.Net":
    return ma.load(tiny(), device="cpu")


def colour(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture, dtype=float).mean((0, 1))


def test_network_says_its_layers(net: "ma.Net") -> None:
    assert list(net.layers) == ["0", "2"]
    assert net.layers["0"].units == 2
    assert "2 layers" in repr(net)


def test_users_module_is_left_as_it_is() -> None:
    given = tiny()
    given.module.train()
    ma.load(given, device="cpu")
    assert given.module.training
    assert all(parameter.requires_grad for parameter in given.module.parameters())


def test_picture_of_a_red_detector_is_red_and_of_its_opposite_is_not(net: "ma.Net") -> None:
    red, other = ma.visualize(net, "0", unit=[0, 1], steps=48, size=16)
    assert colour(red)[0] > colour(red)[1:].max() + 30
    assert colour(other)[0] < colour(other)[1:].min() - 30
    assert red.info["objective"] == "channel(0, 0)"
    assert red.info["score"] > 0.15


def test_objectives_add_scale_and_negate() -> None:
    both = ma.channel("a", 1) + 2.0 * ma.neuron("b", 2) - ma.deepdream("c") / 2
    assert str(both) == "channel(a, 1) + 2 * neuron(b, 2) + -0.5 * deepdream(c)"
    assert str(sum([ma.channel("a", 0), ma.channel("a", 1)])) == "channel(a, 0) + channel(a, 1)"
    opposite = -ma.channel("a", 0)
    assert -opposite == ma.channel("a", 0)
    with pytest.raises(TypeError):
        ma.channel("a", 0) + 1
    with pytest.raises(TypeError):
        ma.channel("a", 0) * ma.channel("a", 1)


def test_scores_are_those_worked_out_by_hand(net: "ma.Net") -> None:
    picture = torch.zeros(1, 3, 16, 16)
    picture[:, 0], picture[:, 1, 8:] = 0.8, 0.4  # red 0.8 above, 0.6 below, where there is green
    above, below = 0.8, 0.6
    for objective, expected in (
        (ma.channel("0", 0), (above + below) / 2),
        (ma.neuron("0", 0), below),
        (ma.deepdream("0"), (above**2 + below**2) / 2),  # its two units are opposites
        (ma.direction("0", [2, 1]), (above + below) / 2),
        (-ma.channel("0", 1), (above + below) / 2),
        (3 * ma.channel("0", 0) - ma.neuron("2", 0), 1.5 * (above + below) - below),
    ):
        activations, score = scored(net.network, [objective])
        assert score(activations(picture)).item() == pytest.approx(expected, abs=1e-6), str(objective)


def test_what_is_avoided_is_taken_before_the_rectifier() -> None:
    green = torch.zeros(1, 3, 8, 8)
    green[:, 1] = 1.0  # which conv1's unit for red sees as -1.5 in -1..1 colours
    for objective, expected in ((ma.channel("conv1", 1), 0.0), (-ma.channel("conv1", 1), 1.0)):
        activations, score = scored(handmade(), [objective])
        assert score(activations(green)).item() == pytest.approx(expected, abs=1e-6), str(objective)


def test_picture_is_the_atlas_own(tmp_path: Path) -> None:
    outcome = ma.render(
        tmp_path,
        [MODEL],
        ["feature_visualization"],
        [LAYER],
        range(1, 3),
        settings={"feature_visualization": {"ascent.steps": 3}},
        workers=1,
        device="cpu",
    )
    assert (outcome.made, outcome.present) == (8, 0)
    (shard,) = Folder(tmp_path).files().keys() & {f"feature_visualization/{MODEL}/{LAYER}.00001-00003.parquet"}
    rows = [row for row in read_shard(tmp_path / shard).to_pylist() if row["direction"] == 1]
    for row in rows:
        objective = {"channel": ma.channel, "neuron": ma.neuron}[row["objective"]](LAYER, row["unit"])
        (picture,) = ma.visualize(ma.load(MODEL, device="cpu"), objective=objective, steps=3)
        assert encode(torch.from_numpy(np.array(picture))) == row["image"]["bytes"]
        assert picture.info["score"] == pytest.approx(row["score"], rel=1e-6)


def test_each_picture_is_as_large_as_its_own_layer_asks_for() -> None:
    network = ma.load(MODEL, device="cpu")
    both = ma.visualize(
        network, objective=[ma.channel("stem", 0), ma.channel("blocks_4", 1), ma.channel("stem", 2)], steps=1
    )
    alone = ma.visualize(network, "stem", np.arange(0, 3, 2), steps=1)
    assert [picture.size for picture in both] == [(48, 48), (96, 96), (48, 48)]
    assert [both[at].tobytes() for at in (0, 2)] == [picture.tobytes() for picture in alone]


def test_units_that_are_named_one_by_one_are_those_rendered(tmp_path: Path) -> None:
    settings = {"feature_visualization": {"ascent.steps": 1}}
    made = ma.render(
        tmp_path, MODEL, "feature_visualization", LAYER, range(0, 4, 2), settings=settings, workers=1, device="cpu"
    )
    assert made.made == 8
    table = ma.open(tmp_path).table("feature_visualization", columns="unit")
    assert sorted(set(table["unit"].to_pylist())) == [0, 2]


def test_seed_gives_another_picture_and_the_same_seed_the_same(net: "ma.Net") -> None:
    one, same, other = (ma.visualize(net, "0", 0, steps=2, size=16, seed=seed)[0].tobytes() for seed in (1, 1, 2))
    assert one == same != other


def test_rate_that_is_given_holds_throughout(net: "ma.Net") -> None:
    first = 0.14  # of drafts, whose rate falls
    falling, steady = (ma.visualize(net, "0", 0, steps=3, size=16, learning_rate=rate)[0] for rate in (None, first))
    assert falling.tobytes() != steady.tobytes()
    short = [ma.visualize(net, "0", 0, steps=1, size=16, learning_rate=rate)[0].tobytes() for rate in (None, first)]
    assert short[0] == short[1]


def test_grey_networks_give_grey_pictures() -> None:
    grey = ma.load(tiny(channels=1), device="cpu")
    (bright,) = ma.visualize(grey, "0", 0, steps=48, size=16)
    assert bright.mode == "L"
    assert np.asarray(bright).mean() > 150


def test_caricature_comes_frame_by_frame(net: "ma.Net") -> None:
    frames = list(ma.caricature(net, "0", "cat", steps=5, every=2, size=16))
    assert [frame.info["step"] for frame in frames] == [2, 4, 5]
    assert all(frame.size == (16, 16) for frame in frames)


def test_picture_is_given_in_any_form(net: "ma.Net", tmp_path: Path) -> None:
    picture = Image.new("RGBA", (30, 20), (200, 10, 10, 255))
    picture.save(tmp_path / "red.png")
    found = [
        list(ma.caricature(net, "0", given, steps=1, size=16))[-1].tobytes()
        for given in (picture, tmp_path / "red.png", str(tmp_path / "red.png"))
    ]
    assert len(set(found)) == 1


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda net: ma.visualize(net, "1", 0), UnknownName, "layer '1' is not in"),
        (lambda net: ma.visualize(net, "0", 2), UnknownName, "it has 0 to 1"),
        (lambda net: ma.visualize(net, "0"), UnknownName, "expected a layer and a unit"),
        (
            lambda net: ma.visualize(net, "0", 0, objective=ma.channel("0", 0)),
            UnknownName,
            "expected a layer and a unit",
        ),
        (lambda net: ma.visualize(net, objective=ma.direction("0", [1, 2, 3])), UnknownName, "has 2 units"),
        (lambda net: ma.visualize(net, "0", 0, steps=0), InvalidSetting, "steps is 0"),
        (lambda net: ma.visualize(net, "0", 0, steps=2.5), InvalidSetting, "steps is 2.5"),
        (lambda net: ma.visualize(net, "0", 0, size=10**9), InvalidSetting, "size is 1000000000"),
        (lambda net: ma.visualize(net, "0", 0, learning_rate=float("nan")), InvalidSetting, "learning_rate is nan"),
        (lambda net: ma.visualize(net, "0", "1"), InvalidSetting, "unit is '1'"),
        (lambda net: ma.channel("0", None), InvalidSetting, "unit is None"),
        (lambda net: ma.channel("0", 0) * "2", InvalidSetting, "factor of an objective is '2'"),
        (lambda net: ma.channel("0", 0) / 0, InvalidSetting, "divisor of an objective is 0"),
        (lambda net: ma.load(MODEL, weights="nope"), UnknownName, "weights 'nope'; expected one of pretrained, random"),
        (lambda net: ma.load(MODEL, device="foo"), UnknownName, "device 'foo' is not to be had here"),
        (lambda net: ma.load(None), UnknownName, "model NoneType; expected a name"),
        (lambda net: ma.render("x", MODEL, workers=-1), InvalidSetting, "-1 workers"),
        (lambda net: ma.render("x", MODEL, workers="2"), InvalidSetting, "2 workers"),
        (lambda net: ma.render("x", MODEL, "deepdream", "stem", 1), WrongLevel, "deepdream looks at a layer"),
        (lambda net: ma.caricature(net, "0", "cot"), PicturesFailed, "'cot' cannot be read"),
        (lambda net: ma.load("alexnot"), UnknownName, "nearest: alexnet"),
        (lambda net: ma.render("x", lenses=["deepdrem"]), UnknownName, "nearest: deepdream"),
        (lambda net: ma.render("x", units=range(3)), UnknownName, "need models"),
    ],
)
def test_what_cannot_be_is_said(call: object, error: type[Exception], said: str, net: "ma.Net", tmp_path: Path) -> None:
    assert callable(call)
    with pytest.raises(error, match=said):
        call(net)


def test_every_public_name_is_documented_and_loads() -> None:
    for name in ma.__all__:
        doc = getattr(ma, name).__doc__
        assert doc, name
        assert doc.strip().splitlines()[0].endswith((".", ":")) or len(doc.strip().splitlines()[0]) < 100, name
    assert set(ma.__all__) <= set(dir(ma))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        ma.nothing  # noqa: B018


def test_importing_the_package_loads_nothing() -> None:
    code = "import sys, microscope_atlas; assert not {'torch', 'pyarrow', 'PIL', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
