"""Links to OpenAI Microscope, which papers are full of, led to the units they meant; and back."""

import re
from collections.abc import Mapping
from typing import Literal, Protocol
from urllib.parse import unquote, urlsplit

from microscope_atlas.atlas.organisms import Layer, Part, organisms
from microscope_atlas.errors import InvalidKey, UnknownName, unknown
from microscope_atlas.keys import NUMBER, Key

HOST = "microscope.openai.com"
NEVER = "OpenAI Microscope showed it, but its weights were never published"
ELSEWHERE = dict.fromkeys(("contrastive_v1", "contrastive_v2"), NEVER)
Page = Literal["models", "about"]
PAGES: dict[str, Page] = {"": "models", "models": "models", "about": "about"}  # by their paths there
GLUED = re.compile(r"""["'<>`].*""", re.DOTALL)  # the end of the attribute, or of the text, that a link was taken from
TEMPLATE = re.compile(r"[${}]")
EXPECTED = f"expected, for example, https://{HOST}/models/inceptionv1/mixed4c_0/447"


class Shown(Protocol):
    """A network, as far as links to its units need it."""

    @property
    def name(self) -> str: ...
    @property
    def layers(self) -> Mapping[str, Layer]: ...
    @property
    def legacy_parts(self) -> Mapping[str, Part]: ...


def resolve(link: str) -> Key:
    """`https://microscope.openai.com/models/inceptionv1/mixed4d_5x5_0/12` -> inceptionv1/mixed4d/412.

    The scheme, or scheme and host, may be missing; what stands behind `?` or `#` chose a lens there and is not read,
    nor is what text around it glued on behind a quote. An op may lack the `_0` at its end, and its capitals.
    Raises InvalidKey for what is no such link, UnknownName where its model, op or unit does not exist.
    """
    model, op, unit = _parts(link)
    if model in ELSEWHERE:
        raise UnknownName(f"model {model!r}: {ELSEWHERE[model]}")
    if model not in organisms():
        raise unknown("model", model, "the catalog", organisms())
    if op is None:
        return Key(model)
    part = _part(organisms()[model], op)
    if unit is None:
        return Key(model, part.layer)
    if part.start + unit >= part.stop:
        raise UnknownName(f"unit {unit} is not in {model}/{op}; it has 0:{part.stop - part.start}")
    return Key(model, part.layer, part.start + unit)


def page(link: str) -> Page | None:
    """What a link to no network led to: the list of networks, which was the first page there, or what it is about.

    None of every other link.
    """
    try:
        url = urlsplit(link if "://" in link or link.startswith("/") else f"//{link}")
    except ValueError:
        return None
    ours = url.netloc == HOST or (url.netloc == "" and url.path.strip("/") == "models")
    return PAGES.get(url.path.strip("/")) if ours else None


def link(organism: Shown, layer: str, unit: int) -> str | None:
    """Where OpenAI Microscope showed a unit, the inverse of `resolve`; None where it did not.

    A layer that it showed in parts alone has the link of the unit's part.
    """
    op = organism.layers[layer].legacy_op
    if op is not None:
        return f"https://{HOST}/models/{organism.name}/{op}/{unit}"
    for op, part in organism.legacy_parts.items():
        if part.layer == layer and part.start <= unit < part.stop:
            return f"https://{HOST}/models/{organism.name}/{op}/{unit - part.start}"
    return None


def _parts(link: str) -> tuple[str, str | None, int | None]:
    """Model, op and unit of a link."""
    link = GLUED.sub("", unquote(link))
    if TEMPLATE.search(link):
        raise InvalidKey(f"link {link!r} is a template, whose names are to be filled in; {EXPECTED}")
    try:
        url = urlsplit(link if "://" in link or link.startswith("/") else f"//{link}")
    except ValueError as error:
        raise InvalidKey(f"link {link!r}: {error}; {EXPECTED}") from error
    if url.netloc not in ("", HOST):
        raise InvalidKey(f"link {link!r} is not to {HOST}; {EXPECTED}")
    root, *parts = url.path.strip("/").split("/")
    if [root, *parts] == ["models"]:
        raise InvalidKey(f"link {link!r} is to the list of models, which names none; {EXPECTED}")
    if root != "models" or not 1 <= len(parts) <= 3 or not all(parts):
        raise InvalidKey(f"link {link!r} does not read /models/MODEL, .../OP or .../OP/UNIT; {EXPECTED}")
    model, op, unit = (*parts, None, None)[:3]
    assert model is not None
    if unit is not None and not NUMBER.fullmatch(unit):
        raise InvalidKey(f"unit {unit!r} in link {link!r} is not a number; {EXPECTED}")
    return model, op, int(unit) if unit is not None else None


def _part(organism: Shown, op: str) -> Part:
    """The units that op `op` had."""
    whole = {layer.legacy_op: Part(layer.name, 0, layer.units) for layer in organism.layers.values() if layer.legacy_op}
    known = {**organism.legacy_parts, **whole}
    if not known:
        raise UnknownName(f"op {op!r}: OpenAI Microscope did not have {organism.name}")
    folded = {name.lower(): name for name in known}  # `add_6_0`, as some texts have it
    for name in (op, f"{op}_0"):
        if found := known.get(name) or known.get(folded.get(name.lower(), "")):
            return found
    raise unknown("op", op, f"what is known of OpenAI Microscope's {organism.name}", known)
