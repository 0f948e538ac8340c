"""Readers, on files that the libraries themselves wrote: tests/references/make_dictionaries.py."""

import hashlib
import json
import pickle
import shutil
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from microscope_atlas.errors import DictionaryFailed
from microscope_atlas.models.dictionaries.dictionary import Dictionary, Encoder
from microscope_atlas.models.dictionaries.reading import read

WRITTEN = Path(__file__).parents[2] / "references" / "dictionaries"
CODES = load_file(WRITTEN / "codes.safetensors")
INPUTS = CODES.pop("inputs")


def encoded(dictionary: Dictionary) -> torch.Tensor:
    """(places, units)."""
    return Encoder(dictionary)(INPUTS)


def test_files_are_those_that_were_written() -> None:
    index = json.loads((WRITTEN / "index.json").read_text())
    for name, sha256 in index["sha256"].items():
        assert hashlib.sha256((WRITTEN / name).read_bytes()).hexdigest() == sha256, name


@pytest.mark.parametrize("name", CODES)
def test_codes_are_the_librarys(name: str) -> None:
    found = encoded(read(WRITTEN / name))
    assert torch.allclose(found, CODES[name], atol=1e-6, rtol=1e-5)
    assert 0 < (CODES[name] != 0).float().mean() < 1


@pytest.mark.parametrize("name", CODES)
def test_one_unit_of_each_place_equals_all(name: str) -> None:
    dictionary = read(WRITTEN / name)
    units = torch.arange(len(INPUTS)) * 2
    own = Encoder(dictionary)(INPUTS, units)
    assert torch.allclose(own[:, 0], CODES[name][torch.arange(len(INPUTS)), units], atol=1e-6, rtol=1e-5)


def test_maps_are_encoded_place_by_place() -> None:
    encoder = Encoder(read(WRITTEN / "saelens_topk"))
    maps = INPUTS.view(2, 5, 1, 6).permute(0, 3, 1, 2)
    assert encoder(maps).shape == (2, 24, 5, 1)
    assert torch.allclose(encoder(maps).permute(0, 2, 3, 1).flatten(0, 2), CODES["saelens_topk"], atol=1e-6)


def test_what_a_file_says_of_itself_is_kept() -> None:
    assert read(WRITTEN / "saelens_standard").says == {"network": "tiny", "layer": "blocks.1.hook_mlp_out"}


def test_the_same_numbers_are_the_same_dictionary_in_any_file(tmp_path: Path) -> None:
    matrix = torch.randn(5, 4)
    np.save(tmp_path / "a.npy", matrix.numpy())
    save_file({"any": matrix}, tmp_path / "b.safetensors")
    found = [read(tmp_path / name) for name in ("a.npy", "b.safetensors")]
    assert found[0].sha256 == found[1].sha256
    assert found[0].sha256 != Dictionary(matrix, "relu").sha256


def state(**changes: torch.Tensor) -> dict[str, torch.Tensor]:
    stream = torch.Generator().manual_seed(0)
    shapes = {"W_enc": (6, 24), "b_enc": (24,), "W_dec": (24, 6), "b_dec": (6,)}
    return {name: torch.randn(shape, generator=stream) for name, shape in shapes.items()} | changes


def saev(path: Path, header: object, tensors: dict[str, torch.Tensor]) -> Path:
    with path.open("wb") as file:
        file.write(json.dumps(header).encode() + b"\n")
        torch.save(tensors, file)
    return path


def test_every_header_of_saev_is_read(tmp_path: Path) -> None:
    """Settings alone and schema 1 take the decoder's bias from the input; what came later does not."""
    old = {"d_vit": 6, "exp_factor": 4}
    new = {"d_model": 6, "d_sae": 24, "activation": {"cls": "Relu", "params": {}}}
    found = [
        read(saev(tmp_path / f"{number}.pt", header, state()))
        for number, header in enumerate(
            (old, {"schema": 1, "cls": "Relu", "cfg": old}, {"schema": 1, "cls": "SparseAutoencoderConfig", "cfg": new},
             {"schema": 2, "cfg": new}, {"schema": 5, "cfg": new})
        )
    ]  # fmt: skip
    assert [each.shift is not None for each in found] == [True, True, False, False, False]
    plain = state()
    expected = (INPUTS @ plain["W_enc"] + plain["b_enc"]).relu()
    assert torch.allclose(encoded(found[4]), expected, atol=1e-6)


def test_topk_of_saev_keeps_what_is_below_zero(tmp_path: Path) -> None:
    header = {"schema": 5, "cfg": {"activation": {"cls": "TopK", "params": {"top_k": 20}}}}
    found = encoded(read(saev(tmp_path / "a.pt", header, state())))
    assert ((found != 0).sum(1) == 20).all()
    assert (found < 0).any()


def test_batch_topk_is_applied_by_its_threshold(tmp_path: Path) -> None:
    header = {"schema": 5, "cfg": {"activation": {"cls": "BatchTopK", "params": {"top_k": 3}}}}
    found = encoded(read(saev(tmp_path / "a.pt", header, state(**{"activation.threshold": torch.tensor(1.5)}))))
    assert found[found != 0].min() > 1.5
    with pytest.raises(DictionaryFailed, match="no threshold to be applied by at inference"):
        read(saev(tmp_path / "b.pt", header, state()))
    with pytest.raises(DictionaryFailed, match="does not say how it is rectified"):
        read(WRITTEN / "overcomplete_batchtopk.pt")


class Settings:
    """As Prisma's pickle holds them."""

    def __init__(self) -> None:
        self.architecture, self.activation_fn_str = "standard", "relu"
        self.model_name, self.hook_point_layer, self.layer_subtype = "tiny", 1, "hook_mlp_out"
        self.cls_token_only, self.normalize_activations = True, "layer_norm"


def test_settings_in_a_pickle_of_prisma_are_read_without_their_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys
    from types import ModuleType

    module = ModuleType("vit_prisma.sae.config")
    for name in ("vit_prisma", "vit_prisma.sae", "vit_prisma.sae.config"):
        monkeypatch.setitem(sys.modules, name, module)
    named = type("VisionModelSAERunnerConfig", (Settings,), {"__module__": "vit_prisma.sae.config"})
    module.VisionModelSAERunnerConfig = named  # type: ignore[attr-defined]
    torch.save({"cfg": named(), "state_dict": state()}, tmp_path / "weights.pt")
    monkeypatch.delitem(sys.modules, "vit_prisma.sae.config")
    found = read(tmp_path / "weights.pt")
    assert found.says == {"network": "tiny", "layer": "blocks.1.hook_mlp_out", "tokens": "class"}
    assert (found.treatment, found.activation) == ("layer_norm", "relu")
    torch.save(OrderedDict(state()), tmp_path / "apart.pt")
    shutil.copy(tmp_path / "apart.pt", tmp_path / "weights.pt")
    (tmp_path / "config.json").write_text(json.dumps(vars(Settings())))
    assert read(tmp_path / "weights.pt").sha256 == found.sha256


class Code:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("run",)


def damaged(folder: Path, kind: str) -> Path:
    path = folder / "file.pt"
    match kind:
        case "code":
            torch.save({"cfg": Code(), "state_dict": state()}, path)
        case "code in npy":
            path = folder / "file.npy"
            np.save(path, np.array([Code()], dtype=object), allow_pickle=True)
        case "plain pickle":
            path.write_bytes(pickle.dumps({"cfg": Code()}))
        case "cut":
            torch.save(state(), path)
            path.write_bytes(path.read_bytes()[:-200])
        case "empty":
            path.write_bytes(b"")
        case "other ending":
            path = folder / "file.txt"
            path.write_text("1 2 3")
        case "absent":
            path = folder / "absent.npy"
        case "empty folder":
            path = folder
        case "axes":
            path = folder / "file.npy"
            np.save(path, np.zeros((2, 3, 4)))
        case "complex":
            path = folder / "file.safetensors"
            save_file({"rows": torch.ones(2, 3, dtype=torch.complex64)}, path)
        case "beyond float32":
            path = folder / "file.npy"
            np.save(path, np.full((2, 3), 1e39))
        case "nan":
            path = folder / "file.npy"
            np.save(path, np.full((2, 3), np.nan))
        case "saev activation":
            saev(path, {"schema": 5, "cfg": {"activation": {"cls": "Gelu", "params": {}}}}, state())
        case "saev schema":
            saev(path, {"schema": 9, "cfg": {}}, state())
        case "saev infinite":
            saev(path, {"d_vit": 6}, state(b_enc=torch.full((24,), torch.inf)))
        case _:
            path = folder / "sae"
            shutil.copytree(WRITTEN / "saelens_standard", path)
            config = json.loads((path / "cfg.json").read_text())
            changes = {"saelens gated": {"architecture": "gated"}, "saelens scaled": {"normalize_activations": "other"}}
            if kind == "saelens settings":
                (path / "cfg.json").write_text("[")
            elif kind == "saelens weights":
                (path / "sae_weights.safetensors").write_bytes(b"x")
            else:
                (path / "cfg.json").write_text(json.dumps(config | changes[kind]))
    return path


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("code", "nothing in it was run"),
        ("code in npy", "no array of numbers"),
        ("plain pickle", "nothing in it was run"),
        ("cut", "damaged"),
        ("empty", "damaged"),
        ("other ending", "expected a folder of SAELens"),
        ("absent", "no such file"),
        ("empty folder", "0 files"),
        ("axes", "expected \\(units, width\\)"),
        ("nan", "not finite"),
        ("complex", "no matrix of numbers, but of complex64"),
        ("beyond float32", "not finite in float32"),
        ("saev activation", "'Gelu', expected Relu"),
        ("saev schema", "schema is 9"),
        ("saev infinite", "bias holds values that are not finite"),
        ("saelens gated", "'gated'"),
        ("saelens scaled", "scaled by 'other'"),
        ("saelens settings", "cfg.json cannot be read"),
        ("saelens weights", "whole safetensors"),
    ],
)
def test_what_is_no_dictionary_is_refused_in_a_sentence(
    kind: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = damaged(tmp_path, kind)
    with pytest.raises(DictionaryFailed, match=told) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "run\n" not in capsys.readouterr().out
