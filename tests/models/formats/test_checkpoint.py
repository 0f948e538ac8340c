"""TensorFlow's checkpoints: one that TensorFlow wrote is read as it is, damaged ones are refused."""

import shutil
import tarfile
from pathlib import Path

import pytest
import torch

from microscope_atlas.errors import WeightsError
from microscope_atlas.models.architectures import slim
from microscope_atlas.models.formats.checkpoint import read_checkpoint
from microscope_atlas.models.formats.form import Form, form
from tests.references.slim.shared_weights import FOLDER

ARCHIVE = FOLDER / "checkpoint.tar.gz"  # written by TensorFlow, see make_checkpoint.py


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    with tarfile.open(ARCHIVE) as archive:
        content = archive.extractfile("net.ckpt")
        assert content is not None
        (tmp_path / "net.ckpt").write_bytes(content.read())
    return tmp_path / "net.ckpt"


def test_variables_are_what_tensorflow_saved() -> None:
    found = read_checkpoint(ARCHIVE)
    assert torch.equal(found["Net/conv/weights"], torch.arange(120.0).reshape(3, 5, 2, 4) / 7)
    assert torch.equal(found["Net/conv/BatchNorm/beta"], torch.tensor([1.5, -2, 0, 1e-8]))
    assert torch.equal(found["Net/scalar"], torch.tensor(0.25))
    assert torch.equal(found["Net/stripes"], torch.arange(7.0).repeat(10001))


def test_numbers_that_are_no_weights_are_left_out() -> None:
    assert "global_step" not in read_checkpoint(ARCHIVE)


def test_bare_checkpoint_reads_as_the_archived_one(bare: Path) -> None:
    archived = read_checkpoint(ARCHIVE)
    found = read_checkpoint(bare)
    assert list(found) == list(archived)
    assert all(torch.equal(found[name], archived[name]) for name in found)


BUNDLE = FOLDER / "bundle.tar.gz"  # of the second version, by the same script


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """The folder of an unpacked one."""
    folder = tmp_path / "bundle"
    with tarfile.open(BUNDLE) as archive:
        archive.extractall(folder, filter="data")
    return folder


def test_second_version_holds_the_same_and_half_and_double_numbers(bare: Path) -> None:
    found = read_checkpoint(BUNDLE)
    assert found.pop("Net/half").tolist() == [0.5, -3]
    assert found.pop("Net/double").tolist() == [0.25, 1e3]
    first = read_checkpoint(bare)
    assert found.keys() == first.keys()
    assert all(torch.equal(found[name], first[name]) for name in first)


@pytest.mark.parametrize("name", ["model.ckpt-7.index", "model.ckpt-7", "model.ckpt-7.data-00000-of-00001"])
def test_second_version_is_found_by_any_of_its_names(bundle: Path, name: str) -> None:
    assert form(bundle / name) is Form.CHECKPOINT
    assert len(read_checkpoint(bundle / name)) == 6


def test_saved_model_is_read_by_its_folder(bundle: Path, tmp_path: Path) -> None:
    variables = tmp_path / "saved" / "variables"
    variables.mkdir(parents=True)
    for file in bundle.iterdir():
        shutil.copy(file, variables / file.name.replace("model.ckpt-7", "variables"))
    assert form(tmp_path / "saved") is Form.CHECKPOINT
    assert len(read_checkpoint(tmp_path / "saved")) == 6


def test_index_without_its_data_says_which_file_is_missing(bundle: Path) -> None:
    (bundle / "model.ckpt-7.data-00000-of-00001").unlink()
    with pytest.raises(WeightsError, match=r"lie in model\.ckpt-7\.data-00000-of-00001, which is not beside it"):
        read_checkpoint(bundle / "model.ckpt-7.index")


def test_cut_data_is_refused(bundle: Path) -> None:
    data = bundle / "model.ckpt-7.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-1000])
    with pytest.raises(WeightsError, match="is said to lie at byte"):
        read_checkpoint(bundle / "model.ckpt-7")


@pytest.mark.parametrize("name", ["net.tgz", "net", "net.tar"])
def test_archives_are_read_whatever_they_are_called(tmp_path: Path, bare: Path, name: str) -> None:
    with tarfile.open(tmp_path / name, "w" if name.endswith("tar") else "w:gz") as archive:
        archive.add(bare, "folder/net.ckpt")
    assert form(tmp_path / name) is Form.CHECKPOINT
    assert len(read_checkpoint(tmp_path / name)) == 4


def test_published_checkpoint_comes_under_the_graphs_names() -> None:
    found = slim.read_published_checkpoint(ARCHIVE)
    assert {name: tuple(value.shape) for name, value in found.items()} == {
        "Net/conv.weight": (4, 2, 3, 5),
        "Net/conv/BatchNorm.bias": (4,),
    }


@pytest.mark.parametrize("part", [0.0, 0.3, 0.9, 0.999])
def test_cut_archive_is_refused_by_name(tmp_path: Path, part: float) -> None:
    cut = tmp_path / "cut.tar.gz"
    content = ARCHIVE.read_bytes()
    cut.write_bytes(content[: int(part * len(content))])
    with pytest.raises(WeightsError, match="cut"):
        read_checkpoint(cut)


def test_cut_checkpoint_is_refused_by_name(bare: Path) -> None:
    bare.write_bytes(bare.read_bytes()[:-1])
    with pytest.raises(WeightsError, match="does not end as a table does"):
        read_checkpoint(bare)


def test_damaged_checkpoint_is_refused_or_read_but_never_crashes(bare: Path) -> None:
    whole = bare.read_bytes()
    generator = torch.Generator().manual_seed(0)
    refused = 0
    for at in [*range(-300, 0), *torch.randint(0, 1000, (200,), generator=generator).tolist()]:
        damaged = bytearray(whole)
        damaged[at] ^= 0xFF
        bare.write_bytes(damaged)
        try:
            read_checkpoint(bare)
        except WeightsError:
            refused += 1
    assert refused > 100


def test_archive_without_a_checkpoint_is_refused(tmp_path: Path, bare: Path) -> None:
    other = tmp_path / "other.tar.gz"
    with tarfile.open(other, "w:gz") as archive:
        archive.add(bare, "readme")
    with pytest.raises(WeightsError, match=r"has no \.ckpt in it"):
        read_checkpoint(other)
    with tarfile.open(other, "w:gz") as archive:
        archive.add(bare, "net.ckpt.data-00000-of-00001")
    with pytest.raises(WeightsError, match=r"no \.index beside it"):
        read_checkpoint(other)
