"""Converted weights in a repository of the Hugging Face Hub: one more source, for when the first ones are gone.

A repository holds a safetensors file a model, `weights.json` with what each is, and a card that says it to readers.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from microscope_atlas.atlas import schema
from microscope_atlas.atlas.provenance import UNTRAINED
from microscope_atlas.errors import HubFailed, WeightsError
from microscope_atlas.hub import repo as hub
from microscope_atlas.hub.changes import File, changes
from microscope_atlas.hub.repo import Repo
from microscope_atlas.models import converted
from microscope_atlas.models.converted import Weights
from microscope_atlas.models.download import file_hash
from microscope_atlas.models.organism import UNSTATED, Organism

INDEX = "weights.json"
CARD = "README.md"


def filename(model: str) -> str:
    """Of a model's converted weights."""
    return f"{schema.split(model)}.safetensors"


def fetch(organism: Organism, repo: str) -> Weights:
    """The organism's weights from `owner/name` or `owner/name@revision`; WeightsError where they cannot be had."""
    name, _, revision = repo.partition("@")
    where = f"{hub.endpoint()}/{repo}: {filename(organism.name)}"
    with TemporaryDirectory() as folder:
        try:
            path = Repo(name, "model").download(filename(organism.name), revision or "main", Path(folder))
            given = converted.read(path)
        except (HubFailed, WeightsError) as error:
            raise WeightsError(f"{where}: {error}") from error
        tensors = converted.fit(organism, given.tensors, where)
        origin = given.provenance
        provenance = replace(
            origin, source=f"{where}, from {origin.source}", file_sha256=file_hash(path, "sha256"), official=False
        )
        return Weights(tensors, converted.identity(tensors), provenance)


def publish(name: str, weights: Mapping[str, Weights]) -> str:
    """Put weights, by model, into the repository `owner/name` in one commit; returns the commit's URL.

    What is there of other models stays. Raises WeightsError, before anything is sent, where a license is not stated;
    HubFailed where the Hub refuses.
    """
    for model, given in weights.items():
        if given.lacking:
            raise WeightsError(f"the weights of {model} lack {', '.join(given.lacking)}; publish whole ones")
        if given.provenance.license in (UNSTATED, UNTRAINED.license):
            raise WeightsError(f"the license of {model}'s weights is not stated; they are not ours to publish")
    repo = Repo(name, "model")
    head = repo.create()
    tree = repo.tree(head)
    index = json.loads(repo.download(INDEX, head).read_text()) if INDEX in tree else {}
    files = {}
    with TemporaryDirectory() as temporary:
        for model, given in weights.items():
            entry = {"sha256": given.sha256, "provenance": json.loads(json.dumps(asdict(given.provenance)))}
            if index.get(model) == entry and filename(model) in tree:
                continue  # the same tensors; their file's header is written in any order
            index[model] = entry
            files[filename(model)] = File(Path(temporary) / filename(model))
            converted.write(Path(temporary) / filename(model), given)
        files[INDEX] = File((json.dumps(index, indent=1, sort_keys=True) + "\n").encode())
        files[CARD] = File(card(name, index).encode())
        message = f"Put in the weights of {', '.join(weights)}"
        needed = changes(files, tree, ours=lambda path: False)
        commit = repo.commit(needed, head, message) if needed else head
    return f"{repo.url}/commit/{commit}"


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
