"""What an engine is: something that renders shards, in whatever order and on whatever machines, and tells of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from microscope_atlas.atlas.storage import WritableStorage
from microscope_atlas.errors import AtlasUnwritable
from microscope_atlas.run.memory import free_cached_memory, ran_out
from microscope_atlas.run.plan import Bundle, Job, halves
from microscope_atlas.run.shard import BatchHalved, RowsMade, ShardFinished, gather, render_shard


@dataclass(frozen=True)
class JobFailed:
    """A shard could not be rendered; the others go on."""

    job: Job
    reason: str


Event = RowsMade | BatchHalved | ShardFinished | JobFailed


class Engine(Protocol):
    def run(self, jobs: Sequence[Job], storage: WritableStorage) -> Iterator[Event]:
        """Render `jobs` into the atlas at `storage`. Each ends in exactly one ShardFinished or JobFailed.

        Neighbours that can share a pass go to one worker, see plan.bundles. What would fail every job is no job's
        failure: AtlasUnwritable where the atlas' disk refuses.
        """


def attempt(bundle: Bundle, storage: WritableStorage, device: torch.device) -> Iterator[Event]:
    """Render the jobs of a bundle in their order, in whatever process an engine has for it.

    Where the pass that they share fails, each has one of its own, so that none fails for another; where memory runs out
    in it, each half of them shares one.
    """
    if len(bundle) == 1:
        yield from _alone(bundle[0], storage, device)
        return
    left, passes = bundle, gather(bundle, storage, device)
    while left:
        try:
            gathered = next(passes)
        except (Exception, SystemExit) as error:  # of which those learn that fail alone, too
            smaller = halves(left) if isinstance(error, Exception) and ran_out(error) else [(job,) for job in left]
            break
        yield from _alone(left[0], storage, device, gathered)
        left = left[1:]
    else:
        return
    del passes
    free_cached_memory(device)
    for part in smaller:
        yield from attempt(part, storage, device)


def _alone(job: Job, storage: WritableStorage, device: torch.device, gathered: Any = None) -> Iterator[Event]:
    try:
        yield from render_shard(job, storage, device, gathered)
    except AtlasUnwritable:  # the next one would meet it, too
        raise
    except (Exception, SystemExit) as error:  # whatever it is, it fails one shard alone, and is reported
        yield JobFailed(job, f"{type(error).__name__}: {error}")
