"""Which class each picture of a set is of, where its maker says so.

Of a folder the folders in it are the classes, where every picture lies in one of them, and nowhere deeper:
`photos/cat/1.jpg`, `photos/dog/1.jpg`. Of a dataset the first column of class labels is taken, or a column of text that
is called `label`.

They are no part of a set's revision, which is that of its pictures: `sha256` is their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from microscope_atlas.pictures.revisions import revision_of

if TYPE_CHECKING:
    from datasets import Dataset

NONE = -1  # of a picture that is of no class
TEXT = "label"  # the column of text that names classes


@dataclass(frozen=True)
class Labels:
    """The class of each picture of a set."""

    names: tuple[str, ...]
    classes: NDArray[np.int32]  # of each picture, by its number: a place in `names`, or -1 for none

    @cached_property
    def sha256(self) -> str:
        """Of the classes' names, and of which pictures are of each."""
        return revision_of([self.names, self.classes.tolist()])

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """How many pictures each class has."""
        return np.bincount(self.classes[self.classes != NONE], minlength=len(self.names))


def of_words(words: Sequence[str | None]) -> Labels | None:
    """From the name of each picture's class, None for none; None where there are not two classes."""
    names = tuple(sorted({word for word in words if word}))
    places = {name: place for place, name in enumerate(names)}
    classes = np.array([places[word] if word else NONE for word in words], np.int32)
    return Labels(names, classes) if len(names) > 1 else None


def of_folder(folder: Path, paths: Sequence[Path]) -> Labels | None:
    """By the folders that the pictures lie in; None where they do not make classes."""
    parts = [path.relative_to(folder).parts for path in paths]
    return of_words([each[0] for each in parts]) if all(len(each) == 2 for each in parts) else None


def of_dataset(data: "Dataset") -> Labels | None:
    """By a column of class labels, or of text called `label`; None where it has neither."""
    import datasets  # no part of what rendering needs

    for column, feature in data.features.items():
        if isinstance(feature, datasets.ClassLabel):
            known = dict(enumerate(feature.names))
            return of_words([known.get(number) for number in _column(data, column)])
    if getattr(data.features.get(TEXT), "dtype", None) in ("string", "large_string"):
        return of_words(_column(data, TEXT))
    return None


def _column(data: "Dataset", name: str) -> list[Any]:
    values: list[Any] = data.select_columns([name]).with_format("arrow")[:][name].to_pylist()
    return values
