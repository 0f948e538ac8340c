"""CLIP-Dissect with a CLIP whose weights are made by hand: it sees colours, and a text's length is its colour."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import microscope_atlas as ma
from microscope_atlas.atlas import schema
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.manifest import read_manifest
from microscope_atlas.atlas.shards import read_shard
from microscope_atlas.errors import InvalidSetting, LensFailed, NotRendered, RenderFailed, UnknownName, WeightsError
from microscope_atlas.keys import Key
from microscope_atlas.lenses import clip, labels_clip_dissect, words
from microscope_atlas.lenses.recipe import changed, settings
from microscope_atlas.lenses.registry import LENSES, UNASKED, lens
from microscope_atlas.models import converted
from microscope_atlas.publish.check import check
from microscope_atlas.publish.cite import cite
from microscope_atlas.run import reproduce
from tests import seeing_texts
from tests.seeing_texts import SEEING, image_tensors, put, rendered, text_tensors

CPU = torch.device("cpu")
NAME = "labels_clip_dissect"
# a text and the picture of its colour have a cosine of 2 / sqrt(6), others -1 / sqrt(6): so softmax gives 1/2, 1/4, 1/4
TEMPERATURE = math.sqrt(6) * math.log(2) / 3
OWN, OTHER = (
    math.log(0.75 / (2 / 3)),
    math.log(0.625 / (2 / 3)),
)  # with a chance of 1/2; on average (3 + 2.5 + 2.5) / 12


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Recipes that look at one picture of each colour; the tiny CLIP is in the catalog."""
    seeing_texts.install(tmp_path, monkeypatch)
    labels_clip_dissect._once.cache_clear()
    return recipes(seeing_texts.photos(tmp_path), seeing_texts.listed(tmp_path))


def recipes(photos: Path, listed: Path, **changes: Any) -> dict[str, Any]:
    found = {name: lens(name).recipe("draft").with_pictures(str(photos)) for name in ("responses", NAME)}
    constants = {"best": 1, "temperature": TEMPERATURE, "first": 0.5, "last": 0.5}
    told = {
        "words": str(listed),
        "clip": SEEING.name,
        **{f"soft_wpmi.{name}": each for name, each in constants.items()},
    }
    return {**found, NAME: changed(found[NAME], {**told, **changes})}


def rows(root: Path, layer: str = "colours") -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = {}
    for path in sorted(root.glob(f"{NAME}/*/{layer}.*.parquet")):
        for row in read_shard(path).to_pylist():
            found.setdefault(row["unit"], []).append(row)
    return found


def test_labels_and_scores_by_hand(given: dict[str, Any], tmp_path: Path) -> None:
    """Red, green and blue are labelled so; the fourth unit, which no picture excites, has no label."""
    rendered(tmp_path / "a", {"colours": range(4)}, given)
    found = rows(tmp_path / "a")
    told = {unit: [(row["label"], row["score"]) for row in made] for unit, made in found.items()}
    own, other = pytest.approx(OWN, abs=1e-6), pytest.approx(OTHER, abs=1e-6)
    assert told == {
        0: [("r", own), ("bbb", other), ("gg", other)],  # of equals the earlier in the list
        1: [("gg", own), ("bbb", other), ("r", other)],
        2: [("bbb", own), ("r", other), ("gg", other)],
    }
    assert [row["rank"] for row in found[0]] == [0, 1, 2]


def test_direction_by_hand(given: dict[str, Any], tmp_path: Path) -> None:
    """Red less the mean of all is (2, -1, -1) / 3, and the texts have no mean to be taken away."""
    rendered(tmp_path / "a", {"colours": range(4)}, given)
    first, *more = rows(tmp_path / "a")[0]
    assert first["embedding"] == pytest.approx([2 / 6**0.5, -1 / 6**0.5, -1 / 6**0.5], abs=1e-3)
    assert [row["embedding"] for row in more] == [None, None]


def test_row_says_who_says_so(given: dict[str, Any], tmp_path: Path) -> None:
    rendered(tmp_path / "a", {"colours": range(1)}, given)
    row = rows(tmp_path / "a")[0][0]
    name, sha256 = words.parts(given[NAME].words)
    image, text = converted.identity(image_tensors()), converted.identity(text_tensors())
    assert (row["method"], row["source_sha256"], row["license"]) == ("clip_dissect", sha256, "CC-BY-4.0")
    for each in (name, sha256, SEEING.name, image, text):
        assert each in row["source"]
    assert "nats" in row["measure"]
    assert json.loads(row["recipe"])["clip"] == f"{SEEING.name}@{image}"
    assert str(tmp_path) not in json.dumps(row)


def test_units_are_found_by_meaning(given: dict[str, Any], tmp_path: Path) -> None:
    """By hand: a word and the unit of its colour have a cosine of 1, others of -1/2."""
    rendered(tmp_path / "a", {"colours": range(4)}, given)
    atlas = ma.open(tmp_path / "a")
    found = atlas.find("xx", by="meaning")  # as long as green, and in no word list
    assert (found[0].key, found[0].label) == ("seeing_colours/colours/1", "gg")
    assert [each.score for each in found] == [pytest.approx(score, abs=1e-3) for score in (1, -0.5, -0.5)]
    assert {each.method for each in found} == {"clip_dissect"}
    assert "cosine" in str(found[0].measure)
    assert [each.key for each in atlas.find("gg")] == [f"seeing_colours/colours/{unit}" for unit in (1, 0, 2)]


def test_without_the_text_tower_a_search_by_meaning_says_which_file_to_give(
    given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered(tmp_path / "a", {"colours": range(1)}, given)
    monkeypatch.setenv("MICROSCOPE_ATLAS_CACHE", str(tmp_path / "elsewhere"))
    with pytest.raises(WeightsError, match="is not here; give the file that holds both"):
        ma.open(tmp_path / "a").find("r", by="meaning")


def test_atlas_is_in_order_and_its_rows_are_made_again(given: dict[str, Any], tmp_path: Path) -> None:
    root = tmp_path / "a"
    assert rendered(root, {"colours": range(4)}, given).made > 0
    assert list(check(Folder(root))) == []
    assert rendered(root, {"colours": range(4)}, given).made == 0
    notes, again = reproduce.reproduce(Folder(root), Key(SEEING.name, "colours", 1), NAME, CPU)
    made = list(again)
    assert notes == []
    assert len(made) == 3
    assert {(each.score, each.numbers, each.mismatched) for each in made} == {(0.0, 0.0, ())}
    cited = cite(Folder(root), Key(SEEING.name, "colours", 1))
    assert f"{NAME}: made here with {given[NAME].clip}, {given[NAME].words}, license CC BY 4.0" in cited
    with pytest.raises(UnknownName, match="the lens found none that it would claim"):
        reproduce.reproduce(Folder(root), Key(SEEING.name, "colours", 3), NAME, CPU)


def test_labels_follow_the_responses_of_their_whole_layer(given: dict[str, Any], tmp_path: Path) -> None:
    """What a text has for all units of the layer is part of each score."""
    root = tmp_path / "a"
    rendered(root, {"colours": range(1)}, given)
    assert [row["score"] for row in rows(root)[0]] == [pytest.approx(0, abs=1e-6)] * 3  # alone, it is the average
    rendered(root, {"colours": range(4)}, given)
    assert rows(root)[0][0]["score"] == pytest.approx(OWN, abs=1e-6)
    assert list(check(Folder(root))) == []


def test_too_few_pictures_are_refused_before_anything_is_stored(given: dict[str, Any], tmp_path: Path) -> None:
    few = {**given, NAME: changed(given[NAME], {"soft_wpmi.best": 2})}
    with pytest.raises(LensFailed, match=r"it needs 4 pictures at least, .* has 3; name a larger set"):
        rendered(tmp_path / "a", {"colours": range(1)}, few)
    assert not (tmp_path / "a" / schema.MANIFEST).exists()


def test_too_few_responses_that_were_kept_are_refused(given: dict[str, Any], tmp_path: Path) -> None:
    """A larger set does not help where responses are kept of a part of it alone."""
    few = {**given, "responses": changed(given["responses"], {"max_responses": 1})}
    with pytest.raises(RenderFailed, match=r"kept of 1 pictures, and the 1 that .* twice as many.*soft_wpmi\.best="):
        rendered(tmp_path / "a", {"colours": range(1)}, few)
    assert not list((tmp_path / "a").rglob(f"{NAME}/*/*.parquet"))


def test_without_a_clip_or_one_without_texts_nothing_is_stored(given: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(LensFailed, match=r"needs a CLIP: --set labels_clip_dissect\.clip=NAME, of contrastive_rn50"):
        rendered(tmp_path / "a", {"colours": range(1)}, {**given, NAME: replace(given[NAME], clip="")})
    with pytest.raises(LensFailed, match="efficientnet_lite0 has no text tower: it knows pictures alone"):
        changed(given[NAME], {"clip": "efficientnet_lite0"})
    put(SEEING, {**image_tensors(), "embedding.bias": torch.ones(3)}, None)
    with pytest.raises(WeightsError, match=r"is not here; give the file .* weights seeing_colours --from FILE"):
        changed(given[NAME], {"clip": SEEING.name})
    assert not (tmp_path / "a").exists()


def test_word_list_and_clip_are_named_with_their_hashes(given: dict[str, Any]) -> None:
    plain = settings(given[NAME])
    for name, value in (("words", "letters"), ("clip", SEEING.name)):
        with pytest.raises(ValueError, match=f"{name} is '{value}', expected text"):
            lens(NAME).restored({**plain, name: value})
    assert clip.taken(plain["clip"]) == plain["clip"]
    with pytest.raises(InvalidSetting, match="cannot be read"):
        changed(given[NAME], {"words": "nowhere.txt"})


def test_without_responses_it_says_what_to_render(given: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(RenderFailed, match=r"no responses of units .0. of seeing_colours/colours; render --lens resp"):
        rendered(tmp_path / "a", {"colours": range(1)}, {NAME: given[NAME]})


def test_without_embeddings_a_search_by_meaning_says_what_to_render() -> None:
    atlas = ma.open(Path(__file__).parents[1] / "version_0_1" / "atlas")
    with pytest.raises(NotRendered, match="has no embeddings to search by meaning; render --lens labels_clip_dissect"):
        atlas.find("fur", by="meaning")


def test_it_is_rendered_where_it_is_named_alone(given: dict[str, Any], tmp_path: Path) -> None:
    assert {NAME, "labels_class_selectivity"} <= set(LENSES) - set(UNASKED)
    rendered(tmp_path / "a", {"colours": range(1)}, given)
    assert read_manifest(Folder(tmp_path / "a")).of_config("labels") == [NAME]
