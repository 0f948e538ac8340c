"""Where on a map it is asked why a unit answers: at its strongest, on average, or at a point of the picture."""

from math import isfinite
from typing import Any, Literal

from microscope_atlas.errors import InvalidSetting

STRONGEST: Literal["strongest"] = "strongest"
MEAN: Literal["mean"] = "mean"
POINT = "point"
Where = Literal["strongest", "mean"] | tuple[float, float]  # of a map; a point: px from left and top of the picture


def place(asked: Any) -> Where:
    """What is meant by `strongest`, `mean`, or a point as `112,80`; InvalidSetting where nothing is."""
    if asked == STRONGEST:
        return STRONGEST
    if asked == MEAN:
        return MEAN
    try:
        left, top = (float(each) for each in str(asked).split(","))
        if isfinite(left) and isfinite(top):
            return left, top
        raise ValueError
    except ValueError as error:
        raise InvalidSetting(f"where is {asked!r}; expected strongest, mean, or a point as 112,80") from error
