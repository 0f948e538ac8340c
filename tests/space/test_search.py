"""Search: whatever a researcher types is found, in atlases whole and damaged, and at once."""

import shutil
from pathlib import Path
from urllib.parse import quote

import pytest

from benchmarks import search as benchmark
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.organisms import organisms
from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.keys import Key, parse_key
from microscope_space import routes
from microscope_space.html import text
from microscope_space.search import index
from microscope_space.search.find import LONGEST, MOST, Results, find
from microscope_space.search.given import straight
from microscope_space.search.spelling import distance, forms, words
from tests import seeing_texts
from tests.atlases import MODEL


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An atlas of every unit of the catalog's networks; only the rows of logits are there. Nobody may write to it."""
    root = tmp_path_factory.mktemp("catalog")
    benchmark.write(root)
    return root


@pytest.fixture(scope="module")
def catalog(folder: Path) -> Atlas:
    atlas = Atlas(Folder(folder))
    assert index.of(atlas).read.wait(60)
    return atlas


def keys(results: Results) -> list[str]:
    return [str(each.key) for each in results.found]


@pytest.mark.parametrize(
    ("typed", "first"),
    [
        ("resnet50", "resnetv2_50_slim"),
        ("ResNet-50", "resnetv2_50_slim"),
        ("resnet 50 v2", "resnetv2_50_slim"),
        ("ResNet50v2", "resnetv2_50_slim"),
        ("inception v4", "inceptionv4_slim"),
        ("Inception-V4", "inceptionv4_slim"),
        ("inception 4", "inceptionv4_slim"),
        ("v4 inception", "inceptionv4_slim"),
        ("GoogLeNet", "inceptionv1"),
        ("googlenet tensorflow", "inceptionv1"),
        ("bvlc googlenet", "inceptionv1_caffe"),
        ("places googlenet", "inceptionv1_caffe_places365"),
        ("VGG-19", "vgg19_caffe"),
        ("vgg", "vgg19_caffe"),
        ("CLIP RN50x4", "contrastive_4x"),
        ("clip resnet50x16", "contrastive_16x"),
        ("efficient net lite", "efficientnet_lite0"),
        ("lite0", "efficientnet_lite0"),
        ("mixed4c", "inceptionv1/mixed4c"),
        ("mixed_4c", "inceptionv1/mixed4c"),
        ("Mixed 4C", "inceptionv1/mixed4c"),
        ("inceptionv1/4c", "inceptionv1/mixed4c"),
        ("4c inceptionv1", "inceptionv1/mixed4c"),
        ("inceptionv1 mixed4c_0", "inceptionv1/mixed4c"),
        ("inception_4c caffe", "inceptionv1_caffe/inception_4c"),
        ("vgg19 conv5-4", "vgg19_caffe/conv5_4"),
        ("vgg conv 5 4", "vgg19_caffe/conv5_4"),
        ("slim mixed 7c v3", "inceptionv3_slim/Mixed_7c"),
        ("rn50 image block 4 2", "contrastive_rn50/image_block_4_2"),
        ("contrastive_4x/image_block_4_5_Add_6_0", "contrastive_4x/image_block_4_5"),
        ("resnet block1 unit 2", "resnetv2_50_slim/block1_unit_2"),
        ("mixed4c 44", "inceptionv1/mixed4c/44"),
        ("44 mixed4c", "inceptionv1/mixed4c/44"),
        ("mixed4c unit 447", "inceptionv1/mixed4c/447"),
        ("channel 447 of mixed4c", "inceptionv1/mixed4c/447"),
        ("mixed4c447", "inceptionv1/mixed4c/447"),
        ("inceptionv1 4c:447", "inceptionv1/mixed4c/447"),
        ("InceptionV1 4c/447", "inceptionv1/mixed4c/447"),
        ("4c:447", "inceptionv1/mixed4c/447"),
        ("(3b:379)", "inceptionv1/mixed3b/379"),
        ("mixed4a_pre_relu:476", "inceptionv1/mixed4a/476"),
        ("mixed3b_0:379", "inceptionv1/mixed3b/379"),
        ("mixed4d_5x5 12", "inceptionv1/mixed4d/412"),
        ("mixed4d_5x5_pre_relu:12", "inceptionv1/mixed4d/412"),
        ("vgg19 conv5_4 511", "vgg19_caffe/conv5_4/511"),
        ("inceptoin mixd4c 447", "inceptionv1/mixed4c/447"),
        ("alxenet conv5 12", "alexnet/conv5/12"),
        ("reznet50", "resnetv2_50_slim"),
        ("gogglenet", "inceptionv1"),
    ],
)
def test_what_a_researcher_types_is_found_first(catalog: Atlas, typed: str, first: str) -> None:
    results = find(catalog, typed)
    assert not results.nearest
    assert keys(results)[0] == first


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("golden retriever", "golden retriever"),
        ("retriever golden", "golden retriever"),
        ("golden retreiver", "golden retriever"),
        ("GOLDEN  Retriever", "golden retriever"),
        ("goldenretriever", "golden retriever"),
        ("gold retr", "golden retriever"),
        ("golden-retriever", "golden retriever"),
        ("tabby", "tabby"),
        ("tabyb", "tabby"),
        ("zbera", "zebra"),
        ("dalmation", "dalmatian"),
        ("hourglas", "hourglass"),
        ("class hourglass", "hourglass"),
    ],
)
def test_a_class_is_found_in_every_network_that_has_it(catalog: Atlas, typed: str, name: str) -> None:
    having = {model: known for model, known in organisms().items() if known.classes}
    results = find(catalog, typed)
    assert not results.nearest
    logits = {each.key for each in results.found[: len(having)]}
    assert {each.what for each in results.found[: len(having)]} == {name}
    assert {key.model: key.unit for key in logits} == {
        model: list(known.classes or ()).index(name) for model, known in having.items()
    }


def test_units_that_begin_with_a_number_come_behind_it_and_all_are_counted(catalog: Atlas) -> None:
    results = find(catalog, "mixed4c 44")
    within = "inceptionv1/mixed4c_3x3_bottleneck/44"  # of 128 units; the other bottleneck has 24
    assert keys(results) == ["inceptionv1/mixed4c/44", within, *(f"inceptionv1/mixed4c/{n}" for n in range(440, 450))]
    assert results.total == 12
    results = find(catalog, "mixed4c 4")
    assert len(results.found) == MOST
    layers, units = 3, (1 + 10 + 100, 1 + 10, 1)  # layers first: 4 is part of their names
    assert results.total == layers + sum(units)
    having = [layer for known in organisms().values() for layer in known.layers.values() if layer.units > 447]
    results = find(catalog, "447")
    assert (len(results.found), results.total) == (MOST, len(having))


def test_what_is_spelt_otherwise_is_said(catalog: Atlas) -> None:
    assert find(catalog, "golden retriever").spelt == ""
    assert find(catalog, "golden retreiver").spelt == "golden retriever"
    page = routes.show(catalog, {"q": "golden retreiver"})
    assert "for <b>golden retriever</b>" in page


@pytest.mark.parametrize(
    ("typed", "near"),
    [
        ("inceptionv1/mixed4c/9999", "inceptionv1/mixed4c"),
        ("inceptionv1 mixed9z", "inceptionv1/mixed3a"),
        ("golden retriever hound dog", "alexnet/fc8/207"),
        ("inseptionnv44", "inceptionv4_slim"),
    ],
)
def test_where_nothing_is_found_the_nearest_is_offered(catalog: Atlas, typed: str, near: str) -> None:
    results = find(catalog, typed)
    assert results.nearest
    assert near in keys(results)
    assert "Nearest:" in routes.show(catalog, {"q": typed})


@pytest.mark.parametrize("typed", ["", " ", "\0", "---", "/:_", "?", "%", ".*", "ﷺ"])
def test_where_nothing_is_typed_nothing_is_found(catalog: Atlas, typed: str) -> None:
    assert not find(catalog, typed).found


@pytest.mark.parametrize(
    "typed",
    [
        '"', "*", "NEAR(", "-", 'mixed4c"', "mixed4c*", "-mixed4c", "^mixed4c", "mixed4c + 447", "NEAR(mixed4c)",
        "NEAR mixed4c", "mixed4c AND", "OR", "NOT", "words:mixed4c", "{words}", "a" * 10_000, "1" * 10_000,
        "a " * 5_000, "\ud800", "'; --", "((((",
    ],
)  # fmt: skip
def test_no_syntax_of_the_index_reaches_it(catalog: Atlas, typed: str) -> None:
    results = find(catalog, typed)
    if typed in ('mixed4c"', "mixed4c*", "-mixed4c", "^mixed4c", "mixed4c + 447"):
        assert keys(results)[0].startswith("inceptionv1/mixed4c")
    assert len(routes.show(catalog, {"q": typed[:LONGEST]})) < 100_000


KEY = {"model": "inceptionv1", "layer": "mixed4c", "unit": "447"}


@pytest.mark.parametrize(
    ("typed", "asked"),
    [
        ("inceptionv1/mixed4c/447", KEY),
        (" inceptionv1/mixed4c/447 ", KEY),
        ("/inceptionv1/mixed4c/447", KEY),
        ("inceptionv1/mixed4c/447/", KEY),
        ("inceptionv1/mixed4c", {"model": "inceptionv1", "layer": "mixed4c"}),
        ("inceptionv1", {"model": "inceptionv1"}),
        ("inceptionv1/mixed4c_0/447", KEY),
        ("inceptionv1/mixed4d_5x5_0/12", {**KEY, "layer": "mixed4d", "unit": "412"}),
        ("?model=inceptionv1&layer=mixed4c&unit=447", KEY),
        ("https://someone-atlas.hf.space/?model=inceptionv1&layer=mixed4c&unit=447#samples", KEY),
        (
            "https://huggingface.co/spaces/someone/atlas?model=inceptionv1&layer=mixed4c&unit=447&revision=v2026.11.0",
            {**KEY, "revision": "v2026.11.0"},
        ),
        ("localhost:7860/?model=inceptionv1&layer=mixed4c&unit=447", KEY),
        ("https://example.org/prefix/inceptionv1/mixed4c/447?theme=dark", KEY),
        ("https://example.org/embed/inceptionv1/mixed4c/447", KEY),
        ("see https://example.org/inceptionv1/mixed4c/447).", KEY),
        ("https://example.org/models/inceptionv1/mixed4c_0/447", {"url": "/models/inceptionv1/mixed4c_0/447"}),
        ("?view=compare&a=x&b=y", {"view": "compare", "a": "x", "b": "y"}),
        ("?q=golden+retriever", {"q": "golden retriever"}),
        ("inceptionv1 4c:447", None),
        ("inceptionv1/mixed4c/9999", None),
        ("InceptionV1", None),
        ("https://example.org/elsewhere", None),
        ("http://[::1", None),
        ("golden retriever", None),
    ],
)
def test_a_key_or_a_link_goes_straight_there(catalog: Atlas, typed: str, asked: dict[str, str] | None) -> None:
    assert straight(catalog, typed) == asked


@pytest.mark.parametrize(
    "typed",
    [
        "https://microscope.openai.com/models/inceptionv1/mixed4c_0/447",
        "microscope.openai.com/models/inceptionv1/mixed4c_0/447",
        "/models/inceptionv1/mixed4c_0/447",
        "models/inceptionv1/mixed4c/447",
        'as in <a href="https://microscope.openai.com/models/inceptionv1/mixed4c_0/447">there</a>',
        "(https://microscope.openai.com/models/inceptionv1/mixed4c_0/447?models.op.technique=feature_vis).",
    ],
)
def test_an_old_link_goes_straight_there(catalog: Atlas, typed: str) -> None:
    asked = straight(catalog, typed)
    assert asked
    assert routes.key_of(asked) == Key("inceptionv1", "mixed4c", 447)
    assert keys(find(catalog, typed))[0] == "inceptionv1/mixed4c/447"


def test_a_pasted_key_is_shown_as_its_page(known: Atlas) -> None:
    key = f"{MODEL}/blocks_4/2"
    page = routes.show(known, {"model": MODEL, "layer": "blocks_4", "unit": "2"})
    assert routes.show(known, {"q": key}) == page
    assert routes.show(known, {"q": f"https://example.org/?model={MODEL}&layer=blocks_4&unit=2"}) == page
    old = routes.show(known, {"q": "https://microscope.openai.com/models/inceptionv1/mixed4c_0/447"})
    assert text.WRONG in old
    assert "inceptionv1" in old


def test_every_layer_is_found_by_its_own_key_in_any_spelling(catalog: Atlas) -> None:
    for model in catalog.models:
        for layer in list(catalog.layers(model))[::7]:
            for typed in (f"{model} {layer}", f"{layer} {model}".upper(), f"{model}:{layer}".replace("_", " ")):
                assert f"{model}/{layer}" in keys(find(catalog, typed)), typed


def test_results_have_thumbnails_and_counts(known: Atlas) -> None:
    page = routes.show(known, {"q": "blocks_4"})
    assert f'src="./thumbnail/{quote(f"{MODEL}/blocks_4")}"' in page
    many = find(known, "blocks 1", most=2)
    assert (len(many.found), many.total) == (2, 2)
    few = find(known, "blocks", most=1)
    assert (len(few.found), few.total) == (1, 2)


def test_damaged_units_leave_networks_and_layers_to_be_found(folder: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(folder, tmp_path / "atlas"))
    (damaged,) = (root / "units" / "vgg19_caffe").iterdir()
    damaged.write_bytes(damaged.read_bytes()[:1000])
    (gone,) = (root / "units" / "alexnet").iterdir()
    gone.unlink()
    atlas = Atlas(Folder(root))
    assert index.of(atlas).read.wait(60)
    results = find(atlas, "vgg19 conv5_4")
    assert keys(results)[0] == "vgg19_caffe/conv5_4"
    assert {*results.missing} == {"the names of classes of vgg19_caffe", "the names of classes of alexnet"}
    page = routes.show(atlas, {"q": "golden retriever"})
    assert "the names of classes of vgg19_caffe" in page
    assert "resnetv2_50_slim" in page


def test_a_text_leads_to_the_units_that_it_goes_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seeing_texts.install(tmp_path, monkeypatch)
    given = seeing_texts.recipes(seeing_texts.photos(tmp_path), seeing_texts.listed(tmp_path, "r", "g o", "bbb"))
    seeing_texts.rendered(tmp_path / "a", {"colours": range(4), "embedding": range(3)}, given)
    atlas = Atlas(Folder(tmp_path / "a"))
    rows = [row for layer in ("colours", "embedding") for row in atlas.rows("texts", "seeing_colours", layer)]
    wanted = {
        f"seeing_colours/{row['layer']}/{row['unit']}" for row in rows if row["text"] == "g o" and row["rank"] < 3
    }
    results = find(atlas, "O g")
    assert {*keys(results)} == wanted
    assert results.found[0].what == "text 1: g o"


def test_names_that_are_still_being_read_are_said_to_be(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from threading import Event

    go_on = Event()

    def slow(atlas: Atlas, model: str) -> list[object]:
        go_on.wait(60)
        return []

    monkeypatch.setattr(index, "classes", slow)
    monkeypatch.setattr("microscope_space.search.find.WAIT_SECONDS", 0.0)
    atlas = Atlas(Folder(folder))
    results = find(atlas, "mixed4c")
    go_on.set()
    assert keys(results)[0] == "inceptionv1/mixed4c"
    assert "still being read" in results.missing[0]
    assert index.of(atlas).read.wait(60)
    assert find(atlas, "mixed4c").missing == ()


@pytest.mark.long
def test_a_search_of_the_whole_catalog_takes_less_than_50_ms(catalog: Atlas) -> None:
    assert sum(layer.units for known in organisms().values() for layer in known.layers.values()) > 110_000
    slow = {typed: took for typed in benchmark.SEARCHES if (took := benchmark.cpu_ms(catalog, typed)) > 50}
    assert not slow


def test_forms_are_every_way_to_write_a_name() -> None:
    assert {*forms(["Mixed_4c"])} == {"mixed", "4", "c", "mixed4", "4c", "mixed4c"}
    assert "resnet50v2" in forms(["ResNet-50 v2 (TF-slim)"])
    assert words("InceptionV1 4c:447 4C") == ["inceptionv1", "4c", "447"]
    assert words("Éléphant_d'Afrique") == ["elephant", "d", "afrique"]


@pytest.mark.parametrize(
    ("one", "other", "slips"),
    [
        ("retreiver", "retriever", 1), ("tabyb", "tabby", 1), ("", "abc", 3), ("abc", "abc", 0), ("zbera", "zebra", 1),
        ("kitten", "sitting", 3), ("ca", "abc", 3), ("abcd", "abce", 1), ("abcd", "abd", 1), ("abd", "abcd", 1),
    ],
)  # fmt: skip
def test_distance_counts_slips(one: str, other: str, slips: int) -> None:
    assert distance(one, other, 5) == slips
    assert distance(other, one, 5) == slips
    if slips:
        assert distance(one, other, slips - 1) == slips


def test_keys_found_are_keys(catalog: Atlas) -> None:
    for typed in ("conv", "1", "mixed", "dog"):
        for each in find(catalog, typed).found:
            assert parse_key(str(each.key)) == each.key
