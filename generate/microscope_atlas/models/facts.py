"""The catalog's facts for `atlas/organisms.json`: `python -m microscope_atlas.models.facts` writes it anew."""

import json
from dataclasses import asdict
from typing import Any

from microscope_atlas.atlas.organisms import CLASSES, FILE, Layer
from microscope_atlas.models.catalog import CATALOG
from microscope_atlas.models.organism import Organism


def facts(organism: Organism) -> dict[str, Any]:
    """What a reader without PyTorch can know of an organism, as JSON gives it back."""
    names = {function: name for name, function in CLASSES.items()}
    plain = {
        **{name: getattr(organism, name) for name in ("title", "paper", "year", "dataset", "input_size")},
        "layers": [_plain(layer) for layer in organism.layers.values()],
        "legacy_parts": dict(organism.legacy_parts),
        "edges": organism.edges,
        "class_list": names[organism.name_classes] if organism.name_classes else None,
        "has_other_names": organism.classes_in is not None,
    }
    made: dict[str, Any] = json.loads(json.dumps(plain))
    return made


def _plain(layer: Layer) -> dict[str, Any]:
    """As a dictionary, in which a layer that is like any other does not say so."""
    return {name: value for name, value in asdict(layer).items() if name != "named_only" or value}


def text() -> str:
    """The whole file: a line for each layer, so that a change shows where it is."""
    return json.dumps({name: facts(organism) for name, organism in CATALOG.items()}, indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
