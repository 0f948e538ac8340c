"""The organisms, by name. A new one is a new file and one line here."""

from dataclasses import replace
from functools import cache as unbounded
from functools import lru_cache

from microscope_atlas.atlas.dictionaries import Attached
from microscope_atlas.cache import cache
from microscope_atlas.errors import UnknownName, unknown
from microscope_atlas.models.adapters import own, timm, torchvision, transformers
from microscope_atlas.models.architectures.alexnet import ALEXNET, ALEXNET_CAFFE_PLACES365
from microscope_atlas.models.architectures.clip_resnet import CONTRASTIVE_4X, CONTRASTIVE_16X, CONTRASTIVE_RN50
from microscope_atlas.models.architectures.efficientnet_lite import EFFICIENTNET_LITE0, EFFICIENTNET_LITE1
from microscope_atlas.models.architectures.googlenet_caffe import INCEPTIONV1_CAFFE, INCEPTIONV1_CAFFE_PLACES365
from microscope_atlas.models.architectures.inceptionv1 import INCEPTIONV1
from microscope_atlas.models.architectures.inceptionv3_slim import INCEPTIONV3_SLIM
from microscope_atlas.models.architectures.inceptionv4_slim import INCEPTIONV4_SLIM
from microscope_atlas.models.architectures.resnetv2_slim import RESNETV2_50_SLIM
from microscope_atlas.models.architectures.vgg19 import VGG19_CAFFE
from microscope_atlas.models.at_hand import at_hand, stamps
from microscope_atlas.models.dictionaries.attached import attached
from microscope_atlas.models.organism import Organism

CATALOG = {
    "alexnet": ALEXNET,
    "alexnet_caffe_places365": ALEXNET_CAFFE_PLACES365,
    "contrastive_16x": CONTRASTIVE_16X,
    "contrastive_4x": CONTRASTIVE_4X,
    "contrastive_rn50": CONTRASTIVE_RN50,
    "efficientnet_lite0": EFFICIENTNET_LITE0,
    "efficientnet_lite1": EFFICIENTNET_LITE1,
    "inceptionv1": INCEPTIONV1,
    "inceptionv1_caffe": INCEPTIONV1_CAFFE,
    "inceptionv1_caffe_places365": INCEPTIONV1_CAFFE_PLACES365,
    "inceptionv3_slim": INCEPTIONV3_SLIM,
    "inceptionv4_slim": INCEPTIONV4_SLIM,
    "resnetv2_50_slim": RESNETV2_50_SLIM,
    "vgg19_caffe": VGG19_CAFFE,
}


FOREIGN = {
    "own": own.organism,
    "timm": timm.organism,
    "torchvision": torchvision.organism,
    "transformers": transformers.organism,
}


def organism(name: str) -> Organism:
    """The organism called `name`; UnknownName with the nearest names where there is none.

    Beside the catalog's, `torchvision:NAME`, `timm:NAME`, `transformers:OWNER/NAME`, and a function of one's own,
    `own:PACKAGE.MODULE.FUNCTION`. With the layers of the dictionaries that are attached to it in this process.
    """
    plain = _plain(name)
    known = attached(plain.name)
    return _with_dictionaries(name, tuple(known.items()), _stamps(name)) if known else plain


Stamps = tuple[tuple[int, int] | None, ...]


@lru_cache(maxsize=8)
def _with_dictionaries(name: str, known: tuple[tuple[str, Attached], ...], _: Stamps) -> Organism:
    return replace(_plain(name), dictionaries=dict(known))


def _plain(name: str) -> Organism:
    """An organism as it is by itself."""
    if ":" in name:
        return _foreign(name)
    if name not in CATALOG:
        raise unknown("model", name, "the catalog", CATALOG)
    return _at_hand(name, id(CATALOG[name]), str(cache()), _stamps(name))


def _stamps(name: str) -> Stamps:
    return stamps(CATALOG[name]) if name in CATALOG else ()


@lru_cache(maxsize=64)
def _at_hand(name: str, *_: object) -> Organism:
    """An organism of the catalog, read once, until what this machine has of it changes."""
    return at_hand(CATALOG[name])


def note_origin(name: str, source: str) -> None:
    """Note what the provenance of an atlas says of a model whose name alone does not say where it is to be had."""
    if name.startswith(transformers.PREFIX) and transformers.remember(source):
        _foreign.cache_clear()


@unbounded
def _foreign(name: str) -> Organism:
    """A network from outside, once a process: it is built to see what it is."""
    prefix, _, rest = name.partition(":")
    if prefix not in FOREIGN:
        raise UnknownName(
            f"model {name!r}: {prefix!r} is none of {', '.join(FOREIGN)}; "
            "a function of your own is own:PACKAGE.MODULE.FUNCTION"
        )
    return FOREIGN[prefix](rest)
