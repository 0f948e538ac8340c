"""A small Hugging Face Hub on 127.0.0.1, for the real clients.

Repositories of all three types: create, look up, commit, tag, list, read whole files or ranges of them, at a commit, a
tag or main. Regular and LFS files; no Xet: the client must have HF_HUB_DISABLE_XET set. Tests can have it answer with
errors, and see every request.
"""

import base64
import hashlib
import json
import re
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Files = dict[str, bytes]

REGULAR = (".md", ".json", ".py", ".txt", ".gitattributes")  # all other files go through LFS
PAGE = 1000  # entries of a listing


@dataclass
class Commit:
    oid: str
    files: Files


RESET = 0


@dataclass
class Fault:
    """An answer in place of the right one."""

    request: str  # pattern of the requests that meet it: `POST .*/commit/main`
    status: int  # RESET: the connection breaks
    times: int  # how often
    after: bool = False  # it does what was asked, and its answer is lost


@dataclass
class Hub:
    """What the double holds. Tests may look into it, and change it behind the client's back."""

    url: str
    repos: dict[str, list[Commit]] = field(default_factory=dict)  # `models/owner/name` -> its commits
    tags: dict[str, dict[str, str]] = field(default_factory=dict)  # of a repository: name -> a commit's oid
    objects: Files = field(default_factory=dict)  # LFS, by sha256
    requests: list[str] = field(default_factory=list)  # `GET /api/models/owner/name`
    sent: list[str] = field(default_factory=list)  # LFS objects that were uploaded, by sha256
    ranges: list[str] = field(default_factory=list)  # of what was read in part: `bytes=0-7`
    faults: list[Fault] = field(default_factory=list)
    at: dict[int, Fault] = field(default_factory=dict)  # those that requests of these numbers meet, whatever they ask
    met: list[str] = field(default_factory=list)  # of these, which met what
    before: dict[str, Callable[[], object]] = field(default_factory=dict)  # pattern of a request -> called once before
    most_sent: int | None = None  # uploads that are answered; the next ones wait until `resume` is set
    resume: Event = field(default_factory=Event)
    lock: Any = field(default_factory=Lock)

    def oid(self, repo: str, revision: str = "main") -> str | None:
        """The commit that a revision stands for."""
        commits = [commit.oid for commit in self.repos[repo]]
        known = {**self.tags.get(repo, {}), "main": commits[-1], **{oid: oid for oid in commits}}
        return known.get(revision)

    def files(self, repo: str, revision: str = "main") -> Files:
        """Of a repository at a revision."""
        oid = self.oid(repo, revision)
        return next(commit.files for commit in self.repos[repo] if commit.oid == oid)

    def commit(self, repo: str, files: Files, deleted: tuple[str, ...] = ()) -> Commit:
        """Put files on top of what is there."""
        commits = self.repos.setdefault(repo, [])
        before = commits[-1] if commits else Commit("", {})
        now = {**{path: content for path, content in before.files.items() if path not in deleted}, **files}
        listed = [(path, _sha1(now[path])) for path in sorted(now)]
        commits.append(Commit(_sha1(f"{before.oid} {listed}".encode()), now))
        return commits[-1]

    def asked(self, request: str) -> int:
        """How many requests match a pattern."""
        return sum(re.fullmatch(request, seen) is not None for seen in self.requests)


@contextmanager
def running() -> Iterator[Hub]:
    """A Hub that answers until the context ends."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.hub = Hub(f"http://127.0.0.1:{server.server_port}")  # type: ignore[attr-defined]
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server.hub  # type: ignore[attr-defined]
    finally:
        server.hub.resume.set()  # type: ignore[attr-defined]
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing where the client was killed; it is told of otherwise."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


REPO = r"(?P<repo>(?:models|datasets|spaces)/[^/]+/[^/]+)"
REV = r"(?P<rev>[^/]+)"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body in one packet
    lost: int | None = None  # what is answered in place of the right answer, once all was done

    def do_GET(self) -> None:
        self._route(
            {
                rf"/api/{REPO}(/revision/{REV})?": self._info,
                rf"/api/{REPO}/refs": self._refs,
                rf"/api/{REPO}/commits/{REV}": self._commits,
                rf"/api/{REPO}/tree/{REV}(/(?P<folder>.+))?": self._tree,
                rf"/{REPO}/resolve/{REV}/(?P<path>.+)": self._resolve,
            }
        )

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self._route(
            {
                "/api/repos/create": self._create,
                "/api/validate-yaml": lambda: self._json({"errors": [], "warnings": []}),
                rf"/api/{REPO}/preupload/[^/]+": self._preupload,
                rf"/api/{REPO}/paths-info/{REV}": self._paths_info,
                rf"/{REPO}\.git/info/lfs/objects/batch": self._batch,
                rf"/api/{REPO}/commit/[^/]+": self._commit,
                rf"/api/{REPO}/tag/{REV}": self._tag,
            }
        )

    def do_PUT(self) -> None:
        self._route({r"/lfs/(?P<oid>\w+)": self._put})

    def _route(self, routes: dict[str, Any]) -> None:
        split = urlsplit(self.path)
        path, self.query = unquote(split.path), parse_qs(split.query)
        self.hub: Hub = self.server.hub  # type: ignore[attr-defined]
        self.lost = None
        request = f"{self.command} {path}"
        self.hub.requests.append(request)
        self.body = self._read_body()
        for pattern in list(self.hub.before):
            if re.fullmatch(pattern, request):
                self.hub.before.pop(pattern)()
        numbered = self.hub.at.pop(len(self.hub.requests), None)
        if numbered and re.fullmatch(numbered.request, request):
            self.hub.met.append(f"{numbered.status} {request}")
        for fault in (*self.hub.faults, *([numbered] if numbered else [])):
            if fault.times and re.fullmatch(fault.request, request):
                fault.times -= 1
                if not fault.after:
                    return self._refuse(fault.status, "")
                self.lost = fault.status
        if not path.startswith(("/api/", "/lfs/", "/datasets/", "/spaces/")):
            path = "/models" + path  # which have no prefix in links
        for pattern, answer in routes.items():
            if match := re.fullmatch(pattern, path):
                given = {name: value for name, value in match.groupdict().items() if value is not None}
                if "repo" in given and given["repo"] not in self.hub.repos:
                    return self._refuse(404, "RepoNotFound")
                if "repo" in given and "rev" in given and self.hub.oid(given["repo"], given["rev"]) is None:
                    return self._refuse(404, "RevisionNotFound")
                with self.hub.lock if self.command == "POST" else _unlocked():
                    return answer(**given)
        return self._refuse(404, "EntryNotFound")

    def _read_body(self) -> bytes:
        if self.headers["Transfer-Encoding"] != "chunked":
            return self.rfile.read(int(self.headers["Content-Length"] or 0))
        body = b""
        while length := int(self.rfile.readline(), 16):
            body += self.rfile.read(length)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _create(self) -> None:
        asked = json.loads(self.body)
        name = "/".join(part for part in (asked.get("organization"), asked["name"]) if part)
        repo = f"{asked.get('type') or 'model'}s/{name}"
        if repo in self.hub.repos:
            return self._json({"error": "You already created this repo", "url": f"{self.hub.url}/{name}"}, 409)
        self.hub.commit(repo, {".gitattributes": b""})
        return self._json({"url": f"{self.hub.url}/{name}", "name": name, "id": name})

    def _info(self, repo: str, rev: str = "main") -> None:
        kind, _, name = repo.partition("/")
        files = [{"rfilename": path} for path in self.hub.files(repo, rev)]
        about = {"id": name, "sha": self.hub.oid(repo, rev), "siblings": files, "private": False, "tags": []}
        self._json({**about, "modelId": name} if kind == "models" else about)

    def _refs(self, repo: str) -> None:
        main = {"name": "main", "ref": "refs/heads/main", "targetCommit": self.hub.oid(repo)}
        tags = self.hub.tags.get(repo, {}).items()
        named = [{"name": name, "ref": f"refs/tags/{name}", "targetCommit": oid} for name, oid in tags]
        self._json({"branches": [main], "converts": [], "tags": named})

    def _commits(self, repo: str, rev: str) -> None:
        oids = [commit.oid for commit in self.hub.repos[repo]]
        about = {"authors": [], "date": "2026-11-01T00:00:00.000Z", "title": "", "message": ""}
        until = oids.index(self.hub.oid(repo, rev) or "")
        self._json([{"id": oid, **about} for oid in reversed(oids[: until + 1])])

    def _tree(self, repo: str, rev: str, folder: str = "") -> None:
        prefix = f"{folder}/" if folder else ""
        within = {path: c for path, c in self.hub.files(repo, rev).items() if path.startswith(prefix)}
        recursive = self.query.get("recursive", ["false"])[0].lower() == "true"
        folders = {path[: at.start()] for path in within for at in re.finditer("/", path) if at.start() >= len(prefix)}
        entries = [_entry(path, content) for path, content in within.items()]
        entries += [{"type": "directory", "path": path, "oid": _sha1(path.encode()), "size": 0} for path in folders]
        if not recursive:
            entries = [entry for entry in entries if "/" not in entry["path"].removeprefix(prefix)]
        if folder and not entries:
            return self._refuse(404, "EntryNotFound")
        start = int(self.query.get("cursor", ["0"])[0])
        entries = sorted(entries, key=lambda entry: entry["path"])
        shown, more = entries[start : start + PAGE], len(entries) > start + PAGE
        link = f"{self.hub.url}{urlsplit(self.path).path}?recursive={recursive}&cursor={start + PAGE}"
        return self._json(shown, headers={"Link": f'<{link}>; rel="next"'} if more else {})

    def _paths_info(self, repo: str, rev: str) -> None:
        files = self.hub.files(repo, rev)
        asked = json.loads(self.body)["paths"] if self.body.startswith(b"{") else parse_qs(self.body.decode())["paths"]
        found = [_entry(path, files[path]) for path in asked if path in files]
        folders = [path for path in asked if any(name.startswith(f"{path}/") for name in files)]
        self._json([*found, *({"type": "directory", "path": path, "oid": "", "size": 0} for path in folders)])

    def _preupload(self, repo: str) -> None:
        there = self.hub.files(repo)

        def about(path: str) -> dict[str, Any]:
            entry = _entry(path, there[path]) if path in there else {"oid": None}
            oid = entry.get("lfs", entry)["oid"]
            mode = "regular" if path.endswith(REGULAR) else "lfs"
            return {"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid}

        self._json({"files": [about(asked["path"]) for asked in json.loads(self.body)["files"]]})

    def _batch(self, repo: str) -> None:
        def upload(asked: dict[str, Any]) -> dict[str, Any]:
            if asked["oid"] in self.hub.objects:
                return asked  # without actions: it is here already
            return {**asked, "actions": {"upload": {"href": f"{self.hub.url}/lfs/{asked['oid']}"}}}

        objects = [upload(asked) for asked in json.loads(self.body)["objects"]]
        self._json({"transfer": "basic", "objects": objects})

    def _put(self, oid: str) -> None:
        with self.hub.lock:
            full = self.hub.most_sent is not None and len(self.hub.sent) >= self.hub.most_sent
            if not full:
                assert hashlib.sha256(self.body).hexdigest() == oid
                self.hub.objects[oid] = self.body
                self.hub.sent.append(oid)
        if full:
            self.hub.resume.wait()
            return self._refuse(503, "")
        return self._json({})

    def _commit(self, repo: str) -> None:
        lines = [json.loads(line) for line in self.body.splitlines() if line]
        files: Files = {}
        deleted = tuple(line["value"]["path"] for line in lines if line["key"] == "deletedFile")
        for line in lines:
            value = line["value"]
            if line["key"] == "header" and value.get("parentCommit") not in (None, self.hub.oid(repo)):
                return self._refuse(412, "PreconditionFailed")
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            if line["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
        assert {*deleted} <= {*self.hub.files(repo)}
        oid = self.hub.commit(repo, files, deleted).oid
        url = f"{self.hub.url}/{repo.removeprefix('models/')}/commit/{oid}"
        return self._json({"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": ""})

    def _tag(self, repo: str, rev: str) -> None:
        name, oid = json.loads(self.body)["tag"], self.hub.oid(repo, rev)
        assert oid is not None
        if name in self.hub.tags.setdefault(repo, {}):
            return self._refuse(409, "")
        self.hub.tags[repo][name] = oid
        return self._json({})

    def _resolve(self, repo: str, rev: str, path: str) -> None:
        content = self.hub.files(repo, rev).get(path)
        if content is None:
            return self._refuse(404, "EntryNotFound")
        headers = {"X-Repo-Commit": self.hub.oid(repo, rev) or "", "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers["Range"] or "")
        if asked is None:
            return self._answer(200, content, headers)
        self.hub.ranges.append(asked[0])
        start, stop = int(asked[1]), min(int(asked[2] or len(content)) + 1, len(content))
        return self._answer(
            206, content[start:stop], {**headers, "Content-Range": f"bytes {start}-{stop - 1}/{len(content)}"}
        )

    def _json(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._answer(status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _refuse(self, status: int, code: str) -> None:
        self._answer(status, b"", {"X-Error-Code": code, "X-Error-Message": code} if code else {})

    def _answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        if self.lost is not None:
            status, content, headers = self.lost, b"", {}
        if status == RESET:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
            return
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: the tests' output is for the tests."""


@contextmanager
def _unlocked() -> Iterator[None]:
    yield


def _entry(path: str, content: bytes) -> dict[str, Any]:
    """A file in a listing."""
    entry = {"type": "file", "path": path, "size": len(content)}
    if path.endswith(REGULAR):
        return {**entry, "oid": _sha1(b"blob %d\0" % len(content) + content)}
    sha256 = hashlib.sha256(content).hexdigest()
    lfs = {"oid": sha256, "size": len(content), "pointerSize": 134}
    return {**entry, "oid": _sha1(f"pointer to {sha256}".encode()), "lfs": lfs}


def _sha1(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
