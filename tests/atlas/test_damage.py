"""Files of an atlas that something has damaged: `check` names them, and `render` mends them or says what to do."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from microscope_atlas.atlas import schema
from microscope_atlas.publish.card import EDITED
from tests.atlases import LAYER, LENS, MODEL, PICTURES, content
from tests.commands import Commands, Result

SHARD = f"{LENS}/{MODEL}/{LAYER}.00000-00001.parquet"
DIGEST = f"units/{MODEL}/{LAYER}.00000-00002.parquet"
INDEX = schema.index_path(MODEL)
LENSES = f"--lens {LENS} --lens responses --lens units --pictures {PICTURES} --shard-units 1".split()
COMMAND = [*LENSES, *f"--model {MODEL} --layer {LAYER} --units 0:2 --workers 1 --device cpu".split()]


def older(data: bytes) -> bytes:
    return json.dumps({**json.loads(data), "schema": "0"}).encode()


def garbage(data: bytes) -> bytes:
    return (b"\xff\xfe garbage" * len(data))[: len(data)]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "garbage": garbage,
    "flipped in the middle": lambda data: _flipped(data, len(data) // 2),
    "flipped at the end": lambda data: _flipped(data, len(data) - 20),
    "zeros": lambda data: bytes(len(data)),
}
OF_MANIFEST: dict[str, Callable[[bytes], bytes]] = {
    **{f"is {text}": lambda data, text=text: text.encode() for text in ("[]", "{}", "null", "7", '"atlas"')},
    "older": older,
    "unfinished": lambda data: data[:-20],
}


FEW = ("cut", "older")


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


@pytest.fixture(scope="module")
def sound(commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sound") / "atlas"
    assert render(commands, root).status == 0
    return root


def render(commands: Commands, root: Path) -> Result:
    return commands("render", root, *COMMAND)


def assert_no_traceback(*ended: Result) -> None:
    assert not any("Traceback" in each.err + each.out for each in ended)


def _cases() -> list[object]:
    """Each damage to each file; the short run of the tests has some of them."""
    files = (SHARD, DIGEST, INDEX, schema.MANIFEST, schema.CARD, schema.COVER)
    cases = [(file, damage) for file in files for damage in DAMAGES] + [(schema.MANIFEST, each) for each in OF_MANIFEST]
    return [case if case[1] in FEW else pytest.param(*case, marks=pytest.mark.long) for case in cases]


@pytest.mark.parametrize(("file", "damage"), _cases())
def test_damaged_file_is_named_and_mended_as_is_said(
    commands: Commands, sound: Path, tmp_path: Path, file: str, damage: str
) -> None:
    root = Path(shutil.copytree(sound, tmp_path / "atlas"))
    before = content(root)
    damaged = (DAMAGES | OF_MANIFEST)[damage](before[file])
    (root / file).write_bytes(damaged)
    told = commands("check", root)
    assert_no_traceback(told)
    assert told.status == 1
    assert file in told.out
    ended = render(commands, root)
    assert_no_traceback(ended)
    if file == schema.CARD and damaged:  # it may be the owner's work
        assert (root / EDITED).read_bytes() == damaged
        (root / EDITED).unlink()
    if content(root) != before:
        said = told.out if ended.status == 0 else ended.err
        assert file in said
        if "delete it and run render again" in said:
            (root / file).unlink()
        else:
            assert "put it back, or render into another folder" in said or "has schema '0', this version reads" in said
            (root / file).write_bytes(before[file])
        assert render(commands, root).status == 0
    assert content(root) == before
    assert commands("check", root).status == 0


def test_damaged_shard_of_an_atlas_without_its_index_is_named(commands: Commands, sound: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(sound, tmp_path / "atlas"))
    before = content(root)
    (root / INDEX).unlink()
    (root / SHARD).write_bytes(garbage(before[SHARD]))
    ended = render(commands, root)
    assert_no_traceback(ended)
    assert ended.status == 1
    assert f"{root / SHARD} cannot be read: " in ended.err
    assert "delete it and run render again" in ended.err
    (root / SHARD).unlink()
    assert render(commands, root).status == 0
    assert content(root) == before
