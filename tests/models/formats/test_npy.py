"""Dictionaries of arrays as NumPy itself writes them, in each protocol of pickle that it wrote, and what is refused."""

import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from microscope_atlas.errors import WeightsError
from microscope_atlas.models.formats.form import Form, form
from microscope_atlas.models.formats.npy import read_dictionary

KERNEL = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
LAYERS: dict[str, Any] = {
    "conv1": [KERNEL, np.ones(4, ">f4")],  # as bvlc_alexnet.npy has them
    "fc": {"weights": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "biases": np.zeros(3, np.float16)},
}


def saved(path: Path, content: Any, protocol: int | None = None) -> Path:
    """A file as NumPy writes it; with a protocol as its older versions did."""
    if protocol is None:
        np.save(path, content, allow_pickle=True)
        return path
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
    path.write_bytes(file.getvalue() + pickle.dumps(np.array(content, dtype=object), protocol))
    return path


@pytest.mark.parametrize("protocol", [None, 1, 2, 3, 4])
def test_dictionaries_of_arrays_are_read(tmp_path: Path, protocol: int | None) -> None:
    path = saved(tmp_path / "weights.npy", LAYERS, protocol)
    assert form(path) is Form.NPY_DICTIONARY
    found = read_dictionary(path)
    assert list(found) == ["conv1/weights", "conv1/biases", "fc/weights", "fc/biases"]
    assert torch.equal(found["conv1/weights"], torch.from_numpy(KERNEL))
    assert found["conv1/biases"].tolist() == [1, 1, 1, 1]
    assert found["fc/weights"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert all(value.dtype == torch.float32 for value in found.values())


def test_texts_of_python_2_are_bytes(tmp_path: Path) -> None:
    numbers = np.array([1.5, -2.0], "<f4").tobytes()
    made = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
    typed = b"cnumpy\ndtype\n(U\x02f4K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = made + b"(K\x01(K\x02t" + typed + b"K\x00U" + bytes([len(numbers)]) + numbers + b"tb"
    objects = b"cnumpy\ndtype\n(U\x02O8K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb"
    whole = b"\x80\x02" + made + b"(K\x01(t" + objects + b"K\x00(l(d(U\x05conv1(l" + array + b"aua" + b"tb."
    whole = whole.replace(b"(l(d(", b"]}(").replace(b"(l" + made, b"]" + made)
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
    (tmp_path / "old.npy").write_bytes(file.getvalue() + whole)
    assert np.load(tmp_path / "old.npy", allow_pickle=True, encoding="latin1").item().keys() == {
        "conv1"
    }  # so does NumPy
    assert read_dictionary(tmp_path / "old.npy")["conv1/weights"].tolist() == [1.5, -2.0]


class Deed:
    """What asks, when it is unpickled, for a call."""

    def __init__(self, call: Any, *arguments: Any):
        self.asked = (call, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.asked


@pytest.mark.parametrize(
    ("call", "name"),
    [(os.mkdir, "mkdir"), (eval, "eval"), (np.zeros, "zeros"), (np.load, "load"), (getattr, "getattr")],
)
def test_nothing_in_a_pickle_is_run(tmp_path: Path, call: Any, name: str) -> None:
    done = tmp_path / "done"
    arguments = (f"__import__('os').mkdir({str(done)!r})",) if call is eval else (str(done),)
    path = saved(tmp_path / "weights.npy", {"conv1": Deed(call, *arguments)})
    with pytest.raises(WeightsError, match=rf"it asks for \w+.*\b{name}, which is code"):
        read_dictionary(path)
    assert not done.exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (np.zeros(3), "it is an array of '<f8', of no names"),
        ([1, 2], "of no names"),
        ([{}, {}], "it does not hold one object"),
        ({"conv1": 3}, "conv1 is neither a dictionary of arrays nor a list of weights and biases"),
        ({"conv1": [KERNEL] * 3}, "neither"),
        ({"conv1": {"weights": [1.0]}}, "conv1/weights is no array"),
        ({"conv1": [np.array(["a"])]}, "an array is of 'U1', expected numbers"),
        ({"conv1": [np.array([None], object)]}, "array of objects"),
    ],
)
def test_what_is_no_dictionary_of_arrays_is_refused_with_the_reason(tmp_path: Path, content: Any, reason: str) -> None:
    path = tmp_path / "weights.npy"
    np.save(path, content, allow_pickle=True)
    with pytest.raises(WeightsError, match=reason):
        read_dictionary(path)


def test_cut_file_is_refused(tmp_path: Path) -> None:
    whole = saved(tmp_path / "weights.npy", LAYERS).read_bytes()
    for length in (0, 7, 40, 130, len(whole) - 1):
        (tmp_path / "cut.npy").write_bytes(whole[:length])
        with pytest.raises(WeightsError, match="is not read as a dictionary of arrays"):
            read_dictionary(tmp_path / "cut.npy")
