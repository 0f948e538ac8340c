"""Where on this machine sets of pictures lie, by the revision of their content: rows name that, and never a path.

One small file in the cache. Without it, or where pictures have moved, `--pictures` says where they are.
"""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass

from filelock import FileLock

from microscope_atlas.cache import cache

FILE = "pictures.json"


@dataclass(frozen=True)
class Place:
    """Where a set was last seen."""

    where: str  # as `--pictures` takes it, its path absolute
    fingerprint: str = ""  # of its files' names, sizes and times; while it stays, nobody has to read them again
    left_out: tuple[str, ...] = ()  # files that cannot be read


def find(revision: str) -> Place | None:
    """Where the set of this revision was last seen; None where nobody noted it."""
    return _all().get(revision)


def revision(place: Place) -> str | None:
    """Of the set that was last seen at a place whose fingerprint is still this one."""
    same = (
        known for known, seen in _all().items() if (seen.where, seen.fingerprint) == (place.where, place.fingerprint)
    )
    return next(same, None)


def note(revision: str, place: Place) -> None:
    """Remember where a set is. A cache that cannot be written is none: what needs it says so when it does."""
    if find(revision) == place:
        return
    path = cache() / FILE
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            # what was at the same place before is there no longer
            known = {each: seen for each, seen in _all().items() if seen.where != place.where} | {revision: place}
            beside = path.with_suffix(".part")
            plain = {each: asdict(seen) for each, seen in known.items()}
            beside.write_text(json.dumps(plain, indent=1, sort_keys=True) + "\n")
            beside.replace(path)


def _all() -> dict[str, Place]:
    """What is noted, by revision; a cache that is lost or spoilt knows nothing."""
    try:
        noted = json.loads((cache() / FILE).read_text())
        return {
            str(revision): Place(str(seen["where"]), str(seen["fingerprint"]), tuple(map(str, seen["left_out"])))
            for revision, seen in noted.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
