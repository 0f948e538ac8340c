"""Render one shard: the one function that every engine calls."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from typing import Any

import pyarrow as pa
import torch

from microscope_atlas.atlas.dictionaries import Attached
from microscope_atlas.atlas.manifest import Shard
from microscope_atlas.atlas.provenance import package
from microscope_atlas.atlas.shards import read_shard, write_shard
from microscope_atlas.atlas.storage import Storage, WritableStorage
from microscope_atlas.atlas.tables import Scope
from microscope_atlas.atlas.units import missing
from microscope_atlas.errors import NotRendered, OutOfMemory, WeightsError
from microscope_atlas.lenses.lens import Row, Subject
from microscope_atlas.lenses.recipe import settings
from microscope_atlas.lenses.registry import LENSES
from microscope_atlas.models import weights
from microscope_atlas.models.catalog import organism
from microscope_atlas.models.dictionaries.attached import attach, attached
from microscope_atlas.models.networks.network import Network
from microscope_atlas.pictures.sets import at_place
from microscope_atlas.run.memory import capped, free_cached_memory, halved_batch, ran_out
from microscope_atlas.run.plan import Job
from microscope_atlas.run.stored import Expected, stored, whole


@dataclass(frozen=True)
class RowsMade:
    """Some rows were made; their shard is not written yet."""

    lens: str
    rows: int
    units: Fraction  # that they are all of, or a layer; 0 where it depends how many rows there will be


@dataclass(frozen=True)
class BatchHalved:
    """Memory ran out: the rows that were made of a shard are made again, fewer of them at once."""

    lens: str
    units: Fraction  # to make again, as in RowsMade
    batch: int  # from now on


@dataclass(frozen=True)
class ShardFinished:
    """A shard is in its place."""

    shard: Shard


def render_shard(
    job: Job, storage: WritableStorage, device: torch.device, gathered: Any = None
) -> Iterator[RowsMade | BatchHalved | ShardFinished]:
    """Make a job's rows and write them as a shard into the atlas at `storage`; tells of rows as they are made.

    `gathered` is what a pass has told already, see `gather`. Where memory runs out, it begins anew with half the batch,
    until the rows fit; OutOfMemory where they never do.
    """
    attach(job.units.model, dict(job.dictionaries))
    made: list[Row] = []
    each = job.rows_each(organism(job.units.model).layer(job.units.layer).kind)
    while True:
        try:
            for some in rows(job, storage, device, gathered):
                made += some
                yield RowsMade(job.units.lens, len(some), _share(len(some), each))
            break
        except Exception as error:
            if not ran_out(error):
                raise
            job, gathered = _lowered(job, device, error), None
        free_cached_memory(device)  # here, because the error holds on to all that was in use when it was raised
        assert job.batch is not None
        yield BatchHalved(job.units.lens, _share(len(made), each), job.batch)
        made = []
    yield ShardFinished(write_shard(storage, job.units, job.id, made, job.table))


def _share(rows: int, each: int | None) -> Fraction:
    return Fraction(rows, each) if each else Fraction(0)


def _lowered(job: Job, device: torch.device, error: Exception) -> Job:
    """The job with half the batch; OutOfMemory, because of `error`, where that is the least already."""
    recipe = capped(job.recipe, job.batch)
    batch = halved_batch(recipe, device)
    if batch is None:
        least = f"a batch of {recipe.max_batch}, below which --batch does not help" if recipe.max_batch else "it"
        raise OutOfMemory(
            f"no memory left on {device_name(device)} for {least}: fewer --workers leave more to each ({error})"
        ) from error
    return replace(job, batch=batch)


def gather(jobs: Sequence[Job], storage: Storage, device: torch.device) -> Iterator[Any]:
    """Of each of some jobs that share a pass, in their order, what passes over their layers tell: see Lens.gather."""
    first = jobs[0]
    recipe = capped(first.recipe, first.batch)
    at_place(recipe, first.pictures)
    attach(first.units.model, dict(first.dictionaries))
    subjects = [_subject(job, storage, device) for job in jobs]
    with one_thread():
        yield from first.lens.gather(subjects, recipe)


def rows(job: Job, storage: Storage, device: torch.device, gathered: Any = None) -> Iterator[list[Row]]:
    """A job's rows as they are stored, some at a time; what they are made from is read from the atlas at `storage`.

    RowsFailed where the lens yields others than were asked for; NotRendered where what it reads is not there.
    """
    recipe = capped(job.recipe, job.batch)
    at_place(recipe, job.pictures)
    attach(job.units.model, dict(job.dictionaries))
    subject, table = replace(_subject(job, storage, device), gathered=gathered), job.table
    made_by = {
        "model": job.units.model,
        "layer": job.units.layer,
        "weights_sha256": job.weights_sha256,
        "software": software(),
        "device": device_name(device),
        "recipe": settings(recipe),
    }
    is_ours = job.units.lens in LENSES
    if not is_ours:
        _refuse_absent(job)
    each = job.rows_each(subject.layer.kind)
    expected = Expected(job.maker or job.lens.name, table, job.units, each, least=0 if is_ours else 1)
    with one_thread():
        found = job.lens.rows(subject, range(job.units.start, job.units.stop), recipe)
        made = _telling(found, job.dictionary, settings(recipe)) if job.dictionary else found
        yield from _beside(lambda some: stored(some, table), whole(made, made_by, expected))


def _telling(made: Iterable[list[Row]], dictionary: Attached, recipe: dict[str, Any]) -> Iterable[list[Row]]:
    """Rows whose recipe says, too, which dictionary makes the layer's units."""
    told = {"dictionary": dictionary.told}
    for some in made:
        yield [{**row, "recipe": {**row.get("recipe", recipe), **told}} for row in some]


def _beside(finish: Callable[[list[Row]], list[Row]], batches: Iterable[list[Row]]) -> Iterator[list[Row]]:
    """Each batch finished, in a thread of its own while the next one is made: a device must not wait for files."""
    with ThreadPoolExecutor(1) as pool:
        before: Future[list[Row]] | None = None
        for some in batches:
            now = pool.submit(finish, some)
            if before:
                yield before.result()
            before = now
        if before:
            yield before.result()


@contextmanager
def one_thread() -> Iterator[None]:
    """Render with one thread a process: with more, gradients are rounded differently with the size of the batch."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def software() -> str:
    """What makes the rows of this process: `microscope-atlas 0.2.0, torch 2.13.0+cpu`."""
    return f"{package()}, torch {torch.__version__}"


def device_name(device: torch.device) -> str:
    """`cpu`, `mps`, or the accelerator's own name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _refuse_absent(job: Job) -> None:
    """NotRendered where a lens from outside reads a table of which nothing is there for what it is to make.

    Ours say so themselves: some take of a table what there is.
    """
    for name, scope in job.lens.reads.items():
        there = [made.units for made in job.inputs if made.units.lens == name]
        wanted = [replace(job.units, lens=name)]
        lacking = missing(wanted, there) if scope == "layer" and job.lens.level == "unit" else wanted * (not there)
        if lacking:
            raise NotRendered(f"there is no {lacking[0]}, which {job.lens.name} is made from; render it first")


def _subject(job: Job, storage: Storage, device: torch.device) -> Subject:
    known = organism(job.units.model)

    def load() -> Network:
        graph, sha256 = _network(job.units.model, job.weights, device, tuple(attached(job.units.model).items()))
        if sha256 != job.weights_sha256:
            here = f"weights of {known.name} have sha256 {sha256} here"
            raise WeightsError(f"{here}, the plan expects {job.weights_sha256}")
        return graph

    def read(table: str, columns: Sequence[str], scope: Scope = "atlas") -> Iterator[pa.Table]:
        for units in sorted(made.units for made in job.inputs):
            own = (units.model, units.layer) == (job.units.model, job.units.layer)
            if units.lens == table and (own or scope == "atlas"):
                with storage.local_copy(units.path) as file:
                    yield read_shard(file, columns)

    return Subject(known, known.layer(job.units.layer), device, load, read, job.weights_sha256)


@lru_cache(maxsize=1)
def _network(
    model: str, kind: weights.WeightsKind, device: torch.device, dictionaries: tuple[tuple[str, Attached], ...]
) -> tuple[Network, str]:
    """A process renders many shards of one model: it is loaded once, with the dictionaries that are attached to it."""
    given = weights.load(organism(model), kind)
    return weights.network(organism(model), given, device), given.sha256
