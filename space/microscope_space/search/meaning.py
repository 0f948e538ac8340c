"""Units by meaning, where labels were made with a CLIP whose text tower is on this machine."""

import logging
from functools import lru_cache
from threading import Lock

from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.atlas.schema import LABELS_CLIP_DISSECT
from microscope_atlas.errors import AtlasError, InvalidKey, InvalidSetting, NotRendered, WeightsError
from microscope_atlas.keys import parse_key
from microscope_space.html import text
from microscope_space.search.find import LONGEST, MOST, Found, Results
from microscope_space.search.said import who

BY = "meaning"  # of a link's parameter `by`
log = logging.getLogger(__name__)
_one = Lock()  # a text at a time: others wait, rather than share the processor


def at_hand(atlas: Atlas) -> bool:
    """Whether units can be found so; an atlas without embeddings is asked no more, and PyTorch is not loaded for it."""
    recipe = atlas.manifest.lenses.get(LABELS_CLIP_DISSECT.name)
    return recipe is not None and _is_here(str(recipe.get("clip")))


def meant(atlas: Atlas, words: str) -> Results:
    """The units nearest to some words in the CLIP's embedding, with the cosine.

    InvalidKey for words that it does not read; NotRendered, ExtraMissing where units cannot be found so.
    """
    from microscope_atlas.lenses.meaning import meant as nearest  # loads PyTorch

    try:
        with _one:
            found = nearest(atlas, words.strip()[:LONGEST], MOST)
    except InvalidSetting as error:  # a text that is too long, or none
        raise InvalidKey(str(error)) from error
    except WeightsError as error:  # whose words name this server's folders
        log.warning("by meaning: %s", error)
        raise NotRendered(text.NO_TOWER) from error
    told = [
        Found(parse_key(each.key), f"cosine {each.score:.2f}; label: {each.label} ({who(each.method, each.source)})")
        for each in found
    ]
    return Results(tuple(told), len(told))


@lru_cache(maxsize=4)
def _is_here(clip: str) -> bool:
    from microscope_atlas.lenses.clip import NAMED
    from microscope_atlas.models.texts import kept

    named = NAMED.fullmatch(clip)
    try:
        return named is not None and kept.file_named(named[1], named[2]).exists()
    except AtlasError:
        return False
