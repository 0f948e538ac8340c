"""The Hugging Face Hub: what a repository holds at a commit, and commits that make all of a change or nothing.

The token is the one that huggingface_hub finds (HF_TOKEN, or `hf auth login`). huggingface_hub is imported late: the
command line starts faster, and rendering does without it.
"""

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar
from urllib.parse import urlsplit

from microscope_atlas.errors import HubFailed, InvalidKey
from microscope_atlas.hub.cached import cached_commit, cached_sizes, offline, remember
from microscope_atlas.hub.changes import Changes, Files, changes

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.hf_api import RepoFile

SITE = "https://huggingface.co"  # of links that are to last, wherever requests go
MAX_CHANGES = 25_000  # files a commit; says huggingface_hub's create_commit
BATCH_FILES = 256  # sent between two reports of progress; what the Hub looks up at once
BATCH_BYTES = 256 * 2**20
BUSY = (408, 429, 500, 502, 503, 504)  # HTTP statuses that a later attempt may not meet
WAITS_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0)  # before each further attempt
SILENCE_SECONDS = 10.0  # after which nobody is there: a first answer takes no longer, nor do attempts without any

MAX_SAID = 120  # characters that are repeated of an answer that is not understood
MAX_NAME = 96  # characters of a repository's name without its owner; says huggingface_hub's validate_repo_id
PART = r"\w(?:[\w.-]*\w)?"
NAME = re.compile(rf"(?!.*(?:--|\.\.|\.git$)){PART}/(?=.{{1,{MAX_NAME}}}$){PART}", re.ASCII)  # which asks for the same

QUERY = re.compile(r"""(https?://[^\s?"'<>]+)\?[^\s"'<>]*""")  # a URL, and what follows its path

Kind = Literal["model", "dataset", "space"]
Listen = Callable[[int, int], None]  # called with bytes sent, and to send
T = TypeVar("T")


@dataclass(frozen=True)
class Repo:
    """A repository on the Hub."""

    name: str  # `owner/name`
    kind: Kind

    def __post_init__(self) -> None:
        """Refuse, with InvalidKey, what can be no repository's name, before anybody is asked for it."""
        if not NAME.fullmatch(self.name):
            raise InvalidKey(
                f"{self.name[:MAX_NAME]!r} is no repository of the Hub; expected owner/name, of letters, digits, and "
                f"single - or . between them, the name up to {MAX_NAME} characters"
            )

    @property
    def url(self) -> str:
        prefix = "" if self.kind == "model" else f"{self.kind}s/"
        return f"{endpoint()}/{prefix}{self.name}"

    def head(self) -> str | None:
        """The commit at the tip of main; None where there is no such repository."""
        from huggingface_hub.errors import RepositoryNotFoundError

        try:
            return self.resolve("main")
        except HubFailed as error:
            if isinstance(error.__cause__, RepositoryNotFoundError):
                return None
            raise

    def resolve(self, revision: str) -> str:
        """The commit that a branch, a tag or a commit's own name stands for.

        Offline, with HF_HUB_OFFLINE=1: as the client's cache has it from the last time that anybody asked.
        """
        if offline():
            return cached_commit(self.name, self.kind, revision)
        with translated_errors(f"{self.url} at {revision}"):
            info = with_retries(
                lambda: client().repo_info(
                    self.name, repo_type=self.kind, revision=revision, expand="sha", timeout=SILENCE_SECONDS
                )
            )
        assert info.sha
        return info.sha

    def resolve_and_note(self, revision: str) -> str:
        """The same, noted in the client's cache, so that it can be resolved offline later."""
        commit = self.resolve(revision)
        if not offline():
            remember(self.name, self.kind, revision, commit)
        return commit

    def license(self, commit: str) -> str | None:
        """What its card states at a commit, read once into the client's cache; None where it states none.

        Offline, of a card that was never read: None.
        """
        import yaml
        from huggingface_hub import metadata_load
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        try:
            card = self.download("README.md", commit)
        except HubFailed as error:
            absent = isinstance(error.__cause__, EntryNotFoundError)
            if offline() or (absent and not isinstance(error.__cause__, LocalEntryNotFoundError)):
                return None
            raise
        try:
            stated = (metadata_load(card) or {}).get("license")
        except (yaml.YAMLError, ValueError):  # no head that says anything
            return None
        return stated if isinstance(stated, str) else None

    def tags(self) -> dict[str, str]:
        """Its tags, and the commit of each."""
        with translated_errors(self.url):
            refs = with_retries(lambda: client().list_repo_refs(self.name, repo_type=self.kind))
        return {tag.name: tag.target_commit for tag in refs.tags}

    def sizes(self, commit: str) -> dict[str, int]:
        """Bytes of its files at a commit, by path; offline, of those that are in the client's cache."""
        if offline():
            return cached_sizes(self.name, self.kind, commit)
        return {path: file.size for path, file in self.tree(commit).items()}

    def tree(self, commit: str) -> "dict[str, RepoFile]":
        """Its files at a commit, by path."""
        from huggingface_hub.hf_api import RepoFile

        with translated_errors(self.url):
            listed = client().list_repo_tree(self.name, recursive=True, revision=commit, repo_type=self.kind)
            return {entry.path: entry for entry in listed if isinstance(entry, RepoFile)}

    def download(self, path: str, commit: str, folder: Path | None = None) -> Path:
        """A file at a commit: in the client's cache, or in `folder`; offline always in the cache."""
        folder = None if offline() else folder
        with translated_errors(f"{self.url} at {commit}: {path}"):
            return Path(
                client().hf_hub_download(self.name, path, repo_type=self.kind, revision=commit, local_dir=folder)
            )

    def slice(self, path: str, commit: str, offset: int, length: int) -> bytes:
        """Some bytes of a file at a commit, by one range request; offline from the client's cache."""
        if offline():
            with self.download(path, commit).open("rb") as file:
                file.seek(offset)
                return file.read(length)
        from huggingface_hub import get_session, get_token, hf_hub_url

        url = hf_hub_url(self.name, path, repo_type=self.kind, revision=commit, endpoint=endpoint())
        token = get_token()
        headers = {
            "Range": f"bytes={offset}-{offset + length - 1}",
            **({"Authorization": f"Bearer {token}"} if token else {}),
        }

        def fetch() -> bytes:
            # large files lie elsewhere, where the token is not sent
            response = get_session().get(url, headers=headers, follow_redirects=True)
            response.raise_for_status()
            return bytes(response.content)

        with translated_errors(f"{url}, {length} bytes from {offset}"):
            content = with_retries(fetch)
        if len(content) != length:
            raise HubFailed(f"{url}: {len(content)} bytes came, expected {length} from {offset}")
        return content

    def create(self, private: bool = False, space_sdk: str | None = None) -> str:
        """Make it where it is not there; returns the commit at the tip of main."""
        with translated_errors(self.url):
            with_retries(
                lambda: client().create_repo(
                    self.name, repo_type=self.kind, private=private, exist_ok=True, space_sdk=space_sdk
                )
            )
        return self.resolve("main")

    def commit(self, changes: Changes, parent: str, message: str, listen: Listen = lambda *_: None) -> str:
        """Make the changes in one commit on top of `parent` and verify them; returns that commit.

        Contents are sent first, and what a broken attempt has sent is not sent again. Readers see all of the changes
        or none. Raises HubFailed where main has moved on from `parent`, the Hub refuses or does not answer, or what
        arrived is not what was sent.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete
        from huggingface_hub.errors import HfHubHTTPError

        if len(changes.add) + len(changes.remove) > MAX_CHANGES:
            raise HubFailed(
                f"{self.url}: {len(changes.add) + len(changes.remove):,} files change, and a commit takes "
                f"{MAX_CHANGES:,}; publish it in several versions, or render more units into a file (--shard-units)"
            )
        contents = {path: file.content for path, file in changes.add.items()}
        add = [CommitOperationAdd(path, content) for path, content in contents.items()]
        remove = [CommitOperationDelete(path) for path in changes.remove]
        with translated_errors(self.url):
            self._send(add, listen)
            try:
                made = with_retries(
                    lambda: client().create_commit(
                        self.name, [*add, *remove], commit_message=message, repo_type=self.kind, parent_commit=parent
                    )
                ).oid
            except HfHubHTTPError as error:
                if error.response.status_code != 412:
                    raise
                made = None
        if made is None:  # main has moved on, perhaps by our own commit whose answer was lost
            return self._own_commit(changes, parent)
        if left := changes.left(self.tree(made)):
            raise self._damaged(made, left)
        return made

    def _own_commit(self, changes: Changes, parent: str) -> str:
        """The first commit after `parent` that holds the changes; HubFailed where there is none.

        Later ones hold them too, and what somebody else has added.
        """
        head = self.resolve("main")
        with translated_errors(self.url):
            known = with_retries(lambda: client().list_repo_commits(self.name, repo_type=self.kind, revision=head))
        newest_first = [commit.commit_id for commit in known]
        since = newest_first[: newest_first.index(parent)] if parent in newest_first else newest_first
        for commit in reversed(since):
            if not changes.left(self.tree(commit)):
                return commit
        raise HubFailed(
            f"{self.url}: somebody else committed while this was being sent (main went from {parent} to {head}); "
            "nothing was changed. Run it again: what was sent is not sent again"
        )

    def tag(self, name: str, commit: str) -> None:
        """Name a commit for good; HubFailed where the name is another commit's."""
        from huggingface_hub.errors import HfHubHTTPError

        with translated_errors(f"{self.url}: tag {name}"):
            try:
                with_retries(lambda: client().create_tag(self.name, tag=name, revision=commit, repo_type=self.kind))
            except HfHubHTTPError as error:
                if error.response.status_code != 409:
                    raise
        if self.tags().get(name) != commit:
            raise HubFailed(f"{self.url}: tag {name} is {self.tags().get(name)}, expected {commit}")

    def verify(self, files: Files, commit: str, ours: Callable[[str], bool] = lambda path: True) -> None:
        """HubFailed where the repository at a commit does not hold `files`, by their checksums, and no more of ours."""
        left = changes(files, self.tree(commit), ours)
        if left:
            raise self._damaged(commit, [*left.add, *left.remove])

    def _damaged(self, commit: str, paths: Sequence[str]) -> HubFailed:
        return HubFailed(f"{self.url} at {commit} does not hold what was sent: {', '.join(paths[:5])}")

    def _send(self, add: "list[CommitOperationAdd]", listen: Listen) -> None:
        sent, total = 0, sum(operation.upload_info.size for operation in add)
        listen(sent, total)
        with _no_bars():
            for batch in _batches(add):
                client().preupload_lfs_files(self.name, batch, repo_type=self.kind, free_memory=False)
                sent += sum(operation.upload_info.size for operation in batch)
                listen(sent, total)


def client() -> "HfApi":
    from huggingface_hub import HfApi

    return HfApi(endpoint=endpoint())


def endpoint() -> str:
    """Where requests go: what HF_ENDPOINT says, or the Hub itself. HubFailed where it holds a password."""
    asked = os.environ.get("HF_ENDPOINT", SITE).rstrip("/")
    if "@" in urlsplit(asked).netloc:  # the client would print it
        raise HubFailed("HF_ENDPOINT holds a name or a password; leave it out, and give the token as HF_TOKEN")
    return asked


def with_retries(call: Callable[[], T]) -> T:
    """What `call` returns; again after a wait, a few times, where the Hub is busy or, for a few seconds, silent."""
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    start = time.monotonic()
    for wait in WAITS_SECONDS:
        try:
            return call()
        except HTTPError as error:
            response = getattr(error, "response", None)
            if response is not None and response.status_code not in BUSY:
                raise
            if response is None and time.monotonic() + wait - start >= SILENCE_SECONDS:
                raise
        except json.JSONDecodeError as error:  # the client reads some answers before it looks at their status
            if error.doc.strip():
                raise
        time.sleep(wait)
    return call()


@contextmanager
def translated_errors(where: str) -> Iterator[None]:
    """The Hub's refusals, and its silence, as HubFailed that says `where`.

    Never with the token in it; nor with what stands behind `?` in a URL, which may be signed in somebody's name.
    """
    from huggingface_hub import get_token
    from huggingface_hub.errors import EntryNotFoundError, HTTPError  # type: ignore[attr-defined]

    try:
        yield
    except (EntryNotFoundError, HTTPError, OSError, RuntimeError, ValueError) as error:
        message = QUERY.sub(r"\1", f"{where}: {_reason(error)}")
        raise HubFailed(message.replace(get_token() or "\0", "***")) from error


def _reason(error: Exception) -> str:
    from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, RuntimeError) and isinstance(error.__cause__, Exception):
        return f"{error} {_reason(error.__cause__)}"  # of a thread that sends files
    if isinstance(error, json.JSONDecodeError):
        said = " ".join(error.doc.split())[:MAX_SAID]
        if not said:
            return f"{endpoint()} answered with nothing: it is busy, or it is no Hub. Run it again later"
        return f"{endpoint()} answered with what is no JSON, so it is no Hub, or something stands before it: {said!r}"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, RevisionNotFoundError):
        return f"{status}: there is no such revision"
    if isinstance(error, RepositoryNotFoundError):
        return f"{status}: there is no such repository, or none that your token opens (HF_TOKEN, or hf auth login)"
    if isinstance(error, EntryNotFoundError):
        return f"{status}: there is no such file"
    if status in (401, 403):
        return f"{status}: your token does not allow it (HF_TOKEN, or hf auth login). {error}"
    return str(error)


def _batches(add: "list[CommitOperationAdd]") -> "Iterator[list[CommitOperationAdd]]":
    batch: list[CommitOperationAdd] = []
    for operation in add:
        batch.append(operation)
        if len(batch) == BATCH_FILES or sum(each.upload_info.size for each in batch) >= BATCH_BYTES:
            yield batch
            batch = []
    if batch:
        yield batch


@contextmanager
def _no_bars() -> Iterator[None]:
    """Without huggingface_hub's own progress, which is a bar a file."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
