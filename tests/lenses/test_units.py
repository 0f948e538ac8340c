import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from microscope_atlas.atlas import schema
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.shards import read_shard
from microscope_atlas.errors import NotRendered, RenderFailed
from microscope_atlas.lenses.lens import Row, Scope, Subject
from microscope_atlas.lenses.units import Recipe, Units, branch, class_name, ratio
from microscope_atlas.models.catalog import CATALOG
from microscope_atlas.models.organism import Organism
from microscope_atlas.publish.check import check
from microscope_atlas.run import run
from tests import atlases, toy

TOY = Organism(
    "toy",
    "Toy",
    "",
    2026,
    "nothing",
    32,
    toy.handmade,
    {"conv1": "c1", "conv2": None, "logits": None},
    (),
    name_classes=lambda: ("cat", "dog"),
)
PICTURES = json.dumps({"pictures": "photos", "revision": "1"})

Response = tuple[str, str, int, Sequence[float]]


def jpeg(colour: tuple[int, int, int], size: tuple[int, int] = (96, 96)) -> dict[str, Any]:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "JPEG")
    return {"bytes": file.getvalue(), "path": "plain.jpg"}


def response(model: str, layer: str, unit: int, values: Sequence[float], **more: Any) -> Row:
    made_by = {"model": model, "layer": layer, "weights_sha256": "", "software": "", "device": "", "recipe": PICTURES}
    array = np.asarray(values, np.float32)
    natural = [
        {"objective": objective, "direction": direction, "activation": 2.0 * direction}
        for objective in ("channel", "neuron")
        for direction in (1, -1)
    ]
    return {
        **made_by,
        "unit": unit,
        "mean": float(array.mean()),
        "maximum": float(array.max()),
        "quantiles": [float(np.median(array))],
        "sparsity": 0.25,
        "flag": None,
        "responses": array.tolist(),
        "samples": [],
        "natural": natural,
        **more,
    }


def visualization(unit: int, score: float | None, **more: Any) -> Row:
    view = {"method": "fourier", "objective": "channel", "direction": 1, "variant": 0, "flag": None}
    return {"unit": unit, **view, "score": score, "agreement": None, "image": None, **more}


def subject(
    answers: list[Row], visualizations: Sequence[Row] = (), layer: str = "conv1", model: str = "toy"
) -> Subject:
    """A layer of the toy, or of the same by another name, with rows made by hand; each layer's are a shard."""

    def parts(table: str, columns: Sequence[str], scope: Scope = "atlas") -> Iterator[pa.Table]:
        if table == "feature_visualization":
            fields = [schema.FEATURE_VISUALIZATION.arrow.field(name) for name in columns]
            yield pa.Table.from_pylist(list(visualizations), schema=pa.schema(fields))
            return
        assert table == "responses"
        for of, shard in groupby(answers, key=lambda row: (row["model"], row["layer"])):
            if scope == "atlas" or of == (model, layer):
                yield pa.Table.from_pylist(list(shard), schema=schema.RESPONSES.arrow).select(columns)

    return Subject(replace(TOY, name=model), TOY.layer(layer), torch.device("cpu"), toy.handmade, read=parts)


def rows(about: Subject, units: Sequence[int] = (0, 1, 2), recipe: Recipe = Recipe()) -> list[Row]:  # noqa: B008
    return [row for some in Units().rows(about, units, recipe) for row in some]


def keys(neighbours: list[Row]) -> list[str]:
    return [f"{row['model']}/{row['layer']}/{row['unit']}" for row in neighbours]


LINE, HILL, STEP, FLAT = [0.0, 1, 2, 3], [0.0, 1, 1, 0], [0.0, 0, 0, 1], [5.0, 5, 5, 5]


@pytest.fixture
def answers() -> list[Row]:
    """Two layers of the toy and one of another network, in the order of their keys."""
    return [
        response("other", "conv1", 0, STEP),
        response("other", "conv1", 1, [0.0, -1, -2, -3]),
        response("toy", "conv1", 0, LINE),
        response("toy", "conv1", 1, HILL),
        response("toy", "conv1", 2, FLAT),
        response("toy", "conv2", 0, [1.0, 2, 3, 4]),
        response("toy", "conv2", 1, STEP),
    ]


def test_nearest_are_the_most_correlated_of_the_model_and_of_the_others(answers: list[Row]) -> None:
    line, hill, flat = rows(subject(answers))
    # of (-1.5, -.5, .5, 1.5) and (-.25, -.25, -.25, .75): 1.5 over the root of 5 times .75
    between = 1.5 / (5 * 0.75) ** 0.5
    assert keys(line["nearest"]) == ["toy/conv2/0", "toy/conv2/1", "toy/conv1/1"]
    assert [near["correlation"] for near in line["nearest"]] == pytest.approx([1, between, 0], abs=1e-5)
    assert keys(line["nearest_elsewhere"]) == ["other/conv1/0", "other/conv1/1"]
    assert [near["correlation"] for near in line["nearest_elsewhere"]] == pytest.approx([between, -1], abs=1e-5)
    assert keys(hill["nearest"]) == ["toy/conv1/0", "toy/conv2/0", "toy/conv2/1"]  # the first two tie at 0
    assert (flat["nearest"], flat["nearest_elsewhere"]) == ([], [])


def test_layer_that_never_varies_is_near_to_nothing(answers: list[Row]) -> None:
    silent = [row | {"responses": FLAT} if row["model"] == "other" else row for row in answers]
    assert [row["nearest_elsewhere"] for row in rows(subject(silent))] == [[], [], []]
    silent = [row | {"responses": FLAT} if row["layer"] == "conv1" else row for row in answers]
    assert [row["nearest"] for row in rows(subject(silent))] == [[], [], []]


def test_only_so_many_are_named(answers: list[Row]) -> None:
    assert keys(rows(subject(answers), recipe=Recipe(nearest=1))[0]["nearest"]) == ["toy/conv2/0"]


def test_correlations_are_those_of_numpy() -> None:
    values = np.random.default_rng(0).normal(size=(9, 32)).astype(np.float32)
    where = [("other", "a"), ("toy", "conv1"), ("toy", "conv2")]
    made = [response(*where[at // 3], at % 3, values[at]) for at in range(9)]
    expected = np.corrcoef(values.astype(np.float64))
    for unit, row in enumerate(rows(subject(made))):
        near = {(n["layer"], n["unit"]): n["correlation"] for n in row["nearest"]}
        far = {(n["layer"], n["unit"]): n["correlation"] for n in row["nearest_elsewhere"]}
        assert near == {
            (where[at // 3][1], at % 3): pytest.approx(expected[3 + unit, at], abs=6e-6)
            for at in range(3, 9)
            if at != 3 + unit
        }
        assert far == {("a", at): pytest.approx(expected[3 + unit, at], abs=6e-6) for at in range(3)}
        assert list(near.values()) == sorted(near.values(), reverse=True)


def test_ties_go_to_the_first_key() -> None:
    made = [response("toy", layer, unit, LINE) for layer in ("conv1", "conv2") for unit in range(6)]
    found = {row["unit"]: keys(row["nearest"]) for row in rows(subject(made), recipe=Recipe(nearest=3))}
    assert found[0] == ["toy/conv1/1", "toy/conv1/2", "toy/conv1/3"]
    assert found[2] == ["toy/conv1/0", "toy/conv1/1", "toy/conv1/3"]


@pytest.mark.parametrize(
    "other",
    [
        {"recipe": json.dumps({"pictures": "paintings", "revision": "1"})},
        {"recipe": json.dumps({"pictures": "photos", "revision": "2"})},
        {"responses": [0.0, 1, 2]},
        {"responses": []},
        {"responses": [0.0, 1, 2, float("nan")]},
    ],
)
def test_what_cannot_be_compared_is_not(answers: list[Row], other: Row) -> None:
    answers[5].update(other)
    assert keys(rows(subject(answers))[0]["nearest"]) == ["toy/conv2/1", "toy/conv1/1"]


def test_neighbours_do_not_depend_on_which_units_are_asked_for(answers: list[Row]) -> None:
    assert rows(subject(answers), [1]) == rows(subject(answers))[1:2]


def test_unit_without_responses_says_what_to_render(answers: list[Row]) -> None:
    with pytest.raises(NotRendered, match=r"toy/conv1/2 has no responses.*--lens responses"):
        rows(subject([row for row in answers if row["unit"] != 2]))


def test_statistics_are_those_of_the_responses(answers: list[Row]) -> None:
    answers[3].update(flag="dead", mean=0.5, sparsity=0.75, maximum=4.0, quantiles=[1.0, 4.0])
    found = rows(subject(answers))[1]
    assert {name: found[name] for name in ("flag", "mean", "sparsity", "maximum", "quantiles")} == {
        "flag": "dead",
        "mean": 0.5,
        "sparsity": 0.75,
        "maximum": 4.0,
        "quantiles": [1.0, 4.0],
    }


def test_score_is_set_in_relation_to_natural_pictures(answers: list[Row]) -> None:
    natural = [("channel", 1, 4.0), ("channel", -1, -2.0), ("neuron", 1, float("nan")), ("neuron", -1, 0.5)]
    answers[2]["natural"] = [{"objective": o, "direction": d, "activation": a} for o, d, a in natural]
    made = [
        visualization(0, 6.0),
        visualization(0, 2.0, variant=1),
        visualization(0, 3.0, direction=-1),
        visualization(0, 9.0, method="maco", objective="neuron"),
        visualization(0, 1.5, method="maco", objective="neuron", direction=-1),
        visualization(0, None, method="maco", flag="nan"),
        visualization(1, 1.0),
    ]
    first, second, third = rows(subject(answers, made))
    assert [row["natural"] for row in first["visualizations"]] == [1.5, 0.5, None, None, 3.0, None]
    assert first["visualizations"][4] == {
        "method": "maco",
        "objective": "neuron",
        "direction": -1,
        "variant": 0,
        "score": 1.5,
        "natural": 3.0,
        "flag": None,
    }
    assert first["visualizations"][5]["flag"] == "nan"
    assert (len(second["visualizations"]), third["visualizations"]) == (1, [])


def test_ratio_needs_something_to_be_related_to() -> None:
    assert ratio(3.0, 2.0) == 1.5
    assert [ratio(3.0, natural) for natural in (0.0, -1.0, float("inf"), None)] == [None] * 4
    assert ratio(None, 2.0) is None


def test_agreement_is_the_mean_of_the_variants(answers: list[Row]) -> None:
    made = [visualization(0, 1.0)]
    made += [visualization(0, 1.0, variant=variant, agreement=share) for variant, share in ((1, 0.25), (2, 0.75))]
    assert [row["agreement"] for row in rows(subject(answers, made))] == [0.5, None, None]


def test_thumbnail_is_the_middle_of_the_plain_channel_picture(answers: list[Row]) -> None:
    wide = Image.new("RGB", (200, 100), "blue")
    wide.paste("red", (50, 0, 150, 100))
    file = io.BytesIO()
    wide.save(file, "PNG")
    made = [
        visualization(0, 1.0, image={"bytes": file.getvalue(), "path": ""}),
        visualization(0, 1.0, image=jpeg((0, 255, 0)), direction=-1),
        visualization(0, 1.0, image=jpeg((0, 255, 0)), variant=1),
        visualization(0, 1.0, image=jpeg((0, 255, 0)), objective="neuron"),
        visualization(0, 1.0, image=jpeg((0, 255, 0)), method="maco"),
        visualization(1, None, flag="nan"),
        visualization(2, 1.0, image=jpeg((0, 255, 0))),
    ]
    answers[4].update(flag="nan")
    first, second, third = rows(subject(answers, made))
    assert (second["thumbnail"], third["thumbnail"]) == (None, None)
    thumbnail = Image.open(io.BytesIO(first["thumbnail"]))
    assert (thumbnail.format, thumbnail.size) == ("JPEG", (64, 64))
    assert np.abs(np.asarray(thumbnail)[:, 2:-2].astype(int) - (255, 0, 0)).max() < 16


def test_units_are_named_by_what_they_are() -> None:
    caffe = CATALOG["inceptionv1_caffe"]
    assert branch(caffe.layer("inception_4c"), 447) == "inception_4c/5x5"
    assert branch(caffe.layer("conv1_7x7_s2"), 3) is None
    assert class_name(caffe, caffe.layer("loss3_classifier"), 1).startswith("goldfish")  # type: ignore[union-attr]
    assert class_name(caffe, caffe.layer("inception_4c"), 1) is None
    places = CATALOG["inceptionv1_caffe_places365"]
    assert class_name(places, places.layer("loss3_classifier"), 1) is None


def test_only_the_last_layer_as_wide_as_the_classes_has_their_names(answers: list[Row]) -> None:
    made = [response("toy", layer, unit, LINE) for layer in ("conv2", "logits") for unit in (0, 1)]
    for layer, names, kind in (("conv2", [None, None], "conv"), ("logits", ["cat", "dog"], "dense")):
        found = rows(subject(made, layer=layer), [0, 1])
        assert [row["class_name"] for row in found] == names
        assert {row["kind"] for row in found} == {kind}


def test_link_is_that_of_microscope(answers: list[Row]) -> None:
    assert rows(subject(answers))[2]["legacy_url"] == "https://microscope.openai.com/models/toy/c1/2"
    made = [response("toy", "conv2", unit, LINE) for unit in (0, 1)]
    assert rows(subject(made, layer="conv2"), [1])[0]["legacy_url"] is None


def render(root: Path, layers: dict[str, range], *lenses: str) -> run.Outcome:
    chosen = {name: atlases.quick(name) for name in lenses or ("responses", "units", atlases.LENS)}
    return run.render(Folder(root), [atlases.request(layers)], chosen, atlases.HERE, 2, lambda *_: None)


def units(root: Path) -> dict[str, Row]:
    paths = [path for path in atlases.shards(root) if path.parts[-3] == "units"]
    found = [row for path in paths for row in read_shard(path).to_pylist()]
    return {f"{row['layer']}/{row['unit']}": row for row in found}


def test_made_anew_when_others_are_added(tmp_path: Path) -> None:
    render(tmp_path, {"blocks_0": range(2)})
    before = units(tmp_path)
    assert {key: keys(row["nearest"]) for key, row in before.items()} == {
        "blocks_0/0": ["efficientnet_lite0/blocks_0/1"],
        "blocks_0/1": ["efficientnet_lite0/blocks_0/0"],
    }
    assert all(row["thumbnail"] and len(row["visualizations"]) == atlases.IMAGES for row in before.values())
    assert list(check(Folder(tmp_path))) == []
    render(tmp_path, {"head": range(1)}, "responses", "units")
    after = units(tmp_path)
    assert {near["layer"] for near in after["blocks_0/0"]["nearest"]} == {"blocks_0", "head"}
    measured = read_shard(tmp_path / schema.shard_path("responses", atlases.MODEL, "head", 0, 1))
    assert after["head/0"]["mean"] == measured["mean"][0].as_py()
    assert list(check(Folder(tmp_path))) == []
    assert render(tmp_path, {"blocks_0": range(2)}).made == 0


def test_run_without_responses_says_what_to_render(tmp_path: Path) -> None:
    with pytest.raises(RenderFailed, match="NotRendered: efficientnet_lite0/blocks_0/0 has no responses"):
        render(tmp_path, {"blocks_0": range(2)}, atlases.LENS, "units")
    assert render(tmp_path, {"blocks_0": range(2)}, "responses").made == 4  # and the units that failed before
