"""What is printed while work goes on, where nobody looks at a terminal."""

import io
import time

import pytest
from rich.console import Console

from microscope_atlas import console
from microscope_atlas.cli.app import err, out


@pytest.fixture
def file() -> io.StringIO:
    return io.StringIO()


def lines(file: io.StringIO) -> list[str]:
    return file.getvalue().splitlines()


def test_line_says_done_rate_and_time_left(file: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "LOG_SECONDS", 0.05)
    clock = iter([0.0, *[100.0] * 1000])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    with console.transferring(Console(file=file), "net") as listen:
        listen(5_000_000, 20_000_000)
        deadline = time.perf_counter() + 10
        while not lines(file) and time.perf_counter() < deadline:
            time.sleep(0.01)
    assert lines(file)[0] == "net: 5.0 MB of 20.0 MB, 50.0 kB/s, 5 min left"


def test_it_speaks_also_while_nothing_happens(file: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "LOG_SECONDS", 0.02)
    with console.transferring(Console(file=file), "net") as listen:
        listen(1, 2)
        deadline = time.perf_counter() + 10
        while len(lines(file)) < 3 and time.perf_counter() < deadline:
            time.sleep(0.01)
    assert len(lines(file)) >= 3


def test_what_is_done_is_said_once(file: io.StringIO) -> None:
    with console.transferring(Console(file=file), "net") as listen:
        for done in (1, 2, 2):
            listen(done, 2)
    assert len(lines(file)) == 1
    assert lines(file)[0].startswith("net: 2 bytes of 2 bytes")


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (59.9, "59 s"), (60, "1 min"), (3599, "59 min"), (7500, "2 h 5 min")]
)
def test_times_are_said_in_words(seconds: float, said: str) -> None:
    assert console._time(seconds) == said


def test_table_explains_its_columns(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_table([{"a": 1, "num_b": None, "c": 0}], {"a": "first", "num_b": ""})
    assert capsys.readouterr().out == "a  num b\n1\n\na: first\n"


@pytest.mark.parametrize("stream", [out, err])
def test_names_are_printed_as_they_are(stream: Console) -> None:
    with stream.capture() as printed:
        stream.print("atlas[/b] a[bold] own:x: :smile:", soft_wrap=True)
    assert printed.get() == "atlas[/b] a[bold] own:x: :smile:\n"


def test_bar_shows_a_name_as_it_is(file: io.StringIO) -> None:
    with console.transferring(Console(file=file, force_terminal=True, width=120), "net[/b] own:x:") as listen:
        listen(1, 2)
    assert "net[/b] own:x:" in file.getvalue()
