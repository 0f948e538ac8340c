"""The answer to "Why here?" as HTML: what an answer is credited to, in words, pictures and lists."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from microscope_atlas.keys import Key
from microscope_atlas.lenses.dataset_samples import seen
from microscope_atlas.models.catalog import organism
from microscope_atlas.rendering.attribution import Ablation
from microscope_space.html import markup
from microscope_space.html.escaped import NOTHING, html, joined
from microscope_space.live import drawn, excited
from microscope_space.live.excited import Map
from microscope_space.live.reasons import Known, Reason, Why
from microscope_space.live.tile import tile, tiles

GROUPS = (
    "Units of the layer that are active together on this picture, by non-negative matrix factorisation. Each colour is "
    "where one group is the most active; its number stands where it is most so."
)


def answer(why: Why) -> Markup:
    """All of it."""
    name = why.class_name or f"{why.layer} {why.unit}"
    parts = [
        html('<h3 class="why">Why {}?</h3>', name),
        html('<p role="status">{}</p>', told(why)),
        html("<p><b>Tested:</b> {}</p>", judged(why.ablation)),
        html('<div class="figures large">{}</div>', joined(_pictures(why))),
        _reasons(why, "For it", why.units_for, 1),
        _reasons(why, "Against it", why.units_against, -1),
        _groups(why),
    ]
    return joined(parts)


def told(why: Why) -> Markup:
    """How much of the answer is credited to the layer, and how exactly, in words."""
    made = why.attribution
    where = "" if why.place is None else f" at row {why.place[0] + 1}, column {why.place[1] + 1}"
    mean = " on average" if why.place is None and _is_of_a_map(why) else ""
    exact = (
        "Everything between the two layers is piecewise linear, so the two add up exactly."
        if not made.nonlinear
        else f"Not everything between the two layers is piecewise linear ({', '.join(made.nonlinear)}), so amounts are "
        "of first order, and the rest holds what they miss."
    )
    return html(
        "{} is {}{}{}. Units of {} are credited with {} of it; the other {} come from biases and from ways around "
        "that layer. {} With the whole layer silent it would be {}.",
        f"{why.class_name} ({why.layer} {why.unit})" if why.class_name else f"{why.layer} {why.unit}",
        markup.number(made.target),
        mean,
        where,
        why.earlier,
        markup.number(made.total),
        markup.number(made.remainder),
        exact,
        markup.number(made.at_zero),
    )


def _is_of_a_map(why: Why) -> bool:
    """Whether the target is a unit of a map."""
    return organism(why.model).layer(why.layer).kind != "dense"


def judged(found: Ablation) -> str:
    """What silencing units says of how far to trust the answer, in words."""
    count = len(found.units)
    if not count:
        return "no unit of the layer speaks for it, so there is none to silence."
    number = markup.number
    which, they = ("unit silenced that is", "it is") if count == 1 else (f"{count} units silenced that are", "they are")
    told = (
        f"with the {which} credited most, it falls by {number(found.drop)}; {they} credited with "
        f"{number(found.attributed)}. "
    )
    if not found.random_drops:
        return told + "No other unit is active here to compare with."
    most = max(found.random_drops)
    told += (
        f"With as many other active units it falls by {number(found.random_drop)} on average, {number(most)} at most, "
        f"of {len(found.random_drops)} random draws. "
    )
    if found.drop <= max(most, 0.0):
        return told + "So they matter no more than others: do not rely on this list."
    if not 0.5 <= found.attributed / found.drop <= 2:
        return told + "So they do matter, but take the single amounts with care."
    return told + "So they do matter, and about as much as they are credited with."


def _pictures(why: Why) -> list[Markup]:
    """Where the target is, and what speaks for it and against it, place by place, on one scale."""
    size, places = len(why.picture), why.attribution.places.numpy().reshape(_shape(why))
    strongest = float(np.abs(places).max()) or 1.0
    known = organism(why.model)
    figures = []
    if _is_of_a_map(why):
        row, column = why.place or (None, None)
        (upper, lower), (left, right) = seen(known.layer(why.layer), row, column, size)
        image = drawn.framed(
            drawn.shaded(why.picture, np.ones((size, size), np.float32)), (left, upper, right, lower), size
        )
        shown = html(
            "<div data-point>{}</div>", markup.pixels(drawn.pixels(image), "What the unit sees there", drawn.LARGE)
        )
        figures.append(markup.figure(shown, "What it sees there", "Click another point to ask about that."))
    for sign, words in ((1, "Places for it"), (-1, "Places against it")):
        active = (places * sign).clip(0) / strongest
        image = drawn.shaded(why.picture, _heat(why, active))
        note = f"{markup.number(float((places * sign).clip(0).sum()) * sign)} in sum"
        figures.append(markup.figure(markup.pixels(drawn.pixels(image), words, drawn.LARGE), words, note))
    if why.groups:
        image = drawn.masks(why.picture, [_heat(why, group.map) for group in why.groups])
        figures.append(
            markup.figure(
                markup.pixels(drawn.pixels(image), "Groups of units, numbered", drawn.LARGE), "Groups, see below"
            )
        )
    return figures


def _shape(why: Why) -> tuple[int, int]:
    acts = why.attribution.acts
    return (acts.shape[1], acts.shape[2]) if acts.dim() == 3 else (1, 1)


def _heat(why: Why, active: NDArray[np.floating[Any]]) -> Map:
    """A map of the earlier layer for every px of the picture; a root, so that half as much is still seen."""
    shown = np.sqrt(active).astype(np.float32)
    return excited.heat(organism(why.model).layer(why.earlier), shown, len(why.picture))


def _reasons(why: Why, title: str, found: Sequence[Reason], sign: int) -> Markup:
    listed = []
    for each in found:
        active = (each.map * sign).clip(0)
        image = drawn.shaded(why.picture, _heat(why, active / (active.max() or 1.0)))
        listed.append(
            tile(
                Key(why.model, why.earlier, each.unit),
                image,
                f"Where {why.earlier} {each.unit} speaks {title.lower()}",
                _signed(each.amount),
                each.known.thumbnail if each.known else None,
                each.known is not None,
            )
        )
    none = html('<p class="absent">No unit.</p>')
    return html("<h3>{}: units of {}</h3>{}", title, why.earlier, tiles(listed) if listed else none)


def _groups(why: Why) -> Markup:
    if not why.groups:
        return NOTHING
    listed = joined(
        html(
            '<li class="group" style="border-color:{}">{}<p><b>{}</b> {}</p>{}</li>',
            drawn.COLOURS[at],
            markup.pixels(
                drawn.pixels(drawn.shaded(why.picture, _heat(why, group.map / group.map.max()))),
                f"Where group {at + 1} is active",
                drawn.TILE,
            ),
            at + 1,
            html("{} <small>credited</small>", _signed(group.amount)),
            markup.tiles(joined(html("<li>{}</li>", _linked(why, unit, known)) for unit, known in group.units)),
        )
        for at, group in enumerate(why.groups)
    )
    about = html(
        '<p class="about">{} They make up {} of the layer\'s activations here, by squares.</p>',
        GROUPS,
        f"{why.groups_explain:.0%}",
    )
    return html('<h3>Groups of {}</h3>{}<ul class="groups">{}</ul>', why.earlier, about, listed)


def _linked(why: Why, unit: int, known: Known | None) -> Markup:
    return markup.thumbnail(why.model, why.earlier, unit, known.thumbnail if known else None, known is not None)


def _signed(amount: float) -> str:
    return f"+{markup.number(amount)}" if amount > 0 else markup.number(amount)
