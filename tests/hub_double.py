"""A small Hugging Face Hub on 127.0.0.1, for the real client.

Repositories of all three types: create, look up, commit (regular and LFS files), read at a commit or at main. No Xet:
the client must have HF_HUB_DISABLE_XET set.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

Files = dict[str, bytes]


@dataclass
class Commit:
    oid: str
    files: Files


@dataclass
class Hub:
    """What the double holds. Tests may look into it, and change it behind the client's back."""

    url: str
    repos: dict[str, list[Commit]] = field(default_factory=dict)  # `models/owner/name` -> its commits
    objects: Files = field(default_factory=dict)  # LFS, by sha256
    requests: list[str] = field(default_factory=list)  # `GET /api/models/owner/name`

    def files(self, repo: str, revision: str = "main") -> Files:
        """Of a repository at a commit's oid, or at main."""
        commits = self.repos[repo]
        return next(commit for commit in reversed(commits) if revision in ("main", commit.oid)).files

    def commit(self, repo: str, files: Files) -> Commit:
        """Put files on top of what is there."""
        commits = self.repos.setdefault(repo, [])
        before = commits[-1] if commits else Commit("", {})
        oid = hashlib.sha1(f"{before.oid} {sorted(files)} {len(commits)}".encode()).hexdigest()
        commits.append(Commit(oid, {**before.files, **files}))
        return commits[-1]


@contextmanager
def running() -> Iterator[Hub]:
    """A Hub that answers until the context ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.hub = Hub(f"http://127.0.0.1:{server.server_port}")  # type: ignore[attr-defined]
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server.hub  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


REPO = r"(?P<repo>(?:models|datasets|spaces)/[^/]+/[^/]+)"
PATH = r"(?P<rev>[^/]+)/(?P<path>.+)"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._route(
            {
                rf"/api/{REPO}(/revision/(?P<rev>[^/]+))?": self._info,
                rf"/{REPO}/resolve/{PATH}": self._resolve,
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
                rf"/{REPO}\.git/info/lfs/objects/batch": self._batch,
                rf"/api/{REPO}/commit/[^/]+": self._commit,
            }
        )

    def do_PUT(self) -> None:
        self._route({r"/lfs/(?P<oid>\w+)": self._put})

    def _route(self, routes: dict[str, Any]) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub: Hub = self.server.hub  # type: ignore[attr-defined]
        self.hub.requests.append(f"{self.command} {path}")
        self.body = self._read_body()
        if not path.startswith(("/api/", "/lfs/", "/datasets/", "/spaces/")):
            path = "/models" + path  # which have no prefix in links
        for pattern, answer in routes.items():
            if match := re.fullmatch(pattern, path):
                given = {name: value for name, value in match.groupdict().items() if value is not None}
                if "repo" in given and given["repo"] not in self.hub.repos:
                    return self._refuse(404, "RepoNotFound")
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
        about = {"id": name, "sha": self.hub.repos[repo][-1].oid, "siblings": files, "private": False, "tags": []}
        self._json({**about, "modelId": name} if kind == "models" else about)

    def _preupload(self, repo: str) -> None:
        files = [
            {
                "path": asked["path"],
                "uploadMode": "regular" if asked["path"].endswith((".md", ".json")) else "lfs",
                "shouldIgnore": False,
                "oid": None,
            }
            for asked in json.loads(self.body)["files"]
        ]
        self._json({"files": files})

    def _batch(self, repo: str) -> None:
        def upload(asked: dict[str, Any]) -> dict[str, Any]:
            if asked["oid"] in self.hub.objects:
                return asked  # without actions: it is here already
            return {**asked, "actions": {"upload": {"href": f"{self.hub.url}/lfs/{asked['oid']}"}}}

        objects = [upload(asked) for asked in json.loads(self.body)["objects"]]
        self._json({"transfer": "basic", "objects": objects})

    def _put(self, oid: str) -> None:
        assert hashlib.sha256(self.body).hexdigest() == oid
        self.hub.objects[oid] = self.body
        self._json({})

    def _commit(self, repo: str) -> None:
        lines = [json.loads(line) for line in self.body.splitlines() if line]
        head = self.hub.repos[repo][-1]
        files: Files = {}
        for line in lines:
            value = line["value"]
            if line["key"] == "header" and value.get("parentCommit") not in (None, head.oid):
                return self._refuse(412, "PreconditionFailed")
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            if line["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
        oid = self.hub.commit(repo, files).oid
        url = f"{self.hub.url}/{repo.removeprefix('models/')}/commit/{oid}"
        return self._json({"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": ""})

    def _resolve(self, repo: str, rev: str, path: str) -> None:
        known = {"main", *(commit.oid for commit in self.hub.repos[repo])}
        if rev not in known:
            return self._refuse(404, "RevisionNotFound")
        content = self.hub.files(repo, rev).get(path)
        if content is None:
            return self._refuse(404, "EntryNotFound")
        oid = self.hub.repos[repo][-1].oid if rev == "main" else rev
        headers = {"X-Repo-Commit": oid, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
        return self._answer(200, content, headers)

    def _json(self, value: Any, status: int = 200) -> None:
        self._answer(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str) -> None:
        self._answer(status, b"", {"X-Error-Code": code, "X-Error-Message": code})

    def _answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: the tests' output is for the tests."""
