"""`microscope-atlas models`: the organisms, and one's layers."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any

import typer

from microscope_atlas.cli.app import app

if TYPE_CHECKING:
    from microscope_atlas.atlas.organisms import Known
    from microscope_atlas.models.organism import Organism

MODELS = {  # column -> what it says
    "name": "as commands and keys take it",
    "year": "of the network's paper",
    "dataset": "that it was trained on",
    "input_size": "px on a side of its pictures",
    "num_layers": "layers that are shown",
    "num_units": "their units: channels and neurons",
}
LAYERS = {  # of the table; --json has more: their names in OpenAI Microscope's links, branches, legacy parts
    "name": "as commands and keys take it",
    "kind": "conv: units are channels; dense: neurons; tokens: features of tokens, on their grid",
    "units": "how many",
    "receptive_field": "px on a side that one position sees; empty: the whole picture",
    "stride": "px between neighbouring positions",
    "origin": "px from the picture's corner to where the first position's field begins",
    "named_only": "rendered only where it is named",
}


@app.command()
def models(
    model: Annotated[
        str | None,
        typer.Argument(help="One, with its layers; or several, as 'inception*'.", show_default=False),
    ] = None,
    link: Annotated[
        str | None, typer.Option("--resolve", metavar="URL", help="The key that a link to OpenAI Microscope meant.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    dictionary: Annotated[
        list[str] | None,
        typer.Option(metavar="LAYER[:NAME]=PATH", help="With the layer that a dictionary makes; as render takes it."),
    ] = None,
) -> None:
    """The organisms; or one's layers, units and sizes; with --json their names in OpenAI Microscope, too."""
    from microscope_atlas.atlas.links import page, resolve
    from microscope_atlas.atlas.organisms import organisms
    from microscope_atlas.console import print_table
    from microscope_atlas.errors import unknown

    if link is not None and page(link) != "models":
        key = str(resolve(link))
        print(json.dumps({"key": key}) if as_json else key)
        return
    if model is None or any(sign in model for sign in "*?["):
        rows = [_facts(known) for name, known in organisms().items() if fnmatchcase(name, model or "*")]
        if not rows:
            raise unknown("model", str(model), "the catalog", organisms())
        if as_json:
            print(json.dumps({"models": rows}, indent=1))
        else:
            print_table(rows, MODELS)
        return
    known = _known(model, dictionary or [])
    layers = [asdict(layer) for layer in known.layers.values()]
    not_shown = _not_shown(known)
    if as_json:
        facts = {**_facts(known), "classes": known.classes, "layers": layers, "edges": known.edges}
        left_out = [{"module": path, "reason": why} for path, why in not_shown.items()]
        print(json.dumps({**facts, "not_shown": left_out}, indent=1))
        return
    print_table(layers, LAYERS)
    if not_shown:
        from microscope_atlas.models.networks.unshown import summary

        print(summary(not_shown, len(layers)))


def _not_shown(known: "Known | Organism") -> Mapping[str, str]:
    """Parts that have units and are no layers, by path -> why."""
    return getattr(known, "not_shown", {})


def _known(name: str, dictionaries: Sequence[str] = ()) -> "Known | Organism":
    """What is known of a model: from the catalog's table, or, of a network from outside, by building it."""
    from microscope_atlas.atlas.organisms import organisms

    if name in organisms() and not dictionaries:
        return organisms()[name]
    from microscope_atlas.models.catalog import organism
    from microscope_atlas.models.dictionaries.asked import attach_all

    attach_all({}, [name], dictionaries)
    return organism(name)


def _facts(known: "Known | Organism") -> Mapping[str, Any]:
    """What is known of a model, without its layers."""
    return {
        **{name: getattr(known, name) for name in ("name", "title", "year", "dataset", "paper", "input_size")},
        "num_layers": len(known.layers),
        "num_units": sum(layer.units for layer in known.layers.values()),
    }
