"""Files that lack layers, and names of classes that do not ship: what this machine has decides what a network shows."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from microscope_atlas.cli import app
from microscope_atlas.errors import UnknownName, WeightsError
from microscope_atlas.models import at_hand, converted, weights
from microscope_atlas.models.architectures import slim
from microscope_atlas.models.architectures.alexnet import ALEXNET, NODES
from microscope_atlas.models.architectures.googlenet_caffe import INCEPTIONV1_CAFFE, INCEPTIONV1_CAFFE_PLACES365
from microscope_atlas.models.architectures.inceptionv1 import INCEPTIONV1
from microscope_atlas.models.architectures.inceptionv3_slim import INCEPTIONV3_SLIM
from microscope_atlas.models.architectures.inceptionv4_slim import INCEPTIONV4_SLIM
from microscope_atlas.models.catalog import organism
from microscope_atlas.models.organism import Organism
from microscope_atlas.run.plan import select
from tests.models.test_weights import GOOGLENET, blobs
from tests.references.caffemodel import caffemodel

NAMES = json.loads((Path(__file__).parents[1] / "references" / "state_dicts.json").read_text())
HEADS = ("head0_bottleneck", "nn0", "softmax0", "head1_bottleneck", "nn1", "softmax1")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MICROSCOPE_ATLAS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def published(name: str) -> dict[str, torch.Tensor]:
    """Tensors as a library has them, norms that do not scale and blanks."""
    return {
        key: torch.ones(shape) if len(shape) < 2 else torch.empty(shape, device="meta")
        for key, shape in NAMES[name].items()
    }


@pytest.mark.parametrize(
    ("known", "name", "left_out"),
    [
        (INCEPTIONV3_SLIM, "inception_v3", ("Logits",)),
        (INCEPTIONV4_SLIM, "inception_v4", ("Logits",)),
        (INCEPTIONV1, "inception5h", HEADS),
    ],
)
def test_names_of_others_files_are_those_of_our_networks_but_for_what_they_lack(
    known: Organism, name: str, left_out: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = next(source for source in known.sources if getattr(source, "lacks", None))
    module = "inceptionv1" if known is INCEPTIONV1 else "slim"
    monkeypatch.setattr(f"microscope_atlas.models.architectures.{module}.read_tensors", lambda _: published(name))
    found = source.read(Path(name))  # type: ignore[union-attr]
    wants = converted.expected(known.blank())
    assert at_hand.lacking(known, found, wants) == left_out
    rest = converted.expected(at_hand.without(known, left_out).blank())
    assert {key: value.shape for key, value in rest.items()} == {key: value.shape for key, value in found.items()}


def test_weights_of_another_training_of_timms_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    given = published("inception_v3")
    given["Mixed_5b.branch1x1.bn.weight"] = torch.full((64,), 1.1)
    monkeypatch.setattr(slim, "read_tensors", lambda _: given)
    with pytest.raises(WeightsError, match=r"Mixed_5b\.branch1x1\.bn scales.* another training"):
        INCEPTIONV3_SLIM.sources[-1].read(Path("inception_v3"))  # type: ignore[union-attr]


@pytest.fixture
def headless(tmp_path: Path) -> Path:
    """A file of the BVLC GoogLeNet without its logits."""
    path = tmp_path / "headless.caffemodel"
    path.write_bytes(caffemodel(blobs({k: v for k, v in GOOGLENET.items() if not k.startswith("loss3")})))
    return path


def test_file_that_lacks_layers_is_taken_where_that_is_agreed_to(headless: Path) -> None:
    with pytest.raises(
        WeightsError, match=r"no loss3/classifier\.weight, .* and so no layer loss3_classifier\. --partial"
    ):
        weights.take(INCEPTIONV1_CAFFE, headless)
    assert organism("inceptionv1_caffe").lacking == ()
    taken = weights.take(INCEPTIONV1_CAFFE, headless, partial=True)
    assert taken.provenance.source == "headless.caffemodel, without loss3_classifier"
    known = organism("inceptionv1_caffe")
    assert known.lacking == taken.lacking == ("loss3_classifier",)
    assert weights.load(known).sha256 == taken.sha256
    assert [*known.layers] == [name for name in INCEPTIONV1_CAFFE.layers if name != "loss3_classifier"]
    assert "loss3_classifier" not in select(known, (), None)
    with pytest.raises(UnknownName, match=r"'loss3_classifier' is not in the weights .* that are at hand"):
        select(known, ("loss3_classifier",), None)


def test_what_is_left_is_what_it_is_in_the_whole_network(headless: Path) -> None:
    taken = weights.take(INCEPTIONV1_CAFFE, headless, partial=True)
    part = weights.network(organism("inceptionv1_caffe"), taken)
    whole = weights.network(INCEPTIONV1_CAFFE, weights.random(INCEPTIONV1_CAFFE))
    picture = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(part(picture, ["inception_4c"])[0], whole(picture, ["inception_4c"])[0])


def test_a_whole_file_brings_the_layers_back(headless: Path, tmp_path: Path) -> None:
    weights.take(INCEPTIONV1_CAFFE, headless, partial=True)
    (tmp_path / "whole").write_bytes(caffemodel(blobs(GOOGLENET)))
    assert weights.take(INCEPTIONV1_CAFFE, tmp_path / "whole", partial=True).lacking == ()
    assert organism("inceptionv1_caffe") is INCEPTIONV1_CAFFE


def test_a_file_that_lacks_the_first_layer_is_refused(tmp_path: Path) -> None:
    rest = {name: value for name, value in GOOGLENET.items() if not name.startswith("conv1")}
    (tmp_path / "rest").write_bytes(caffemodel(blobs(rest)))
    with pytest.raises(WeightsError, match=r"it has no conv1/7x7_s2\.weight"):
        weights.take(INCEPTIONV1_CAFFE, tmp_path / "rest", partial=True)


def test_names_of_classes_come_from_a_file(tmp_path: Path) -> None:
    assert organism("inceptionv1_caffe_places365").classes is None
    (tmp_path / "places.txt").write_text("".join(f"/p/place_{n}/indoor {n}\n" for n in range(365)))
    names = at_hand.names_in(tmp_path / "places.txt")
    at_hand.take_names(INCEPTIONV1_CAFFE_PLACES365, names, "places.txt")
    known = organism("inceptionv1_caffe_places365")
    assert known.classes is not None and known.classes[7] == "place 7, indoor"
    assert known.logits == "loss3_classifier"


@pytest.mark.parametrize("count", [0, 364, 366])
def test_names_that_are_no_logits_each_are_refused(count: int) -> None:
    with pytest.raises(WeightsError, match=f"has {count} names of classes; inceptionv1_caffe_places365 has 365"):
        at_hand.take_names(INCEPTIONV1_CAFFE_PLACES365, ["place"] * count, "places.txt")


def test_names_within_the_published_archive_are_kept_with_its_weights(tmp_path: Path) -> None:
    archive = tmp_path / "inception5h.zip"
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("imagenet_comp_graph_label_strings.txt", "\n".join(["dummy", *(f"c{n}" for n in range(1000))]))
    names = at_hand.names_within(archive, str(INCEPTIONV1.classes_in))
    assert names is not None
    at_hand.take_names(INCEPTIONV1, names, "inception5h.zip")
    found = organism("inceptionv1").classes
    assert found is not None and len(found) == 1008
    assert (found[0], found[1000], found[1007]) == ("dummy", "c999", at_hand.SPARE)
    assert organism("inceptionv1").logits == "softmax2"


def test_command_says_what_is_left_out_and_whose_names_are_not_known(headless: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke
    told = run(app, ["weights", "inceptionv1_caffe", "--from", str(headless), "--partial"])
    assert told.exit_code == 0, told.output
    assert "without the layers loss3_classifier, which it does not have" in told.output
    refused = run(app, ["weights", "inceptionv1_caffe", "--partial"])
    assert isinstance(refused.exception, UnknownName)


@pytest.mark.long  # 240 MB
def test_arrays_of_caffe_tensorflow_fit_alexnet(tmp_path: Path) -> None:
    random = weights.random(ALEXNET)
    layers = {}
    for layer in ALEXNET.layers:
        node = NODES.get(layer, layer)
        kernel, bias = random.tensors[f"{node}.weight"], random.tensors[f"{node}.bias"]
        if kernel.dim() == 4:
            kernel = kernel.permute(2, 3, 1, 0)
        elif layer == "fc6":
            kernel = kernel.reshape(4096, 256, 6, 6).permute(2, 3, 1, 0).reshape(9216, 4096)
        else:
            kernel = kernel.T
        layers[layer] = [kernel.numpy(), bias.numpy()]
    np.save(tmp_path / "bvlc_alexnet.npy", layers, allow_pickle=True)  # type: ignore[arg-type]
    assert weights.take(ALEXNET, tmp_path / "bvlc_alexnet.npy").sha256 == random.sha256
