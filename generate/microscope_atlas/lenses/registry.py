"""The lenses, by name. A new one is a new file and one line here, below the lenses that it reads."""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from microscope_atlas.atlas.schema import TABLES
from microscope_atlas.atlas.tables import Table
from microscope_atlas.errors import LensFailed, unknown
from microscope_atlas.lenses import own
from microscope_atlas.lenses.activation_atlas import ActivationAtlas
from microscope_atlas.lenses.caricature import Caricature
from microscope_atlas.lenses.connections import Connections
from microscope_atlas.lenses.dataset_samples import DatasetSamples
from microscope_atlas.lenses.deepdream import DeepDream
from microscope_atlas.lenses.feature_visualization import FeatureVisualization
from microscope_atlas.lenses.groups import Groups
from microscope_atlas.lenses.labels_class_selectivity import LabelsClassSelectivity
from microscope_atlas.lenses.labels_clip_dissect import LabelsClipDissect
from microscope_atlas.lenses.lens import Lens
from microscope_atlas.lenses.responses import Responses
from microscope_atlas.lenses.scores import Scores
from microscope_atlas.lenses.sheets import Sheets
from microscope_atlas.lenses.synthetic_tuning import SyntheticTuning
from microscope_atlas.lenses.texts import Texts
from microscope_atlas.lenses.units import Units

LENSES: dict[str, Lens[Any]] = {
    "feature_visualization": FeatureVisualization(),
    "responses": Responses(),
    "synthetic_tuning": SyntheticTuning(),
    "connections": Connections(),
    "deepdream": DeepDream(),
    "caricature": Caricature(),
    "activation_atlas": ActivationAtlas(),
    "groups": Groups(),
    "dataset_samples": DatasetSamples(),
    "texts": Texts(),
    "scores": Scores(),
    "labels_clip_dissect": LabelsClipDissect(),
    "labels_class_selectivity": LabelsClassSelectivity(),
    "units": Units(),
    "sheets": Sheets(),
}

UNASKED = tuple(name for name, each in LENSES.items() if not each.named_only)  # what is rendered where none is named


def lens(name: str) -> Lens[Any]:
    """The lens called `name`; UnknownName with the nearest names where there is none.

    Beside ours, a class or an instance of one's own, `own:PACKAGE.MODULE.LENS`: see own.
    """
    if name.startswith(own.PREFIX):
        return _own(name)
    if name not in LENSES:
        raise unknown("lens", name, "the lenses", LENSES)
    return LENSES[name]


@cache
def _own(name: str) -> Lens[Any]:
    """A lens from outside, once a process."""
    return own.imported(name)


def rounds(names: Iterable[str], tables: Mapping[str, Table] = TABLES) -> list[list[str]]:
    """The derived lenses among `names`, in rounds: each reads what the network's and earlier rounds' have made.

    LensFailed where some read each other.
    """

    def depth(name: str, above: tuple[str, ...] = ()) -> int:
        if name in above:
            raise LensFailed(f"{' reads '.join((*above, name))}; expected tables that are made before theirs")
        return max((1 + depth(read, (*above, name)) for read in tables[name].reads if read in tables), default=0)

    found: dict[int, list[str]] = {}
    for name in names:
        if tables[name].reads:
            found.setdefault(depth(name), []).append(name)
    return [found[depth] for depth in sorted(found)]
