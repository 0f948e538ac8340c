"""What huggingface_hub's cache holds of a repository, for HF_HUB_OFFLINE=1.

https://huggingface.co/docs/huggingface_hub/guides/manage-cache: `refs/NAME` holds the commit that a name stood for when
somebody last asked, `snapshots/COMMIT/` the files that were fetched.
"""

import re
from pathlib import Path

from microscope_atlas.errors import HubFailed

COMMIT = re.compile(r"[0-9a-f]{40}")


def offline() -> bool:
    """Whether the Hub is not to be asked: HF_HUB_OFFLINE."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def cached_commit(name: str, kind: str, revision: str) -> str:
    """The commit that a revision stood for when it was last asked for; HubFailed where the cache does not know it."""
    if COMMIT.fullmatch(revision):
        return revision
    ref = _folder(name, kind) / "refs" / revision
    if ".." in revision.split("/") or not ref.is_file():
        raise HubFailed(
            f"{name}@{revision} is not in the cache, and HF_HUB_OFFLINE is set; unset it, or load this revision once "
            "where the Hub can be reached"
        )
    return ref.read_text().strip()


def cached_sizes(name: str, kind: str, commit: str) -> dict[str, int]:
    """Bytes of the files of a commit that are in the cache, by path; HubFailed where there are none."""
    folder = _folder(name, kind) / "snapshots" / commit
    found = {file.relative_to(folder).as_posix(): file.stat().st_size for file in folder.rglob("*") if file.is_file()}
    if not found:
        raise HubFailed(
            f"{name} at {commit} is not in the cache, and HF_HUB_OFFLINE is set; unset it, or load this revision once "
            "where the Hub can be reached"
        )
    return found


def remember(name: str, kind: str, revision: str, commit: str) -> None:
    """Note in the cache what a name stands for, as the client does where it downloads a file by that name."""
    if COMMIT.fullmatch(revision) or ".." in revision.split("/"):
        return
    ref = _folder(name, kind) / "refs" / revision
    ref.parent.mkdir(parents=True, exist_ok=True)
    ref.write_text(commit)


def _folder(name: str, kind: str) -> Path:
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type=kind)
