"""Keys: how a model, a layer and a unit are named in rows, links and papers, for good.

inceptionv1/mixed4c/447     a unit
inceptionv1/mixed4c         a layer
inceptionv1                 a model
"""

import re
from dataclasses import dataclass

from microscope_atlas.errors import InvalidKey

MODEL = re.compile(r"(?:[a-z]+:)?[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*")  # `vgg19_caffe`, `timm:resnet50.a1_in1k`
LAYER = re.compile(r"[A-Za-z0-9_]+")
NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")  # one spelling a number, so one key a unit

MAX_LENGTH = 256  # characters; a key ends up in paths and links


@dataclass(frozen=True, order=True)
class Key:
    """A model, one of its layers, or one unit of a layer. `str(key)` is the key as it is written."""

    model: str
    layer: str | None = None
    unit: int | None = None

    def __str__(self) -> str:
        return "/".join(str(part) for part in (self.model, self.layer, self.unit) if part is not None)


def parse_key(text: str) -> Key:
    """`inceptionv1/mixed4c/447` -> Key; InvalidKey says which part is wrong. Whether it exists, the catalog knows."""
    if len(text) > MAX_LENGTH:
        raise InvalidKey(f"key of {len(text)} characters; expected at most {MAX_LENGTH}")
    parts = text.split("/")
    if len(parts) > 3:
        raise InvalidKey(f"key {text!r} has {len(parts)} parts; expected model, model/layer or model/layer/unit")
    for part, pattern, what in zip(parts, (MODEL, LAYER, NUMBER), ("model", "layer", "unit"), strict=False):
        if not pattern.fullmatch(part):
            raise InvalidKey(f"{what} {part!r} in key {text!r}; expected, for example, inceptionv1/mixed4c/447")
    model, layer, unit = [*parts, None, None][:3]
    assert model is not None
    return Key(model, layer, int(unit) if unit is not None else None)


def parse_units(text: str) -> list[range]:
    """`0:64`, the stop not included; `447`, that unit alone; or several, `3,7,64:80` -> ranges, sorted and apart.

    InvalidKey for anything else.
    """
    ranges: list[range] = []
    for each in sorted(map(_parse_range, text.split(",")), key=lambda units: units.start):
        if ranges and each.start <= ranges[-1].stop:
            ranges[-1] = range(ranges[-1].start, max(ranges[-1].stop, each.stop))
        else:
            ranges.append(each)
    return ranges


def _parse_range(text: str) -> range:
    start, colon, stop = text.partition(":")
    if NUMBER.fullmatch(start) and not colon:
        return range(int(start), int(start) + 1)
    if not NUMBER.fullmatch(start) or not NUMBER.fullmatch(stop):
        raise InvalidKey(
            f"units {text!r}; expected one unit, such as 447, START:STOP without the stop, such as 0:64, or several of "
            "these with commas"
        )
    if int(start) >= int(stop):
        raise InvalidKey(f"units {text!r} is empty; expected a start below the stop, such as 0:64")
    return range(int(start), int(stop))
