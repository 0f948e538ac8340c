"""The whole photo around a sample."""

import io

import numpy as np
import pytest
from PIL import Image

from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.pictures.cuts import NOW, OF_0_1
from microscope_atlas.pictures.own import own_set
from microscope_atlas.pictures.sources import DEFAULT, source
from microscope_space import whole
from microscope_space.html import markup
from microscope_space.pages import unit
from tests.space.test_documents import plain


@pytest.mark.parametrize("revision", [NOW.revision, OF_0_1.revision])
def test_a_part_is_what_the_set_has_under_its_number(revision: str) -> None:
    pictures = own_set(revision)
    for number in (0, 7, len(pictures) - 1):
        part = whole.part(DEFAULT, revision, number)
        assert part
        photo = source(part.photo)
        assert part.size == photo.size
        assert np.array_equal(np.asarray(photo.crop(part.box)), np.asarray(pictures[number]))
    assert whole.part(DEFAULT, revision, len(pictures)) is None


@pytest.mark.parametrize("asked", [("folder", NOW.revision, 0), (DEFAULT, "0" * 64, 0), (DEFAULT, NOW.revision, None)])
def test_of_other_pictures_nothing_whole_is_shown(asked: tuple[str, str, int | None]) -> None:
    assert whole.part(*asked) is None


def test_a_crop_is_in_percent_of_the_photo() -> None:
    part = whole.Part("cat", (100, 50, 300, 250), (400, 500))
    assert part.square == (25, 10, 50, 40)
    assert part.within((0.5, 0.25, 1, 0.75)) == (50, 20, 25, 20)


def test_a_sample_of_ours_leads_to_its_photo_and_names_its_author(known: Atlas) -> None:
    row = {
        "bucket": "top", "rank": 0, "picture": 3, "image": "a.jpg", "activation": 1.0, "left": 0, "top": 0,
        "right": 112, "bottom": 112, "set": DEFAULT, "revision": NOW.revision,
    }  # fmt: skip
    key = unit.Key("efficientnet_lite0", "stem", 0)
    shown = unit.sample(key, row, 224)
    part = whole.part(DEFAULT, NOW.revision, 3)
    assert part and f'data-whole="./photo/{part.photo}?v=' in shown
    assert markup.html('data-credit="{}"', unit.SOURCES[part.photo].credit) in shown
    assert "data-whole" not in unit.sample(key, {**row, "set": "folder"}, 224)


def test_photos_are_those_of_the_package_alone(known: Atlas) -> None:
    with plain(known) as client:
        answer = client.get("/photo/cat")
        assert answer.headers["content-type"] == "image/jpeg"
        assert Image.open(io.BytesIO(answer.content)).size == source("cat").size
        for name in ("none", "photos.json", "..%2fphotos%2fcat"):
            assert client.get(f"/photo/{name}").status_code == 404
