"""Without a network, what is in the cache works: as `load_dataset` does with HF_HUB_OFFLINE=1."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from microscope_atlas.atlas.coverage import coverage
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.locate import open_atlas
from microscope_atlas.atlas.manifest import read_manifest
from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.atlas.storage import Storage
from microscope_atlas.errors import HubFailed
from microscope_atlas.keys import parse_key
from microscope_atlas.publish.cite import cite
from microscope_atlas.publish.publish import plan, publish
from microscope_atlas.run.reproduce import reproduce
from tests.atlases import LAYER, LENS, MODEL
from tests.hub_double import Hub

NAME, VERSION = "someone/microscope-atlas", "2026.11.0"
KEY = parse_key(f"{MODEL}/{LAYER}/1")


def looked_at(storage: Storage) -> tuple[object, ...]:
    """What status, cite, reproduce and a page of the Space make of an atlas."""
    _, remade = reproduce(storage, KEY, LENS, torch.device("cpu"))
    atlas = Atlas(storage)
    rows = atlas.rows(LENS, MODEL, LAYER, 1)
    return (
        coverage(storage),
        cite(storage, KEY),
        [str(row) for row in remade],
        [atlas.image(LENS, MODEL, row["image"]) for row in rows],
    )


@pytest.fixture
def commit(hub: Hub, atlas: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A published atlas that was downloaded whole by its tag; from here on there is no network."""
    from huggingface_hub import snapshot_download

    made = publish(plan(Folder(atlas), NAME, VERSION))
    snapshot_download(
        NAME, repo_type="dataset", revision=f"v{VERSION}", endpoint=hub.url, cache_dir=constants.HF_HUB_CACHE
    )
    return made


def cut_off(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.requests.clear()


@pytest.mark.parametrize("revision", [lambda commit: f"v{VERSION}", lambda commit: commit])
def test_what_is_in_the_cache_is_read_as_online(
    hub: Hub, commit: str, revision: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"{NAME}@{revision(commit)}"
    online = looked_at(open_atlas(name))
    cut_off(hub, monkeypatch)
    assert looked_at(open_atlas(name)) == online
    assert hub.requests == []


def test_revision_that_was_only_read_by_us_is_known_offline(
    hub: Hub, atlas: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(plan(Folder(atlas), NAME, VERSION))
    before = read_manifest(open_atlas(f"{NAME}@v{VERSION}"))
    cut_off(hub, monkeypatch)
    assert read_manifest(open_atlas(f"{NAME}@v{VERSION}")) == before


def test_what_is_not_in_the_cache_is_named_with_what_to_do(
    hub: Hub, commit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off(hub, monkeypatch)
    for name in (f"{NAME}@v2026.1.0", f"someone/other@{commit}"):
        with pytest.raises(HubFailed, match="is not in the cache, and HF_HUB_OFFLINE is set"):
            read_manifest(open_atlas(name))
    assert hub.requests == []
