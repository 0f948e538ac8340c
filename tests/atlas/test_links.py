from dataclasses import replace
from pathlib import Path

import pytest

from microscope_atlas.atlas.links import link, page, resolve
from microscope_atlas.errors import InvalidKey, UnknownName
from microscope_atlas.models.catalog import CATALOG

HOST = "https://microscope.openai.com"


@pytest.mark.parametrize(
    ("link", "key"),
    [
        (f"{HOST}/models/inceptionv1/mixed4c_0/447", "inceptionv1/mixed4c/447"),
        (f"{HOST}/models/inceptionv1/mixed4c_0", "inceptionv1/mixed4c"),
        (f"{HOST}/models/inceptionv1", "inceptionv1"),
        (f"{HOST}/models/inceptionv1/mixed4c_0/447/?models.technique=feature_vis#top", "inceptionv1/mixed4c/447"),
        ("http://microscope.openai.com/models/alexnet/conv5_1_0/7", "alexnet/conv5/7"),
        ("microscope.openai.com/models/alexnet/conv5_1_0/7", "alexnet/conv5/7"),
        ("/models/inceptionv1/mixed4c_0/0", "inceptionv1/mixed4c/0"),
        ("/models/vgg19_caffe/conv5_4_conv5_4_0/511", "vgg19_caffe/conv5_4/511"),
        ("/models/alexnet_caffe_places365/prob_0/364", "alexnet_caffe_places365/fc8/364"),
        ("/models/inceptionv1/mixed4d_5x5_0/12", "inceptionv1/mixed4d/412"),
        ("/models/inceptionv1/mixed4d_5x5_0", "inceptionv1/mixed4d"),
        ("/models/alexnet/Conv2D_2_0/5", "alexnet/conv2/133"),
        ("/models/alexnet/concat_0/133", "alexnet/conv2/133"),
        ("/models/alexnet_caffe_places365/conv2_Conv2D_0/91", "alexnet_caffe_places365/conv2/91"),
        ("/models/alexnet_caffe_places365/conv5_Conv2D_1_0/3", "alexnet_caffe_places365/conv5/131"),
        ("/models/inceptionv1/mixed3b/379", "inceptionv1/mixed3b/379"),
        ("/models/inceptionv1/mixed3a_3x3_bottleneck_0/95", "inceptionv1/mixed3a_3x3_bottleneck/95"),
        ("/models/inceptionv1/mixed5b_5x5_bottleneck_0?models.op.tab=0", "inceptionv1/mixed5b_5x5_bottleneck"),
        (
            "/models/resnetv2_50_slim/resnet_v2_50_block2_unit_1_bottleneck_v2_conv2_Relu_0/118",
            "resnetv2_50_slim/block2_unit_1_conv2/118",
        ),
        (
            "/models/resnetv2_50_slim/resnet_v2_50_block2_unit_2_bottleneck_v2_conv1_Relu_0",
            "resnetv2_50_slim/block2_unit_2_conv1",
        ),
        ("/models/contrastive_4x/image_block_4_5_Add_6_0/237", "contrastive_4x/image_block_4_5/237"),
        ("/models/contrastive_4x?models.technique=deep_dream", "contrastive_4x"),
        ("/models/contrastive_rn50/image_block_4_2_add_6_0/1", "contrastive_rn50/image_block_4_2/1"),
        ("/models/contrastive_4x/image_block_2_3_add_3_0/38", "contrastive_4x/image_block_2_3_relu2/38"),
        ("/models/contrastive_16x/image_block_3_0_Add_8_0/1535", "contrastive_16x/image_block_3_0/1535"),
        (f"{HOST}/models/inceptionv1/conv2d1_0%22%3Econv2d1", "inceptionv1/conv2d1"),
        (f'{HOST}/models/inceptionv1/mixed4c_0/447">447</a>', "inceptionv1/mixed4c/447"),
    ],
)
def test_link_leads_to_the_unit_it_meant(link: str, key: str) -> None:
    assert str(resolve(link)) == key


def test_every_op_leads_to_its_first_and_its_last_unit_and_no_further() -> None:
    for model, organism in CATALOG.items():
        ends = {op: (name, 0, organism.layer(name).units) for name, op in organism.legacy_ops.items() if op}
        for op, (layer, start, stop) in (ends | dict(organism.legacy_parts)).items():
            assert str(resolve(f"/models/{model}/{op}/0")) == f"{model}/{layer}/{start}"
            assert str(resolve(f"/models/{model}/{op}/{stop - start - 1}")) == f"{model}/{layer}/{stop - 1}"
            with pytest.raises(UnknownName, match=f"it has 0:{stop - start}$"):
                resolve(f"/models/{model}/{op}/{stop - start}")


def test_every_unit_of_a_layer_with_a_link_is_where_its_link_leads() -> None:
    for model, organism in CATALOG.items():
        for layer in organism.layers.values():
            for unit in {0, layer.units // 2, layer.units - 1}:
                there = link(organism, layer.name, unit)
                assert there is None or str(resolve(there)) == f"{model}/{layer.name}/{unit}"
                shown = not model.startswith("efficientnet") and (
                    not model.startswith("contrastive") or layer.legacy_op is not None
                )
                assert (there is not None) == shown


def test_link_is_the_layers_own_or_that_of_its_part() -> None:
    inception = CATALOG["inceptionv1"]
    assert link(inception, "mixed4c", 447) == f"{HOST}/models/inceptionv1/mixed4c_0/447"
    in_parts = replace(inception, legacy_ops={**inception.legacy_ops, "mixed4d": None})
    assert link(in_parts, "mixed4d", 412) == f"{HOST}/models/inceptionv1/mixed4d_5x5_0/12"


@pytest.mark.parametrize(
    ("link", "reason"),
    [
        ("https://example.org/models/inceptionv1", "is not to microscope.openai.com"),
        ("inceptionv1/mixed4c/447", "is not to microscope.openai.com"),
        (HOST, "does not read"),
        ("/models", "is to the list of models, which names none"),
        (f"{HOST}/models/inceptionv1/${{layer}}_0/${{neuron}}", "is a template"),
        (f"{HOST}/models/inceptionv1/inception_{{layer}}_0/1", "is a template"),
        ("/about/inceptionv1", "does not read"),
        ("/models/inceptionv1//447", "does not read"),
        ("/models/inceptionv1/mixed4c_0/447/1", "does not read"),
        ("/models/inceptionv1/mixed4c_0/-1", "unit '-1'"),
        ("/models/inceptionv1/mixed4c_0/0447", "unit '0447'"),
        ("/models/inceptionv1/mixed4c_0/wheel", "unit 'wheel'"),
        ("http://[/models", "link"),
        ("", "does not read"),
    ],
)
def test_what_is_no_link_is_refused_with_the_reason(link: str, reason: str) -> None:
    with pytest.raises(InvalidKey, match=reason):
        resolve(link)


@pytest.mark.parametrize(
    ("link", "reason"),
    [
        ("/models/inceptionv2", "model 'inceptionv2' is not in the catalog; nearest: inceptionv1"),
        (
            "/models/inceptionv1/mixed4x/447",
            "op 'mixed4x' is not in what is known of OpenAI Microscope's inceptionv1; nearest: mixed4",
        ),
        ("/models/inceptionv1/mixed4d_5x5_0/64", "unit 64 is not in inceptionv1/mixed4d_5x5_0; it has 0:64"),
        ("/models/contrastive_v2/image_block_4_2_Add_6_0/1535", "its weights were never published"),
        ("/models/contrastive_v1", "its weights were never published"),
        ("/models/efficientnet_lite0/stem_0/1", "OpenAI Microscope did not have efficientnet_lite0"),
    ],
)
def test_unknown_model_op_or_unit_is_named_with_what_there_is(link: str, reason: str) -> None:
    with pytest.raises(UnknownName, match=reason):
        resolve(link)


FOUND = [  # in papers, notebooks and posts, without the six that are templates
    line.split("\t")[1]
    for line in (Path(__file__).with_name("links.txt")).read_text().splitlines()
    if "\t" in line and "{" not in line
]


def test_of_the_links_that_are_found_in_the_wild_all_but_eight_lead_on() -> None:
    keys, pages, refused = [], [], {}
    for each in FOUND:
        if shown := page(each):
            pages.append(shown)
            continue
        try:
            keys.append(resolve(each))
        except (InvalidKey, UnknownName) as error:
            refused[each.partition("openai.com")[2]] = str(error)
    assert (len(FOUND), len(keys), sorted(pages)) == (177, 164, ["about", *["models"] * 4])
    never = [path for path, reason in refused.items() if "its weights were never published" in reason]
    assert len(never) == 6 and all(path.startswith("/models/contrastive_v2/") for path in never)
    others = {path: reason for path, reason in refused.items() if path not in never}
    assert "is not in what is known of OpenAI Microscope's inceptionv1" in others.pop(
        "/models/inceptionv1/inceptionv1_0/385"
    )
    assert "does not read /models/MODEL" in others.pop("/transparency-indicator.png")
    assert not others


@pytest.mark.parametrize("link", ["/about", "/", "", "https://example.org/models", "/models/inceptionv1", "http://["])
def test_other_links_are_to_no_page(link: str) -> None:
    assert page(link) is None
