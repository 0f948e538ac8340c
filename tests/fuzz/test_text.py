"""Text from strangers: keys, ranges, versions, recipes, old links, and links to the Space."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from microscope_atlas.atlas import links as legacy
from microscope_atlas.atlas import releases
from microscope_atlas.atlas.locate import open_atlas
from microscope_atlas.atlas.manifest import read_manifest
from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.errors import AtlasError
from microscope_atlas.keys import parse_key, parse_units
from microscope_atlas.lenses.recipe import restored, settings
from microscope_atlas.lenses.registry import LENSES, lens
from microscope_atlas.models.catalog import CATALOG
from microscope_atlas.pictures.sets import picture_set
from microscope_space import api, records, routes
from microscope_space.pages.choice import Choice
from microscope_space.search.find import find
from tests.atlases import MODEL
from tests.fuzz import cases as generated
from tests.fuzz.limits import reads
from tests.fuzz.test_atlas import edits

PIECES = (
    "inceptionv1", "mixed4d_5x5_0", "mixed4c", MODEL, "blocks_4", "447", "0", "00", "-1", "1e3", "9" * 30, "٣",
    "/", ":", "//", "..", "../", "%2e%2e%2f", "%00", "\0", "\n", "\\", "?", "#", "@", "&", "=", "[", "]", "{", "}",
    "timm:", "own:os.abort", "http://", "https://microscope.openai.com/models/", "file:///etc/passwd",
    "http://169.254.169.254/", "http://[::1", "microscope.openai.com", "<script>alert(1)</script>", '"onerror="', "'",
    "${7*7}", "{{7*7}}", "a" * 300, "\u202e", "\ud800", "ﬀ", "2026.11.0", "v2026",
)  # fmt: skip
TEXT = st.lists(st.sampled_from(PIECES) | st.text(max_size=6), max_size=6).map("".join)


@generated.of("keys")
def test_keys(cases: int) -> None:
    def one(text: str) -> None:
        for read in (parse_key, parse_units, releases.order):
            reads(read, text, f"{read.__name__} of {text!r}")

    generated.each(TEXT, cases, one)


@generated.of("keys")
def test_a_key_that_is_read_is_written_the_same(cases: int) -> None:
    def one(parts: tuple[str, ...]) -> None:
        text = "/".join(parts)
        try:
            key = parse_key(text)
        except AtlasError:
            return
        assert str(key) == text
        assert "." not in key.model[:1] and ".." not in text and "\\" not in text

    part = st.sampled_from(("inceptionv1", "mixed4c", "447", "0", "timm:resnet50.a1_in1k", "..", ".", "")) | TEXT
    generated.each(st.lists(part, min_size=1, max_size=4).map(tuple), cases, one)


@generated.of("old links")
def test_old_links(cases: int) -> None:
    links = [f"https://microscope.openai.com/models/{model}/{op}/3" for model, op in (("inceptionv1", "mixed4d_0"),)]
    link = st.builds(
        lambda start, parts, end: start + "/".join(parts) + end,
        st.sampled_from(("https://microscope.openai.com/models/", "/models/", "//", "microscope.openai.com/", "")),
        st.lists(st.sampled_from((*CATALOG, "conv5_4_0", "mixed4d_0", "3")) | TEXT, max_size=4),
        st.sampled_from(("", "?lens=x", "#y", "/")),
    )
    generated.each(link | TEXT | st.sampled_from(links), cases, lambda text: reads(legacy.resolve, text, repr(text)))


@generated.of("recipes")
def test_recipes(cases: int) -> None:
    """What a recipe is restored from has the recipe's own settings, of their own kinds; or it is refused."""
    choices = st.sampled_from(sorted(LENSES)).flatmap(
        lambda name: st.tuples(st.just(name), edits(settings(lens(name).recipe("draft"))))
    )

    def one(chosen: tuple[str, Any]) -> None:
        name, plain = chosen
        like = lens(name).recipe("draft")
        try:
            made = restored(type(like), plain)
        except ValueError:
            return
        assert type(made) is type(like)
        assert settings(made).keys() == settings(like).keys()
        assert restored(type(like), settings(made)) == made

    generated.each(choices, cases, one)


@generated.of("names of atlases and pictures")
def test_names_of_atlases_and_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cases: int) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody answers there
    monkeypatch.setattr("microscope_atlas.hub.repo.WAITS_SECONDS", ())

    def one(text: str) -> None:
        reads(lambda name: read_manifest(open_atlas(name)), text, f"open_atlas({text!r})")
        # `/` is a folder, with any number of pictures; names with `#` are datasets, which have a library of their own
        if "#" not in text and "/" not in text:
            reads(picture_set, text, f"picture_set({text!r})")

    generated.each(TEXT, cases, one)


PARAMETERS = (
    "model", "layer", "unit", "lens", "source", "revision", "url", "q", "view", "a", "b", "sort", "branch", "flag",
    "method", "objective", "direction", "tiles", "shown", "other",
)  # fmt: skip
VALUE = st.sampled_from((MODEL, "blocks_4", "blocks_6", "2", "39", "compare", "caricature", f"{MODEL}/blocks_4/2"))
QUERY = st.dictionaries(st.sampled_from(PARAMETERS) | TEXT, VALUE | TEXT, max_size=6)


@generated.of("queries")
def test_queries(known: Atlas, cases: int) -> None:
    """Any link to the Space has a page, of which nothing is code."""

    def one(asked: dict[str, str]) -> None:
        shown: list[str] = []
        reads(lambda query: shown.append(routes.show(known, query)), asked, f"{asked!r}")
        assert "<script" not in shown[0]
        assert len(shown[0]) < 300_000

    generated.each(QUERY, cases, one)


@generated.of("what programs ask")
def test_what_programs_ask(known: Atlas, cases: int) -> None:
    """The endpoints' own functions, with any values of the kinds that they take."""
    asked = st.tuples(VALUE | TEXT, VALUE | TEXT, st.integers(-3, 50) | st.integers(), VALUE | TEXT)

    def one(values: tuple[str, str, int, str]) -> None:
        model, layer_, unit, words = values
        reads(lambda _: json.dumps(records.of_unit(known, model, layer_, unit)), None, f"unit {values!r}")
        reads(lambda _: json.dumps(records.of_layer(known, model, layer_)), None, f"layer {values!r}")
        reads(lambda _: find(known, words), None, f"search {values!r}")
        reads(lambda _: known.image(words, model, layer_, "image"), None, f"image {values!r}")
        reads(lambda _: api.shown(known, {"model": model, "layer": layer_, "unit": words}), None, f"card {values!r}")

    generated.each(asked, cases, one)


def test_every_parameter_of_a_layers_page_is_among_those_asked() -> None:
    assert set(Choice.__dataclass_fields__) <= set(PARAMETERS)
