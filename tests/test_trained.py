"""What only real trained weights can show."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from microscope_atlas import render
from microscope_atlas.lenses.feature_visualization import RECIPES, FeatureVisualization, Recipe
from microscope_atlas.lenses.frames import square
from microscope_atlas.lenses.lens import Subject
from microscope_atlas.lenses.responses import Responses
from microscope_atlas.models import weights
from microscope_atlas.models.architectures.googlenet_caffe import INCEPTIONV1_CAFFE
from microscope_atlas.models.networks.graph import Graph
from microscope_atlas.models.networks.network import Cut
from microscope_atlas.pictures.sets import with_pictures
from microscope_atlas.pictures.sources import source
from microscope_atlas.rendering.ascend import Ascent, Precision
from microscope_atlas.rendering.attribution import Attribution, attribute
from tests import shared

pytestmark = shared.needed


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MICROSCOPE_ATLAS_CACHE", str(tmp_path_factory.mktemp("cache")))
        return weights.network(INCEPTIONV1_CAFFE, weights.take(INCEPTIONV1_CAFFE, shared.GOOGLENET))


def photo(path: Path) -> torch.Tensor:
    """(3, 224, 224), RGB in [0, 1]: the middle of a photo of 256 px."""
    with Image.open(path) as image:
        pixels = np.array(image.convert("RGB").crop((16, 16, 240, 240)))
    return torch.from_numpy(pixels).permute(2, 0, 1) / 255


@pytest.mark.long
def test_googlenet_knows_three_photos_in_four(graph: Graph) -> None:
    paths = sorted(shared.PHOTOS.glob("*.jpg"))[::20]  # one of every twentieth class
    right = 0
    for at in range(0, len(paths), 25):
        some = paths[at : at + 25]
        with torch.no_grad():
            (logits,) = graph(torch.stack([photo(path) for path in some]), ["loss3_classifier"])
        classes = torch.tensor([int(path.name[:4]) for path in some])
        right += int((logits.argmax(1) == classes).sum())
    assert right >= 0.75 * len(paths)


def subject(graph: Graph, layer: str = "inception_4c") -> Subject:
    return Subject(INCEPTIONV1_CAFFE, INCEPTIONV1_CAFFE.layer(layer), torch.device("cpu"), lambda: graph)


@pytest.mark.long
def test_the_best_sample_of_most_classes_is_of_that_class(graph: Graph, tmp_path: Path) -> None:
    paths = sorted(shared.PHOTOS.glob("*.jpg"))[::10]  # one of every tenth class
    for path in paths:
        (tmp_path / path.name).symlink_to(path)
    classes = [int(path.name[:4]) for path in paths]
    recipe = with_pictures(Responses().recipe("draft"), str(tmp_path))
    (rows,) = Responses().rows(subject(graph, "loss3_classifier"), classes, recipe)
    tops = {row["unit"]: [classes[sample["picture"]] for sample in row["samples"]][: recipe.top] for row in rows}
    assert sum(unit == found[0] for unit, found in tops.items()) >= 0.8 * len(paths)
    assert sum(unit in found[:5] for unit, found in tops.items()) >= 0.95 * len(paths)


@pytest.mark.parametrize(
    "precision", [pytest.param("bfloat16", marks=pytest.mark.hours), pytest.param("float32", marks=pytest.mark.long)]
)
def test_drafts_of_inception_4c_excite_their_units(graph: Graph, precision: Precision) -> None:
    recipe = replace(RECIPES["draft"], ascent=replace(RECIPES["draft"].ascent, precision=precision))
    first_batch = next(FeatureVisualization().rows(subject(graph), range(16), recipe))
    scores = [row["score"] for row in first_batch if (row["objective"], row["direction"]) == ("channel", 1)]
    assert len(scores) == 16
    assert np.mean(scores) >= 430
    assert all(row["flag"] is None for row in first_batch)


@pytest.mark.long
def test_unit_of_a_trained_network_is_the_same_alone_and_among_others(graph: Graph) -> None:
    recipe = Recipe(Ascent(steps=5), max_size=96, variants=0)
    together = {row["unit"]: row for row in next(FeatureVisualization().rows(subject(graph), range(440, 456), recipe))}
    for units in (range(447, 448), range(446, 449)):
        for row in next(FeatureVisualization().rows(subject(graph), units, recipe)):
            assert torch.equal(row["image"], together[row["unit"]]["image"])
            assert row["score"] == together[row["unit"]]["score"]


SHEPHERD = 235  # German shepherd, which the package's dog is


@pytest.fixture(scope="module")
def cut(graph: Graph) -> Cut:
    """Behind inception_4c, on the photo of the dog."""
    picture = square(source("dog"), 224)[None].contiguous(memory_format=torch.channels_last)
    return graph.cut(picture, "inception_4c", ["loss3_classifier"])


@pytest.fixture(scope="module")
def shepherd(cut: Cut) -> Attribution:
    return attribute(cut.acts[0], lambda acts: cut.onwards(acts)[0][:, SHEPHERD])


def test_credited_units_of_a_class_matter_more_than_others(shepherd: Attribution) -> None:
    found = shepherd.ablate(top=10, draws=16)
    assert found.drop > 4 and found.attributed == pytest.approx(found.drop, rel=0.2)
    assert found.drop > max(found.random_drops) + 2
    assert abs(found.random_drop) < 1


def test_amounts_and_what_biases_give_add_up_to_the_logit(graph: Graph, cut: Cut, shepherd: Attribution) -> None:
    """Full gradients, Srinivas and Fleuret 2019: of a piecewise linear network each bias counts with its slope."""
    assert shepherd.nonlinear == ()
    biases = [value for name, value in graph.named_parameters() if name.endswith("bias")]
    try:
        for bias in biases:
            bias.requires_grad_(True)
        logit = cut.onwards(cut.acts)[0][0, SHEPHERD]
        slopes = torch.autograd.grad(logit, biases, allow_unused=True)  # of what lies before the layer: None
    finally:
        graph.requires_grad_(False)
    given = sum((bias * slope).sum().item() for bias, slope in zip(biases, slopes, strict=True) if slope is not None)
    assert shepherd.remainder == pytest.approx(given, abs=1e-3)
    assert abs(given) > 1


@pytest.mark.long
def test_units_rank_as_the_logit_falls_without_each(shepherd: Attribution) -> None:
    assert shepherd.rank_correlation() > 0.95


def test_through_local_response_norm_amounts_are_of_first_order(graph: Graph) -> None:
    picture = square(source("dog"), 224)[None].contiguous(memory_format=torch.channels_last)
    acts, onwards = graph.cut(picture, "conv1_7x7_s2", ["inception_3a"])
    assert attribute(acts[0], lambda given: onwards(given)[0].mean((1, 2, 3))).nonlinear == ("Lrn",)


# curve detectors of inception_3b, the degrees that the hollow side of their curve faces, and the mean of their 16
# strongest responses to the photos, which makes two of them weigh alike
CURVES = {
    358: (180, 540),
    413: (0, 513),
    394: (120, 573),
    326: (225, 521),
    386: (75, 478),
    408: (330, 478),
    398: (285, 431),
}
APART = 105  # degrees, from which two curves are taken for two meanings


@pytest.mark.hours  # three minutes, two of which are a pass over a thousand photos
def test_two_curve_detectors_in_one_are_more_polysemantic_than_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MICROSCOPE_ATLAS_CACHE", str(tmp_path / "cache"))
    weights.take(INCEPTIONV1_CAFFE, shared.GOOGLENET)
    alone = [np.eye(480, dtype=np.float32)[unit] / strength for unit, (_, strength) in CURVES.items()]
    faces = [degrees for degrees, _ in CURVES.values()]
    pairs = [
        (a, b) for a, b in combinations(range(len(alone)), 2) if abs((faces[a] - faces[b] + 180) % 360 - 180) >= APART
    ]
    np.save(tmp_path / "curves.npy", np.stack([*alone, *(alone[a] + alone[b] for a, b in pairs)]))
    render(
        tmp_path / "atlas",
        INCEPTIONV1_CAFFE.name,
        ["responses", "dataset_samples", "scores"],
        dictionaries=f"inception_3b:curves={tmp_path / 'curves.npy'}",
        pictures=str(shared.PHOTOS),
        workers=1,
    )
    files = (tmp_path / "atlas" / "scores").rglob("*.parquet")
    rows = [row for file in files for row in pq.read_table(file, partitioning=None).to_pylist()]
    found = {row["unit"]: row["polysemanticity"] for row in rows}
    more = [found[len(alone) + at] - (found[a] + found[b]) / 2 for at, (a, b) in enumerate(pairs)]
    assert len(more) == 13
    assert np.mean(more) > 3 * np.std(more, ddof=1) / len(more) ** 0.5
    assert sum(each > 0 for each in more) >= 10
