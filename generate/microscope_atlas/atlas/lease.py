"""A lease: an object in storage that says who writes to an atlas, and is renewed while the writer lives."""

import json
import os
import socket
import threading
import uuid
from contextlib import suppress
from typing import Any

from microscope_atlas.errors import AtlasBusy

LEASE = ".lease"
HEARTBEAT_SECONDS = 10.0  # between two renewals of a lease
SILENCE_SECONDS = 60.0  # without a renewal, after which its owner counts as dead


class Lease:
    """An object that says who writes to an atlas."""

    def __init__(self, fs: Any, key: str, name: str):
        self._fs, self._key, self._name = fs, key, name  # fsspec's file system, the object's key in it, the atlas
        self._owner = {"owner": f"{socket.gethostname()}:{os.getpid()}", "id": uuid.uuid4().hex}
        self._beats = 0
        self._ended = threading.Event()
        self._renewer = threading.Thread(target=self._renew, daemon=True)
        self.lost = threading.Event()

    def take(self) -> None:
        """AtlasBusy where another run has it, and lives."""
        other = self._create()
        waited = 0.0
        while other is not None and waited < SILENCE_SECONDS:
            self._ended.wait(HEARTBEAT_SECONDS * 1.5)
            waited += HEARTBEAT_SECONDS * 1.5
            now = self._read()
            if now not in (other, None):
                raise self._busy(now)
        if other is not None:
            with suppress(FileNotFoundError):
                self._fs.rm_file(self._key)
            if (winner := self._create()) is not None:
                raise self._busy(winner)
        self._renewer.start()

    def is_held(self) -> bool:
        """Whether it is ours still, looked up now: a process that was stopped learns of it no sooner than it asks."""
        if not self.lost.is_set() and not self._is_ours():
            self.lost.set()
        return not self.lost.is_set()

    def release(self) -> None:
        self._ended.set()
        self._renewer.join()
        with suppress(FileNotFoundError):
            if self._is_ours():
                self._fs.rm_file(self._key)

    def _create(self) -> bytes | None:
        """None where it is ours now, else whose it is."""
        while True:
            try:
                self._fs.pipe_file(self._key, self._content(), mode="create")
            except FileExistsError:
                if (other := self._read()) is not None:
                    return other
            else:
                return None

    def _renew(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            try:
                if not self._is_ours():
                    self.lost.set()
                    return
                self._beats += 1
                self._fs.pipe_file(self._key, self._content())
            except Exception:
                continue  # storage does not answer: the next beat may come through, or the lease is lost

    def _is_ours(self) -> bool:
        content = self._read()
        return content is not None and json.loads(content)["id"] == self._owner["id"]

    def _read(self) -> bytes | None:
        with suppress(FileNotFoundError):
            return bytes(self._fs.cat_file(self._key))
        return None

    def _content(self) -> bytes:
        return json.dumps({**self._owner, "beat": self._beats}).encode()

    def _busy(self, content: bytes | None) -> AtlasBusy:
        owner = json.loads(content or b"{}").get("owner", "somebody")
        return AtlasBusy(f"another run is writing {self._name} ({owner}); wait for it, or render into another place")
