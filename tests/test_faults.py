"""Whatever ends a run, running it again leaves the atlas as if nothing had happened."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from microscope_atlas.atlas import schema
from tests.atlases import LAYER, LENS, MODEL, content, rows
from tests.commands import Command, Commands, Result

EVENTS = 45  # more than there are touches of the atlas in the run that is killed before each


def by_tier(count: int, first: int, every: int) -> list[object]:
    """Numbers below `count`: `first` for the short run of the tests, `every` so many for the long one, all by hand."""
    tier = {
        number: pytest.mark.long if number % every == first % every else pytest.mark.hours for number in range(count)
    }
    return [number if number == first else pytest.param(number, marks=tier[number]) for number in range(count)]


def command(root: Path, units: str = "0:3", workers: int = 1) -> list[str]:
    one = f"--model {MODEL} --layer {LAYER} --units {units} --shard-units 1 --workers {workers} --device cpu"
    return ["render", str(root), "--lens", LENS, *one.split()]


@pytest.fixture(scope="module")
def undisturbed(commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("undisturbed") / "atlas"
    assert commands(*command(root)).status == 0
    return root


def until(met: Callable[[], object], started: Command, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end, started.err
        time.sleep(0.01)


def first_shard(root: Path, number: int = 0) -> Path:
    return root / f"feature_visualization/{MODEL}/{LAYER}.{number:05}-{number + 1:05}.parquet"


def assert_whole(commands: Commands, root: Path, undisturbed: Path) -> None:
    """The atlas checks, and is the undisturbed one byte for byte."""
    assert commands("check", root).status == 0
    assert rows(root) == rows(undisturbed)
    assert content(root) == content(undisturbed)


def assert_completed(commands: Commands, root: Path, undisturbed: Path) -> None:
    """The same command makes what is missing, keeps what is there, and leaves the atlas whole."""
    there = content(root)
    ended = commands(*command(root))
    assert ended.status == 0, ended.err
    assert_whole(commands, root, undisturbed)
    now = content(root)
    assert all(now[path] == data for path, data in there.items() if path.startswith(LENS) and path in now)


@pytest.fixture(scope="module")
def one_unit(commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("one") / "atlas"
    assert commands(*command(root, "0:1")).status == 0
    return root


@pytest.mark.parametrize("event", by_tier(EVENTS, first=3, every=5))
def test_killed_before_each_touch_of_the_atlas(commands: Commands, one_unit: Path, tmp_path: Path, event: int) -> None:
    root = tmp_path / "atlas"
    killed = commands.wait(commands.start(*command(root, "0:1"), die_at_event=event + 1))
    if killed.status == 0:
        assert event > EVENTS // 2  # or next to nothing was put to the test
        return
    assert event < EVENTS - 1  # or there are more touches than that
    assert killed.status == -signal.SIGKILL
    ended = commands(*command(root, "0:1"))
    assert ended.status == 0, ended.err
    assert content(root) == content(one_unit)


def assert_stopped(ended: Result, by: signal.Signals) -> None:
    assert ended.status == 128 + by
    assert f"Stopped by {by.name}" in ended.err
    assert "the same command goes on from there" in ended.err
    assert "Traceback" not in ended.err


def assert_gone(started: Command) -> None:
    """No process of its group lives on."""
    with suppress(ProcessLookupError):
        until(lambda: os.killpg(started.pid, 0), started, seconds=5)  # raises once the group is empty


@pytest.mark.parametrize(
    ("by", "workers"),
    [
        (signal.SIGTERM, 1),
        pytest.param(signal.SIGINT, 2, marks=pytest.mark.long),
        pytest.param(signal.SIGINT, 1, marks=pytest.mark.long),
        pytest.param(signal.SIGTERM, 2, marks=pytest.mark.long),
    ],
)
def test_stopped_run_says_how_to_go_on(
    commands: Commands, undisturbed: Path, tmp_path: Path, by: signal.Signals, workers: int
) -> None:
    root = tmp_path / "atlas"
    started = commands.start(*command(root, workers=workers))
    until(first_shard(root).exists, started)
    os.killpg(started.pid, by)
    assert_stopped(commands.wait(started), by)
    assert_gone(started)
    assert not list(root.rglob("*.part"))
    assert_completed(commands, root, undisturbed)


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2])
def test_stopped_again_and_again_it_ends_as_if_stopped_once(
    commands: Commands, undisturbed: Path, tmp_path: Path, workers: int
) -> None:
    root = tmp_path / "atlas"
    started = commands.start(*command(root, workers=workers))
    until(first_shard(root).exists, started)
    with suppress(ProcessLookupError):
        for again in range(200):
            os.killpg(started.pid, signal.SIGTERM if again else signal.SIGINT)
            time.sleep(0.002)
    assert_stopped(commands.wait(started), signal.SIGINT)
    assert_completed(commands, root, undisturbed)


def test_interrupt_while_workers_start_leaves_neither_traces_nor_workers(commands: Commands, tmp_path: Path) -> None:
    root = tmp_path / "atlas"
    started = commands.start(*command(root, "0:2", workers=2))
    until((root / "atlas.json").exists, started)
    time.sleep(0.5)  # workers take longer than this to import PyTorch
    os.killpg(started.pid, signal.SIGINT)
    assert_stopped(commands.wait(started), signal.SIGINT)
    assert_gone(started)


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_stopped_while_weights_are_loaded(commands: Commands, tmp_path: Path, by: signal.Signals) -> None:
    root, loading = tmp_path / "atlas", tmp_path / "loading"
    slow = ["render", root, "--model", "own:tests.models.own_networks.slow", "--lens", LENS]
    started = commands.start(*slow, environment={"LOADING": str(loading)})
    until(loading.exists, started)
    os.killpg(started.pid, by)
    assert_stopped(commands.wait(started), by)
    assert not root.exists()


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A file system in memory."""
    folder.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder]).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


SIZE = 192 * 1024  # bytes of the small disk


def fill(disk: Path, room: int) -> None:
    """Leave so many bytes free."""
    (disk / "ballast").write_bytes(bytes(max(0, shutil.disk_usage(disk).free - room)))


@pytest.fixture
def small_disk(undisturbed: Path, tmp_path: Path) -> Iterator[Path]:
    """A file system with room for the manifest, the card and one shard and a half."""
    with mounted(tmp_path / "disk", f"size={SIZE}") as disk:
        fill(disk, 4 * 4096 + first_shard(undisturbed).stat().st_size * 3 // 2)
        yield disk


def assert_complains(ended: Result, *about: str) -> None:
    assert ended.status == 1
    assert all(words in ended.err for words in about), ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.long)])
def test_full_disk_stops_the_run_and_keeps_what_was_finished(
    commands: Commands, undisturbed: Path, small_disk: Path, workers: int
) -> None:
    root = small_disk / "atlas"
    ended = commands(*command(root, workers=workers))
    assert_complains(
        ended, str(root), "No space left on device (", f"of {SIZE:,} bytes are free)", "goes on from there"
    )
    assert "shards failed" not in ended.err  # it does not try the others
    there = [number for number in range(3) if first_shard(root, number).exists()]
    assert 0 < len(there) < 3
    assert all(first_shard(root, at).read_bytes() == first_shard(undisturbed, at).read_bytes() for at in there)
    assert not list(root.rglob("*.part"))
    (small_disk / "ballast").unlink()
    assert_completed(commands, root, undisturbed)


def test_manifest_survives_a_full_disk(commands: Commands, undisturbed: Path, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", f"size={SIZE}") as disk:
        root = disk / "atlas"
        assert commands(*command(root, "0:1")).status == 0
        fill(disk, 0)
        before, manifest = content(root), root / schema.MANIFEST
        assert_complains(commands(*command(root)), f"{manifest} cannot be written: No space left on device")
        assert content(root) == before
        assert commands("check", root).status == 0
        (disk / "ballast").unlink()
        assert_completed(commands, root, undisturbed)


def test_file_that_cannot_be_written_is_named(commands: Commands, undisturbed: Path, tmp_path: Path) -> None:
    root = tmp_path / "atlas"
    ended = commands.wait(commands.start(*command(root), file_limit=4000))  # enough for the manifest, not for a shard
    assert_complains(ended, "File too large")
    assert not list(root.rglob("*.parquet*"))
    assert_completed(commands, root, undisturbed)


def test_folder_that_cannot_be_made_is_named(commands: Commands, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert_complains(commands(*command(tmp_path / "file" / "atlas")), str(tmp_path / "file"))


@contextmanager
def closed(folder: Path) -> Iterator[str]:
    """A folder that nothing can be put into; what it answers. Root may write anywhere but where the kernel forbids."""
    if os.geteuid():
        folder.chmod(0o500)
    elif subprocess.run(["chattr", "+i", folder], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("root writes to any folder, and this file system has no immutable ones")
    try:
        yield "Permission denied" if os.geteuid() else "Operation not permitted"
    finally:
        if os.geteuid():
            folder.chmod(0o700)
        else:
            subprocess.run(["chattr", "-i", folder], check=True)


def test_closed_folder_is_named_at_once(commands: Commands, undisturbed: Path, tmp_path: Path) -> None:
    root = tmp_path / "atlas"
    with closed(tmp_path) as answer:
        assert_complains(commands(*command(root)), f"{root} cannot be written: {answer}", "goes on from there")
    assert_completed(commands, root, undisturbed)


def test_atlas_closed_in_the_middle_of_a_run_is_named_at_once(
    commands: Commands, undisturbed: Path, tmp_path: Path
) -> None:
    root = tmp_path / "atlas"
    assert commands(*command(root, "0:1")).status == 0
    with closed(first_shard(root).parent) as answer:
        ended = commands(*command(root))
    assert_complains(ended, f"{first_shard(root, 1)} cannot be written: {answer}", "goes on from there")
    assert "shards failed" not in ended.err
    assert_completed(commands, root, undisturbed)


def test_read_only_disk_is_named_at_once(commands: Commands, tmp_path: Path) -> None:
    with mounted(tmp_path / "folder", "ro") as folder:
        ended = commands(*command(folder / "atlas"))
    assert_complains(ended, f"{folder / 'atlas'} cannot be written: Read-only file system")


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2])
def test_atlas_that_is_moved_while_a_run_goes_on_is_told_of_and_goes_on_where_it_is(
    commands: Commands, undisturbed: Path, tmp_path: Path, workers: int
) -> None:
    root, elsewhere = tmp_path / "atlas", tmp_path / "elsewhere"
    started = commands.start(*command(root, workers=workers))
    until(first_shard(root).exists, started)
    root.rename(elsewhere)
    assert_complains(commands.wait(started), f"{root} was moved, or removed", "the same command goes on there")
    assert not root.exists()
    assert_completed(commands, elsewhere, undisturbed)


@pytest.mark.long
def test_of_five_runs_at_once_one_works(commands: Commands, undisturbed: Path, tmp_path: Path) -> None:
    root = tmp_path / "atlas"
    ended = [commands.wait(each) for each in [commands.start(*command(root)) for _ in range(5)]]
    (worked,) = [each for each in ended if each.status == 0]
    assert "12 rows made" in worked.out
    for refused in ended:
        if refused is not worked:
            assert_complains(refused, f"another run is writing {root}")
    assert_whole(commands, root, undisturbed)


@pytest.mark.long
def test_clock_that_jumps_changes_nothing(commands: Commands, undisturbed: Path, tmp_path: Path) -> None:
    root = tmp_path / "atlas"
    for units in ("0:1", "0:3"):
        ended = commands.wait(commands.start(*command(root, units), jumping_clock=True))
        assert (ended.status, ended.err.count("Traceback")) == (0, 0)
        for number, path in enumerate(sorted(root.rglob("*.parquet"))):  # the later, the earlier
            os.utime(path, (0, -1000.0 * number))
    assert commands.wait(commands.start("check", root, jumping_clock=True)).status == 0
    assert commands.wait(commands.start("status", root, jumping_clock=True)).status == 0
    assert_whole(commands, root, undisturbed)
    assert "0 rows made" in commands(*command(root)).out
