"""The graph of a network's layers as a drawing: columns by depth from left to right, row below row, and the edges."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from markupsafe import Markup

from microscope_space.html.escaped import html, joined

Point = tuple[float, float]  # px from the left and the top
RADIUS = 6  # px, of an edge's corners
BESIDE = 5  # px, from one edge to another beside it


@dataclass(frozen=True)
class Form:
    """Sizes of a drawing, px."""

    name: str  # of its CSS class; style.css says when it is shown
    columns: int
    width: int  # from one column to the next
    height: int  # from one row to the next
    picture: int  # on a side
    above: int = 24  # a picture, where edges pass

    @property
    def gap(self) -> int:
        return self.width - self.picture


class Place(NamedTuple):
    """Where a node's picture stands."""

    rank: int
    lane: int
    x: int  # px, of its left and top
    y: int


FORMS = (  # for desktops, tablets and phones
    Form("wide", 6, 170, 216, 128),
    Form("middle", 4, 170, 216, 128),
    Form("narrow", 3, 108, 164, 78, above=18),
)


def ranked(edges: Iterable[tuple[str, str]], nodes: Iterable[str]) -> list[list[str]]:
    """Nodes by their longest way from a node that reads none; both are in the order of computation."""
    reads: dict[str, list[str]] = {node: [] for node in nodes}
    for start, end in edges:
        reads[end].append(start)
    rank: dict[str, int] = {}
    for node, before in reads.items():
        rank[node] = 1 + max((rank[each] for each in before), default=-1)
    return [[node for node in reads if rank[node] == each] for each in range(1 + max(rank.values(), default=-1))]


def lanes(ranks: Sequence[Sequence[str]], edges: Iterable[tuple[str, str]]) -> dict[str, int]:
    """How far below the top of its column each node stands: level with what it reads first, where that is free."""
    reads: dict[str, str] = {}
    for start, end in edges:
        reads.setdefault(end, start)
    lane: dict[str, int] = {}
    for rank in ranks:
        taken: set[int] = set()
        for node in rank:
            wanted = lane.get(reads.get(node, ""), 0)
            lane[node] = next(each for each in range(wanted, wanted + len(rank) + 1) if each not in taken)
            taken.add(lane[node])
    return lane


def placed(ranks: Sequence[Sequence[str]], lane: Mapping[str, int], form: Form) -> tuple[dict[str, Place], int]:
    """Where each node's picture stands, and how high the drawing is."""
    at: dict[str, Place] = {}
    top = 0
    for first in range(0, len(ranks), form.columns):
        row = ranks[first : first + form.columns]
        for column, rank in enumerate(row):
            x = form.gap // 2 + 1 + column * form.width
            for node in rank:
                at[node] = Place(first + column, lane[node], x, top + form.above + lane[node] * form.height)
        top += form.height * (1 + max(lane[node] for rank in row for node in rank))
    return at, top


def drawn(edges: Iterable[tuple[str, str]], at: Mapping[str, Place], form: Form, height: int) -> Markup:
    """The edges as SVG, to stand behind the nodes; what they say is said in words, too."""
    head, width = f"head-{form.name}", form.columns * form.width + 2
    paths = joined(
        html('<path d="{}" marker-end="url(#{})"/>', path(route(at[start], at[end], form)), head)
        for start, end in edges
    )
    return html(
        '<svg class="edges {}" viewBox="0 0 {} {}" width="{}" height="{}" aria-hidden="true"><defs>'
        '<marker id="{}" viewBox="0 0 6 6" refX="6" refY="3" markerWidth="6" markerHeight="6" orient="auto">'
        '<path d="M0 0L6 3L0 6Z"/></marker></defs>{}</svg>',
        form.name,
        width,
        height,
        width,
        height,
        head,
        paths,
    )


def route(start: Place, end: Place, form: Form) -> list[Point]:
    """The corners of an edge: it leaves a picture to the right and comes to another from the left, past all others."""
    y, to_y = start.y + form.picture / 2, end.y + form.picture / 2
    out, into = start.x + form.picture + 2, end.x - 2
    aside = min(end.lane * BESIDE, form.gap // 2 - BESIDE)  # so that two lanes are told apart where both go down
    beside, before = start.x + form.picture + form.gap / 2 - aside, end.x - form.gap / 2 + aside
    if end.rank == start.rank + 1 and end.rank % form.columns:  # the next column of the same row
        return [(out, y), (into, y)] if y == to_y else [(out, y), (beside, y), (beside, to_y), (into, to_y)]
    above = end.y - form.above / 2
    return [(out, y), (beside, y), (beside, above), (before, above), (before, to_y), (into, to_y)]


def path(corners: Sequence[Point]) -> str:
    """The way along straight lines, with round corners."""
    return "".join(_steps(corners))


def _steps(corners: Sequence[Point]) -> Iterator[str]:
    yield f"M{_point(corners[0])}"
    for before, corner, after in zip(corners, corners[1:], corners[2:], strict=False):
        yield f"L{_point(_towards(corner, before))}Q{_point(corner)} {_point(_towards(corner, after))}"
    yield f"L{_point(corners[-1])}"


def _towards(corner: Point, other: Point) -> Point:
    """A little away from a corner."""
    dx, dy = other[0] - corner[0], other[1] - corner[1]
    length = abs(dx) + abs(dy)  # one of them is 0
    share = min(RADIUS, length / 2) / length if length else 0.0
    return corner[0] + dx * share, corner[1] + dy * share


def _point(point: Point) -> str:
    return f"{point[0]:g} {point[1]:g}"
