"""Short renders that tell what a machine takes."""

import time
from pathlib import Path

import pytest
import torch

from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.units import UnitRange
from microscope_atlas.lenses.registry import LENSES, UNASKED
from microscope_atlas.models import weights
from microscope_atlas.models.catalog import organism
from microscope_atlas.run.costs import Setup
from microscope_atlas.run.plan import Job
from microscope_atlas.run.probe import _candidates, probe
from microscope_atlas.run.shard import rows
from tests.atlases import LENS, MODEL, quick

QUICK = {name: Setup(name, quick(name)) for name in UNASKED}
HERE = torch.device("cpu")


def test_layers_are_measured_and_what_starts_is_counted() -> None:
    jobs = [UnitRange(LENS, MODEL, "stem", 0, 2), UnitRange("caricature", MODEL, "stem", 0, 32)]
    probed = probe([jobs, [UnitRange("units", MODEL, "stem", 0, 32)]], QUICK, HERE, imported=3.0)
    assert {(LENS, MODEL, "stem"), ("caricature", MODEL, "stem")} == probed.costs.rates.keys()
    assert all(1e-4 < rate.seconds < 10 for rate in probed.costs.rates.values())
    assert 3.0 <= probed.start < 13.0
    assert probed.costs.basis(jobs[0], QUICK) == "a probe of its layer"


def test_what_does_not_fit_the_limit_is_not_begun() -> None:
    began = time.monotonic()
    large = {LENS: Setup(LENS, LENSES[LENS].recipe("microscope"))}
    probed = probe([[UnitRange(LENS, MODEL, "head", 0, 64)]], large, HERE, imported=0.0, limit=0.001)
    assert not probed.costs.rates
    assert time.monotonic() - began < 20


def test_middle_of_the_cost_is_measured_first() -> None:
    shares = {(LENS, MODEL, name): share for name, share in (("a", 1.0), ("b", 2.0), ("c", 8.0), ("d", 20.0))}
    few = {("responses", MODEL, "a"): 0.5}
    found = _candidates(shares | few)
    assert list(found) == [LENS, "responses"]
    assert [layer for _, _, layer in found[LENS]][:2] == ["d", "c"]
    assert {place for places in found.values() for place in places} <= shares.keys() | few.keys()


@pytest.mark.long
def test_probe_tells_what_a_render_takes(tmp_path: Path) -> None:
    recipe = LENSES[LENS].recipe("draft")
    units = UnitRange(LENS, MODEL, "blocks_2", 0, 4)
    probed = probe([[units]], {LENS: Setup(LENS, recipe)}, HERE, imported=0.0)
    job = Job(units, recipe, "random", weights.load(organism(MODEL), "random").sha256)
    began = time.process_time()
    list(rows(job, Folder(tmp_path), HERE))
    took = time.process_time() - began
    assert 1 / 2 < probed.costs.seconds(units, {LENS: Setup(LENS, recipe)}) / took < 2
