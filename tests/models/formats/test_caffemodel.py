from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microscope_atlas.errors import WeightsError
from microscope_atlas.models.formats.caffemodel import read_caffemodel
from tests.references.caffemodel import caffemodel, field, varint

LAYERS = {
    "conv1/7x7_s2": [np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2), np.array([1, 2], np.float32)],
    "fc": [np.ones((4, 5), np.float32)],
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "some.caffemodel"


def test_blobs_come_back_as_they_were_written(file: Path) -> None:
    file.write_bytes(caffemodel(LAYERS))
    read = read_caffemodel(file)
    assert list(read) == list(LAYERS)
    for name, blobs in LAYERS.items():
        assert [blob.shape for blob in read[name]] == [blob.shape for blob in blobs]
        for found, written in zip(read[name], blobs, strict=True):
            np.testing.assert_array_equal(found, written)


def test_older_form_is_read_too(file: Path) -> None:
    floats = np.arange(6, dtype="<f4")
    sizes = b"".join(varint(number << 3) + varint(size) for number, size in ((1, 1), (2, 1), (3, 2), (4, 3)))
    blob = sizes + field(5, floats.tobytes())
    file.write_bytes(field(1, b"net") + field(2, field(4, b"ip") + field(6, blob)))
    assert read_caffemodel(file)["ip"][0].tolist() == [[[[0, 1, 2], [3, 4, 5]]]]


def test_floats_that_are_not_packed_are_read_too(file: Path) -> None:
    each = b"".join(varint(5 << 3 | 5) + np.float32(x).tobytes() for x in (1.5, -2.0))
    file.write_bytes(field(100, field(1, b"a") + field(7, field(7, field(1, varint(2))) + each)))
    assert read_caffemodel(file)["a"][0].tolist() == [1.5, -2.0]


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9, 0.99])
def test_truncated_file_is_refused_with_the_last_whole_layer(file: Path, kept: float) -> None:
    whole = caffemodel(LAYERS)
    file.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(WeightsError, match=f"{file} is not a whole caffemodel: .* are left"):
        read_caffemodel(file)


def test_text_is_refused(file: Path) -> None:
    file.write_text("layer {\n  name: 'conv1'\n}\n")
    with pytest.raises(WeightsError, match="not a whole caffemodel"):
        read_caffemodel(file)


def test_file_without_weights_is_refused(file: Path) -> None:
    file.write_bytes(field(1, b"a net") + field(100, field(1, b"relu1")))
    with pytest.raises(WeightsError, match="holds no layer with weights"):
        read_caffemodel(file)


def test_blob_whose_shape_and_numbers_disagree_is_refused_by_its_layer(file: Path) -> None:
    blob = field(7, field(1, varint(3) + varint(1000))) + field(5, np.zeros(7, "<f4").tobytes())
    file.write_bytes(field(100, field(1, b"conv9") + field(7, blob)))
    with pytest.raises(WeightsError, match=r"blob 0 of layer 'conv9' is declared \(3, 1000\) but holds 7 numbers"):
        read_caffemodel(file)


def test_announced_length_costs_no_memory(file: Path) -> None:
    file.write_bytes(varint(100 << 3 | 2) + varint(2**62) + b"short")
    with pytest.raises(WeightsError, match="4611686018427387904 bytes are announced"):
        read_caffemodel(file)


@settings(max_examples=300, deadline=None)
@given(at=st.integers(0, 200), value=st.integers(0, 255), cut=st.integers(0, 200))
def test_damaged_file_gives_weights_or_a_weights_error(
    tmp_path_factory: pytest.TempPathFactory, at: int, value: int, cut: int
) -> None:
    content = bytearray(caffemodel(LAYERS))
    content[at % len(content)] = value
    file = tmp_path_factory.getbasetemp() / "damaged.caffemodel"
    file.write_bytes(content[: len(content) - cut % len(content)])
    try:
        read_caffemodel(file)
    except WeightsError as error:
        assert str(file) in str(error)
