"""The organisms, by name. A new one is a new file and one line here."""

from generate.errors import unknown
from generate.models.efficientnet_lite import EFFICIENTNET_LITE0
from generate.models.googlenet_caffe import INCEPTIONV1_CAFFE
from generate.models.organism import Organism

CATALOG = {
    "efficientnet_lite0": EFFICIENTNET_LITE0,
    "inceptionv1_caffe": INCEPTIONV1_CAFFE,
}


def organism(name: str) -> Organism:
    """The organism called `name`; UnknownName with the nearest names where there is none."""
    if name not in CATALOG:
        raise unknown("model", name, "the catalog", CATALOG)
    return CATALOG[name]
