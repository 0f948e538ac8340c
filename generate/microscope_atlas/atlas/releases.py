"""The versions of an atlas that were published: `releases.json`, beside the manifest of what is on the Hub.

A version is a calendar version, `2026.11.0`, and on the Hub the tag `v2026.11.0`. The list travels with the atlas, so
that its card can say which version it is and what each brought; the manifest and the shards know nothing of it.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Annotated, Any

from microscope_atlas.atlas import schema
from microscope_atlas.atlas.manifest import Manifest
from microscope_atlas.atlas.storage import Storage
from microscope_atlas.atlas.units import missing
from microscope_atlas.errors import AtlasDamaged, InvalidKey
from microscope_atlas.structure import matching, structure

REPO = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")  # `owner/name`
VERSION = re.compile(r"(20[0-9]{2})\.([1-9]|1[0-2])\.(0|[1-9][0-9]{0,8})")  # year, month, and a count within the month
Name = Annotated[str, matching(REPO, "as owner/name")]


@dataclass(frozen=True)
class Release:
    """A published version."""

    repo: Name  # `owner/name` of the dataset on the Hub
    version: Annotated[str, matching(VERSION, "as 2026.11.0")]  # `2026.11.0`
    manifest: str  # identity of the manifest that it holds
    changes: tuple[str, ...]  # since the version before, a line of Markdown each
    space: Name | None = None  # `owner/name` of the Space that shows it

    @property
    def tag(self) -> str:
        return f"v{self.version}"

    @property
    def year(self) -> str:
        return self.version.partition(".")[0]


def order(version: str) -> tuple[int, ...]:
    """What versions are sorted by; InvalidKey for what is no version."""
    if not (match := VERSION.fullmatch(version)):
        raise InvalidKey(f"version {version!r}; expected YEAR.MONTH.COUNT, such as 2026.11.0")
    return tuple(int(part) for part in match.groups())


def identity(manifest: Manifest) -> str:
    """sha256 of the manifest, and so of every shard."""
    return hashlib.sha256(manifest.to_json().encode()).hexdigest()


def current(releases: Sequence[Release], manifest: Manifest) -> Release | None:
    """The release that an atlas is; None where it was never published as it is now."""
    return releases[-1] if releases and releases[-1].manifest == identity(manifest) else None


def read(storage: Storage) -> list[Release]:
    """The releases that an atlas knows of, oldest first; none where it was not published."""
    if storage.size(schema.RELEASES) is None:
        return []
    path = f"{storage}/{schema.RELEASES}"
    try:
        plain = json.loads(storage.read(schema.RELEASES))["releases"]
        json.dumps(plain, ensure_ascii=False).encode()  # a ValueError for half characters, which nobody could print
        found = structure(tuple[Release, ...], plain, "releases")
    # RecursionError: lists in lists in lists
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise AtlasDamaged(f"{path} is not a list of releases: {error!r}") from error
    return list(found)


def to_json(releases: Sequence[Release]) -> str:
    return json.dumps({"releases": [asdict(release) for release in releases]}, indent=1, sort_keys=True) + "\n"


def differences(before: Manifest, after: Manifest) -> tuple[str, ...]:
    """What a version brings that the one before had not, a line of Markdown each."""
    lines = [f"model `{name}` added" for name in sorted({*after.models} - {*before.models})]
    lines += [f"model `{name}` removed" for name in sorted({*before.models} - {*after.models})]
    lines += [f"lens `{name}` added" for name in sorted({*after.lenses} - {*before.lenses})]
    lines += [f"lens `{name}` removed" for name in sorted({*before.lenses} - {*after.lenses})]
    lines += [
        f"`{name}`: other weights" for name, model in sorted(after.models.items()) if _other(before.models, name, model)
    ]
    lines += [
        f"`{name}`: other settings"
        for name, recipe in sorted(after.lenses.items())
        if _other(before.lenses, name, recipe)
    ]
    there, now = ([shard.units for shard in manifest.shards.values()] for manifest in (before, after))
    for verb, runs in (("added", missing(now, there)), ("removed", missing(there, now))):
        for (name, model), some in groupby(sorted(runs), key=lambda run: (run.lens, run.model)):
            units = list(some)
            num_units, num_layers = sum(run.stop - run.start for run in units), len({run.layer for run in units})
            lines.append(f"`{name}` of `{model}`: {_num(num_units, 'unit')} in {_num(num_layers, 'layer')} {verb}")
    return tuple(lines) or ("the same units",)


def _other(before: Mapping[str, dict[str, Any]], name: str, after: Mapping[str, Any]) -> bool:
    """Whether what was there before under this name was made in another way."""
    return name in before and {**before[name], "provenance": None} != {**after, "provenance": None}


def _num(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"
