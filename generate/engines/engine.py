"""What an engine is: something that renders shards, in whatever order and on whatever machines, and tells of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from generate.plan import Job
from generate.shard import Finished, Lowered, Made


@dataclass(frozen=True)
class Failed:
    """A shard could not be rendered; the others go on."""

    job: Job
    reason: str


Event = Made | Lowered | Finished | Failed


class Engine(Protocol):
    def run(self, jobs: Sequence[Job], root: Path) -> Iterator[Event]:
        """Render `jobs` into the atlas at `root`. Each ends in exactly one Finished or Failed.

        What would fail every job is no job's failure: AtlasUnwritable where the atlas' disk refuses.
        """
