"""From what the command line takes for an atlas to its storage."""

import os
import re
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.revision import Revision
from microscope_atlas.atlas.storage import Storage, WritableStorage
from microscope_atlas.errors import UnknownName
from microscope_atlas.hub.repo import Repo

REMOTE = re.compile(r"([\w.-]+/[\w.-]+)@([\w./-]+)")


def storage_at(atlas: str) -> WritableStorage:
    """Where an atlas is, to write it: a folder, or storage with a URL, such as `s3://bucket/atlas`.

    UnknownName for a file.
    """
    if "://" in atlas and not atlas.startswith("file://"):
        from microscope_atlas.atlas.bucket import Bucket  # brings fsspec, which folders do without

        return Bucket(atlas)
    root = Path(url2pathname(urlsplit(atlas).path) if atlas.startswith("file://") else atlas)
    if os.path.isfile(root):  # noqa: PTH113 - it is False, too, for names that cannot be
        raise UnknownName(f"{root} is a file; expected the folder of an atlas")
    return Folder(root)


def open_atlas(atlas: str) -> Storage:
    """The atlas in a folder, in storage with a URL, or at `owner/name@revision` on the Hub.

    HubFailed, or StorageFailed, where it is not there.
    """
    remote = REMOTE.fullmatch(atlas)
    if remote is None or "://" in atlas or Path(atlas).exists():
        return storage_at(atlas)
    repo = Repo(remote[1], "dataset")
    return Revision(repo, remote[2], repo.resolve_and_note(remote[2]))
