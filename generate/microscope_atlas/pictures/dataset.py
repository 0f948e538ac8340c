"""The pictures of a dataset that `datasets` loads: DATASET[:CONFIG][@REVISION]#SPLIT.

Of the Hub, its revision is the commit. Of a folder on this machine it is the hash of its pictures, in their order; the
set's name is then `folder#SPLIT`, because where the folder is says nothing of what is in it.
"""

import hashlib
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from microscope_atlas.errors import PicturesFailed
from microscope_atlas.pictures import places
from microscope_atlas.pictures.decoder import picture
from microscope_atlas.pictures.folder import WHOLE
from microscope_atlas.pictures.labels import of_dataset
from microscope_atlas.pictures.picture_set import MAX_PIXELS, THREADS, PictureSet, ahead
from microscope_atlas.pictures.places import Place
from microscope_atlas.pictures.revisions import revision_of
from microscope_atlas.pictures.terms import Terms, of_card

if TYPE_CHECKING:
    from datasets import Dataset, DatasetBuilder

NAME = re.compile(r"(?P<path>[^@:]+)(:(?P<config>[^@]+))?(@(?P<revision>.+))?")


def dataset_set(name: str) -> PictureSet:
    """The set of a dataset's pictures, of its first column that holds any; PicturesFailed where it cannot be loaded."""
    place, split = name.rsplit("#", 1)
    match = NAME.fullmatch(place)
    if match is None:
        raise PicturesFailed(f"{name!r} names no dataset; expected DATASET[:CONFIG][@REVISION]#SPLIT")
    data, files = _loaded(name, match["path"], match["config"], match["revision"], split)
    column, images = _images(name, data)

    def read(number: int) -> Image.Image:
        return picture(io.BytesIO(_file(images[number][column])), MAX_PIXELS)

    local = Path(match["path"])
    commit = _commit(files)
    if commit is not None or not local.is_dir():
        revision, terms = commit or data._fingerprint, _of_hub(match["path"], commit)
    else:
        known = Place(f"{local.resolve()}{name.removeprefix(match['path'])}", _fingerprint(files, split))
        revision = places.revision(known) or revision_of(
            list(ahead(_hash(images, column), range(len(images)), 2 * THREADS))
        )
        places.note(revision, known)
        name = f"{WHOLE}{':' + match['config'] if match['config'] else ''}#{split}"
        terms = of_card(local / "README.md")
    return PictureSet(
        name,
        revision,
        len(images),
        read,
        lambda number: f"picture {number} of dataset {name}",
        terms,
        read_labels=lambda: of_dataset(data),
    )


def _loaded(name: str, path: str, config: str | None, revision: str | None, split: str) -> "tuple[Dataset, list[str]]":
    """The dataset, and the files that its split is made of: no others are fetched."""
    import datasets  # no part of what rendering needs

    try:
        builder = datasets.load_dataset_builder(path, config, revision=revision)
        if wanted := _of_split(builder, split):
            builder = datasets.load_dataset_builder(path, config, revision=revision, data_files=wanted)
        builder.download_and_prepare(verification_mode="no_checks" if wanted else None)
        data = builder.as_dataset(split=split)
    except (datasets.exceptions.DatasetsError, OSError, ValueError) as error:
        raise PicturesFailed(f"dataset {name} cannot be loaded: {error}") from error
    return data, [str(file) for some in (builder.config.data_files or {}).values() for file in some]


def _of_split(builder: "DatasetBuilder", split: str) -> dict[str, list[str]]:
    """The files of the splits that `train[:100]+test` names, where there are others beside them; else none."""
    files = builder.config.data_files or {}
    named = [part.partition("[")[0].strip() for part in split.split("+")]
    if not set(named) < set(files):
        return {}
    return {name: [str(file) for file in files[name]] for name in named}


def _images(name: str, data: "Dataset") -> "tuple[str, Dataset]":
    """The first column of images, left encoded: they are decoded as all pictures are."""
    import datasets

    columns = [column for column, feature in data.features.items() if isinstance(feature, datasets.Image)]
    if not columns:
        raise PicturesFailed(f"dataset {name} has no column of images; its columns are {', '.join(data.features)}")
    column = columns[0]
    return column, data.select_columns([column]).cast_column(column, datasets.Image(decode=False))


def _file(value: dict[str, Any]) -> bytes:
    """The encoded picture that a row holds, or names."""
    if value["bytes"] is not None:
        return bytes(value["bytes"])
    from datasets.utils.file_utils import xopen

    with xopen(value["path"], "rb") as file:
        return bytes(file.read())


def _hash(images: "Dataset", column: str) -> Callable[[int], str]:
    return lambda number: hashlib.sha256(_file(images[number][column])).hexdigest()


def _fingerprint(files: Sequence[str], split: str) -> str:
    """Of the files that a split is made of: their names, sizes and times."""
    stats = [(file, Path(file).stat()) for file in files]
    return revision_of([split, *([file, stat.st_size, stat.st_mtime_ns] for file, stat in stats)])


def _commit(files: Sequence[str]) -> str | None:
    """The commit that a dataset's files were loaded from; None where they are not on the Hub."""
    found = {match[1] for file in files if (match := re.match(r"hf://datasets/[^@]+@([0-9a-f]{40})/", str(file)))}
    return found.pop() if len(found) == 1 else None


def _of_hub(repo: str, commit: str | None) -> Terms | None:
    """What the card on the Hub states; nothing where it has none, or is not to be had."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return of_card(Path(hf_hub_download(repo, "README.md", repo_type="dataset", revision=commit)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError):
        return None
