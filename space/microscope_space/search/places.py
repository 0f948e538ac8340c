"""Places: what of an atlas has a name of its own, and every word that it may be called by."""

from collections.abc import Iterator
from dataclasses import dataclass

from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.atlas.units import union
from microscope_atlas.keys import Key

# what papers and libraries call networks, beside the names and titles of the catalog
ALIASES: dict[str, tuple[str, ...]] = {
    "alexnet_caffe_places365": ("Places AlexNet",),
    "contrastive_16x": ("CLIP ResNet-50x16",),
    "contrastive_4x": ("CLIP ResNet-50x4",),
    "contrastive_rn50": ("CLIP ResNet-50",),
    "efficientnet_lite0": ("EfficientNet Lite B0",),
    "inceptionv1": ("GoogLeNet", "Inception5h"),
    "inceptionv1_caffe": ("BVLC GoogLeNet",),
    "inceptionv1_caffe_places365": ("Places GoogLeNet",),
    "resnetv2_50_slim": ("ResNet-50",),
    "vgg19_caffe": ("VGG-19",),
}


@dataclass(frozen=True)
class Place:
    """A model, a layer, or units of a layer that OpenAI Microscope showed under a name of their own."""

    key: Key  # of the model or layer
    names: tuple[str, ...]  # its own
    above: tuple[str, ...] = ()  # of the model that it is in
    start: int = 0  # its unit 0 is this one of the layer
    stop: int = 0  # not included; 0 of a model
    there: tuple[range, ...] = ()  # units of the layer that have rows
    part: str = ""  # OpenAI Microscope's name of the units

    @property
    def called(self) -> tuple[str, ...]:
        """Everything that it may be found by."""
        return (*self.above, *self.names)

    def unit(self, number: int) -> int | None:
        """The layer's unit that is this number here; None where there is none."""
        unit = self.start + number
        return unit if unit < self.stop and any(unit in units for units in self.there) else None

    def beginning(self, digits: str) -> list[range]:
        """The layer's units whose number here has more digits than these, and begins with them."""
        found: list[range] = []
        ten = 1 if digits.startswith("0") else 10
        while ten > 1 and (first := self.start + int(digits) * ten) < self.stop:
            last = min(first + ten, self.stop)
            found += [range(max(first, units.start), min(last, units.stop)) for units in self.there]
            ten *= 10
        return [units for units in found if units]


def places(atlas: Atlas) -> Iterator[Place]:
    """Models, then layers from input to logits, then parts of layers; the shorter a model's name, the earlier."""
    models = sorted(atlas.models, key=len)
    there = _there(atlas)
    called = {model: _called(atlas, model) for model in models}
    for model in models:
        yield Place(Key(model), called[model])
    for model in models:
        known = atlas.organism(model)
        for layer, total in atlas.layers(model).items():
            about = known.layers.get(layer) if known else None
            names = (layer, about.legacy_op) if about and about.legacy_op else (layer,)
            yield Place(Key(model, layer), names, called[model], 0, total, there.get((model, layer), ()))
    for model in models:
        known = atlas.organism(model)
        for op, part in (known.legacy_parts if known else {}).items():
            if part.layer in atlas.layers(model):
                key, units = Key(model, part.layer), there.get((model, part.layer), ())
                spellings = (op.removesuffix("_0"), op, part.layer)  # ops all end so, and nobody types it
                yield Place(key, spellings, called[model], part.start, part.stop, units, op)


def _called(atlas: Atlas, model: str) -> tuple[str, ...]:
    """What a network is called; the first is its name."""
    known = atlas.organism(model)
    dataset = [known.dataset, str(known.year or "")] if known else []
    return (model, *([known.title] if known else []), *ALIASES.get(model, ()), *dataset)


def _there(atlas: Atlas) -> dict[tuple[str, str], tuple[range, ...]]:
    """The units of each layer that have rows, by what the manifest says."""
    level = {name: table.level for name, table in atlas.manifest.every_table.items()}
    shards = (shard.units for shard in atlas.manifest.shards.values() if level.get(shard.units.lens) == "unit")
    found: dict[tuple[str, str], list[range]] = {}
    for run in union(shards):
        found.setdefault((run.model, run.layer), []).append(range(run.start, run.stop))
    return {layer: tuple(runs) for layer, runs in found.items()}
