"""Converted weights in a repository of the Hugging Face Hub: one more source, for when the first ones are gone.

A repository holds a safetensors file a model, `weights.json` with what each is, and a card that says it to readers.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from generate import schema
from generate.errors import WeightsError
from generate.models import converted
from generate.models.converted import Weights
from generate.models.download import file_hash
from generate.models.organism import UNSTATED, Organism

if TYPE_CHECKING:
    from huggingface_hub import HfApi

INDEX = "weights.json"
CARD = "README.md"


def filename(model: str) -> str:
    """Of a model's converted weights."""
    return f"{schema.split(model)}.safetensors"


def fetch(organism: Organism, repo: str) -> Weights:
    """The organism's weights from `owner/name` or `owner/name@revision`; WeightsError where they cannot be had."""
    name, _, revision = repo.partition("@")
    where = f"{_endpoint()}/{repo}: {filename(organism.name)}"
    with TemporaryDirectory() as folder, _answering(where):
        file = filename(organism.name)
        path = Path(_hub().hf_hub_download(name, file, revision=revision or None, local_dir=folder))
        try:
            given = converted.read(path)
        except WeightsError as error:
            raise WeightsError(f"{where}: {error}") from error
        tensors = converted.fit(organism, given.tensors, where)
        origin = given.provenance
        provenance = replace(
            origin, source=f"{where}, from {origin.source}", file_sha256=file_hash(path, "sha256"), official=False
        )
        return Weights(tensors, converted.identity(tensors), provenance)


def publish(repo: str, weights: Mapping[str, Weights]) -> str:
    """Put weights, by model, into the repository `owner/name` in one commit; returns the commit's URL.

    What is there of other models stays. Raises WeightsError, before anything is sent, where a license is not stated.
    """
    from huggingface_hub import CommitOperationAdd

    for model, given in weights.items():
        if given.provenance.license in (UNSTATED, "none"):
            raise WeightsError(f"the license of {model}'s weights is not stated; they are not ours to publish")
    with TemporaryDirectory() as temporary, _answering(f"{_endpoint()}/{repo}"):
        folder, hub = Path(temporary), _hub()
        hub.create_repo(repo, exist_ok=True)
        head = hub.model_info(repo).sha
        index = _index(hub, repo, head, folder)
        for model, given in weights.items():
            converted.write(folder / filename(model), given)
            index[model] = {"sha256": given.sha256, "provenance": asdict(given.provenance)}
        (folder / INDEX).write_text(json.dumps(index, indent=1, sort_keys=True) + "\n")
        (folder / CARD).write_text(card(repo, index))
        commit = hub.create_commit(
            repo,
            [CommitOperationAdd(file, folder / file) for file in (*map(filename, weights), INDEX, CARD)],
            commit_message=f"Put in the weights of {', '.join(weights)}",
            parent_commit=head,
        )
        return commit.commit_url


def card(repo: str, index: Mapping[str, Any]) -> str:
    """The repository's model card."""
    models = sorted(index)
    rows = [
        f"| `{model}` | {index[model]['provenance']['source']} | {index[model]['provenance']['license']} "
        f"| `{index[model]['sha256']}` |"
        for model in models
    ]
    return "\n".join(
        (
            "---",
            "license: other",
            "license_name: of-each-file",
            "tags: [interpretability, vision, microscope]",
            "---",
            "# Weights of microscope-atlas' models",
            "",
            "Weights that others trained and published, converted for microscope-atlas and otherwise unchanged. Each",
            "file is under the license of its source.",
            "",
            "| model | source | license | sha256 of the tensors |",
            "|---|---|---|---|",
            *rows,
            "",
            "```",
            f"microscope-atlas weights {models[0]} --mirror {repo}",
            "```",
            "",
            f"fetches one of them, verifies it and keeps it in the cache. `{INDEX}` holds the same table for programs.",
            "",
        )
    )


def _index(hub: "HfApi", repo: str, head: str | None, folder: Path) -> dict[str, Any]:
    """What the repository says it holds; nothing where it is new."""
    if not hub.file_exists(repo, INDEX, revision=head):
        return {}
    path = Path(hub.hf_hub_download(repo, INDEX, revision=head, local_dir=folder))
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def _hub() -> "HfApi":
    from huggingface_hub import HfApi  # late: the command line starts faster, and rendering does without it

    return HfApi(endpoint=_endpoint())


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


@contextmanager
def _answering(where: str) -> Iterator[None]:
    """The Hub's refusals, and its silence, as WeightsError."""
    from huggingface_hub.errors import EntryNotFoundError, HTTPError  # type: ignore[attr-defined]

    try:
        yield
    except (EntryNotFoundError, HTTPError, OSError, RuntimeError, ValueError) as error:
        raise WeightsError(f"{where}: {error}") from error
