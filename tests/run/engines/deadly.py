"""A lens of one's own whose layers share a pass, which ends the process that makes it for a certain layer."""

import os
import signal
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from microscope_atlas.atlas.schema import PROVENANCE, UNIT_KEY
from microscope_atlas.atlas.tables import Column, Table
from microscope_atlas.lenses.lens import Lens, Row, Subject
from microscope_atlas.lenses.recipe import Quality, Recipe

NAME = "own:tests.run.engines.deadly.Deadly"
LAYER = "mixer"


class Deadly(Lens[Recipe]):
    table = Table("deadly", "nothing", (*UNIT_KEY, Column("together", pa.int32(), "layers"), *PROVENANCE))
    divisible = False
    shares_pass = True

    def recipe(self, quality: Quality) -> Recipe:
        return Recipe()

    def gather(self, subjects: Sequence[Subject], recipe: Recipe) -> Iterator[Any]:
        if any(subject.layer.name == LAYER for subject in subjects):
            os.kill(os.getpid(), signal.SIGKILL)
        yield from [len(subjects)] * len(subjects)

    def rows(self, subject: Subject, units: Sequence[int], recipe: Recipe) -> Iterator[list[Row]]:
        together = subject.gathered or next(self.gather([subject], recipe))
        yield [{"unit": unit, "together": together} for unit in units]
