"""Whether an atlas holds what a key names, and what it holds instead."""

from microscope_atlas.atlas.manifest import Manifest
from microscope_atlas.atlas.units import union
from microscope_atlas.errors import UnknownName, unknown
from microscope_atlas.keys import Key


def refuse_absent(manifest: Manifest, key: Key, lens: str | None = None) -> None:
    """UnknownName, with what is there, where an atlas has no rows about a key, or none of this lens.

    A unit is there if some table has rows about it: those about its whole layer do not count.
    """
    there = [shard.units for shard in manifest.shards.values()]
    what = f"{key} is not in the atlas"
    try:
        for name, kind, known in (
            (key.model, "model", sorted({units.model for units in there})),
            (key.layer, "layer", sorted({units.layer for units in there if units.model == key.model})),
        ):
            if name is not None and name not in known:
                where = "it" if kind == "model" else f"its {key.model}"
                raise unknown(kind, name, where, known)
        there = [units for units in there if units.model == key.model and key.layer in (None, units.layer)]
        if lens is not None:
            lenses = sorted({units.lens for units in there})
            if lens not in lenses:
                raise unknown("lens", lens, f"what it has of {Key(key.model, key.layer)}", lenses)
            there = [units for units in there if units.lens == lens]
    except UnknownName as error:
        raise UnknownName(f"{what}: {error}") from None
    if key.unit is None:
        return
    about_units = [units for units in there if manifest.table(units.lens).level == "unit"]
    if not any(units.start <= key.unit < units.stop for units in about_units):
        spans = [f"{units.start}:{units.stop}" for units in union(about_units)]
        of_lens = f"{lens} of " if lens else ""
        has = f"units {', '.join(dict.fromkeys(spans))}" if spans else "no units"
        raise UnknownName(f"{what}: {of_lens}{Key(key.model, key.layer)} has {has} there")
