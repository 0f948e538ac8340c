"""The Space, as it is served, with a record of what it touches."""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.space.conftest import every, known

__all__ = ["every", "known"]


@dataclass(frozen=True)
class Space:
    """A Space that runs."""

    client: httpx.Client
    touched: Callable[[], list[str]]  # `open '/etc/passwd'`, `socket.connect ('127.0.0.1', 80)`
    said: Callable[[], str]  # what it has printed so far


@pytest.fixture(scope="session")
def space(every: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Space]:
    folder = tmp_path_factory.mktemp("watched")
    (folder / "tmp").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tests.security.watched", folder / "record", "browse", every, "--port", str(port)]
    environment = {
        **{name: value for name, value in os.environ.items() if "proxy" not in name.lower()},
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
        "TMPDIR": str(folder / "tmp"),
        "HF_TOKEN": "hf_never_to_be_seen",
    }
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(
            [str(part) for part in command], stdout=subprocess.PIPE, stderr=said, text=True, env=environment
        )
    try:
        assert process.stdout
        assert "until Ctrl-C" in process.stdout.readline(), (folder / "said").read_text()
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as client:
            yield Space(
                client, lambda: (folder / "record").read_text().splitlines(), lambda: (folder / "said").read_text()
            )
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def secret() -> Iterator[Path]:
    """A file of this machine that nobody is to see, outside of the Space's own folders."""
    with tempfile.NamedTemporaryFile(prefix="secret", suffix=".png", dir=Path.home()) as file:
        file.write(b"nobody is to see this")
        file.flush()
        yield Path(file.name)
