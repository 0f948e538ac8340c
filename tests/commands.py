"""Command lines in processes of their own, without the seconds that importing PyTorch takes each time.

A server imports the package once and forks for every command, so each has its own process, exit status and output. What
a command reads and writes is what `python -m microscope_atlas.cli` would; only the recipes `draft` and `standard` are
quick.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    status: int  # exit status; a signal's number, negative, where one killed it
    out: str
    err: str


@dataclass(frozen=True)
class Command:
    """A command that runs."""

    pid: int
    folder: Path  # where its output goes

    @property
    def err(self) -> str:
        return (self.folder / "err").read_text()


def workers_of(parent: int) -> list[int]:
    """Processes that multiprocessing started, by id."""
    listed = subprocess.run(
        ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(parent)], capture_output=True, text=True
    ).stdout
    return [int(line.split()[0]) for line in listed.splitlines() if "spawn_main" in line]


class Commands:
    """The server, seen from here."""

    def __init__(self) -> None:
        self._folder = TemporaryDirectory()
        self._count = 0
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "300", "TERMINAL_WIDTH": "300", "NO_COLOR": "1"}
        # huggingface_hub reads these but once
        environment |= {"HF_HUB_DISABLE_XET": "1", "HF_HOME": str(Path(self._folder.name) / "hub")}
        self._server = subprocess.Popen(
            [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def __call__(self, *args: object, environment: Mapping[str, str] | None = None) -> Result:
        """Run a command to its end."""
        return self.wait(self.start(*args, environment=environment))

    def start(
        self,
        *args: object,
        environment: Mapping[str, str] | None = None,
        die_at_event: int | None = None,
        file_limit: int | None = None,
        memory_limit: int | None = None,
        jumping_clock: bool = False,
        silence: float | None = None,
    ) -> Command:
        """Start a command in a process group of its own, with more in its environment if that is given.

        Where these are given, it kills itself before the `die_at_event`-th time that it opens, makes, renames or
        removes a file in the atlas, cannot write files of more than `file_limit` bytes, gets no more than
        `memory_limit` bytes of memory beyond what it starts with, has a clock that jumps by years at every look, and
        takes a lease for lost after `silence` seconds.
        """
        self._count += 1
        folder = Path(self._folder.name) / str(self._count)
        folder.mkdir()
        for name in ("out", "err"):
            (folder / name).touch()
        args_ = [str(arg) for arg in args]
        more = dict(environment or {})
        faults = {
            "event": die_at_event,
            "limit": file_limit,
            "memory": memory_limit,
            "clock": jumping_clock,
            "silence": silence,
        }
        return Command(self._ask({"args": args_, "folder": str(folder), "more": more, **faults}), folder)

    def wait(self, command: Command) -> Result:
        status = self._ask({"wait": command.pid})
        return Result(status, (command.folder / "out").read_text(), command.err)

    def close(self) -> None:
        self._server.communicate()
        self._folder.cleanup()

    def _ask(self, question: Mapping[str, Any]) -> int:
        assert self._server.stdin and self._server.stdout
        print(json.dumps(question), file=self._server.stdin, flush=True)
        return int(self._server.stdout.readline())


def serve() -> None:
    """The server's life: questions in, numbers out, until its input ends."""
    from microscope_atlas.atlas.folder import Folder
    from microscope_atlas.lenses.feature_visualization import RECIPES
    from microscope_atlas.publish.check import check
    from tests.atlases import RECIPE, render

    RECIPES["draft"] = RECIPE
    RECIPES["standard"] = replace(RECIPE, max_size=None)  # as quick, but of large pictures
    with TemporaryDirectory() as folder:  # whatever is imported late or kept for later: once, here
        render(Path(folder))
        assert not list(check(Folder(Path(folder))))
    for line in sys.stdin:
        question = json.loads(line)
        if "wait" in question:
            answer = os.waitstatus_to_exitcode(os.waitpid(question["wait"], 0)[1])
        elif (answer := os.fork()) == 0:
            _run(**question)
        else:
            os.setpgid(answer, answer)
        print(answer, flush=True)


def _run(
    args: list[str],
    folder: str,
    more: dict[str, str],
    event: int | None,
    limit: int | None,
    memory: int | None,
    clock: bool,
    silence: float | None,
) -> None:
    """In the fork: become the command."""
    import random
    import resource
    import signal
    import time

    from microscope_atlas.atlas import lease
    from microscope_atlas.cli import main

    os.setpgid(0, 0)
    for name, descriptor in (("out", 1), ("err", 2)):
        os.dup2(os.open(Path(folder) / name, os.O_WRONLY), descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.update(more)
    sys.argv = ["microscope-atlas", *args]
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    if memory is not None:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + memory,) * 2)
    if clock:
        years = random.Random(0)
        time.time = lambda: years.uniform(0, 4e9)
        time.time_ns = lambda: int(time.time() * 1e9)
    if silence is not None:
        lease.HEARTBEAT_SECONDS, lease.SILENCE_SECONDS = silence / 6, silence
    if event is not None:
        seen = 0

        def die(name: str, about: tuple[Any, ...]) -> None:
            nonlocal seen
            if name in ("open", "os.mkdir", "os.rename", "os.remove") and str(about[0]).startswith(args[1]):
                seen += 1
                if seen == event:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(die)
    status = 1
    try:
        main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # what nobody caught is printed as the interpreter does
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    serve()
