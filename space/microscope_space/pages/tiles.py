"""Where in a sheet, the picture with a small tile for each unit, a unit's tile is, as CSS has it for one image."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from microscope_space.html import links
from microscope_space.html.escaped import NOTHING, html

Row = Mapping[str, Any]


class Tiles:
    """The tiles of a row of `sheets`."""

    def __init__(self, model: str, sheet: Row):
        self.columns = sheet["columns"]
        self.lines = max(1, -(-sheet["num_units"] // self.columns))
        self.style = html(
            "--sheet:url('{}');--size:{}% {}%",
            links.image("sheets", model, sheet["image"]),
            self.columns * 100,
            self.lines * 100,
        )
        listed = sheet.get("units")  # None: all of the layer, in their order
        self._places = None if listed is None else {unit: place for place, unit in enumerate(listed)}

    def __contains__(self, unit: int) -> bool:
        return self._places is None or unit in self._places

    def at(self, unit: int) -> Markup:
        """The place of a unit's tile; nothing where it has none."""
        place = unit if self._places is None else self._places.get(unit)
        if place is None:
            return NOTHING
        across, down = place % self.columns, place // self.columns
        return html("--at:{}% {}%", _share(across, self.columns), _share(down, self.lines))


def tiles(model: str, sheet: Row | None) -> Tiles | None:
    """The same; None where there is no sheet, or it has no picture."""
    return Tiles(model, sheet) if sheet and sheet["image"] and sheet["columns"] > 0 else None


def _share(at: int, of: int) -> str:
    """Percent, as `background-position` has it: 100 is the last."""
    return f"{at * 100 / max(1, of - 1):.3f}"
