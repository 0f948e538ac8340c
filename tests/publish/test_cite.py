"""Citations: of a folder, of a revision on the Hub, and of the software."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

import microscope_atlas
from microscope_atlas.atlas import releases
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.locate import open_atlas
from microscope_atlas.atlas.manifest import read_manifest
from microscope_atlas.errors import InvalidKey, UnknownName
from microscope_atlas.keys import parse_key
from microscope_atlas.pictures.sources import SOURCES
from microscope_atlas.publish import publish
from microscope_atlas.publish.cite import cite
from microscope_atlas.run import run
from tests import atlases
from tests.atlases import LAYER, LENS, MODEL
from tests.commands import Commands
from tests.hub_double import Hub

ROOT = Path(__file__).parents[2]
NAME, VERSION, TAG = "someone/microscope-atlas", "2026.11.0", "v2026.11.0"
UNIT = f"{MODEL}/{LAYER}/2"


def fields(text: str) -> dict[str, str]:
    """Of the BibTeX entry in a text."""
    entry = re.search(r"^@misc\{(\w+),\n(.*?)^\}$", text, re.DOTALL | re.MULTILINE)
    assert entry
    assert entry[0].count("{") == entry[0].count("}")
    return {"": entry[1], **dict(re.findall(r"^  (\w+) = \{(.*)\},$", entry[2], re.MULTILINE))}


def put(root: Path, space: str | None = None) -> str:
    return publish.publish(publish.plan(Folder(root), NAME, VERSION, space))


def test_published_unit_is_cited_with_links_to_its_commit(hub: Hub, atlas: Path) -> None:
    commit = put(atlas, "someone/space")
    text = cite(open_atlas(f"{NAME}@{TAG}"), parse_key(UNIT))
    page = f"https://huggingface.co/datasets/{NAME}"
    assert fields(text) == {
        "": "microscope_atlas_2026_11_0",
        "title": "Microscope Atlas: every unit of the vision networks that interpretability research studies",
        "author": "{The Microscope Atlas contributors}",
        "year": "2026",
        "version": VERSION,
        "publisher": "Hugging Face",
        "url": f"{page}/tree/{commit}",
        "note": rf"key efficientnet\_lite0/{LAYER}/2",  # as LaTeX wants it
    }
    space = f"https://huggingface.co/spaces/someone/space?model={MODEL}&layer={LAYER}&unit=2&revision={commit}"
    links = [f"{page}/tree/{commit}", f"{page}/blob/{commit}/{LENS}/{MODEL}/{LAYER}.00002-00003.parquet", space]
    assert [line for line in text.splitlines() if line.startswith("https://")] == links


def test_weights_are_cited_with_their_license(atlas: Path) -> None:
    model = read_manifest(Folder(atlas)).models[MODEL]
    assert f"{MODEL}: {model['provenance']['source']}, license Apache-2.0, sha256 {model['weights_sha256']}" in cite(
        Folder(atlas)
    )


def test_folder_is_cited_by_its_manifest_and_as_not_published(atlas: Path) -> None:
    text = cite(Folder(atlas))
    identity = releases.identity(read_manifest(Folder(atlas)))
    assert fields(text)["note"] == f"manifest with sha256 {identity}; not published"
    assert "https://huggingface.co" not in text
    assert f"{atlas} is not published" in text


def test_main_that_is_no_version_is_cited_as_not_published(hub: Hub, atlas: Path) -> None:
    put(atlas)
    manifest = read_manifest(Folder(atlas))
    manifest.software = "other"
    hub.commit(f"datasets/{NAME}", {"atlas.json": manifest.to_json().encode()})
    assert "not published" in fields(cite(open_atlas(f"{NAME}@main")))["note"]


def test_downloaded_version_is_cited_by_its_tag(hub: Hub, atlas: Path) -> None:
    put(atlas)
    for path, file in hub.files(f"datasets/{NAME}").items():
        (atlas / path).write_bytes(file)
    assert fields(cite(Folder(atlas)))["url"] == f"https://huggingface.co/datasets/{NAME}/tree/{TAG}"


@pytest.mark.parametrize("key", ["alexnet", f"{MODEL}/head", f"{MODEL}/{LAYER}/3"])
def test_what_is_not_in_the_atlas_is_not_cited(atlas: Path, key: str) -> None:
    with pytest.raises(UnknownName, match=f"{key} is not in the atlas"):
        cite(Folder(atlas), parse_key(key))


def test_what_is_no_key_is_not_cited(commands: Commands, atlas: Path) -> None:
    ended = commands("cite", atlas, "a/b/c/d")
    assert (ended.status, InvalidKey.exit_status) == (2, 2)
    assert commands("cite", atlas, UNIT).out == cite(Folder(atlas), parse_key(UNIT)) + "\n"


def test_citation_file_agrees_with_the_package() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "version"} <= set(citation)
    assert (citation["version"], citation["license"]) == (microscope_atlas.__version__, project["license"])
    assert citation["title"].lower().replace(" ", "-") == project["name"]
    assert citation["abstract"] == project["description"]
    assert citation["type"] == "software"
    assert all(author.get("name") or author.get("family-names") for author in citation["authors"])


def test_natural_pictures_are_named_with_their_authors_where_the_atlas_shows_them(whole: Path, tmp_path: Path) -> None:
    assert "Natural pictures" not in cite(Folder(whole))
    recipe = atlases.quick("caricature")
    run.render(
        Folder(tmp_path),
        [atlases.request({"stem": range(1)})],
        {"caricature": recipe},
        atlases.HERE,
        1,
        lambda *_: None,
    )
    told = cite(Folder(tmp_path)).partition("Natural pictures:\n")[2]
    assert recipe.sources == ("cat",)
    assert [line.partition(":")[0].strip() for line in told.splitlines()] == ["cat"]
    assert SOURCES["cat"].author in told
    assert SOURCES["cat"].license in told
