"""Texts that go with units: answers by hand, of a network that sees colours; and of a tiny CLIP, worked out apart."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from microscope_atlas.atlas import schema
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.shards import read_shard
from microscope_atlas.errors import InvalidSetting, LensFailed, RenderFailed, SettingsDiffer, WeightsError
from microscope_atlas.keys import Key
from microscope_atlas.lenses import embedded, words
from microscope_atlas.lenses.recipe import changed, settings
from microscope_atlas.lenses.registry import LENSES, UNASKED, lens
from microscope_atlas.models import converted, weights
from microscope_atlas.models.catalog import CATALOG
from microscope_atlas.models.organism import Organism
from microscope_atlas.models.texts.tokenizer import Tokenizer
from microscope_atlas.models.texts.tower import text_tower
from microscope_atlas.publish.check import check
from microscope_atlas.publish.cite import cite
from microscope_atlas.run import reproduce
from tests import seeing_texts
from tests.models.architectures.test_clip_resnet import TINY
from tests.models.tiny_clip import random_texts
from tests.seeing_texts import SEEING, VOCABULARY, image_tensors, put, recipes, rendered, text_tensors

CPU = torch.device("cpu")


@pytest.fixture
def seeing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Organism:
    """See seeing_texts.install; the tiny CLIP is in the catalog as well."""
    seeing_texts.install(tmp_path, monkeypatch)
    monkeypatch.setitem(CATALOG, TINY.name, TINY)
    return SEEING


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return seeing_texts.photos(tmp_path)


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    return seeing_texts.listed(tmp_path)


def rows(root: Path, layer: str) -> dict[int, list[dict[str, Any]]]:
    """Of each unit its rows, in their order."""
    found: dict[int, list[dict[str, Any]]] = {}
    for path in sorted(root.glob(f"texts/*/{layer}.*.parquet")):
        for row in read_shard(path).to_pylist():
            found.setdefault(row["unit"], []).append(row)
    return found


def told(made: list[dict[str, Any]]) -> list[tuple[str, float]]:
    return [(row["text"], pytest.approx(row["score"], abs=1e-6)) for row in made]


def test_unit_goes_with_the_texts_of_its_best_pictures(
    seeing: Organism, photos: Path, listed: Path, tmp_path: Path
) -> None:
    """Red less the mean of all is (2, -1, -1) / 3, and so is the text, but for its length: cosines 1, -1/2, -1/2."""
    rendered(tmp_path / "a", {"colours": range(4)}, recipes(photos, listed))
    found = rows(tmp_path / "a", "colours")
    assert told(found[0]) == [("r", 1.0), ("bbb", -0.5), ("gg", -0.5)]  # of equals the earlier in the list
    assert [found[unit][0]["text"] for unit in range(3)] == ["r", "gg", "bbb"]
    assert {row["num_pictures"] for unit in range(3) for row in found[unit]} == {1}
    assert [(row["text"], row["score"], row["flag"], row["num_pictures"]) for row in found[3]] == [
        (None, None, "dead", 3)
    ]


def test_unit_of_the_embedding_has_the_texts_that_are_largest_there(
    seeing: Organism, photos: Path, listed: Path, tmp_path: Path
) -> None:
    """Normed, a text of one letter is (2, -1, -1) / sqrt(6)."""
    rendered(tmp_path / "a", {"embedding": range(3)}, recipes(photos, listed, top=2))
    found = rows(tmp_path / "a", "embedding")
    assert [row["score"] for row in found[0]] == pytest.approx([2 / 6**0.5, -1 / 6**0.5], abs=1e-6)
    assert [found[unit][0]["text"] for unit in range(3)] == ["r", "gg", "bbb"]
    assert {row["num_pictures"] for row in found[0]} == {None}


def test_row_says_which_list_and_which_text_tower(seeing: Organism, photos: Path, listed: Path, tmp_path: Path) -> None:
    rendered(tmp_path / "a", {"embedding": range(1)}, recipes(photos, listed))
    row = rows(tmp_path / "a", "embedding")[0][0]
    assert (row["words"], row["words_revision"]) == words.parts(words.taken(str(listed)))
    assert row["words"] == "letters"
    assert row["text_tower_sha256"] == converted.identity(text_tensors())
    assert str(tmp_path) not in json.dumps(row)


def test_unit_whose_pictures_are_the_sets_is_flat(seeing: Organism, photos: Path, listed: Path, tmp_path: Path) -> None:
    for name in ("1green", "2blue"):
        (photos / f"{name}.png").unlink()
    rendered(tmp_path / "a", {"colours": range(2)}, recipes(photos, listed))
    found = rows(tmp_path / "a", "colours")
    assert [(row["text"], row["flag"]) for row in found[0] + found[1]] == [(None, "flat"), (None, "dead")]


def test_scores_are_those_of_the_definition_on_a_tiny_clip(seeing: Organism, listed: Path, tmp_path: Path) -> None:
    image = {name: value.clone() for name, value in weights.random(TINY).tensors.items()}
    tower = random_texts(VOCABULARY, context=6)
    put(TINY, image, tower)
    stream = np.random.default_rng(0)
    (tmp_path / "noise").mkdir()
    pictures = []
    for at in range(6):
        pixels = (stream.random((64, 64, 3)) * stream.integers(20, 255, 3)).astype(np.uint8)
        pictures.append(torch.tensor(pixels).permute(2, 0, 1) / 255)
        Image.fromarray(pixels).save(tmp_path / "noise" / f"{at}.png")
    given = recipes(tmp_path / "noise", listed, background=4)
    given["responses"] = replace(given["responses"], top=2)
    rendered(tmp_path / "a", {"stem_3": range(4)}, given, TINY.name)
    found = rows(tmp_path / "a", "stem_3")

    seen = weights.network(TINY, weights.load(TINY))
    maps, embedded = (value.double() for value in seen(torch.stack(pictures), ["stem_3", "embedding"]))
    unit = lambda vectors: vectors / vectors.norm(dim=-1, keepdim=True)  # noqa: E731
    embedded = unit(embedded)
    tokens = Tokenizer({})(["bbb", "r", "gg"])
    run_alone = [text_tower(tower)(torch.tensor([each]))[0].double() for each in tokens]
    read = unit(torch.stack(run_alone))
    read = unit(read - read.mean(0))
    for number, made in found.items():
        best = maps[:, number].amax((1, 2)).argsort(descending=True)[:2]
        towards = embedded[best].mean(0) - embedded[[0, 1, 3, 4]].mean(0)  # of six four, evenly spaced
        expected = read @ unit(towards)
        assert {row["text"]: pytest.approx(row["score"], abs=1e-4) for row in made} == dict(
            zip(("bbb", "r", "gg"), expected.tolist(), strict=True)
        )
        assert [row["score"] for row in made] == sorted((row["score"] for row in made), reverse=True)


def test_atlas_is_in_order_and_its_rows_are_made_again(
    seeing: Organism, photos: Path, listed: Path, tmp_path: Path
) -> None:
    root, given = tmp_path / "a", recipes(photos, listed)
    layers = {"colours": range(4), "embedding": range(2)}
    assert rendered(root, layers, given).made > 0
    assert list(check(Folder(root))) == []
    assert rendered(root, layers, given).made == 0
    for layer in layers:
        notes, again = reproduce.reproduce(Folder(root), Key(SEEING.name, layer, 1), "texts", CPU)
        assert notes == []
        for each in again:
            assert (each.score, each.numbers, each.mismatched) == (0.0, 0.0, ())
    assert r"seeing\_colours/colours/1" in cite(Folder(root), Key(SEEING.name, "colours", 1))


def test_row_does_not_depend_on_what_else_is_asked_for(
    seeing: Organism, photos: Path, listed: Path, tmp_path: Path
) -> None:
    given = recipes(photos, listed)
    rendered(tmp_path / "all", {"colours": range(4)}, given)
    embedded._seen.cache_clear()
    rendered(tmp_path / "one", {"colours": range(1, 2)}, given)
    assert rows(tmp_path / "one", "colours")[1] == rows(tmp_path / "all", "colours")[1]


def test_another_word_list_is_another_atlas(seeing: Organism, photos: Path, listed: Path, tmp_path: Path) -> None:
    rendered(tmp_path / "a", {"embedding": range(1)}, recipes(photos, listed))
    listed.write_text("r\ngg\n")
    with pytest.raises(SettingsDiffer, match="texts: words is 'letters@"):
        rendered(tmp_path / "a", {"embedding": range(1)}, recipes(photos, listed))


def test_without_the_text_tower_a_sentence_says_which_file_to_give(
    seeing: Organism, photos: Path, listed: Path, tmp_path: Path
) -> None:
    put(SEEING, {**image_tensors(), "embedding.bias": torch.ones(3)}, None)
    with pytest.raises(WeightsError, match=r"is not here; give the file .* weights seeing_colours --from FILE"):
        rendered(tmp_path / "a", {"embedding": range(1)}, recipes(photos, listed))
    assert not (tmp_path / "a" / schema.MANIFEST).exists()


def test_network_that_knows_no_texts_is_refused(photos: Path, listed: Path, tmp_path: Path) -> None:
    with pytest.raises(LensFailed, match="which efficientnet_lite0 was not trained on; leave --lens texts out"):
        rendered(tmp_path / "a", {"stem": range(1)}, recipes(photos, listed), "efficientnet_lite0")
    assert not (tmp_path / "a" / schema.MANIFEST).exists()


def test_without_responses_units_of_the_embedding_alone_have_texts(
    seeing: Organism, photos: Path, listed: Path, tmp_path: Path
) -> None:
    alone = {"texts": recipes(photos, listed)["texts"]}
    rendered(tmp_path / "a", {"embedding": range(3)}, alone)
    assert rows(tmp_path / "a", "embedding")[0][0]["text"] == "r"
    with pytest.raises(RenderFailed, match=r"no responses of units .0. of seeing_colours/colours; render --lens resp"):
        rendered(tmp_path / "a", {"colours": range(1)}, alone)


def test_text_that_is_too_long_is_refused_before_anything_is_rendered(
    seeing: Organism, photos: Path, listed: Path, tmp_path: Path
) -> None:
    listed.write_text("r\n" + "x" * 100 + "\n")
    with pytest.raises(InvalidSetting, match="has 102 tokens"):
        rendered(tmp_path / "a", {"embedding": range(1)}, recipes(photos, listed))
    assert not (tmp_path / "a").exists()


def test_it_is_rendered_where_it_is_named_alone() -> None:
    assert "texts" in set(LENSES) - set(UNASKED)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a\n\nb\n", "line 2, is blank"),
        (b"a\nb\na\n", "line 3, 'a', stands in line 1 already"),
        (b"Dog\ndog\n", "line 2, 'dog', stands in line 1 already, upper case aside"),
        (b"a\nb\xff\n", "is not UTF-8 in line 2"),
        (b"a\n", "has 1 lines, expected 2 to 100,000"),
        (b"", "has 1 lines"),
        (b"\n".join(b"%d" % at for at in range(100_001)), "has 100,001 lines"),
        (b"a\nb\x07\n", r"line 2, 'b\\x07', has signs that cannot be printed"),
    ],
)
def test_what_is_no_word_list_is_refused_in_a_sentence(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(InvalidSetting, match=reason) as caught:
        words.taken(str(tmp_path / "list.txt"))
    assert "list.txt" in str(caught.value)


@pytest.mark.parametrize("given", ["nowhere.txt", "", "a\0b", "x" * 5000])
def test_word_list_that_is_not_there_is_refused(given: str) -> None:
    with pytest.raises(InvalidSetting, match="cannot be read"):
        changed(lens("texts").recipe("draft"), {"words": given})


def test_word_list_is_known_by_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICROSCOPE_ATLAS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "my@list.txt").write_bytes(b"\xef\xbb\xbfa cat\r\nOwl \r\n")
    name = words.taken(str(tmp_path / "my@list.txt"))
    (tmp_path / "my@list.txt").unlink()
    assert words.NAMED.fullmatch(name)
    assert name.startswith("my_list@")
    assert words.texts(name) == ("a cat", "Owl")
    assert words.taken(name) == name
    words.texts.cache_clear()
    next((tmp_path / "cache" / "words").iterdir()).write_text("other\nwords\n")
    with pytest.raises(InvalidSetting, match=r"has sha256 .* expected"):
        words.texts(name)
    with pytest.raises(InvalidSetting, match="is not on this machine; have its file as"):
        words.texts(f"list@{'0' * 64}")


def test_our_list_holds_some_hundred_texts_in_the_recipe_by_its_hash() -> None:
    name = settings(lens("texts").recipe("draft"))["words"]
    assert name.startswith("default@")
    assert 500 < len(words.texts(name)) < 1000


def test_settings_name_what_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="words is 'animals', expected text, a word list: `default`, or a text file"):
        lens("texts").restored({**settings(lens("texts").recipe("draft")), "words": "animals"})
