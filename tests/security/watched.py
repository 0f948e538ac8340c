"""The command line, with a record of what it touches: `python -m tests.security.watched RECORD browse ...`.

Each line of the record is a file that was opened, or an address that was asked for or connected to.
"""

import sys
from pathlib import Path
from typing import Any

EVENTS = ("open", "os.listdir", "os.scandir", "socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.exec")


def main() -> None:
    from microscope_atlas.cli import main

    record = Path(sys.argv.pop(1)).open("a", buffering=1)  # noqa: SIM115 - to the end of the process

    def note(event: str, about: tuple[Any, ...]) -> None:
        if event in EVENTS:
            what = about[1] if event == "socket.connect" else about[0]
            record.write(f"{event} {what!r}\n")

    sys.addaudithook(note)
    main()


if __name__ == "__main__":
    main()
