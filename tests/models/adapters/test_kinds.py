"""Every kind of network that a user brings works, or is refused at the door in one sentence."""

import json
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from microscope_atlas import cli
from microscope_atlas.errors import InvalidKey, NetworkFailed, WeightsError
from microscope_atlas.models import weights
from microscope_atlas.models.adapters import own
from tests.models import kinds_of_networks as kinds

# what users' code may call for years to come, or may have called
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")

NAME = "tests.models.kinds_of_networks"


COMPILED = (kinds.compiled, kinds.compiled_inside, kinds.compiled_in_place)  # whose compiler takes seconds to import


@pytest.mark.parametrize(
    "build", [pytest.param(each, marks=pytest.mark.long if each in COMPILED else ()) for each in kinds.WORKS]
)
def test_it_works_and_names_its_layers_as_the_plain_module_does(build: kinds.Build) -> None:
    known = own.organism(f"{NAME}.{build.__name__}")
    network = weights.network(known, weights.load(known))
    pictures = torch.rand(2, 3, known.input_size, known.input_size).contiguous(memory_format=torch.channels_last)
    for name in known.layers:
        assert network(pictures.requires_grad_(True), [name])[0].grad_fn is not None
    if build in (*COMPILED[::2], kinds.data_parallel, kinds.half, kinds.bfloat16):
        assert list(known.layers) == ["conv1", "conv2", "fc"]


@pytest.mark.parametrize("build", kinds.IN_PART)
def test_what_is_not_shown_is_named_with_the_reason(build: kinds.Build) -> None:
    known = own.organism(f"{NAME}.{build.__name__}")
    assert ", ".join(f"{path} {why}" for path, why in known.not_shown.items()) == kinds.IN_PART[build]


@pytest.mark.parametrize("build", kinds.REFUSED)
def test_it_is_refused_in_one_sentence(build: kinds.Build) -> None:
    with pytest.raises(NetworkFailed, match=kinds.REFUSED[build]) as refused:
        own.organism(f"{NAME}.{build.__name__}").layers  # noqa: B018
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith(f"own:{NAME}.{build.__name__}")


def test_weights_that_are_others_at_each_call_are_refused() -> None:
    known = own.organism(f"{NAME}.other_weights_each_time")
    with pytest.raises(WeightsError, match="returned other weights when it was called again; load trained"):
        weights.load(known)


def test_name_that_no_file_system_takes_is_refused() -> None:
    with pytest.raises(InvalidKey, match="up to 200 characters"):
        own.organism(f"{NAME}.{'a' * 200}")


def test_half_holds_the_values_that_it_came_with() -> None:
    known = own.organism(f"{NAME}.half")
    plain = kinds.small().half().conv1.weight.float()
    assert weights.load(known).tensors["conv1.weight"].equal(plain.detach())


def test_list_and_render_tell_what_is_not_shown() -> None:
    name = f"own:{NAME}.with_attention"
    told = CliRunner().invoke(cli.app, ["models", name], catch_exceptions=False).stdout
    assert told.splitlines()[-1] == "1 of 6 modules is not shown: used as a function 1"
    listed = json.loads(CliRunner().invoke(cli.app, ["models", name, "--json"], catch_exceptions=False).stdout)
    assert listed["not_shown"] == [{"module": "attention", "reason": "used as a function"}]


def test_render_tells_what_is_not_shown(tmp_path: Path) -> None:
    words = ["--lens", "connections", "--layer", "conv2", "--units", "0:1", "--workers", "1", "--device", "cpu"]
    command = ["render", str(tmp_path), "--model", f"own:{NAME}.aux_heads", *words]
    told = CliRunner().invoke(cli.app, command, catch_exceptions=False).stdout
    assert "aux_heads: 1 of 4 modules is not shown: not called 1." in told


def test_network_without_layers_ends_the_command_as_a_mistake_of_the_caller(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for words in (["models"], ["render", str(tmp_path / "atlas"), "--model"]):
        monkeypatch.setattr(sys, "argv", ["microscope-atlas", *words, f"own:{NAME}.mixed_tokens"])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        told = capsys.readouterr()
        assert (ended.value.code, told.out) == (2, "")
        assert "has no layer to show: 1 of 1 modules is not shown: tokens whose places are not proven 1" in told.err
    assert not (tmp_path / "atlas").exists()
