"""What a user's function says of a network: the module, what its pictures have to be, and whose weights they are."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, NoReturn

from torch import nn

from microscope_atlas.errors import NetworkFailed
from microscope_atlas.models.networks.channels import CHANNELS
from microscope_atlas.models.networks.plain import refuse_opaque
from microscope_atlas.models.organism import UNSTATED

MOST_PX = 4096  # of an input; a picture of more needs gigabytes at every layer
MOST_MEAN, MOST_STD = 1.0, 2.0  # of values in [0, 1]; above, they are those of 0..255


@dataclass(frozen=True)
class Trained:
    """A trained module, and what its pictures have to be; NetworkFailed, with the reason, for settings that cannot be.

    Pictures are natural RGB ones and canvases in [0, 1]. A network of 1 channel sees their luma, and its canvases are
    one grey plane, without the decorrelation of colours; one of 4 sees RGB and opacity: natural pictures are opaque,
    canvases have a fourth plane for it.
    """

    module: nn.Module  # reads (batch, channels, height, width)
    input_size: int  # px on a side
    mean: tuple[float, ...] = (0.0,)  # taken from pictures in [0, 1]: one a channel, or one for all
    std: tuple[float, ...] = (1.0,)  # what the rest is divided by, likewise
    layers: Sequence[str] = ()  # paths of modules, as `features.3`; none: all convolutions and dense layers
    title: str | None = None
    dataset: str = UNSTATED  # what it was trained on
    license: str = UNSTATED  # of the weights
    classes: Sequence[str] | None = None  # names of its logits, in their order
    channels: int = 3  # 1 grey, 3 RGB, 4 RGB and opacity

    def __post_init__(self) -> None:
        self._check_module()
        if type(self.input_size) is not int or not 0 < self.input_size <= MOST_PX:
            _refuse("input_size", self.input_size, f"px on a side, a whole number up to {MOST_PX}")
        if type(self.channels) is not int or self.channels not in CHANNELS:
            kinds = ", ".join(f"{number} ({what})" for number, what in CHANNELS.items())
            _refuse("channels", self.channels, kinds)
        self._set("mean", self._numbers("mean"))
        self._set("std", self._numbers("std"))
        if any(abs(value) > MOST_MEAN for value in self.mean):
            _refuse("mean", self.mean, "that of pictures in [0, 1]: divide by 255")
        if not all(0 < value <= MOST_STD for value in self.std):
            _refuse("std", self.std, "that of pictures in [0, 1], above 0: divide by 255")
        self._set("layers", self._words("layers", "paths of modules: ('features.3', 'head')"))
        if self.classes is not None:
            self._set("classes", self._words("classes", "the names of the logits, in their order"))
            if not self.classes:
                _refuse("classes", (), "the names of the logits; leave it out where they have none")
        for name in ("dataset", "license") if self.title is None else ("title", "dataset", "license"):
            if not _is_word(getattr(self, name)):
                _refuse(name, getattr(self, name), "a line of text; leave it out where nobody states it")

    def _check_module(self) -> None:
        if isinstance(self.module, type):
            _refuse("module", self.module.__name__, "a module, not its class: call it")
        if not isinstance(self.module, nn.Module):
            _refuse("module", type(self.module).__name__, "a torch.nn.Module; of an exported program the module before")
        refuse_opaque(self.module)

    def _numbers(self, name: str) -> tuple[float, ...]:
        """A value a channel."""
        given = getattr(self, name)
        wanted = f"a number for each of {self.channels} channels, or one for all"
        if isinstance(given, str) or not hasattr(given, "__iter__"):
            _refuse(name, given, wanted)
        values = tuple(given)
        if len(values) not in (1, self.channels):
            _refuse(name, values, wanted)
        if not all(isinstance(value, Real) and math.isfinite(value) for value in values):
            _refuse(name, values, wanted)
        return tuple(float(value) for value in values)

    def _words(self, name: str, wanted: str) -> tuple[str, ...]:
        given = getattr(self, name)
        if isinstance(given, str) or not hasattr(given, "__iter__"):
            _refuse(name, given, f"several {wanted}")
        words = tuple(given)
        for word in words:
            if not _is_word(word):
                _refuse(name, word, wanted)
        return words

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable() and bool(value.strip())


def _refuse(name: str, value: Any, wanted: str) -> NoReturn:
    raise NetworkFailed(f"Trained({name}={value!r}); expected {wanted}")
