"""The names of classes, where their license lets them travel with us.

Places365's names came without one at hand, so its networks have none; nor has inceptionv1, whose 1008 logits are in an
order of their own.
"""

from functools import cache
from pathlib import Path


@cache
def imagenet() -> tuple[str, ...]:
    """ImageNet's 1000 classes in the order of its challenge."""
    lines = Path(__file__).with_name("imagenet_classes.txt").read_text().splitlines()
    return tuple(line for line in lines if not line.startswith("#"))


def imagenet_behind_background() -> tuple[str, ...]:
    """The same behind a first class for the background, as TF-slim's networks have them."""
    return ("background", *imagenet())
