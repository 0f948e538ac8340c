"""The names of classes, where their license lets them travel with us.

Places365's names came without one, and inceptionv1's 1008 logits are in an order of their own, whose names lie in its
archive: these are fetched with the weights, or taken from a file, into the cache. See models.at_hand.
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
