"""What an engine is: something that renders shards, in whatever order and on whatever machines, and tells of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from microscope_atlas.atlas.storage import WritableStorage
from microscope_atlas.errors import AtlasUnwritable
from microscope_atlas.run.plan import Job
from microscope_atlas.run.shard import BatchHalved, RowsMade, ShardFinished, render_shard


@dataclass(frozen=True)
class JobFailed:
    """A shard could not be rendered; the others go on."""

    job: Job
    reason: str


Event = RowsMade | BatchHalved | ShardFinished | JobFailed


class Engine(Protocol):
    def run(self, jobs: Sequence[Job], storage: WritableStorage) -> Iterator[Event]:
        """Render `jobs` into the atlas at `storage`. Each ends in exactly one ShardFinished or JobFailed.

        What would fail every job is no job's failure: AtlasUnwritable where the atlas' disk refuses.
        """


def attempt(job: Job, storage: WritableStorage, device: torch.device) -> Iterator[Event]:
    """Render one job, in whatever process an engine has for it."""
    try:
        yield from render_shard(job, storage, device)
    except AtlasUnwritable:  # the next one would meet it, too
        raise
    except (Exception, SystemExit) as error:  # whatever it is, it fails one shard alone, and is reported
        yield JobFailed(job, f"{type(error).__name__}: {error}")
