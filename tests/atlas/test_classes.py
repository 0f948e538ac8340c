import json

import pytest
from typer.testing import CliRunner

from microscope_atlas.atlas.classes import imagenet
from microscope_atlas.cli import app
from microscope_atlas.models.catalog import CATALOG


def test_imagenet_has_a_thousand_classes_each_once_in_the_challenges_order() -> None:
    names = imagenet()
    assert len(names) == len(set(names)) == 1000
    known = {0: "tench", 207: "golden retriever", 468: "cab", 817: "sports car", 999: "toilet tissue"}
    assert {at: names[at] for at in known} == known


@pytest.mark.parametrize("name", CATALOG)
def test_a_network_with_named_classes_has_a_logit_for_each(name: str) -> None:
    organism = CATALOG[name]
    if organism.classes is not None:
        *_, logits = organism.layers.values()
        assert logits.kind == "dense" and logits.units == len(organism.classes)


def test_classes_whose_order_or_license_is_not_known_are_null() -> None:
    unnamed = {name for name, organism in CATALOG.items() if organism.classes is None}
    assert {"inceptionv1", "alexnet_caffe_places365", "inceptionv1_caffe_places365"} <= unnamed
    assert not {"efficientnet_lite0", "inceptionv1_caffe", "alexnet", "vgg19_caffe"} & unnamed


def test_slims_networks_have_the_background_first() -> None:
    classes = CATALOG["inceptionv3_slim"].classes
    assert classes is not None and classes[:2] == ("background", "tench")


def test_models_tells_classes_and_edges() -> None:
    told = json.loads(CliRunner().invoke(app, ["models", "inceptionv1_caffe", "--json"]).stdout)
    assert told["classes"][817] == "sports car"
    assert ["inception_4b", "inception_4c"] in told["edges"]
    assert json.loads(CliRunner().invoke(app, ["models", "inceptionv1", "--json"]).stdout)["classes"] is None
