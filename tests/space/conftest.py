import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.reader import Atlas
from tests import atlases

LAYERS = {"blocks_4": range(4), "blocks_6": range(2)}


@pytest.fixture(scope="session")
def every(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An atlas of two layers with every lens. Nobody may write to it."""
    root = tmp_path_factory.mktemp("space") / "microscope-atlas"
    atlases.render_every(root, LAYERS)
    return root


@pytest.fixture(scope="session")
def known(every: Path) -> Atlas:
    """The same, as the pages read it."""
    return Atlas(Folder(every))


@pytest.fixture(scope="session")
def server(every: Path) -> Iterator[str]:
    """The address of the Space of that atlas, as `microscope-atlas browse` serves it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "microscope_atlas.cli", "browse", str(every), "--port", str(port)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "COLUMNS": "300"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout
        said = process.stdout.readline()
        assert said == f"{every} is at http://127.0.0.1:{port}/ until Ctrl-C.\n"
        yield f"http://127.0.0.1:{port}"
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # of a shell's background job, and so of its children
            process.terminate()
        else:
            process.send_signal(signal.SIGINT)
            try:
                assert process.wait(timeout=60) == 0
            finally:
                process.kill()  # or leaving the context waits for ever
