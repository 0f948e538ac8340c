"""A unit on one figure: what was made for it, what excites it, and how it answers to made stimuli."""

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from microscope_atlas.errors import ExtraMissing, NotRendered

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from microscope_atlas.face.atlas import Unit

SAMPLES = 4  # of the strongest


def figure(unit: "Unit") -> "Figure":
    """The figure of a unit, one row: its picture, samples, and a map of responses for each tuning family."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ExtraMissing("plots need matplotlib; pip install 'microscope-atlas[plot]'") from error

    pictures: list[tuple[str, Any]] = []
    with suppress(NotRendered):
        pictures.append(("made for it", unit.image()))
    samples = [row for row in unit.samples() if row["image"] is not None][:SAMPLES]
    pictures += [(f"{row['activation']:.3g}", row["image"]) for row in samples]
    tunings = unit.rows("synthetic_tuning")
    if not pictures and not tunings:
        raise NotRendered(f"the atlas has nothing of {unit.key} that can be drawn")
    count = len(pictures) + len(tunings)
    drawn = Figure(figsize=(2.2 * count, 2.6), layout="constrained")
    drawn.suptitle(unit.key)
    axes = np.atleast_1d(drawn.subplots(1, count))
    for place, (title, picture) in zip(axes, pictures, strict=False):
        place.imshow(np.asarray(picture))
        place.set_title(title, fontsize="small")
        place.axis("off")
    for place, row in zip(axes[len(pictures) :], tunings, strict=True):
        _tuning(place, row)
    return drawn


def _tuning(axes: "Axes", row: dict[str, Any]) -> None:
    """A family's responses: `x_values` to the right, `y_values` upwards."""
    responses = np.asarray(row["responses"], dtype=float)
    axes.imshow(responses, aspect="auto", origin="lower", cmap="viridis")
    axes.set_title(row["family"], fontsize="small")
    axes.set_xlabel(row["x_axis"], fontsize="x-small")
    axes.set_ylabel(row["y_axis"], fontsize="x-small")
    for ticks, labels, values in (
        (axes.set_xticks, axes.set_xticklabels, row["x_values"]),
        (axes.set_yticks, axes.set_yticklabels, row["y_values"]),
    ):
        ends = [0, len(values) - 1]
        ticks(ends)
        labels([f"{values[at]:.3g}" for at in ends], fontsize="x-small")
