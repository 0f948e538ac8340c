"""What `--dictionary` asks for, beside the dictionaries that an atlas has already."""

from collections.abc import Iterable, Mapping
from typing import Any

from microscope_atlas.atlas.dictionaries import Attached
from microscope_atlas.errors import DictionaryFailed
from microscope_atlas.models.catalog import organism
from microscope_atlas.models.dictionaries.attached import attach, opened, stated


def attach_all(there: Mapping[str, Mapping[str, Any]], models: Iterable[str], asked: Iterable[str]) -> list[str]:
    """Attach the dictionaries of an atlas, whose manifest has the models `there`, and those that are `asked` for.

    The latter, LAYER[:NAME]=PATH, to the one model that is named. Returns the layers that they make. DictionaryFailed
    where one cannot be read, or does not fit.
    """
    known, asked = stated(there), list(asked)
    names = list(dict.fromkeys(organism(name).name for name in models))  # as keys have them
    for name in {*known, *names}:
        attach(name, known.get(name, {}))
    if not asked:
        return []
    if len(names) != 1:
        raise DictionaryFailed(
            f"--dictionary {asked[0]}: {len(names)} models are named; it stands behind a layer of one"
        )
    attach(names[0], {})
    plain, made = organism(names[0]), dict[str, Attached]()
    for words in asked:
        layer, one = opened(plain, words)
        if layer.casefold() in {each.casefold() for each in made}:
            raise DictionaryFailed(
                f"--dictionary {words}: another one makes {layer} too; tell them apart by LAYER:NAME"
            )
        made[layer] = one
    attach(names[0], known.get(names[0], {}) | made)
    return list(made)
