"""What becomes of jobs that share a pass, whichever engine has them."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.units import UnitRange
from microscope_atlas.lenses.lens import Subject
from microscope_atlas.lenses.responses import Recipe, Responses
from microscope_atlas.models import weights
from microscope_atlas.models.catalog import organism
from microscope_atlas.run.engines.engine import Event, JobFailed, attempt
from microscope_atlas.run.plan import Job
from microscope_atlas.run.shard import BatchHalved, RowsMade, ShardFinished
from tests.atlases import content, quick

MODEL = "own:tests.models.own_networks.small"
LAYERS = ("stem_0", "block_conv1", "block_conv2", "mixer", "logits")
CPU = torch.device("cpu")


def jobs() -> list[Job]:
    sha256 = weights.load(organism(MODEL)).sha256
    return [
        Job(
            UnitRange("responses", MODEL, layer, 0, organism(MODEL).layer(layer).units),
            quick("responses"),
            "pretrained",
            sha256,
        )
        for layer in LAYERS
    ]


def ended(events: Sequence[Event]) -> list[str]:
    """How jobs ended: the layers of shards, and what was said of those that failed."""
    shards = {event.shard.units.layer: "" for event in events if isinstance(event, ShardFinished)}
    failed = {event.job.units.layer: event.reason for event in events if isinstance(event, JobFailed)}
    assert not shards.keys() & failed.keys()
    return [f"{layer} {why}".strip() for layer, why in (shards | failed).items()]


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The layers of each pass that begins."""
    found: list[list[str]] = []
    right = Responses.gather

    def noting(self: Responses, subjects: Sequence[Subject], recipe: Recipe) -> Iterator[Any]:
        found.append([subject.layer.name for subject in subjects])
        yield from right(self, subjects, recipe)

    monkeypatch.setattr(Responses, "gather", noting)
    return found


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception, at: str, least: int = 1) -> None:
    """Passes over `at` and others, `least` layers at least, fail before they tell of it."""
    right = Responses.gather

    def fails(self: Responses, subjects: Sequence[Subject], recipe: Recipe) -> Iterator[Any]:
        for subject, gathered in zip(subjects, right(self, subjects, recipe), strict=True):
            if subject.layer.name == at and len(subjects) >= least:
                raise error
            yield gathered

    monkeypatch.setattr(Responses, "gather", fails)


@pytest.fixture
def reference(tmp_path: Path) -> dict[str, bytes]:
    """Shards that were made one by one."""
    for job in jobs():
        list(attempt((job,), Folder(tmp_path / "alone"), CPU))
    return content(tmp_path / "alone")


def test_jobs_that_share_a_pass_give_the_files_that_they_give_alone(
    reference: dict[str, bytes], passes: list[list[str]], tmp_path: Path
) -> None:
    events = list(attempt(tuple(jobs()), Folder(tmp_path / "together"), CPU))
    assert ended(events) == list(LAYERS)
    assert passes == [list(LAYERS)]
    assert content(tmp_path / "together") == reference
    units = sum(organism(MODEL).layer(layer).units for layer in LAYERS)
    assert sum(event.units for event in events if isinstance(event, RowsMade)) == units


def test_where_a_pass_fails_each_job_has_its_own(
    reference: dict[str, bytes], passes: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, ValueError("no light"), "block_conv2")
    events = list(attempt(tuple(jobs()), Folder(tmp_path / "together"), CPU))
    assert ended(events) == ["stem_0", "block_conv1", "mixer", "logits", "block_conv2 ValueError: no light"]
    assert passes == [list(LAYERS), *([layer] for layer in LAYERS[2:])]
    assert reference.items() > content(tmp_path / "together").items()


def test_where_memory_runs_out_fewer_layers_share_a_pass_and_no_batch_is_smaller(
    reference: dict[str, bytes], passes: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, MemoryError("no more"), "block_conv1", least=3)
    events = list(attempt(tuple(jobs()), Folder(tmp_path / "together"), CPU))
    assert ended(events) == list(LAYERS)
    assert passes == [list(LAYERS), list(LAYERS[1:3]), list(LAYERS[3:])]
    assert not any(isinstance(event, BatchHalved) for event in events)
    assert content(tmp_path / "together") == reference


def test_where_memory_runs_out_for_one_layer_alone_its_batch_is_smaller_and_no_other(
    passes: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Responses.gather

    def fails(self: Responses, subjects: Sequence[Subject], recipe: Recipe) -> Iterator[Any]:
        if any(subject.layer.name == "mixer" for subject in subjects) and recipe.batch > 8:
            raise MemoryError("no more")
        yield from right(self, subjects, recipe)

    monkeypatch.setattr(Responses, "gather", fails)
    events = list(attempt(tuple(jobs()), Folder(tmp_path / "together"), CPU))
    assert ended(events) == list(LAYERS)
    assert [event.batch for event in events if isinstance(event, BatchHalved)] == [8]


def test_rows_of_one_job_that_cannot_be_made_fail_it_alone(
    passes: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Responses.rows

    def rows(self: Responses, subject: Subject, units: Sequence[int], recipe: Recipe) -> Iterator[Any]:
        if subject.layer.name == "block_conv1":
            raise ValueError("no light")
        yield from right(self, subject, units, recipe)

    monkeypatch.setattr(Responses, "rows", rows)
    events = list(attempt(tuple(jobs()), Folder(tmp_path / "together"), CPU))
    assert ended(events) == ["stem_0", "block_conv2", "mixer", "logits", "block_conv1 ValueError: no light"]
    assert passes == [list(LAYERS)]


def test_lens_that_tells_of_too_few_layers_has_a_pass_for_each_other(
    passes: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Responses.gather

    def one(self: Responses, subjects: Sequence[Subject], recipe: Recipe) -> Iterator[Any]:
        yield next(right(self, subjects, recipe))

    monkeypatch.setattr(Responses, "gather", one)
    assert ended(list(attempt(tuple(jobs()), Folder(tmp_path / "together"), CPU))) == list(LAYERS)


def test_job_of_another_batch_has_a_pass_of_its_own() -> None:
    one, other = jobs()[:2]
    assert one.shares_pass_with(other)
    assert not one.shares_pass_with(replace(other, batch=2))
    assert not one.shares_pass_with(replace(other, recipe=replace(other.recipe, top=3)))
    assert not one.shares_pass_with(replace(other, units=replace(other.units, model="efficientnet_lite0")))
